"""A second type of payload, as a product might add one: a file in a directory of each slot, on the data partition.

`PATH/next` is being written, `PATH/whole` was read back, and `PATH/selected`, a link to it, is what the system takes.
It knows nothing of the engine, and nothing but the table of `payloads.select` knows of it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path

from twinslot.core.errors import DeviceError, ImageError, Refusal, RefusedError
from twinslot.core.manifest import Payload
from twinslot.core.model import SECTOR, SlotName, StoredPayload
from twinslot.payloads.base import Tick
from twinslot.payloads.signed_list import SignedList
from twinslot.storage.blockdev import BlockTarget, open_target
from twinslot.storage.running_slot import RunningSlot
from twinslot.storage.slot_reader import SlotReader, open_reader
from twinslot.storage.sync import sync_directory

Meet = Callable[[str], None]  # told of each step before it is done; may raise, as a power cut does


class FileSink:
    """Writes one file; implements `PayloadSink`."""

    def __init__(self, path: Path, payload: Payload, meet: Meet) -> None:
        self._path, self._payload, self._meet = path, payload, meet
        self._signed = SignedList(payload)
        self._done = bytearray(payload.groups)
        self._file: BlockTarget | None = None
        self.lasting = False
        self.written = self.copied = self.skipped = self.zeroed = 0

    @property
    def extent(self) -> int:
        return self._payload.size

    @property
    def plain_list(self) -> bytes:
        return self._signed.data

    def wipe(self) -> None:
        self._meet("file unselect")
        (self._path / "selected").unlink(missing_ok=True)
        if (self._path / "whole").exists():  # what stands there is at hand for `keep`
            (self._path / "whole").rename(self._path / "next")
        sync_directory(self._path)
        self.close()
        self._meet("file size")
        (self._path / "next").touch()
        os.truncate(self._path / "next", -(-self._payload.size // SECTOR) * SECTOR)  # as a direct read needs it
        self._file = open_target(self._path / "next", (), allow_files=True)

    def take_list(self, data: bytes) -> None:
        self._signed.take(data)

    def expect(self, indices: Iterable[int]) -> None:
        self._signed.expect(indices)

    def next_is(self, index: int) -> None:
        self._signed.next_is(index)

    def has(self, index: int) -> bool:
        return index < len(self._done) and bool(self._done[index])

    def read(self, index: int) -> bytes:
        start = index * self._payload.group_size
        size = min(self._open.size - start, self._payload.group_size)
        return self._open.read_direct(start, size) if size > 0 else b""

    def keep(self, index: int) -> bool:
        data = self.read(index)[: self._payload.group_length(index)]
        if not self._signed.names(index, data):
            return False
        self._done[index] = 1
        self.skipped += len(data)
        return True

    def copy(self, index: int, data: bytes) -> bool:
        if not self._signed.names(index, data):
            return False
        self._put(index, data)
        self.copied += len(data)
        return True

    def zero(self, index: int) -> None:
        self._put(index, bytes(self._payload.group_length(index)))

    def take_group(self, index: int, data: bytes | memoryview, *, look: bool = False) -> None:
        self._signed.next_is(index)
        self._signed.check(index, data)
        if not (look and self.keep(index)):
            self._put(index, data)

    def read_back(self, tick: Tick) -> None:
        if not all(self._done):
            raise ImageError(f"payload '{self._payload.name}' ends early", code="truncated")
        self._meet("file flush")
        self._open.flush()
        for index in range(self._payload.groups):
            if not self._signed.names(index, self.read(index)[: self._payload.group_length(index)]):
                raise DeviceError(f"group {index} reads back differently from '{self._path}'", code="read-back")
            tick((index + 1) * self._payload.group_size)
        whole = b"".join(map(self.read, range(self._payload.groups)))[: self._payload.size]
        if hashlib.sha256(whole).hexdigest() != self._payload.digest:
            raise ImageError(f"payload '{self._payload.name}' has other content than its manifest says", code="payload")

    def finish(self) -> None:
        if (self._path / "next").exists():
            self._meet("file whole")
            os.truncate(self._path / "next", self._payload.size)
            self._open.flush()
            (self._path / "next").rename(self._path / "whole")
        sync_directory(self._path)

    def close(self) -> None:
        """Of the target's."""
        if self._file is not None:
            self._file.close()

    @property
    def _open(self) -> BlockTarget:
        assert self._file is not None, "wipe comes first"
        return self._file

    def _put(self, index: int, data: bytes | memoryview) -> None:
        self._meet(f"file write {index}")
        self._open.write(index * self._payload.group_size, data)
        self._done[index] = 1
        self.written += len(data)


class FileTarget:
    """The directory, for one writer; implements `PayloadTarget`."""

    def __init__(self, path: Path, meet: Meet) -> None:
        self._path, self._meet = path, meet
        self._sinks: list[FileSink] = []

    @property
    def size(self) -> int:
        return _room(self._path)

    def sink(self, payload: Payload, run: Executor | None, monotonic: Callable[[], float]) -> FileSink:
        self._sinks.append(FileSink(self._path, payload, self._meet))
        return self._sinks[-1]

    def digest(self, stored: StoredPayload, tick: Tick) -> str:
        whole = hashlib.sha256()
        data = (self._path / "whole").read_bytes() if (self._path / "whole").exists() else b""
        whole.update(data)
        tick(stored.size)
        return whole.hexdigest()

    def close(self) -> None:
        for sink in self._sinks:
            sink.close()


@dataclass(frozen=True)
class FilePlace:
    """A directory of one slot; implements `PayloadPlace`."""

    path: Path
    runs: bool
    meet: Meet

    @property
    def type(self) -> str:
        return "file"

    def room(self) -> int | None:
        return _room(self.path)

    def open_target(self) -> FileTarget:
        if self.runs:
            raise RefusedError(Refusal("target-running", f"'{self.path}' is of the running slot"))
        self.path.mkdir(exist_ok=True)
        return FileTarget(self.path, self.meet)

    def open_source(self) -> SlotReader:
        return open_reader(self.path / "selected")

    def switch(self) -> None:
        self.meet("file select")
        if not (self.path / "selected").is_symlink():
            (self.path / "selected").symlink_to("whole")
        sync_directory(self.path)

    def commit(self) -> None:
        self.meet("file tidy")
        (self.path / "next").unlink(missing_ok=True)

    def revert(self) -> None:
        self.meet("file drop")
        (self.path / "selected").unlink(missing_ok=True)
        sync_directory(self.path)


def _room(path: Path) -> int:
    """What the file system has left; for one that is asked before the directory was made, its parent's."""
    status = os.statvfs(path if path.exists() else path.parent)
    return status.f_bavail * status.f_frsize


@dataclass
class FileHandler:
    """Implements `PayloadHandler`."""

    meet: Meet = field(default=lambda _: None)

    def place(self, path: Path, slot: SlotName, name: str, running: RunningSlot) -> FilePlace:
        return FilePlace(path, slot is running.slot, self.meet)
