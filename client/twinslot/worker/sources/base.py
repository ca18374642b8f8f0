"""Groups that a worker makes of what the device runs and of a file beside the image, whatever that file is."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Final

from twinslot.core.bitset import bits_where, has, ones
from twinslot.core.errors import ImageError, TransportError
from twinslot.core.manifest import Payload
from twinslot.core.notes import Note, Unused
from twinslot.transport.http.ranges import RangesRefused

log = logging.getLogger(__name__)

Tell = Callable[[Note], None]

# These end the update, since the image would fare no better: its own bounds, and an engine that is gone.
_FINAL: Final = ("transport.deadline", "transport.budget", "transport.worker-gone", "transport.worker-silent")


class GroupSource(ABC):
    """Those groups of one payload that need not come from the image.

    Args:
        payload: From the verified manifest.
        what: The file beside the image, for people.
        note: Told when it is given up.
    """

    def __init__(self, payload: Payload, what: str, note: Tell) -> None:
        self._payload, self._what, self._note = payload, what, note
        self._made = bytearray((payload.groups + 7) // 8)

    def split(self, wanted: bytes) -> tuple[bytes, bytes]:
        """Which of these groups are made here, and which must come from the image."""
        made, groups = bytes(self._made), self._payload.groups
        return (
            bits_where(groups, lambda index: has(wanted, index) and has(made, index)),
            bits_where(groups, lambda index: has(wanted, index) and not has(made, index)),
        )

    @abstractmethod
    def cost(self, wanted: bytes) -> int:
        """Bytes that would be fetched for these groups."""

    @abstractmethod
    def _decoded(self, wanted: bytes) -> Iterator[tuple[int, bytes | None]]:
        """These groups, in ascending order; None: not to be made."""

    def groups(self, wanted: bytes) -> Iterator[tuple[int, bytes]]:
        """These groups, in ascending order; empty: could not be made, and will not be made when asked for again.

        Raises:
            TransportError: The deadline or the budget of the whole update.
        """
        following = 0
        try:
            for index, plain in self._decoded(wanted):
                if plain is None:
                    self._give_up(index)
                yield index, plain or b""
                following = index + 1
        except (ImageError, RangesRefused, TransportError) as e:  # ImageError: of a sealed file that does not open
            not_used(self._what, e, self._note)
            yield from self._none(wanted, following)

    def _makes(self, index: int) -> None:
        self._made[index >> 3] |= 1 << (index & 7)

    def _give_up(self, index: int) -> None:
        self._made[index >> 3] &= ~(1 << (index & 7)) & 0xFF

    def _none(self, wanted: bytes, following: int) -> Iterator[tuple[int, bytes]]:
        for index in ones(wanted, following):
            self._give_up(index)
            yield index, b""


# keeps: S28 (in the worker's process)
def not_used(what: str, error: ImageError | TransportError | RangesRefused, note: Tell) -> None:
    """A file beside the image fails: say so, and go on without it. Whatever is wrong with it, the image may be had.

    Args:
        what: The file, for people.
        error: What went wrong, or that it is only to be had as a whole, which is ended here.
        note: Told of it.

    Raises:
        TransportError: It is not this file that fails: the deadline or the budget of the whole update.
    """
    if isinstance(error, RangesRefused):
        error.source.close()
        note(Unused(what, "the server gives no parts of it"))
        return
    if error.code in _FINAL:
        raise error
    log.warning("the %s is not used: %s", what, error)
    note(Unused(what, error.message if error.found is None else f"{error.message}: {error.found}"))
