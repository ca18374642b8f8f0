"""Looks into a root file system as it will stand in the slot, and refuses what would not run or not come back.

It reads the payload image itself, not the tree that it was made from, so it cannot be shown something else. Nothing is
mounted or unpacked; what cannot be read is an error and never a pass.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from twinslot.core.errors import ImageError, Refusal
from twinslot_image import fs_erofs, fs_ext4
from twinslot_image.binaries import FileKind, Looked, examine
from twinslot_image.elf_links import Links, read_links
from twinslot_image.fs_tree import LINKS_MAX, FileSystemImage, FoundFile, Node, Tree, show
from twinslot_image.libraries import Linked, refusals

# Design rule S6: without the deadline a release that hangs would not come back, without the others none would stay. The
# names are systemd/'s.
REQUIRED_UNITS = ("twinslot-check.service", "twinslot-commit.service", "twinslot-deadline.service")
NAMED_FILES = 10  # how many offending files are named; the count is always given
# In systemd's order (systemd.unit(5)).
_UNIT_DIRECTORIES = ("etc/systemd/system", *(f"{top}/systemd/system" for top in ("usr/local/lib", "usr/lib", "lib")))
# Firmware is for other processors by its nature.
FIRMWARE: Final = ("lib/firmware/*", "usr/lib/firmware/*")
_NEEDED: Final = ("etc", "usr")  # directories without which it is no system
# Offset, magic and name of what people name by mistake; each from the format's own documentation.
_OTHERS: Final = (
    (0, b"hsqs", "squashfs, which is compressed (docs/decisions/0007)"),
    (0, b"\x1f\x8b", "a file packed by gzip"),
    (0, b"\xfd7zXZ\0", "a file packed by xz"),
    (0, b"\x28\xb5\x2f\xfd", "a file packed by zstd"),
    (0, b"\x89TWIN", "an update image"),
    (0, b"XFSB", "xfs"),
    (257, b"ustar", "a tar archive"),
    (512, b"EFI PART", "a disk with partitions"),
    (1024, b"\x10\x20\xf5\xf2", "f2fs"),
    (65600, b"_BHRfS_M", "btrfs"),
)

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Checked:
    """Every reason against a root file system, and what was looked at."""

    reasons: tuple[Refusal, ...]
    looked: Looked


def check_rootfs(
    image: Path, architecture: str, foreign: tuple[str, ...] = (), on_progress: OnProgress = lambda *_: None
) -> Checked:
    """Executables for another architecture or ABI, missing libraries, missing or disabled units: every reason.

    Args:
        image: An ext4 or uncompressed erofs file system image.
        architecture: Debian's name, such as `arm64`.
        foreign: Patterns of files, from the root without a slash, that may be for another architecture.
        on_progress: Called with the files seen so far and about how many there are.

    Raises:
        ImageError: `image.rootfs`: neither ext4 nor erofs, or no system; `image.rootfs-damaged` and
            `image.rootfs-feature`: it cannot be read whole.
        RefusedError: `refused.rootfs-compressed`.
    """
    with image.open("rb") as file:
        tree = open_tree(
            FileSystemImage(file, str(image)), 'set check = "none" for a payload that is no root file system'
        )
        _check_system(tree, image)
        looked, programs = Looked(), _Programs(tree)
        offending = sorted(_offending(tree, architecture, foreign, looked, programs, on_progress))
        reasons = (*_architecture(offending, architecture), *programs.lacking(), *_check_units(tree))
        return Checked(reasons, looked)


def open_tree(image: FileSystemImage, hint: str | None = None) -> Tree:
    """The file system in an image.

    Args:
        image: It.
        hint: For who named something else.

    Raises:
        ImageError: `image.rootfs`: neither ext4 nor erofs; `image.rootfs-damaged`, `image.rootfs-feature`.
        RefusedError: `refused.rootfs-compressed`.
    """
    start = image.read(0, min(image.size, 70_000))
    if start[fs_ext4.MAGIC_AT : fs_ext4.MAGIC_AT + 2] == fs_ext4.MAGIC and len(start) >= 2048:
        return Tree(image, fs_ext4.Ext4(image))
    if start[fs_erofs.MAGIC_AT : fs_erofs.MAGIC_AT + 4] == fs_erofs.MAGIC:
        return Tree(image, fs_erofs.Erofs(image))
    names = (name for at, magic, name in _OTHERS if start[at : at + len(magic)] == magic)
    what = f"'{image.name}' is no root file system"
    raise ImageError(what, code="rootfs", expected="ext4 or erofs", found=next(names, "neither"), hint=hint)


def _check_system(tree: Tree, image: Path) -> None:
    for name in _NEEDED:
        node = tree.look_up(name)
        if node is None or not stat.S_ISDIR(node.mode):
            what = f"'{image}' holds no root file system"
            raise ImageError(what, code="rootfs", expected=" and ".join(_NEEDED), found=f"no directory '{name}'")


def _offending(
    tree: Tree,
    architecture: str,
    foreign: tuple[str, ...],
    looked: Looked,
    programs: _Programs,
    on_progress: OnProgress,
) -> Iterator[str]:
    for number, found in enumerate(tree.walk(), 1):
        on_progress(number, tree.files)
        if stat.S_ISLNK(found.node.mode):
            programs.add_link(found)
        elif stat.S_ISREG(found.node.mode):
            kind, reason = _look(tree, found, architecture, foreign)
            looked.counts[kind] += 1
            if reason:
                yield f"{show(found.path)} ({reason})"
            elif kind is FileKind.PROGRAM:
                programs.add(found)


class _Programs:
    """Programs and libraries for the architecture, to ask in the end which libraries they lack."""

    def __init__(self, tree: Tree) -> None:
        self._tree, self._linked = tree, Linked()
        self._by_inode: dict[int, Links] = {}

    def add_link(self, found: FoundFile) -> None:
        self._linked.add_link(found.path.decode("utf-8", "surrogateescape"))

    def add(self, found: FoundFile) -> None:
        with self._tree.open(found.node) as file:
            if links := read_links(file):
                self._linked.files[found.path.decode("utf-8", "surrogateescape")] = links
                self._by_inode[found.node.number] = links

    def lacking(self) -> tuple[Refusal, ...]:
        return refusals(self._linked.missing(self._reach))

    def _reach(self, path: str) -> Links | None:
        node = self._tree.look_up(path)
        return self._by_inode.get(node.number) if node else None


def _look(tree: Tree, found: FoundFile, architecture: str, foreign: tuple[str, ...]) -> tuple[FileKind, str | None]:
    path = found.path.decode("utf-8", "surrogateescape")
    if any(fnmatchcase(path, pattern) for pattern in FIRMWARE):
        return FileKind.FIRMWARE, None
    kind, reason = examine(path, tree.open(found.node), architecture)
    if reason and any(fnmatchcase(path, pattern) for pattern in foreign):
        return FileKind.FOREIGN, None
    return kind, reason


def _architecture(offending: list[str], architecture: str) -> Iterator[Refusal]:
    if offending:
        more = f" and {len(offending) - NAMED_FILES} more" if len(offending) > NAMED_FILES else ""
        plural = "s are" if len(offending) > 1 else " is"
        what = f"{len(offending)} executable{plural} not for this architecture"
        yield Refusal("architecture", what, architecture, ", ".join(offending[:NAMED_FILES]) + more)


_INSTALL = 'install the client in the root file system (docs/packaging.md); check = "none" for a first try'


def _check_units(tree: Tree) -> Iterator[Refusal]:
    for unit in REQUIRED_UNITS:
        places = [f"{directory}/{unit}" for directory in _UNIT_DIRECTORIES]
        path = next((place for place in places if tree.look_up(place, follow=False)), None)  # the first one counts
        if path is None:
            what = "a unit that judges the release is missing"
            yield Refusal("unit-missing", what, unit, "nothing", _INSTALL)
        elif found := _mask(tree, path):
            yield Refusal("unit-masked", "a unit that judges the release is masked", unit, found, "unmask it")
        elif not _is_file(tree.look_up(path)):
            what = "a unit that judges the release is missing"
            yield Refusal("unit-missing", what, unit, f"'{path}', which leads to no file in the image", _INSTALL)
        elif not _is_enabled(tree, unit):
            hint = f"enable it: 'systemctl --root=... enable {unit}'"
            what = "a unit that judges the release is not enabled"
            yield Refusal("unit-disabled", what, unit, "not enabled", hint)


def _is_file(node: Node | None) -> bool:
    return node is not None and stat.S_ISREG(node.mode)


def _mask(tree: Tree, path: str) -> str | None:
    """What masks a unit, or a link that pulls one in: it leads to /dev/null, or to an empty file (systemd.unit(5))."""
    for _ in range(LINKS_MAX):
        node = tree.look_up(path, follow=False)
        if path == "dev/null":
            return "a link to /dev/null"
        if node is None or not stat.S_ISLNK(node.mode):
            return "an empty file" if node and _is_file(node) and not node.size else None
        target = tree.target(node).decode("utf-8", "surrogateescape")
        path = os.path.normpath(os.path.join("/", os.path.dirname(path), target)).lstrip("/")  # noqa: PTH118, PTH120
    return None


def _is_enabled(tree: Tree, unit: str) -> bool:
    """Some unit pulls it in by a link of its name, wherever that leads, unless it is masked (systemd.unit(5))."""
    for directory in _UNIT_DIRECTORIES:
        for name in tree.names_in(directory):
            if name.endswith((b".wants", b".requires", b".upholds")):
                path = f"{directory}/{name.decode('utf-8', 'surrogateescape')}/{unit}"
                node = tree.look_up(path, follow=False)
                if node and (stat.S_ISLNK(node.mode) or stat.S_ISREG(node.mode)) and not _mask(tree, path):
                    return True
    return False
