"""Only what is wanted: for files, and for servers that know ranges."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from twinslot.core.bitset import ones
from twinslot.core.manifest import Manifest, Payload
from twinslot.transport.budget import check_budget
from twinslot.worker.seekable import SeekableImage
from twinslot.worker.sender import WorkerSender

if TYPE_CHECKING:
    from twinslot.worker.sources.base import GroupSource
    from twinslot.worker.sources.blocklist_file import Blocks
    from twinslot.worker.sources.patch import Patches

WORTH: Final = 256 * 1024  # bytes of content that must be missing before a block list is looked for


@dataclass(frozen=True, slots=True)
class Beside:
    """How files beside the image are looked for, once its manifest is verified; each says None when there is none.

    Attributes:
        patches: Patches against what the device runs.
        blocks: A block list, which is of use for any base.
    """

    patches: Callable[[Manifest], Patches | None] = lambda _: None
    blocks: Callable[[Manifest], Blocks | None] = lambda _: None


class RangeServer:
    """Sends what the engine asks for, and nothing else.

    Args:
        sender: To the engine.
        image: To read.
        image_size: Bytes; a longer image is refused by its header. 0: no bound.
        budget: Bytes that may be fetched in all; 0: no bound.
        beside: Files beside the image, for a device that has bases, and the wish.
    """

    def __init__(
        self,
        sender: WorkerSender,
        image: SeekableImage,
        image_size: int,
        budget: int = 0,
        beside: Beside | None = None,
    ) -> None:
        self._sender, self._image = sender, image
        self._image_size, self._budget = image_size, budget
        self._beside = beside or Beside()
        self._patches: Patches | None = None
        self._find_blocks: Callable[[], Blocks | None] = lambda: None
        self._blocks: Blocks | None = None
        image.tick, image.note = self._arrived, sender.note

    def run(self) -> None:
        """The whole conversation.

        Raises:
            ImageError: The image is wrong.
            TransportError: The source, or the budget.
        """
        self._sender.watch(self._fetched)
        self._sender.head(self._image.head(), self._image_size)
        manifest = self._sender.proceed(self._unlocked)
        self._image.proceed(manifest)
        if manifest.encrypted:
            self._image.unlock(self._sender.unlocked)
        for number in self._sender.attached:
            if number < len(manifest.attachments):
                self._sender.attachment(number, self._image.attachment(number))
        self._patches = self._beside.patches(manifest)
        self._find_blocks = functools.cache(lambda: self._beside.blocks(manifest))
        for number, payload in enumerate(manifest.payloads):
            self._serve(number, payload)
        self._sender.end()

    def _unlocked(self, manifest: Manifest) -> bytes:
        self._image.proceed(manifest)
        return self._image.envelope()

    def _fetched(self) -> int:
        beside = (self._patches, self._blocks)
        return self._image.fetched + sum(each.fetched for each in beside if each)

    def _arrived(self) -> None:
        """More than was asked for is coming: is it within the budget still?"""
        check_budget(self._budget, self._fetched())
        self._sender.tick()

    def _serve(self, number: int, payload: Payload) -> None:
        patched = self._patches.of(payload) if self._patches else None
        plain_list = patched.plain_list if patched else self._image.plain_list(payload)
        self._sender.plain_list(number, plain_list, waits=True)
        made: GroupSource | None = patched
        first = True
        while (want := self._sender.want()).groups:
            if first and patched is None:
                made = self._blocked(payload, plain_list, want.groups)
            first = False
            here, fetched = made.split(want.groups) if made else (b"", want.groups)
            cost, image = made.cost(here) if made else 0, self._image.cost(payload, fetched)
            if want.only_cost:
                self._sender.cost(cost, image)
                continue
            check_budget(self._budget, self._fetched() + cost + image)
            from_image = self._image.groups(payload, fetched)
            from_beside = made.groups(here) if made else iter(())
            for index, data in merged(from_beside, from_image):
                self._sender.group(number, index, data)

    def _blocked(self, payload: Payload, plain_list: bytes, wanted: bytes) -> GroupSource | None:
        """No patch: what the device runs may still have most of it, at other places."""
        if sum(payload.group_length(index) for index in ones(wanted)) < WORTH:
            return None
        self._blocks = self._find_blocks()
        return self._blocks.of(payload, plain_list, wanted) if self._blocks else None


def merged(ones: Iterator[tuple[int, bytes]], others: Iterator[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    """Two ascending sequences as one; each is asked only when its turn may come."""
    one, other = next(ones, None), next(others, None)
    while one or other:
        if other is None or (one is not None and one[0] < other[0]):
            assert one is not None
            yield one
            one = next(ones, None)
        else:
            yield other
            other = next(others, None)
