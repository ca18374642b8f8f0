"""Looks into a root file system as it will stand in the slot, and refuses what would not run or not come back.

It reads the payload image itself, not the tree that it was made from, so it cannot be shown something else.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

from twinslot.core.errors import BundleError, DeviceError, Refusal
from twinslot_image.elf import find_mismatch

# Design rule S6: without both, a release that hangs would not come back. The names are systemd/'s.
REQUIRED_UNITS = ("twinslot-commit.service", "twinslot-deadline.service")
NAMED_FILES = 10  # how many offending files are named; the count is always given
_UNIT_DIRECTORIES = ("etc/systemd/system", "usr/lib/systemd/system", "lib/systemd/system")
# Firmware is for other processors by its nature.
_FIRMWARE = ("lib/firmware/*", "usr/lib/firmware/*")
_SUPERBLOCK_AT = 1024  # bytes; of both file systems
_EXT4_MAGIC = (0x38, b"\x53\xef")  # offset in the superblock; linux/fs/ext4/ext4.h, s_magic
_EROFS_MAGIC = (0, b"\xe2\xe1\xf5\xe0")  # linux/fs/erofs/erofs_fs.h, magic


def check_rootfs(image: Path, architecture: str, foreign: tuple[str, ...] = ()) -> tuple[Refusal, ...]:
    """Every reason against a root file system: executables for another architecture or ABI, missing or disabled units.

    Args:
        image: An ext4 or erofs file system image.
        architecture: Debian's name, such as `arm64`.
        foreign: Patterns of files, from the root without a slash, that may be for another architecture.

    Raises:
        BundleError: `bundle.rootfs`: not a file system that can be read.
        DeviceError: `device.tool`: the program that reads it is missing.
    """
    with _extracted(image) as tree:
        return (*_check_architecture(tree, architecture, (*_FIRMWARE, *foreign)), *_check_units(tree))


def _check_architecture(tree: Path, architecture: str, excused: tuple[str, ...]) -> Iterator[Refusal]:
    offending = []
    for path in sorted(_regular_files(tree)):
        name = str(path.relative_to(tree))
        if any(fnmatch(name, pattern) for pattern in excused):
            continue
        if mismatch := find_mismatch(path, architecture):
            offending.append(f"{name} ({mismatch})")
    if offending:
        more = f" and {len(offending) - NAMED_FILES} more" if len(offending) > NAMED_FILES else ""
        what = f"{len(offending)} executables are not for this architecture"
        yield Refusal("architecture", what, architecture, ", ".join(offending[:NAMED_FILES]) + more)


def _check_units(tree: Path) -> Iterator[Refusal]:
    for unit in REQUIRED_UNITS:
        places = [tree / directory / unit for directory in _UNIT_DIRECTORIES]
        if any(place.is_symlink() and str(place.readlink()) == "/dev/null" for place in places):
            yield Refusal("unit-masked", "a unit that brings the device back is masked", unit, "a link to /dev/null")
        elif not any(place.is_file() and not place.is_symlink() for place in places):
            yield Refusal("unit-missing", "a unit that brings the device back is missing", unit, "nothing")
        elif not _is_enabled(tree, unit):
            hint = f"enable it: 'systemctl --root=... enable {unit}'"
            yield Refusal(
                "unit-disabled", "nothing starts a unit that brings the device back", unit, "not enabled", hint
            )


def _is_enabled(tree: Path, unit: str) -> bool:
    """Some unit pulls it in. The link's target is systemd's business; it goes by the name (systemd.unit(5))."""
    pulling = (
        p for d in _UNIT_DIRECTORIES for kind in ("wants", "requires", "upholds") for p in (tree / d).glob(f"*.{kind}")
    )
    # is_symlink first: seen from the build host most of these links lead nowhere.
    return any((directory / unit).is_symlink() or (directory / unit).is_file() for directory in pulling)


def _regular_files(tree: Path) -> Iterator[Path]:
    for directory, _, files in os.walk(tree):
        for path in (Path(directory) / file for file in files):
            mode = path.lstat().st_mode
            if not stat.S_ISREG(mode):
                continue
            if not mode & stat.S_IRUSR:
                path.chmod(stat.S_IMODE(mode) | stat.S_IRUSR)
            yield path


@contextmanager
def _extracted(image: Path) -> Iterator[Path]:
    command = _reader(image)
    if shutil.which(command[0]) is None:
        hint = "install e2fsprogs (for ext4) or erofs-utils (for erofs)"
        raise DeviceError("a program that reads file systems is missing", code="tool", expected=command[0], hint=hint)
    with tempfile.TemporaryDirectory(prefix="twinslot-rootfs.") as scratch:
        tree = Path(scratch) / "tree"
        tree.mkdir()
        filled = [part.replace("{tree}", str(tree)).replace("{image}", str(image.resolve())) for part in command]
        done = subprocess.run(filled, capture_output=True, text=True, check=False)
        # debugfs ends with 0 whatever happens, so what counts is whether a system came out.
        if done.returncode or not (tree / "etc").is_dir() or not (tree / "usr").is_dir():
            found = " ".join(done.stderr.split())[:200] or f"exit status {done.returncode}"
            raise BundleError(
                f"'{image}' holds no root file system", code="rootfs", expected="etc and usr", found=found
            )
        yield tree


def _reader(image: Path) -> list[str]:
    with image.open("rb") as file:
        file.seek(_SUPERBLOCK_AT)
        superblock = file.read(1024)
    for (at, magic), command in (
        (_EXT4_MAGIC, ["debugfs", "-R", "rdump / {tree}", "{image}"]),
        (_EROFS_MAGIC, ["fsck.erofs", "--extract={tree}", "--overwrite", "{image}"]),
    ):
        if superblock[at : at + len(magic)] == magic:
            return command
    hint = 'set kind = "raw" for a payload that is not a root file system'
    raise BundleError(
        f"'{image}' is no root file system", code="rootfs", expected="ext4 or erofs", found="neither", hint=hint
    )
