"""Groups made of what the device runs and a patch beside the image (docs/patch-format.md).

Nothing in a patch is signed. Its digests are believed once the list that they complete has the digest in the manifest,
and its content once each group has the digest in that list; both are looked at here, and again by the writer.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Final

from twinslot.core.bitset import has
from twinslot.core.bounds import DIGEST_SIZE
from twinslot.core.manifest import Manifest, Payload
from twinslot.core.span import Span
from twinslot.core.stream import Base
from twinslot.image.groups import check_plain_list
from twinslot.image.patch import (
    PATCH_HEADER_SIZE,
    PatchDecoder,
    PatchHead,
    PayloadPatch,
    Piece,
    parse_patch_head,
    patch_head_length,
)
from twinslot.worker.sources.base import GroupSource, Tell
from twinslot.worker.sources.sidecar import Parts, Search, beside

DIGITS: Final = 16  # of the base's digest, in the patch's name


class Patches:
    """The patch of one image, for all payloads whose base it fits.

    Args:
        source: Of the patch; owned.
        payloads: By name.
    """

    def __init__(self, source: Parts, payloads: Mapping[str, PatchSource]) -> None:
        self._source, self._payloads = source, payloads

    @property
    def fetched(self) -> int:
        """Bytes of it so far."""
        return self._source.fetched

    def of(self, payload: Payload) -> PatchSource | None:
        """What there is for this payload."""
        return self._payloads.get(payload.name)


class PatchSource(GroupSource):
    """One payload, made of its base.

    Args:
        payload: From the verified manifest.
        part: What the patch says of it.
        plain_list: The new list; it has the digest in the manifest.
        base: What the device runs.
        source: Of the patch.
        note: Told when it is given up.
    """

    def __init__(
        self, payload: Payload, part: PayloadPatch, plain_list: bytes, base: Base, source: Parts, note: Tell
    ) -> None:
        super().__init__(payload, "patch", note)
        self.plain_list = plain_list
        self._part, self._source = part, source
        self._decoder = PatchDecoder(part, plain_list, lambda at, length: os.pread(base.descriptor, length, at))
        for changed in part.changed:
            self._makes(changed.index)

    def cost(self, wanted: bytes) -> int:
        """Bytes of the pieces that hold these groups."""
        return sum(piece.length for _, piece in self._pieces(wanted))

    def _decoded(self, wanted: bytes) -> Iterator[tuple[int, bytes | None]]:
        spans = (Span(piece.offset, piece.length) for _, piece in self._pieces(wanted))
        for (number, _), (_, stored) in zip(self._pieces(wanted), self._source.stream(spans), strict=True):
            for index, plain in self._decoder.piece(number, stored):
                if has(wanted, index):
                    yield index, plain

    def _pieces(self, wanted: bytes) -> Iterator[tuple[int, Piece]]:
        changed = self._part.changed
        for number, piece in enumerate(self._part.pieces):
            if any(has(wanted, changed[at].index) for at in range(piece.first, piece.first + piece.count)):
                yield number, piece


def find_patches(search: Search, manifest: Manifest) -> Patches | None:
    """Look beside the image for a patch against what the device runs: `NAME.from-DIGITS.twinpatch`.

    Args:
        search: Where.
        manifest: Verified.

    Returns:
        None: there is none, or none that is of use; the image alone will do. The same holds for one without payloads,
        which only counts what was fetched of it: a patch that is cut off, replaced, compressed, or given as a whole.

    Raises:
        TransportError: The deadline or the budget of the whole update.
    """
    bases = search.bases
    first = next((bases[payload.name] for payload in manifest.payloads if payload.name in bases), None)
    if first is None:
        return None
    url = patch_url(search.url, first.digest)
    source, payloads = search.find("patch", url, lambda source: _payloads(source, manifest, search))
    return Patches(source, payloads or {}) if source else None


def patch_url(url: str, digest: str) -> str:
    """Where the patch against a base stands: `NAME.from-DIGITS.twinpatch` beside `NAME.twin`."""
    return beside(url, f".from-{digest[:DIGITS]}.twinpatch")


def _payloads(source: Parts, manifest: Manifest, search: Search) -> dict[str, PatchSource]:
    head = parse_patch_head(source.read(0, patch_head_length(source.read(0, PATCH_HEADER_SIZE))))
    found = {}
    for payload in manifest.payloads:
        part, base = _part(head, payload.name), search.bases.get(payload.name)
        if part is None or base is None or part.base != base.digest or base.group_size != payload.group_size:
            continue
        if len(base.plain_list) != -(-base.size // base.group_size) * DIGEST_SIZE:
            continue
        plain_list = check_plain_list(payload, part.new_plain_list(base.plain_list))
        found[payload.name] = PatchSource(payload, part, plain_list, base, source, search.note)
    return found


def _part(head: PatchHead, name: str) -> PayloadPatch | None:
    try:
        return head.payload(name)
    except KeyError:
        return None
