"""Would this device take this image? For `info`: every reason at once, no lock, nothing changed, any user.

What only root can read (the raw environment) is left out for others, and said.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from twinslot.bootloader.select import open_bootloader
from twinslot.config.options import Config
from twinslot.core.acceptance import AcceptancePolicy, DeviceFacts, check
from twinslot.core.boot_variables import BootState, read_state
from twinslot.core.errors import DeviceError, Refusal, RefusedError
from twinslot.core.manifest import parse_manifest
from twinslot.core.model import Floors, SlotName
from twinslot.core.requests import InstallOptions
from twinslot.core.slotset import slots_from
from twinslot.engine.assemble import open_stream, verify_head
from twinslot.health.selection import check_names, configured_checks
from twinslot.payloads.base import PayloadPlace
from twinslot.payloads.select import find_places
from twinslot.queries.status import open_record
from twinslot.storage.record.published import Published
from twinslot.storage.record.record import Record
from twinslot.storage.running_slot import find_running_slot
from twinslot.transport.base import ImageHead
from twinslot.trust.verdict import Verdict
from twinslot.worker import launch

_ANY_SIZE: Final = 1 << 63  # bytes; stands for a place whose size is not known

_PLAIN: Final = InstallOptions()

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Preview:
    """What an install of this image would begin with.

    Attributes:
        verdict: What the trust process said; None when it did not trust.
        refusals: Every reason against it, of trust and of policy; empty means welcome.
        notes: What could not be looked at, one sentence each.
    """

    verdict: Verdict | None
    refusals: tuple[Refusal, ...]
    notes: tuple[str, ...]


def fetch_head(config: Config, url: str) -> tuple[bytes, bytes]:
    """Trust section and manifest of an image behind a URL, through a worker without privileges.

    Raises:
        ImageError: The image is wrong.
        TransportError: The source does not answer.
    """
    stream = open_stream(config, url, service_workers=False)
    try:
        head = stream.head()
    finally:
        stream.close()
    return head.trust, head.manifest


def preview(config: Config, trust: bytes, manifest: bytes, options: InstallOptions = _PLAIN) -> Preview:
    """Ask trust and policy, as an install would. The trust process is started without privileges.

    Args:
        config: Of this device.
        trust: The image's trust section; not parsed here (S2).
        manifest: The image's, unverified.
        options: As the install would have them.

    Raises:
        ImageError: The image is malformed.
        DeviceError: This device cannot ask: no root of trust, no worker.
    """
    notes: list[str] = []
    record = _try(lambda: open_record(config), notes)
    try:
        state = _try(lambda: read_state(open_bootloader(config.boot).read().variables), notes)
        floors = (state.floors if state else Floors()).highest(record.floors() if record else Floors())
        verdict, untrusted = _ask_trust(config, ImageHead(trust, manifest), record, floors, options)
        policy = AcceptancePolicy(
            reinstall=options.reinstall or config.install.allow_reinstall,
            retry=options.retry,
            group_size=config.install.max_group_size,
        )
        unwanted = check(parse_manifest(manifest), _facts(config, record, state, floors, notes), policy)
    finally:
        if record is not None:
            record.close()
    return Preview(verdict, untrusted + unwanted, tuple(notes))


def _try(look: Callable[[], T], notes: list[str]) -> T | None:
    try:
        return look()
    except DeviceError as e:
        notes.append(str(e))
        return None


def _ask_trust(
    config: Config, head: ImageHead, record: Record | Published | None, floors: Floors, options: InstallOptions
) -> tuple[Verdict | None, tuple[Refusal, ...]]:
    try:
        return verify_head(config, head, record, floors, launch.start, ignore_expiry=options.ignore_expiry), ()
    except RefusedError as e:
        return None, e.reasons


def _target(running: SlotName | None, state: BootState | None) -> SlotName:
    """The slot that would be written; where it is not known which one runs, one as large as any."""
    slots = slots_from(running or next(iter(SlotName)))
    return slots.target(state.states, state.back) if state else slots.target()


def _facts(
    config: Config, record: Record | Published | None, state: BootState | None, floors: Floors, notes: list[str]
) -> DeviceFacts:
    found = find_running_slot({name: config.slots.of(name) for name in SlotName})
    running = found.slot
    if running is None:
        notes.append("it is not known which slot runs")
    places = find_places(config.slots, found)[_target(running, state)]
    known = record.slot(running) if record and running else None
    failed = set(record.failed()) if record else set()
    if state and state.failed_sequence is not None:
        failed.add(state.failed_sequence)
    return DeviceFacts(
        compatible=config.device.compatible,
        partitions={payload: _room(payload, place, notes) for payload, place in places.items()},
        checks=check_names(configured_checks(config.health)),
        floors=floors,
        running=known.release if known else None,
        content={name: payload.digest for name, payload in known.payloads.items()} if known else {},
        on_trial=running is not None and state is not None and not state.is_kept(running),
        failed=frozenset(failed),
        hardware=config.device.hardware,
        variant=config.device.variant,
        payload_types={payload: place.type for payload, place in places.items()},
    )


def _room(payload: str, place: PayloadPlace, notes: list[str]) -> int:
    """Bytes that a place takes; any size where it cannot be asked."""
    room = place.room()
    if room is None:
        notes.append(f"the size of the place for payload '{payload}' is not known")
        return _ANY_SIZE
    return room
