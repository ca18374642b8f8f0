"""Small images in memory: a real manifest, and a stream that hands out its parts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

from twinslot.core.bitset import ones
from twinslot.core.manifest import Manifest, Payload, parse_manifest
from twinslot.core.model import PARTITION
from twinslot.core.notes import Note, Unused
from twinslot.core.stream import Base, Cost, GroupPart, ImageHead, ListPart, Part
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
        more: Names of payloads beside the root file system, of three groups each.
        files: Those of them that are of type `file`.
    """

    name: str
    sequence: int
    groups: int = 5
    epoch: int = 0
    well: bool = True
    more: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    @property
    def content(self) -> bytes:
        """The bytes of the root file system."""
        return self.contents["rootfs"]

    @cached_property
    def contents(self) -> dict[str, bytes]:
        """The bytes of each payload; each group different, the last one short."""
        return {"rootfs": _content(self.name, self.groups)} | {
            name: _content(f"{self.name}/{name}", 3) for name in self.more
        }

    def list_of(self, payload: str) -> bytes:
        """Digests of a payload's groups."""
        content = self.contents[payload]
        groups = (content[at : at + GROUP] for at in range(0, len(content), GROUP))
        return b"".join(hashlib.sha256(group).digest() for group in groups)

    @cached_property
    def plain_list(self) -> bytes:
        """Of the root file system."""
        return self.list_of("rootfs")

    @cached_property
    def manifest_bytes(self) -> bytes:
        """The manifest, unsigned: trust is not what the simulation is about."""
        packed = [
            PackedPayload(
                name=name,
                size=len(content),
                digest=hashlib.sha256(content).hexdigest(),
                group_size=GROUP,
                plain_list=self.list_of(name),
                stored_table=b"x" * 40 * -(-len(content) // GROUP),
                stored_size=len(content),
                type="file" if name in self.files else PARTITION,
            )
            for name, content in sorted(self.contents.items())
        ]
        when = datetime(2026, 1, 1, tzinfo=UTC)
        facts = ReleaseFacts(
            "sim", self.name, self.sequence, self.epoch, "feature", ("sim",), (), when, when.replace(year=2030)
        )
        return compose_manifest(facts, packed, [])

    @cached_property
    def manifest(self) -> Manifest:
        """As the device reads it."""
        return parse_manifest(self.manifest_bytes)


def _content(seed: str, groups: int) -> bytes:
    """Groups that are all different, the last one short."""
    made = [hashlib.sha256(f"{seed}/{n}".encode()).digest() * (GROUP // 32) for n in range(groups)]
    return b"".join(made)[: -GROUP // 2]


class SmallStream:
    """Implements `core.stream.ImageStream`.

    Args:
        image: To hand out.
        ranged: As from a server with ranges: remote, and it waits for what is wanted.
    """

    def __init__(self, image: SmallImage, *, ranged: bool = False) -> None:
        self._image = image
        self.remote = ranged
        self.source = "http://sim/image.twin" if ranged else "/media/image.twin"
        self.fetched = 0
        self.unused: tuple[Unused, ...] = ()
        self.groups: list[int] = []  # that were fetched
        self.closed = False
        self.takes: Callable[[float], None] = lambda _: None  # hears how many seconds a group took
        self._wanted: tuple[str, bytes] | None = None

    def listen(self, listener: Callable[[Note], None]) -> None:
        """It has nothing to tell."""

    def head(self) -> ImageHead:
        return ImageHead(b"", self._image.manifest_bytes)

    def foresee(self) -> None:
        """Nothing is encrypted."""

    def unlock(self, manifest: Manifest) -> None:
        """Nothing is encrypted."""

    def attach(self, names: Sequence[str]) -> None:
        """It has no attachments."""

    def parts(self, manifest: Manifest, bases: Sequence[Base] = ()) -> Iterator[Part]:
        for payload in manifest.payloads:
            yield ListPart(payload.name, self._image.list_of(payload.name), waits=self.remote)
            if not self.remote:
                yield from (self._group(payload, index) for index in range(payload.groups))
            while self._wanted and self._wanted[0] == payload.name:
                wanted, self._wanted = self._wanted[1], None
                yield from (self._group(payload, index) for index in ones(wanted))

    def want(self, payload: str, groups: bytes) -> None:
        assert self._wanted is None
        self._wanted = (payload, groups)

    def cost(self, payload: str, groups: bytes) -> Cost:
        return Cost(0, GROUP * sum(1 for _ in ones(groups)))

    def _group(self, payload: Payload, index: int) -> GroupPart:
        self.fetched += payload.group_length(index)
        self.groups.append(index)
        self.takes(1.0)
        content = self._image.contents[payload.name]
        return GroupPart(payload.name, index, content[index * GROUP :][: payload.group_length(index)])

    def close(self) -> None:
        self.closed = True
