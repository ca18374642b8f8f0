"""The block list beside an image: whether there is one, and whether it is this image's (docs/blocks-format.md)."""

from __future__ import annotations

from typing import Final

from twinslot.core.bounds import PAYLOADS_MAX
from twinslot.core.errors import ImageError, TransportError
from twinslot.core.manifest import Manifest, Payload
from twinslot.image.wire_blocks import (
    BLOCKS_ENTRY_SIZE,
    BLOCKS_HEADER_SIZE,
    BLOCKS_SUFFIX,
    BlocksHead,
    fits,
    lists_digest,
    parse_blocks_head,
)
from twinslot.transport.http.ranges import RangesRefused
from twinslot.worker.sources.base import not_used
from twinslot.worker.sources.blocklist import BlockListSource
from twinslot.worker.sources.sidecar import Parts, Search, beside

_HEAD_MAX: Final = BLOCKS_HEADER_SIZE + PAYLOADS_MAX * BLOCKS_ENTRY_SIZE


class Blocks:
    """The block list of one image.

    Args:
        source: Of the list; owned.
        head: Its head; None: it is of no use, and only what was fetched of it counts.
        manifest: Verified.
        search: That found it, with what the device runs.
    """

    def __init__(self, source: Parts, head: BlocksHead | None, manifest: Manifest, search: Search) -> None:
        self._source, self._head, self._manifest, self._search = source, head, manifest, search

    @property
    def fetched(self) -> int:
        """Bytes of it so far."""
        return self._source.fetched

    def of(self, payload: Payload, plain_list: bytes, wanted: bytes) -> BlockListSource | None:
        """Look for the wanted groups' blocks in what the device runs, which is read once from end to end.

        Args:
            payload: From the manifest.
            plain_list: Its list, held to the manifest.
            wanted: Its groups that are nowhere on the device.

        Returns:
            None: the list cannot be used.

        Raises:
            TransportError: The deadline or the budget of the whole update.
        """
        base = self._search.bases.get(payload.name)
        if self._head is None or base is None or not fits(payload):
            return None
        number = self._manifest.payloads.index(payload)
        try:
            blocked = BlockListSource(payload, plain_list, base, self._source, self._head, number, self._search.note)
            blocked.look(wanted, self._search.tick)
        except (ImageError, TransportError, RangesRefused) as e:
            not_used("block list", e, self._search.note)
            self._head = None
            return None
        return blocked


def find_blocks(search: Search, manifest: Manifest) -> Blocks | None:
    """Look for the block list beside an image: `NAME.twinblocks`.

    Args:
        search: Where.
        manifest: Verified.

    Returns:
        None: there is none. One that is of no use only counts what was fetched of it.

    Raises:
        TransportError: The deadline or the budget of the whole update.
    """
    source, head = search.find("block list", blocks_url(search.url), lambda source: _head(source, manifest))
    return Blocks(source, head, manifest, search) if source else None


def blocks_url(url: str) -> str:
    """Where the block list stands: `NAME.twinblocks` beside `NAME.twin`."""
    return beside(url, BLOCKS_SUFFIX)


def _head(source: Parts, manifest: Manifest) -> BlocksHead:
    size = source.size
    head = parse_blocks_head(source.read(0, min(_HEAD_MAX, size if size is not None else _HEAD_MAX)))
    found = [(entry.groups, entry.group_size) for entry in head.entries]
    expected = [(payload.groups, payload.group_size) for payload in manifest.payloads]
    if head.lists != lists_digest(manifest) or found != expected:
        raise ImageError("the block list is another image's", code="blocks", expected=expected, found=found)
    if size is not None and size != head.total:
        raise ImageError("the length of the block list", code="length", expected=head.total, found=size)
    return head
