"""A payload's plain list, and the order in which its groups may come: what every sink checks before it writes (S2)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from twinslot.core.bounds import DIGEST_SIZE
from twinslot.core.errors import ImageError
from twinslot.core.manifest import Payload


class SignedList:
    """The digests of a payload's groups, once they are those that were signed. Memory: 32 bytes per group.

    Args:
        payload: From the verified manifest.

    Attributes:
        data: The list; empty before it was taken. Then no group has its digest.
    """

    def __init__(self, payload: Payload) -> None:
        self._payload = payload
        self._coming: Iterator[int] = iter(())
        self.data = b""

    # keeps: S2
    def take(self, data: bytes) -> None:
        """Take the list of digests, once; from now on all groups may come, in order.

        Raises:
            ImageError: Its digest is not the one in the manifest; `image.order`: it came before.
        """
        if self.data:  # a worker that says it for ever would hold us as long
            raise ImageError(f"the plain list of payload '{self._payload.name}' came twice", code="order")
        found = hashlib.sha256(data).hexdigest()
        if found != self._payload.plain_list or len(data) != self._payload.groups * DIGEST_SIZE:
            raise ImageError(
                f"the plain list of payload '{self._payload.name}' is not the one that was signed",
                code="plain-list",
                expected=self._payload.plain_list,
                found=found,
            )
        self.data = data
        self.expect(range(self._payload.groups))

    def expect(self, indices: Iterable[int]) -> None:
        """Say which groups will come, and in which order."""
        self._coming = iter(indices)

    def next_is(self, index: int) -> None:
        """This group comes next.

        Raises:
            ImageError: `image.order`: another one was expected, or none.
        """
        expected = next(self._coming, None)
        if index != expected:
            raise ImageError(
                f"group {index} of payload '{self._payload.name}' is out of order", code="order", expected=expected
            )

    def names(self, index: int, data: bytes | memoryview) -> bool:
        """Whether this is the group's content."""
        return hashlib.sha256(data).digest() == self._digest(index)

    # keeps: S2
    def check(self, index: int, data: bytes | memoryview) -> None:
        """Hold a group that was received to the list.

        Raises:
            ImageError: `image.group`: it is not the one that was signed.
        """
        if self.names(index, data):
            return
        raise ImageError(
            f"group {index} of payload '{self._payload.name}' as received is not the one that was signed",
            code="group",
            expected=self._digest(index).hex(),
            found=hashlib.sha256(data).hexdigest(),
        )

    def _digest(self, index: int) -> bytes:
        return self.data[index * DIGEST_SIZE : (index + 1) * DIGEST_SIZE]
