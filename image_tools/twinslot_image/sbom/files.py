"""The files of a root file system, wherever they stand: a directory, a tar archive, an ext4 or erofs image.

Nothing is unpacked or mounted, and links are followed inside the tree alone. Paths are texts from the root without a
leading slash; bytes that are no UTF-8 are kept as surrogates (PEP 383).
"""

from __future__ import annotations

import io
import os
import stat
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, Final, Self

from twinslot.core.errors import ImageError
from twinslot_image.fs_tree import LINKS_MAX, FileSystemImage
from twinslot_image.named_file import naming
from twinslot_image.packed import is_packed, unpack
from twinslot_image.rootfs import open_tree

ENTRIES_MAX: Final = 4_000_000  # names in one tree; a full Debian desktop has a tenth of that
_TAR_AT: Final = 257  # of the magic "ustar" (POSIX.1-2017, pax, "ustar Interchange Format")
_SQUASHFS: Final = b"hsqs"  # linux/squashfs_fs.h


class EntryKind(StrEnum):
    """What a name stands for."""

    FILE = "file"
    LINK = "link"
    DIRECTORY = "directory"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class TreeEntry:
    """One name: what it is, bytes of a file, where a link leads, and how a file is opened (seekable)."""

    path: str
    kind: EntryKind
    size: int = 0
    target: str = ""
    opening: Callable[[], BinaryIO] = field(default=io.BytesIO, repr=False)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    def read(self, most: int) -> bytes:
        """The content.

        Args:
            most: Bytes that it may have.

        Raises:
            ImageError: `image.rootfs-feature`: it is longer.
        """
        if self.size > most:
            what = f"'{self.path}' in the root file system is too large to be read"
            raise ImageError(what, code="rootfs-feature", expected=f"at most {most} bytes", found=f"{self.size} bytes")
        with self.opening() as file:
            return file.read(most)


class RootFiles:
    """All names of one tree, in the order of their paths.

    Args:
        entries: Of a path that comes twice the last one counts, as when an archive is unpacked.
        name: Where they were found, for messages.
    """

    def __init__(self, entries: Iterable[TreeEntry], name: str) -> None:
        self.name = name
        found: dict[str, TreeEntry] = {}
        for entry in entries:
            found[entry.path] = entry
            if len(found) > ENTRIES_MAX:
                what = f"'{name}' has too many files"
                raise ImageError(what, code="rootfs-feature", expected=f"at most {ENTRIES_MAX}", found="more")
        self._entries = dict(sorted(found.items()))
        self._real: dict[str, str] = {"": ""}  # directories by the way to them

    def __iter__(self) -> Iterator[TreeEntry]:
        return iter(self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)

    def files(self) -> Iterator[TreeEntry]:
        """The regular files."""
        return (entry for entry in self if entry.kind is EntryKind.FILE)

    def get(self, path: str) -> TreeEntry | None:
        """What a path names, through links; None if it leads nowhere."""
        return self._entries.get(self.real(path))

    def is_listed(self, path: str) -> bool:
        """Whether the name is there, whatever it names."""
        return self.real_of_listed(path) in self._entries

    def real(self, path: str) -> str:
        """The same path without links; one that leads nowhere as far as it leads."""
        waiting, walked, links = path.split("/"), "", 0
        while waiting:
            part = waiting.pop(0)
            if part in ("", "."):
                continue
            if part == "..":
                walked = walked.rpartition("/")[0]
                continue
            walked = f"{walked}/{part}" if walked else part
            entry = self._entries.get(walked)
            if entry is not None and entry.kind is EntryKind.LINK:
                links += 1
                if links > LINKS_MAX:
                    return path
                waiting[:0] = entry.target.split("/")
                walked = "" if entry.target.startswith("/") else walked.rpartition("/")[0]
        return walked

    def real_of_listed(self, path: str) -> str:
        """As `real`, but a link that is the last part stays: what a package owns. Directories are remembered."""
        above, _, name = path.strip("/").rpartition("/")
        if above not in self._real:
            self._real[above] = self.real(above)
        return f"{self._real[above]}/{name}".lstrip("/")

    def under(self, directory: str) -> list[TreeEntry]:
        """The regular files directly in a directory."""
        real = self.real(directory)
        return [entry for entry in self.files() if entry.path.rpartition("/")[0] == real]


@contextmanager
def open_root(path: Path) -> Iterator[RootFiles]:
    """The tree that a path names.

    Args:
        path: A directory, a tar archive (plain, or packed by gzip, xz or zstd), or an ext4 or erofs image.

    Raises:
        ImageError: `image.rootfs`: none of these; `image.rootfs-damaged`, `image.rootfs-feature`: not readable whole.
        RefusedError: `refused.rootfs-compressed`.
    """
    if path.is_dir():
        yield RootFiles(_of_directory(path), str(path))
        return
    with ExitStack() as stack:
        file: BinaryIO = stack.enter_context(path.open("rb"))
        head = file.read(_TAR_AT + 8)
        if is_packed(head):
            file = stack.enter_context(_unpacked(file, path))
            head = file.read(_TAR_AT + 8)
        if head[_TAR_AT : _TAR_AT + 5] == b"ustar":
            file.seek(0)
            yield RootFiles(stack.enter_context(_Tar(file, path)).entries(), str(path))
        elif head[: len(_SQUASHFS)] == _SQUASHFS:
            what, form = (
                f"'{path}' is a squashfs image, which is not read here",
                "a directory, tar archive, ext4 or erofs",
            )
            hint = "'unsquashfs -d DIR FILE' unpacks it, or mount it; then give the directory"
            raise ImageError(what, code="rootfs", expected=form, found="squashfs", hint=hint)
        else:
            yield RootFiles(_of_image(FileSystemImage(file, str(path))), str(path))


def _unpacked(file: BinaryIO, path: Path) -> BinaryIO:
    sink = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    try:
        with naming(path):
            unpack(file, sink)
    except ValueError as e:
        sink.close()
        raise ImageError(f"'{path}' cannot be unpacked", code="rootfs-damaged", found=str(e)) from e
    except BaseException:
        sink.close()
        raise
    sink.seek(0)
    return sink


def _of_directory(top: Path) -> Iterator[TreeEntry]:
    waiting = [(os.fspath(top), "")]
    while waiting:
        directory, above = waiting.pop()
        with os.scandir(directory) as found:
            for each in found:
                path = above + each.name
                entry = _of_name(each, path)
                yield entry
                if entry.kind is EntryKind.DIRECTORY:
                    waiting.append((each.path, f"{path}/"))


def _of_name(each: os.DirEntry[str], path: str) -> TreeEntry:
    if each.is_symlink():
        return TreeEntry(path, EntryKind.LINK, target=str(Path(each.path).readlink()))
    if each.is_dir():
        return TreeEntry(path, EntryKind.DIRECTORY)
    if not each.is_file():
        return TreeEntry(path, EntryKind.OTHER)
    return TreeEntry(path, EntryKind.FILE, each.stat().st_size, opening=lambda: Path(each.path).open("rb"))


class _Tar:
    """An archive that is read where it stands.

    Raises:
        ImageError: `image.rootfs-damaged`, from here and while it is read.
    """

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file, self._path = file, path
        try:
            self._tar = tarfile.TarFile(fileobj=file, errors="surrogateescape")
        except (tarfile.TarError, ValueError, EOFError) as e:
            raise self._damaged(str(e)) from e

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._tar.close()

    def entries(self) -> Iterator[TreeEntry]:
        """Every name in it; a hard link is what it is a link to."""
        try:
            members = self._tar.getmembers()
            self._require_end()
            by_name = {member.name: member for member in members}
            for member in members:
                if entry := self._entry(member, by_name):
                    yield entry
        except (tarfile.TarError, ValueError, EOFError, OverflowError, KeyError) as e:
            raise self._damaged(str(e)) from e

    def _require_end(self) -> None:
        """Behind its last member an archive has a block of zeros (POSIX.1-2017, pax); one that was cut has not.

        tarfile takes a damaged head in the middle for the end.
        """
        self._file.seek(self._tar.offset)
        if self._file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise self._damaged(f"no end of an archive at byte {self._tar.offset}")

    def _entry(self, member: tarfile.TarInfo, by_name: Mapping[str, tarfile.TarInfo]) -> TreeEntry | None:
        parts = [part for part in member.name.split("/") if part not in ("", ".")]
        if ".." in parts:
            raise self._damaged(f"the name '{member.name}'")
        path = "/".join(parts)
        if not path:
            return None
        if member.issym():
            return TreeEntry(path, EntryKind.LINK, target=member.linkname)
        if member.isdir():
            return TreeEntry(path, EntryKind.DIRECTORY)
        if member.islnk():
            member = by_name[member.linkname]
        if not member.isfile():
            return TreeEntry(path, EntryKind.OTHER)
        return TreeEntry(path, EntryKind.FILE, member.size, opening=lambda: self._open(member))

    def _open(self, member: tarfile.TarInfo) -> BinaryIO:
        opened = self._tar.extractfile(member)
        assert opened is not None  # a regular file
        return opened  # type: ignore[return-value]

    def _damaged(self, found: object) -> ImageError:
        what = f"the archive '{self._path}' cannot be read whole"
        return ImageError(what, code="rootfs-damaged", found=str(found)[:200])


def _of_image(image: FileSystemImage) -> Iterator[TreeEntry]:
    tree = open_tree(image)
    for found in tree.walk():
        path, node = found.path.decode("utf-8", "surrogateescape"), found.node
        if stat.S_ISLNK(node.mode):
            yield TreeEntry(path, EntryKind.LINK, target=tree.target(node).decode("utf-8", "surrogateescape"))
        elif stat.S_ISDIR(node.mode):
            yield TreeEntry(path, EntryKind.DIRECTORY)
        elif not stat.S_ISREG(node.mode):
            yield TreeEntry(path, EntryKind.OTHER)
        else:
            yield TreeEntry(path, EntryKind.FILE, node.size, opening=lambda node=node: tree.open(node))  # type: ignore[misc]
