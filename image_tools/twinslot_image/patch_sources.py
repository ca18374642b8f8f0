"""The contents of two images as flat files, with a digest for each group: what a patch is made between."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from twinslot.core.errors import ImageError
from twinslot.core.manifest import Manifest, parse_manifest
from twinslot.image.events import EndOfImage, Event, Group, Head, PlainList
from twinslot.image.wire import MAGIC, Encoding
from twinslot_image.reading import read_events
from twinslot_image.recipients import LOCKED, Unlock

OnProgress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Content:
    """The plain content of one payload.

    Attributes:
        name: Of the payload.
        file: Holds it, and nothing else.
        size: Bytes.
        digest: SHA-256, 64 hex digits.
        group_size: Bytes.
        plain_list: 32 bytes for each group.
    """

    name: str
    file: Path
    size: int
    digest: str
    group_size: int
    plain_list: bytes = field(repr=False)


def is_image(path: Path) -> bool:
    """Whether a file is an update image; else it is taken for the content of a partition."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def unpack_image(
    path: Path, folder: Path, on_progress: OnProgress = lambda _: None, unlock: Unlock = LOCKED
) -> dict[str, Content]:
    """Unpack every payload of an image into a file in `folder`; groups are held to their digests.

    Raises:
        ImageError: Damaged or malformed.
        RefusedError: It is encrypted, and `unlock` does not open it.
    """
    with ExitStack() as files:
        sink = _Sink(folder, files)
        for event in read_events(path, sink.believe, unlock, on_progress):
            sink.take(event)
        return sink.finish()


def read_content(name: str, file: Path, group_size: int, on_progress: OnProgress = lambda _: None) -> Content:
    """Take a flat file as the content of a payload.

    Raises:
        ImageError: `image.payload-size`: it is empty.
    """
    whole, plain_list, size = hashlib.sha256(), bytearray(), 0
    with file.open("rb") as source:
        for group in iter(lambda: source.read(group_size), b""):
            whole.update(group)
            plain_list += hashlib.sha256(group).digest()
            size += len(group)
            on_progress(size)
    if not size:
        raise ImageError(f"'{file}' is empty", code="payload-size")
    return Content(name, file, size, whole.hexdigest(), group_size, bytes(plain_list))


class _Sink:
    """Writes what the reader says into files; zero groups become holes."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder, self._stack = folder, stack
        self._files: dict[str, BinaryIO] = {}
        self._lists: dict[str, bytes] = {}
        self._manifest: Manifest | None = None

    def believe(self, head: Head) -> Manifest:
        """A patch needs no signature: what is made with it is held to the signed list."""
        self._manifest = parse_manifest(head.manifest)
        return self._manifest

    def take(self, event: Event | EndOfImage) -> None:
        if isinstance(event, PlainList):
            self._lists[event.payload.name] = event.data
            path = self._folder / event.payload.name
            self._files[event.payload.name] = self._stack.enter_context(path.open("wb"))
        elif isinstance(event, Group):
            file = self._files[event.payload.name]
            if event.encoding is Encoding.ZERO:
                file.seek(len(event.data), 1)
            else:
                file.write(event.data)

    def finish(self) -> dict[str, Content]:
        assert self._manifest
        found = {}
        for payload in self._manifest.payloads:
            file = self._files[payload.name]
            file.truncate(payload.size)
            file.flush()
            plain_list = self._lists[payload.name]
            path = self._folder / payload.name
            found[payload.name] = Content(
                payload.name, path, payload.size, payload.digest, payload.group_size, plain_list
            )
        return found
