"""What the engine asks of a kind of payload: where a slot keeps one, and how it is written, found again and selected.

Four nouns, from the table to the group:

1. A **handler** knows one type of payload; `payloads.select` has the table of them.
2. A **place** is where one slot keeps one payload, by local configuration (S11). Holding it opens nothing.
3. A **target** is a place opened for writing, exclusively (S1).
4. A **sink** takes one payload into a target, so that it ends whole or counts for nothing (S2, S5).

Which groups come from where (`payload_install`) and what an update is made of (`engine.content`) know no type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from pathlib import Path
from typing import Protocol

from twinslot.core.manifest import Payload
from twinslot.core.model import SlotName, StoredPayload
from twinslot.storage.running_slot import RunningSlot
from twinslot.storage.slot_reader import SlotReader

Tick = Callable[[int], None]  # told how many bytes are done


class PayloadSink(Protocol):
    """One payload on its way into one target. Owns nothing: the target is closed by whoever opened it.

    Called in the order of this page, `keep` to `take_group` for each group. After a power cut anywhere before the end
    of `finish` the place holds nothing that counts, and a new sink begins with `wipe`. What arrives is checked here
    against the manifest, wherever it comes from (S2); `signed_list` does that for every type.

    Attributes:
        lasting: What arrives is to survive a power cut soon, since it would cost much to fetch it again.
    """

    lasting: bool

    @property
    def written(self) -> int:
        """Bytes of groups handed to the medium."""
        ...

    @property
    def copied(self) -> int:
        """Those of them that came from a slot of this device."""
        ...

    @property
    def skipped(self) -> int:
        """Bytes of groups that the target held already."""
        ...

    @property
    def zeroed(self) -> int:
        """Bytes of all-zero groups that were not written as such."""
        ...

    @property
    def extent(self) -> int:
        """Bytes that `read_back` goes over, for progress."""
        ...

    @property
    def plain_list(self) -> bytes:
        """The list that was taken; empty before."""
        ...

    def wipe(self) -> None:
        """Make what the place holds count for nothing, durably. May be done twice.

        Raises:
            DeviceError: The medium did not take it.
        """
        ...

    def take_list(self, data: bytes) -> None:
        """Take the plain list, once.

        Raises:
            ImageError: It is not the one that was signed, or came before.
        """
        ...

    def expect(self, indices: Iterable[int]) -> None:
        """Say which groups will come through `take_group`, and in which order; at first: all of them, in order."""
        ...

    def next_is(self, index: int) -> None:
        """This group comes next, or the news that it cannot come.

        Raises:
            ImageError: `image.order`: another one was expected, or none.
        """
        ...

    def has(self, index: int) -> bool:
        """This group is in its place, or held back to be written last."""
        ...

    def read(self, index: int) -> bytes:
        """A group of the target as it stands there now, for another place; may be anything, or nothing."""
        ...

    def keep(self, index: int) -> bool:
        """Leave a group that stands in its place already; False: it is not what was signed."""
        ...

    def copy(self, index: int, data: bytes) -> bool:
        """Take a group that this device is said to hold elsewhere; False: it is not what was signed."""
        ...

    def zero(self, index: int) -> None:
        """Make an all-zero group; whether it is one has been seen by its digest."""
        ...

    def take_group(self, index: int, data: bytes | memoryview, *, look: bool = False) -> None:
        """Check one group that arrived, and write it. Groups come in the order that was asked for, each once.

        Args:
            index: Of the group.
            data: Its plain content; only used until this returns.
            look: The target may hold it already: look there, and spare the write.

        Raises:
            ImageError: Wrong order, length or digest; nothing of it was written.
            DeviceError: The medium did not take it.
        """
        ...

    def read_back(self, tick: Tick) -> None:
        """Compare what the medium holds, past every cache, with what was signed. May be done twice.

        Raises:
            ImageError: A group never came, or the whole has another digest than the manifest names.
            DeviceError: `device.read-back` or `device.tail`: the medium returns something else than what was written.
        """
        ...

    def finish(self) -> None:
        """Make the payload count in its place, durably. May be done twice.

        Raises:
            DeviceError: The medium did not take it.
        """
        ...


class PayloadTarget(Protocol):
    """A place of the slot that does not run, opened for writing. Owned by whoever opened it; close it."""

    @property
    def size(self) -> int:
        """Bytes of the largest payload that it takes."""
        ...

    def sink(self, payload: Payload, run: Executor | None, monotonic: Callable[[], float]) -> PayloadSink:
        """Begin to write a payload.

        Args:
            payload: From the verified manifest.
            run: Where written parts may be read back while others are written, on one thread, which is ended before
                the target is closed; None: everything is read back in `read_back`.
            monotonic: Seconds, to measure flushes with.
        """
        ...

    def digest(self, stored: StoredPayload, tick: Tick) -> str:
        """SHA-256 of what the medium holds as this payload, past every cache, 64 hex digits (S14).

        Raises:
            DeviceError: It cannot be read, or what must be zeros behind it is something else.
        """
        ...

    def close(self) -> None:
        """Release it; nothing is flushed by this. May be called again."""
        ...


class PayloadPlace(Protocol):
    """Where one slot keeps one payload. Nothing is open.

    The last three are called when the boot environment has decided, or is about to; each may be done twice, and none
    decides anything (S12). With the slot selected by the boot loader there is nothing left to do for a partition.
    """

    @property
    def type(self) -> str:
        """The type word, as in the manifest."""
        ...

    def room(self) -> int | None:
        """Bytes of the largest payload that it takes, as anyone may ask without opening it; None: not known."""
        ...

    def open_target(self) -> PayloadTarget:
        """Open it for writing, exclusively. The caller closes it.

        Raises:
            RefusedError: It is in use, or of the running slot (S1); nothing was opened.
            DeviceError: It cannot be opened.
        """
        ...

    def open_source(self) -> SlotReader:
        """Open what it holds for reading only; the descriptor may be handed to a worker. The caller closes it.

        Raises:
            DeviceError: `device.slot-read`.
        """
        ...

    def switch(self) -> None:
        """Before the write that arms the slot: what the slot takes from here at its next start is what was written.

        What the running slot takes must not change. After a power cut behind this the slot may not be armed at all:
        then `revert` follows.

        Raises:
            DeviceError: It cannot; the slot is not armed.
        """
        ...

    def commit(self) -> None:
        """After the slot was committed: what only the time before needed may go."""
        ...

    def revert(self) -> None:
        """After the slot was left, or its update given up: undo `switch`. What it holds need not stay."""
        ...


class PayloadHandler(Protocol):
    """One type of payload."""

    def place(self, path: Path, slot: SlotName, name: str, running: RunningSlot) -> PayloadPlace:
        """Where a slot keeps a payload of this type; nothing is opened or looked at.

        Args:
            path: As configured in `[slots]`.
            slot: Whose place it is.
            name: Of the payload.
            running: What must not be written to (S1).
        """
        ...
