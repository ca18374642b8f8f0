"""Small images in memory: a real manifest, and a stream that hands out its parts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

from twinslot.core.bits import count_ones, ones
from twinslot.core.manifest import Manifest, Payload, parse_manifest
from twinslot.transport.base import Base, Cost, GroupPart, ImageHead, ListPart, Part
from twinslot.transport.notes import Note, Unused
from twinslot_image.compose import ReleaseFacts, compose_manifest
from twinslot_image.pack import PackedPayload

GROUP = 4096  # bytes


@dataclass(frozen=True)
class SmallImage:
    """One release of a small system.

    Attributes:
        name: The release's name.
        sequence: Orders releases.
        groups: How many groups its content has.
        epoch: Security epoch.
        well: Whether its health checks pass.
    """

    name: str
    sequence: int
    groups: int = 5
    epoch: int = 0
    well: bool = True

    @cached_property
    def content(self) -> bytes:
        """The slot's bytes; each group different, the last one short."""
        groups = [hashlib.sha256(f"{self.name}/{n}".encode()).digest() * (GROUP // 32) for n in range(self.groups)]
        return b"".join(groups)[: -GROUP // 2]

    @cached_property
    def plain_list(self) -> bytes:
        """Digests of the groups."""
        groups = (self.content[at : at + GROUP] for at in range(0, len(self.content), GROUP))
        return b"".join(hashlib.sha256(group).digest() for group in groups)

    @cached_property
    def manifest_bytes(self) -> bytes:
        """The manifest, unsigned: trust is not what the simulation is about."""
        packed = PackedPayload(
            name="rootfs",
            size=len(self.content),
            digest=hashlib.sha256(self.content).hexdigest(),
            group_size=GROUP,
            plain_list=self.plain_list,
            stored_table=b"x" * 40 * self.groups,
            stored_size=len(self.content),
        )
        when = datetime(2026, 1, 1, tzinfo=UTC)
        facts = ReleaseFacts(
            "sim", self.name, self.sequence, self.epoch, "feature", ("sim",), (), when, when.replace(year=2030)
        )
        return compose_manifest(facts, [packed], [])

    @cached_property
    def manifest(self) -> Manifest:
        """As the device reads it."""
        return parse_manifest(self.manifest_bytes)


class SmallStream:
    """Implements `transport.base.ImageStream`.

    Args:
        image: To hand out.
        ranged: As from a server with ranges: remote, and it waits for what is wanted.
    """

    def __init__(self, image: SmallImage, *, ranged: bool = False) -> None:
        self._image = image
        self.remote = ranged
        self.fetched = 0
        self.unused: tuple[Unused, ...] = ()
        self.groups: list[int] = []  # that were fetched
        self.closed = False
        self.takes: Callable[[float], None] = lambda _: None  # hears how many seconds a group took
        self._wanted: bytes | None = None

    def listen(self, listener: Callable[[Note], None]) -> None:
        """It has nothing to tell."""

    def head(self) -> ImageHead:
        return ImageHead(b"", self._image.manifest_bytes)

    def parts(self, manifest: Manifest, bases: Sequence[Base] = ()) -> Iterator[Part]:
        payload: Payload = manifest.payload("rootfs")
        yield ListPart("rootfs", self._image.plain_list, waits=self.remote)
        if not self.remote:
            yield from (self._group(payload, index) for index in range(payload.groups))
            return
        while self._wanted:
            wanted, self._wanted = self._wanted, None
            yield from (self._group(payload, index) for index in ones(wanted))

    def want(self, payload: str, groups: bytes) -> None:
        assert payload == "rootfs"
        assert self._wanted is None
        self._wanted = groups

    def cost(self, payload: str, groups: bytes) -> Cost:
        return Cost(0, GROUP * count_ones(groups))

    def _group(self, payload: Payload, index: int) -> GroupPart:
        self.fetched += payload.group_length(index)
        self.groups.append(index)
        self.takes(1.0)
        return GroupPart("rootfs", index, self._image.content[index * GROUP :][: payload.group_length(index)])

    def close(self) -> None:
        self.closed = True
