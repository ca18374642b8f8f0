"""Would this device take this image? For `info`: every reason at once, no lock, nothing changed, any user.

What only root can read (the raw environment) is left out for others, and said.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Final

from twinslot.config.options import Config
from twinslot.core.acceptance import AcceptancePolicy, check
from twinslot.core.attachments import check_attachment, readable_attachment
from twinslot.core.errors import ImageError, Refusal, RefusedError, TwinslotError
from twinslot.core.events import AuditEvent
from twinslot.core.manifest import parse_manifest
from twinslot.core.model import Floors
from twinslot.core.requests import InstallOptions
from twinslot.core.stream import AttachmentPart, ImageHead
from twinslot.engine.acceptance import device_facts
from twinslot.engine.assemble import verify_head
from twinslot.engine.facts import View, look
from twinslot.engine.streams import open_stream
from twinslot.health.selection import check_names, configured_checks
from twinslot.payloads.base import PayloadPlace
from twinslot.payloads.select import find_places
from twinslot.storage.record.published import Published
from twinslot.storage.record.record import Record
from twinslot.trust.verdict import Verdict
from twinslot.worker import launch

_ANY_SIZE: Final = 1 << 63  # bytes; stands for a place whose size is not known

_PLAIN: Final = InstallOptions()


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
    with contextlib.closing(open_stream(config, url, service_workers=False)) as stream:
        head = stream.head()
    return head.trust, head.manifest


def fetch_attachment(config: Config, url: str, wanted: str) -> tuple[tuple[bytes, bytes], bytes]:
    """The same, and one attachment, held to the digest in the manifest; no payload is asked for.

    Args:
        config: Of this device.
        url: Of the image.
        wanted: Name of the attachment, or its type.

    Raises:
        ImageError: The image is wrong.
        TransportError: The source does not answer.
        RefusedError: `refused.attachment-unknown`; `refused.encrypted`.
    """
    with contextlib.closing(open_stream(config, url, service_workers=False)) as stream:
        head = stream.head()
        manifest = parse_manifest(head.manifest)
        attachment = readable_attachment(manifest, wanted)
        stream.attach((attachment.name,))
        part = next(stream.parts(manifest), None)  # attachments come before all other parts
        if not isinstance(part, AttachmentPart) or part.name != attachment.name:
            raise ImageError(f"the worker sent no attachment '{attachment.name}'", code="order")
    return (head.trust, head.manifest), check_attachment(attachment, part.data)


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
    with look(config) as view:
        return judge(config, view, ImageHead(trust, manifest), options)


def judge(config: Config, view: View, head: ImageHead, options: InstallOptions) -> Preview:
    """As `preview`, by facts that were gathered already."""
    facts = view.facts
    notes = [problem for problem in (view.record_problem, view.environment_problem) if problem]
    if facts.running is None:
        notes.append("it is not known which slot runs")
    verdict, untrusted = _ask_trust(config, head, view.record, facts.floors, options, notes)
    policy = AcceptancePolicy(
        reinstall=options.reinstall or config.install.allow_reinstall,
        retry=options.retry,
        group_size=config.install.max_group_size,
        demands=config.acceptance.demands,
    )
    places = find_places(config.slots, view.where)[facts.target]
    wanted = device_facts(
        facts,
        compatible=config.device.compatible,
        checks=check_names(configured_checks(config.health)),
        hardware=config.device.hardware,
        variant=config.device.variant,
        places=places,
        room={payload: _room(payload, place, notes) for payload, place in places.items()},
    )
    unwanted = check(parse_manifest(head.manifest), wanted, policy)
    return Preview(verdict, untrusted + unwanted, tuple(notes))


def _ask_trust(
    config: Config,
    head: ImageHead,
    record: Record | Published | None,
    floors: Floors,
    options: InstallOptions,
    notes: list[str],
) -> tuple[Verdict | None, tuple[Refusal, ...]]:
    def dropped(_: int, why: TwinslotError) -> None:
        notes.append(f"{AuditEvent.ROOTS_DROPPED.meaning}: {why}")

    try:
        ignore = options.ignore_expiry
        return verify_head(config, head, record, floors, launch.start, ignore_expiry=ignore, dropped=dropped), ()
    except RefusedError as e:
        return None, e.reasons


def _room(payload: str, place: PayloadPlace, notes: list[str]) -> int:
    """Bytes that a place takes; any size where it cannot be asked."""
    room = place.room()
    if room is None:
        notes.append(f"the size of the place for payload '{payload}' is not known")
        return _ANY_SIZE
    return room
