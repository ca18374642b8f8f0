"""Where each group of a payload comes from. Pure: lists in, a plan out; nothing is believed before it is hashed."""

from __future__ import annotations

import enum
import hashlib
from array import array
from bisect import bisect_right
from typing import Final

from twinslot.core.bitset import bits_where
from twinslot.core.bounds import DIGEST_SIZE
from twinslot.core.manifest import Payload
from twinslot.core.tables import sorted_table
from twinslot.storage.known_lists import KnownList

_BITS: Final = 18  # for a group's number: GROUPS_MAX is 2**18
_LOW: Final = (1 << _BITS) - 1


class ContentSource(enum.IntEnum):
    """How a group gets to its place."""

    FETCH = 0
    KEEP = 1  # the target holds it there already
    ZERO = 2  # it is all zeros
    COPY = 3  # the running slot holds it
    MOVE = 4  # the target holds it at another place


class Plan:
    """A way for each group. Five bytes a group."""

    def __init__(self, payload: Payload) -> None:
        self._payload = payload
        self._ways = bytearray(payload.groups)
        self._places = array("I", bytes(4 * payload.groups))

    def way(self, index: int) -> ContentSource:
        """How this group comes."""
        return ContentSource(self._ways[index])

    def place(self, index: int) -> int:
        """The number of the group to copy or move from."""
        return self._places[index]

    def put(self, index: int, way: ContentSource, place: int = 0) -> None:
        """Decide for a group."""
        self._ways[index], self._places[index] = way, place

    def wanted(self) -> bytes:
        """The groups that must be fetched, as bits (core/bitset.py); empty when there is none."""
        return bits_where(self._payload.groups, lambda index: self._ways[index] == ContentSource.FETCH)

    def bytes_of(self, way: ContentSource) -> int:
        """Bytes of plain content that come this way."""
        whole = self._ways.count(way) * self._payload.group_size
        last = self._payload.groups - 1
        return whole - (self._payload.group_size - self._payload.group_length(last) if self._ways[last] == way else 0)


def make_plan(payload: Payload, plain_list: bytes, running: KnownList | None, target: KnownList | None) -> Plan:
    """Decide for each group, the cheapest way first: leave it, zero it, copy it, move it, fetch it.

    Args:
        payload: What is installed.
        plain_list: Its list, already held to the manifest.
        running: What the running slot is said to hold.
        target: What the target is said to hold; its first group was wiped.
    """
    plan = Plan(payload)
    of_running, of_target = _index(payload, running), _index(payload, target)
    zeros = {zero_digest(payload.group_size), zero_digest(payload.group_length(payload.groups - 1))}
    for index in range(payload.groups):
        digest = plain_list[index * DIGEST_SIZE : (index + 1) * DIGEST_SIZE]
        if index and of_target and of_target.known.group_digest(index) == digest:
            plan.put(index, ContentSource.KEEP)
        elif digest in zeros:
            plan.put(index, ContentSource.ZERO)
        elif of_running and (place := of_running.find(digest, index)) is not None:
            plan.put(index, ContentSource.COPY, place)
        elif of_target and (place := of_target.find(digest, index or -1)):  # not the first, wiped
            plan.put(index, ContentSource.MOVE, place)
    return plan


def zero_digest(length: int) -> bytes:
    """The digest of so many zeros."""
    return hashlib.sha256(bytes(length)).digest()


class _Index:
    """Finds a digest in a list by a sorted table of 8 bytes a group: 46 bits of the digest, 18 of the number."""

    def __init__(self, known: KnownList) -> None:
        self.known, data = known, known.data
        zeros = zero_digest(known.group_size)
        self._keys = sorted_table(
            _key(data, at) | at // DIGEST_SIZE
            for at in range(0, len(data), DIGEST_SIZE)
            if data[at : at + DIGEST_SIZE] != zeros
        )

    def find(self, digest: bytes, here: int) -> int | None:
        """A group with this digest: at the same place, or else the last one. None: there is none.

        The last, since a group of the target behind the one that is written now has not been overwritten yet.
        """
        if self.known.group_digest(here) == digest:
            return here
        key = _key(digest, 0)
        for at in range(bisect_right(self._keys, key | _LOW) - 1, -1, -1):
            if self._keys[at] & ~_LOW != key:
                break
            index = self._keys[at] & _LOW
            if self.known.group_digest(index) == digest:
                return index
        return None


def _key(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 8], "big") & ~_LOW


def _index(payload: Payload, known: KnownList | None) -> _Index | None:
    """Groups of another size have other digests."""
    return _Index(known) if known is not None and known.group_size == payload.group_size else None
