"""Twinslot: `twinslot install`, without the service, workers started as children."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Final

from bench.peers.base import Bench, Job, UnableError, Work, prepare
from twinslot import __version__

ROLES: Final = ("engineering", "clinical")
_SIZE: Final = 0x2000  # bytes of one copy of the environment
_OFFSETS: Final = (0x1000, 0x5000)
_ENVIRONMENT: Final = (
    "bootcmd=run boot_slot; reset\nslot=a\nslot_a=good\nslot_b=bad\nbootlimit=3\nts_generation=1\nupgrade_available=0\n"
)
_CONFIG: Final = """
[device]
compatible = ["bench"]
[slots.a]
rootfs = "{a}"
[slots.b]
rootfs = "{b}"
[trust]
root = "{home}/keys/1.root.json"
roles = ["engineering", "clinical"]
[boot]
fw_env_config = "{home}/fw_env.config"
default_env = "{home}/default-env.txt"
[record]
directory = "{home}/data"
"""
_IMAGE: Final = """
product = "Bench"
release = "{name}"
sequence = {sequence}
compatible = ["bench"]
trust = "keys"
[payloads.rootfs]
file = "{image}"
kind = "raw"
"""


class Twinslot:
    """A device and its release team, in one directory."""

    name = "twinslot"

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._home = bench.home("twinslot")
        self._made: dict[str, Path] = {}
        if not (self._home / "keys").exists():
            prepare(*_tool(), "keys", "init", self._home / "keys", "--roles", ",".join(ROLES))
        self._write_configuration()

    def version(self) -> str:
        """Of the client."""
        return __version__

    def job(self, work: Work) -> Job:
        """An image from a file or a server."""
        if not work.is_full:
            raise UnableError("not yet measured")
        image = self.image("new", self._bench.pair(work).new, 2)
        where = str(image) if work.is_local else self._bench.server.url(image.name)
        return Job(
            self.command("install", "--no-activate", where),
            before=self.reset,
            local=(image,) if work.is_local else (),
            published=(image,),
            note="verifies signatures, reads the whole partition back",
        )

    def command(self, *arguments: str) -> list[str]:
        """The client on the two slots."""
        device = [sys.executable, "-m", "bench.device", str(self._bench.slot_a.path)]
        return [*device, "--no-service", "--config-root", str(self._home), *arguments]

    def image(self, name: str, content: Path, sequence: int) -> Path:
        """A signed image; made once."""
        if name not in self._made:
            description = self._home / f"{name}.toml"
            description.write_text(_IMAGE.format(name=name, sequence=sequence, image=content))
            image = self._bench.public / f"{name}.twin"
            prepare(*_tool(), "build", description, "-o", image)
            for role in ROLES:
                (key,) = (self._home / "keys/private").glob(f"{role}.*.pem")
                prepare(*_tool(), "sign", image, "--role", role, "--key", key)
            self._made[name] = image
        return self._made[name]

    def reset(self) -> None:
        """A device that has just been provisioned: slot a runs, no record."""
        shutil.rmtree(self._home / "data", ignore_errors=True)
        (self._home / "data").mkdir()
        (self._home / "card").write_bytes(bytes(0x8000))
        prepare(
            "fw_setenv", *self._tool_options(), "-f", self._home / "default-env.txt", "-s", self._home / "first.env"
        )

    def close(self) -> None:
        """Nothing runs."""

    def _tool_options(self) -> list[str]:
        return ["-c", str(self._home / "fw_env.config")]

    def _write_configuration(self) -> None:
        home = self._home
        (home / "etc/twinslot").mkdir(parents=True, exist_ok=True)
        text = _CONFIG.format(a=self._bench.slot_a.path, b=self._bench.slot_b.path, home=home)
        (home / "etc/twinslot/config.toml").write_text(text)
        (home / "fw_env.config").write_text("".join(f"{home / 'card'} {at:#x} {_SIZE:#x}\n" for at in _OFFSETS))
        (home / "default-env.txt").write_text(_ENVIRONMENT)
        (home / "first.env").write_text(_ENVIRONMENT)


def _tool() -> list[str]:
    return [sys.executable, "-m", "twinslot_image"]


def python_path() -> str:
    """So that the commands find the bench."""
    return os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
