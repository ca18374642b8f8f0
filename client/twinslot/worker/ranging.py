"""Only what is wanted: for files, and for servers that know ranges."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from twinslot.core.manifest import Manifest, Payload
from twinslot.transport.budget import check_budget
from twinslot.worker.ranged import RangedImage
from twinslot.worker.telling import Teller

if TYPE_CHECKING:
    from twinslot.worker.patched import Patches


class Ranger:
    """Sends what the engine asks for, and nothing else.

    Args:
        teller: To the engine.
        image: To read.
        image_size: Bytes; a longer image is refused by its header. 0: no bound.
        budget: Bytes that may be fetched in all; 0: no bound.
        find_patches: Looks for patches against the bases that the device has; None when it has none, or no wish.
    """

    def __init__(
        self,
        teller: Teller,
        image: RangedImage,
        image_size: int,
        budget: int = 0,
        find_patches: Callable[[Manifest], Patches | None] = lambda _: None,
    ) -> None:
        self._teller, self._image = teller, image
        self._image_size, self._budget = image_size, budget
        self._find_patches = find_patches
        self._patches: Patches | None = None
        image.tick = self._arrived

    def run(self) -> None:
        """The whole conversation.

        Raises:
            BundleError: The image is wrong.
            TransportError: The source, or the budget.
        """
        self._teller.watch(self._fetched)
        self._teller.head(self._image.head(), self._image_size)
        manifest = self._teller.proceed()
        self._image.proceed(manifest)
        self._patches = self._find_patches(manifest)
        for number, payload in enumerate(manifest.payloads):
            self._serve(number, payload)
        self._teller.end()

    def _fetched(self) -> int:
        return self._image.fetched + (self._patches.fetched if self._patches else 0)

    def _arrived(self) -> None:
        """More than was asked for is coming: is it within the budget still?"""
        check_budget(self._budget, self._fetched())
        self._teller.tick()

    def _serve(self, number: int, payload: Payload) -> None:
        patched = self._patches.of(payload) if self._patches else None
        plain_list = patched.plain_list if patched else self._image.plain_list(payload)
        self._teller.plain_list(number, plain_list, waits=True)
        while (want := self._teller.want()).groups:
            made, fetched = patched.split(want.groups) if patched else (b"", want.groups)
            patch = patched.cost(made) if patched else 0
            image = self._image.cost(payload, fetched)
            if want.only_cost:
                self._teller.cost(patch, image)
                continue
            check_budget(self._budget, self._fetched() + patch + image)
            from_image = self._image.groups(payload, plain_list, fetched)
            from_patch = patched.groups(made) if patched else iter(())
            for index, data in merged(from_patch, from_image):
                self._teller.group(number, index, data)


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
