"""What this device holds already, asked of both slots and of what was kept about them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from twinslot.core.errors import DeviceError
from twinslot.core.manifest import Payload
from twinslot.core.model import SlotName, StoredPayload
from twinslot.core.stream import Base
from twinslot.storage.attachments import AttachmentStore
from twinslot.storage.known_lists import KnownList, ListStore
from twinslot.storage.slot_reader import SlotReader, list_on

log = logging.getLogger(__name__)

Tick = Callable[[int], None]  # told how many more bytes were read


@dataclass(slots=True)
class LocalContent:
    """The lists of both slots for one install, and the running slot's places.

    Attributes:
        target: The slot that is filled.
        source: The slot that runs.
        store: Where lists are kept; None: nowhere.
        readers: The running slot's places by payload, open for reading; empty when groups are not to be reused.
        installed: The running slot's payloads as the record knows them.
        documents: Where what comes with a release is kept; None: nowhere.
        unfinished: The last install into the target did not come to its end.
    """

    target: SlotName
    source: SlotName
    store: ListStore | None = None
    readers: Mapping[str, SlotReader] = field(default_factory=dict)
    installed: Mapping[str, StoredPayload] = field(default_factory=dict)
    unfinished: bool = False
    documents: AttachmentStore | None = None

    def take_target(self, payload: str) -> KnownList | None:
        """The target's list, which is forgotten now: its slot is about to change."""
        if self.store is None:
            return None
        known = self.store.load(self.target, payload)
        self.store.drop(self.target, payload)
        return known

    def running(self, payload: Payload, *, rebuild: bool, tick: Tick) -> KnownList | None:
        """The running slot's list, if it has groups of this size.

        Args:
            payload: That is installed.
            rebuild: Read the whole slot when no list is kept.
            tick: Told of what was read.
        """
        reader = self.readers.get(payload.name)
        if self.store is None or reader is None:
            return None
        slot, stored = self.source, self.installed.get(payload.name)
        known = self.store.load(slot, payload.name)
        fits = known is not None and known.group_size == payload.group_size
        if fits and (stored is None or known is None or stored.digest == known.digest):
            return known
        if not rebuild:
            return None
        try:
            known = list_on(reader, stored.size if stored else reader.size, payload.group_size, tick)
        except DeviceError as e:
            log.warning("nothing is reused from the running slot, all is fetched: %s", e)
            return None
        self.store.save(slot, payload.name, known)
        return known

    def base(self, payload: str, known: KnownList) -> Base:
        """For a worker that may find a patch against it."""
        descriptor = self.readers[payload].descriptor
        return Base(payload, known.size, known.group_size, known.digest, known.data, descriptor)

    def first(self, payload: str) -> bytes:
        """A first group that came early; not checked."""
        return self.store.load_first(self.target, payload) if self.store else b""

    def keep_first(self, payload: str, data: bytes) -> None:
        """Remember a first group until the end of this install or of the next."""
        if self.store:
            self.store.save_first(self.target, payload, data)

    def complete(self, payload: Payload, plain_list: bytes) -> None:
        """The target holds this payload now."""
        if self.store:
            known = KnownList(payload.size, payload.group_size, payload.digest, plain_list)
            self.store.save(self.target, payload.name, known)
