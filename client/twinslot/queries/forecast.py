"""What an install would fetch, and what it would take from where: for `install --dry-run`. Nothing is changed.

Lists are taken as they are kept; a slot without one is read. So a group that turns out damaged in the install itself
costs more than is said here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from twinslot.config.options import Config
from twinslot.core.errors import RefusedError, TransportError
from twinslot.core.manifest import Manifest, Payload, parse_manifest
from twinslot.core.model import SlotName, StoredPayload
from twinslot.core.requests import InstallOptions
from twinslot.core.slotset import slots_from
from twinslot.core.stream import Base, Cost, ImageStream, ListPart
from twinslot.engine.facts import look
from twinslot.engine.streams import open_stream
from twinslot.payloads.base import PayloadPlace
from twinslot.payloads.plan import ContentSource, Plan, make_plan
from twinslot.payloads.select import Places, find_places
from twinslot.queries.preview import judge
from twinslot.storage.known_lists import KnownList, ListStore
from twinslot.storage.slot_reader import SlotReader, list_on


@dataclass(frozen=True, slots=True)
class Forecast:
    """Bytes by where they would come from.

    Attributes:
        release: Its name.
        size: Of all payloads.
        patch: Stored bytes that would be fetched of a patch.
        image: Stored bytes that would be fetched of the image.
        head: Fetched already: head, lists, tables, the head of a patch.
        running: Content that the running slot holds.
        target: Content that the target holds, in its place or elsewhere.
        zero: Content that is all zeros.
        write: Content that would be written.
        unused: What would have saved a part of the download (`patch`, `block list`, `ranges`), and why it does not.
    """

    release: str
    size: int
    patch: int
    image: int
    head: int
    running: int
    target: int
    zero: int
    write: int
    unused: dict[str, str] = field(default_factory=dict)

    @property
    def fetch(self) -> int:
        """Bytes over the wire in all."""
        return self.patch + self.image + self.head

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self) | {"fetch": self.fetch}


def forecast_here(config: Config, source: str | int, options: InstallOptions) -> Forecast:
    """Forecast an install on this machine. Reading the slots needs root.

    Raises:
        RefusedError: This device would not take the image; with every reason.
        TwinslotError: As an install.
    """
    with look(config) as view:
        running, places = view.where.require(), find_places(config.slots, view.where)
        stream = open_stream(config, source, service_workers=False)
        try:
            head = stream.head()
            refusals = judge(config, view, head, options).refusals
            if refusals:
                raise RefusedError(refusals)
            known = view.facts.holds(running)
            installed = known.payloads if known else {}
            return forecast(config, places, stream, parse_manifest(head.manifest), running, installed)
        finally:
            stream.close()


def forecast(
    config: Config,
    places: Places,
    stream: ImageStream,
    manifest: Manifest,
    running: SlotName,
    installed: Mapping[str, StoredPayload],
) -> Forecast:
    """Ask lists, slots and stream.

    Args:
        config: Of this device.
        places: Of both slots.
        stream: Its head was taken; not closed here.
        manifest: Verified.
        running: The slot that runs; `SlotSet.target` is written.
        installed: What the record knows of it.
    """
    stream.unlock(manifest)
    store = ListStore(config.record.directory / "lists")
    with contextlib.ExitStack() as stack:
        target = slots_from(running).target()
        readers = {slot: _readers(stack, places[slot]) for slot in (running, target)}
        looked = config.delta.reuse and stream.remote
        lists: dict[str, tuple[KnownList | None, KnownList | None]] = {}
        for payload in manifest.payloads:
            size = installed[payload.name].size if payload.name in installed else None
            here = _list(store, running, payload, readers[running], looked=looked, size=size)
            there = _list(store, target, payload, readers[target], looked=looked, size=payload.size)
            lists[payload.name] = (here, there) if config.delta.reuse else (None, None)
        bases = [
            Base(name, here.size, here.group_size, here.digest, here.data, readers[running][name].descriptor)
            for name, (here, _) in lists.items()
            if here is not None and config.delta.patches and stream.remote
        ]
        return _ask(stream, manifest, lists, bases)


def _ask(
    stream: ImageStream,
    manifest: Manifest,
    lists: Mapping[str, tuple[KnownList | None, KnownList | None]],
    bases: list[Base],
) -> Forecast:
    costs, plans = [], []
    parts = stream.parts(manifest, bases)
    for payload in manifest.payloads:
        part = next(parts, None)
        if not isinstance(part, ListPart) or part.payload != payload.name:
            raise TransportError("the source does not tell what it holds", code="order", found=part)
        here, there = lists[payload.name]
        plan = make_plan(payload, part.data, here, there)
        if there is not None and there.group_digest(0) == part.data[: len(there.group_digest(0))]:
            plan.put(0, ContentSource.MOVE)  # it is read before it is wiped
        plans.append(plan)
        if part.waits:
            wanted = plan.wanted()
            costs.append(stream.cost(payload.name, wanted) if wanted else Cost(0, 0))
            stream.want(payload.name, b"")
            if payload is manifest.payloads[-1]:
                next(parts, None)  # the end, with the count of what was fetched
        else:  # everything comes, in order, and lists stand before all groups
            costs.append(Cost(0, payload.stored_size))
    unused = {note.what: note.why for note in reversed(stream.unused)}
    return replace(_sum(manifest, plans, costs, stream.fetched), unused=unused)


def _sum(manifest: Manifest, plans: list[Plan], costs: list[Cost], fetched: int) -> Forecast:
    def content(*ways: ContentSource) -> int:
        return sum(plan.bytes_of(way) for plan in plans for way in ways)

    return Forecast(
        release=manifest.release.name,
        size=sum(payload.size for payload in manifest.payloads),
        patch=sum(cost.patch for cost in costs),
        image=sum(cost.image for cost in costs),
        head=fetched,
        running=content(ContentSource.COPY),
        target=content(ContentSource.KEEP, ContentSource.MOVE),
        zero=content(ContentSource.ZERO),
        write=content(ContentSource.FETCH, ContentSource.COPY, ContentSource.MOVE),
    )


def _readers(stack: contextlib.ExitStack, places: Mapping[str, PayloadPlace]) -> Mapping[str, SlotReader]:
    readers = {}
    for payload, place in places.items():
        readers[payload] = place.open_source()
        stack.callback(readers[payload].close)
    return readers


def _list(
    store: ListStore,
    slot: SlotName,
    payload: Payload,
    readers: Mapping[str, SlotReader],
    *,
    looked: bool,
    size: int | None,
) -> KnownList | None:
    known, reader = store.load(slot, payload.name), readers.get(payload.name)
    if known is not None and known.group_size == payload.group_size:
        return known
    if not looked or reader is None:
        return None
    return list_on(reader, min(size or reader.size, reader.size), payload.group_size, lambda _: None)
