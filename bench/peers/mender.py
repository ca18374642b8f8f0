"""Mender: `mender install` in a root of its own, in which only the two slots are visible."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import Final

from bench.devices import LoopDevice
from bench.peers.base import Bench, UnableError, UpdateJob, Work, debian_version, prepare

_PROGRAMS: Final = ("mender", "fw_printenv", "fw_setenv", "mount", "sh", "cat", "sync")
_LIBRARY: Final = re.compile(r"(/\S+) \(0x")
_ROOT_SIZE: Final = 96 << 20  # bytes
_NODES: Final = ("null", "zero", "urandom", "random")


class Mender:
    """Mender finds out which slot runs by the device of its root, so it gets a small root of its own as slot a."""

    name = "mender"

    def __init__(self, bench: Bench) -> None:
        self._bench, self._home = bench, bench.home("mender")
        self._stack = contextlib.ExitStack()
        self._root: Path | None = None

    def version(self) -> str:
        """Debian's."""
        return debian_version("mender-client")

    def job(self, work: Work) -> UpdateJob:
        """An artifact from a file or a server."""
        if not work.is_full:
            raise UnableError("its delta is a commercial module")
        artifact = self._bench.public / "new.mender"
        if not artifact.exists():
            words: list[str | Path] = [
                "-t",
                "bench",
                "-n",
                "2",
                "--compression",
                "gzip",
                "-f",
                self._bench.pair(work).new,
            ]
            prepare("mender-artifact", "write", "rootfs-image", *words, "-o", artifact)
        root = self._root = self._root or self._make_root()
        if work.is_local and not (root / "new.mender").exists():
            (root / "new.mender").touch()
            prepare("mount", "--bind", artifact, root / "new.mender")
            self._stack.callback(prepare, "umount", root / "new.mender")
        where = "/new.mender" if work.is_local else self._bench.server.url(artifact.name)
        return UpdateJob(
            ["chroot", str(root), "mender", "--log-level", "info", "install", where],
            before=self._reset,
            local=(artifact,) if work.is_local else (),
            published=(artifact,),
            note="gzip, its artifact tool knows no zstd; not signed",
        )

    def close(self) -> None:
        """Take the root away."""
        self._stack.close()
        self._root = None

    def _reset(self) -> None:
        assert self._root is not None
        shutil.rmtree(self._root / "var/lib/mender", ignore_errors=True)
        (self._root / "var/lib/mender").mkdir(parents=True)
        (self._root / "var/lib/mender/device_type").write_text("device_type=bench\n")
        (self._root / "card").write_bytes(bytes(0x8000))
        root_number = self._slot.path.name.removeprefix("loop")
        script = f"mender_boot_part={root_number}\nmender_boot_part_hex={int(root_number):x}\nupgrade_available=0\n"
        (self._root / "first.env").write_text(script)
        prepare("chroot", self._root, "fw_setenv", "-f", "/first.env", "-s", "/first.env")

    def _make_root(self) -> Path:
        image, root = self._home / "root.img", self._home / "root"
        image.unlink(missing_ok=True)
        self._slot = self._stack.enter_context(LoopDevice(image, _ROOT_SIZE))
        prepare("mke2fs", "-q", "-t", "ext4", self._slot.path)
        root.mkdir(exist_ok=True)
        prepare("mount", self._slot.path, root)
        self._stack.callback(prepare, "umount", root)
        for name in ("bin", "dev", "etc/mender", "proc", "tmp", "var/lib/mender", "usr/share/mender"):
            (root / name).mkdir(parents=True)
        for program in _PROGRAMS:
            _copy_program(program, root)
        prepare("cp", "-a", "/usr/share/mender/.", root / "usr/share/mender")
        prepare("mount", "-t", "proc", "proc", root / "proc")
        self._stack.callback(prepare, "umount", root / "proc")
        for node in (*(Path("/dev") / name for name in _NODES), self._slot.path, self._bench.slot_b.path):
            status = node.stat()
            os.mknod(root / "dev" / node.name, status.st_mode, status.st_rdev)
        (root / "etc/fw_env.config").write_text("/card 0x1000 0x2000\n/card 0x5000 0x2000\n")
        settings = {"RootfsPartA": str(self._slot.path), "RootfsPartB": str(self._bench.slot_b.path)}
        (root / "etc/mender/mender.conf").write_text(json.dumps(settings))
        (root / "etc/mender/artifact_info").write_text("artifact_name=1\n")
        (root / "etc/passwd").write_text("root:x:0:0:root:/:/bin/sh\n")
        return root


def _copy_program(name: str, root: Path) -> None:
    """A program of the host and the libraries that it is linked with."""
    found = shutil.which(name)
    if found is None:
        raise UnableError(f"'{name}' is not installed (bench/apt-packages.txt)")
    shutil.copy(found, root / "bin" / name)
    linked = prepare("/bin/sh", "-c", f"ldd {found} || true")
    for library in _LIBRARY.findall(linked):
        target = root / library.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            shutil.copy(library, target)
