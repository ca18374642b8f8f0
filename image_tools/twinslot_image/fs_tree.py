"""A file system read out of its image, without mount, scratch space or rights. What cannot be read is an error.

Names are bytes, as in the image. `fs_ext4` and `fs_erofs` know the two formats; everything else is here.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from twinslot.core.errors import ImageError

NAME_MAX = 255  # bytes; linux/limits.h
LINKS_MAX = 40  # symbolic links in one path (path_resolution(7))
LINK_SIZE_MAX = 4096  # bytes of a symbolic link's target, PATH_MAX
DIRECTORY_SIZE_MAX = 64 * 1024 * 1024  # bytes


@dataclass(frozen=True, slots=True)
class Extent:
    """Bytes of a file that lie together in the image; `at` is None for a hole. All in bytes."""

    start: int
    length: int
    at: int | None


@dataclass(frozen=True, slots=True)
class Node:
    """One inode: its number, mode, size in bytes, and where its content lies, without gaps that are no holes."""

    number: int
    mode: int
    size: int
    spans: Sequence[Extent]


@dataclass(frozen=True, slots=True)
class FoundFile:
    """One name in the tree: the path from the root without a leading slash, and what it names."""

    path: bytes
    node: Node


class FileSystemReader(Protocol):
    """What each format brings."""

    root: int
    files: int  # about how many inodes there are, for progress

    def node(self, number: int) -> Node:
        """An inode by its number."""
        ...

    def names(self, data: bytes) -> Iterator[tuple[bytes, int]]:
        """Names and inode numbers in a directory's content."""
        ...


class FileSystemImage:
    """The bytes of the image. What lies outside of it is damage.

    Args:
        file: Open for reading; read at offsets, its position does not matter.
        name: For messages.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.name = name
        self._descriptor = file.fileno()
        self.size = os.lseek(self._descriptor, 0, os.SEEK_END)  # bytes; a block device has no length in stat(2)

    def read(self, offset: int, length: int) -> bytes:
        """Exactly so many bytes.

        Raises:
            ImageError: `image.rootfs`: the image ends before.
        """
        if not 0 <= offset <= self.size - length:
            raise self.damaged(f"an end before byte {offset + length}", "a whole file system")
        data = b""
        while len(data) < length:
            more = os.pread(self._descriptor, length - len(data), offset + len(data))
            if not more:
                raise self.damaged(f"an end before byte {offset + length}", "a whole file system")
            data += more
        return data

    def must_hold(self, size: int) -> None:
        """The file system says how long it is; only the beginning of each file is read, so the rest must be there.

        Raises:
            ImageError: `image.rootfs-damaged`: the image is shorter.
        """
        if self.size < size:
            raise self.damaged(f"an image of {self.size} bytes", f"{size} bytes")

    def damaged(self, found: object, expected: str | None = None) -> ImageError:
        """The error for a file system that is not as it must be."""
        hint = "run 'e2fsck -f' or 'fsck.erofs' on it, or make it anew"
        what = f"the file system in '{self.name}' cannot be read whole"
        return ImageError(what, code="rootfs-damaged", expected=expected, found=found, hint=hint)

    def not_read(self, found: object, hint: str) -> ImageError:
        """The error for a file system that may be good, but has something that is not read here."""
        what = f"the file system in '{self.name}' has a feature that cannot be looked into"
        return ImageError(what, code="rootfs-feature", found=found, hint=hint)


class Tree:
    """Walks and looks up paths in a file system image."""

    def __init__(self, image: FileSystemImage, reader: FileSystemReader) -> None:
        self._image, self._reader = image, reader
        self.files = reader.files

    def walk(self) -> Iterator[FoundFile]:
        """Every name below the root, each directory before what is in it; hard links as often as they have names.

        Raises:
            ImageError: `image.rootfs-damaged` or `image.rootfs-feature`.
        """
        seen, waiting = {self._reader.root}, [FoundFile(b"", self._reader.node(self._reader.root))]
        while waiting:
            directory = waiting.pop()
            for name, number in self._children(directory.node):
                found = FoundFile(directory.path + b"/" + name if directory.path else name, self._reader.node(number))
                yield found
                if stat.S_ISDIR(found.node.mode):
                    if number in seen:
                        raise self._image.damaged(f"the directory '{show(found.path)}' twice")
                    seen.add(number)
                    waiting.append(found)

    def look_up(self, path: str, *, follow: bool = True) -> Node | None:
        """What a path names inside the image, or None. Links, absolute ones too, stay inside.

        Args:
            path: From the root.
            follow: Also the last part, if that is a link.
        """
        parts, links, walked = (
            path.encode("utf-8", "surrogateescape").split(b"/"),
            0,
            [self._reader.node(self._reader.root)],
        )
        while parts:
            part = parts.pop(0)
            if part in (b"", b"."):
                continue
            if part == b"..":
                walked = walked[:-1] or walked
                continue
            if (number := dict(self._children(walked[-1])).get(part)) is None:
                return None
            node = self._reader.node(number)
            if stat.S_ISLNK(node.mode) and (parts or follow):
                links += 1
                if links > LINKS_MAX:
                    return None
                target = self.target(node)
                parts[:0] = target.split(b"/")
                walked = walked[:1] if target.startswith(b"/") else walked
            elif parts and any(rest not in (b"", b".") for rest in parts) and not stat.S_ISDIR(node.mode):
                return None
            else:
                walked.append(node)
        return walked[-1]

    def names_in(self, path: str) -> tuple[bytes, ...]:
        """The names in a directory; none if it is not there or no directory."""
        node = self.look_up(path)
        return tuple(name for name, _ in self._children(node)) if node and stat.S_ISDIR(node.mode) else ()

    def target(self, node: Node) -> bytes:
        """Where a symbolic link leads."""
        if not 0 < node.size <= LINK_SIZE_MAX:
            raise self._image.damaged(f"a symbolic link of {node.size} bytes")
        return self.open(node).read()

    def open(self, node: Node) -> BinaryIO:
        """The content of a file; seekable."""
        return open_node(self._image, node)

    def _children(self, node: Node) -> Iterator[tuple[bytes, int]]:
        if node.size > DIRECTORY_SIZE_MAX:
            raise self._image.damaged(f"a directory of {node.size} bytes")
        for name, number in self._reader.names(self.open(node).read()):
            if name in (b".", b".."):
                continue
            if not name or len(name) > NAME_MAX or b"/" in name or b"\0" in name:
                raise self._image.damaged(f"the name '{show(name)}'")
            yield name, number


def open_node(image: FileSystemImage, node: Node) -> BinaryIO:
    """The content of a file; seekable."""
    return io.BufferedReader(_Content(image, node))


class _Content(io.RawIOBase):
    def __init__(self, image: FileSystemImage, node: Node) -> None:
        super().__init__()
        self._image, self._node, self._at = image, node, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._node.size}[whence]
        return self._at

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        length = min(len(view), self._node.size - self._at)
        if length <= 0:
            return 0
        view[:length] = self._read(self._at, length)
        self._at += length
        return length

    def _read(self, start: int, length: int) -> bytes:
        data = bytearray(length)
        for span in self._node.spans:
            first, last = max(start, span.start), min(start + length, span.start + span.length)
            if first < last and span.at is not None:
                data[first - start : last - start] = self._image.read(span.at + first - span.start, last - first)
        return bytes(data)


def show(name: bytes) -> str:
    """A name for people: what is no UTF-8, or would steer a terminal, as an escape sequence in text."""
    text = name.decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
