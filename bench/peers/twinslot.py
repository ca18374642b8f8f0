"""Twinslot: `twinslot install`, without the service, workers started as children."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Final

from bench.devices import digest_of
from bench.pairs import Pair
from bench.peers.base import Bench, UpdateJob, Work, make_once, prepare
from twinslot import __version__
from twinslot.worker.sources.patch import patch_url

ROLES: Final = ("engineering", "clinical")
_SIZE: Final = 0x2000  # bytes of one copy of the environment
_STATE: Final = ("data", "card", "boot_id")  # what a device keeps beside its slots
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
# A full install fetches all of the image, whatever the slots hold.
_WHOLE: Final = "[delta]\nreuse = false\npatches = false\n"
_IMAGE: Final = """
product = "Bench"
release = "{name}"
sequence = {sequence}
compatible = ["bench"]
trust = "keys"
[payloads.rootfs]
file = "{image}"
check = "none"
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

    def job(self, work: Work) -> UpdateJob:
        """An image from a file or a server; a device that has lived, for an update of what it runs."""
        pair = self._bench.pair(work)
        image = self.image(f"{pair.name}-new", pair.new, 2)
        made: dict[str, float] = {}
        published = [image]
        if work is Work.UNKNOWN_BASE:  # by another name, so that there is a block list beside it, and no patch
            image = _linked(image, image.with_name(f"{work}.twin"))
            blocks = image.with_suffix(".twinblocks")
            made = make_once(blocks, *_tool(), "blocks", image, "-o", blocks)
            published = [image, blocks]
        where = str(image) if work.is_local else self._bench.server.url(image.name)
        if not work.is_full:
            self._provision(pair)
        if work.knows_base:
            patch, made = self._patch(pair, image)
            published.append(patch)
        return UpdateJob(
            self.command("install", "--no-activate", where, root="full" if work.is_full else "delta"),
            before=self.reset if work.is_full else self._restore,
            after=lambda: None,
            local=(image,) if work.is_local else (),
            published=tuple(published),
            front=self._front(image),
            made=made,
            note="verifies signatures and every group before it writes, reads the whole partition back",
        )

    def command(self, *arguments: str, running: str = "a", root: str = "delta") -> list[str]:
        """The client on the two slots; `root` is which of the two configurations it reads."""
        slots = {"a": self._bench.slot_a, "b": self._bench.slot_b}
        device = [running, str(slots[running].path), str(self._home / "boot_id")]
        options = ["--no-service", "--config-root", str(self._home / root)]
        return [sys.executable, "-m", "bench.device", *device, *options, *arguments]

    def _provision(self, pair: Pair) -> None:
        """A device that took the old image into one slot and then into the other, and committed it each time."""
        old = self.image("old", pair.old, 1)
        self.reset()
        self._bench.slot_b.fill_with_noise()
        for boot, (running, target) in enumerate((("a", "b"), ("b", "a")), 1):
            options = ["--reinstall"] if boot > 1 else []
            self._run("install", "--no-reboot", *options, str(old), running=running)
            (self._home / "boot_id").write_text(f"{boot:032x}\n")
            self._run("boot", running=target)
            self._run("commit", running=target)
        for name in _STATE:
            kept = self._home / f"{name}.provisioned"
            shutil.rmtree(kept, ignore_errors=True)
            prepare("cp", "-a", self._home / name, kept)

    def _restore(self) -> None:
        """The device as it was when it had been provisioned."""
        for name in _STATE:
            shutil.rmtree(self._home / name, ignore_errors=True)
            prepare("cp", "-a", "-T", self._home / f"{name}.provisioned", self._home / name)

    def _run(self, *arguments: str, running: str) -> None:
        prepare(*self.command(*arguments, running=running), env={"PYTHONPATH": python_path()})

    def _patch(self, pair: Pair, image: Path) -> tuple[Path, dict[str, float]]:
        """The patch beside the image, where the client looks for it."""
        patch = image.with_name(Path(patch_url(image.name, digest_of(pair.old))).name)
        return patch, make_once(patch, *_tool(), "patch", self.image("old", pair.old, 1), image, "-o", patch)

    def _front(self, image: Path) -> int:
        """Bytes of header, trust and manifest."""
        sections = json.loads(prepare(*_tool(), "inspect", image, "--json"))["image"]["sections"]
        return sum(int(sections[name]) for name in ("header", "trust", "manifest"))

    def image(self, name: str, content: Path, sequence: int) -> Path:
        """A signed image; made once."""
        if name not in self._made:
            description = self._home / f"{name}.toml"
            description.write_text(_IMAGE.format(name=name, sequence=sequence, image=content))
            image = self._bench.public / f"{name}.twin"
            prepare(*_tool(), "build", description, "-o", image, "--force")  # of another work: the same bytes
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
        (self._home / "boot_id").write_text(f"{0:032x}\n")
        prepare(
            "fw_setenv", *self._tool_options(), "-f", self._home / "default-env.txt", "-s", self._home / "first.env"
        )

    def close(self) -> None:
        """Nothing runs."""

    def _tool_options(self) -> list[str]:
        return ["-c", str(self._home / "fw_env.config")]

    def _write_configuration(self) -> None:
        home = self._home
        text = _CONFIG.format(a=self._bench.slot_a.path, b=self._bench.slot_b.path, home=home)
        for root, more in (("delta", ""), ("full", _WHOLE)):
            (home / root / "etc/twinslot").mkdir(parents=True, exist_ok=True)
            (home / root / "etc/twinslot/config.toml").write_text(text + more)
        (home / "fw_env.config").write_text("".join(f"{home / 'card'} {at:#x} {_SIZE:#x}\n" for at in _OFFSETS))
        (home / "default-env.txt").write_text(_ENVIRONMENT)
        (home / "first.env").write_text(_ENVIRONMENT)


def _linked(file: Path, name: Path) -> Path:
    name.unlink(missing_ok=True)
    name.hardlink_to(file)
    return name


def _tool() -> list[str]:
    return [sys.executable, "-m", "twinslot_image"]


def python_path() -> str:
    """So that the commands find the bench."""
    return os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
