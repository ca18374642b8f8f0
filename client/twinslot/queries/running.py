"""What came with the release that runs, without its image: for `info --running`. No lock, nothing changed, any user."""

from __future__ import annotations

from typing import Any

from twinslot.config.options import Config
from twinslot.core.describe import describe_manifest
from twinslot.core.errors import DeviceError
from twinslot.core.manifest import Attachment, Manifest, find_attachments, parse_manifest
from twinslot.core.model import SlotName
from twinslot.engine.facts import look
from twinslot.storage.attachments import DIRECTORY, AttachmentStore


def running_release(config: Config) -> dict[str, Any]:
    """The running release as its manifest has it, JSON-ready; `kept` says of each attachment whether it is here.

    Raises:
        DeviceError: `device.attachments-missing`: nothing of it is kept; `device.attachments`.
    """
    slot, manifest = _running(config)
    store = _store(config)
    described = describe_manifest(manifest)
    kept = {each.name: store.has(slot, each) for each in manifest.attachments}
    return {"slot": str(slot), "image": described, "kept": kept}


def running_attachment(config: Config, wanted: str) -> tuple[Attachment, bytes]:
    """One attachment of the running release, by its name, or by its type where one has it.

    Raises:
        RefusedError: `refused.attachment-unknown`.
        DeviceError: `device.attachments-missing`: it is not kept here, or damaged; `device.attachments`.
    """
    slot, manifest = _running(config)
    attachment = find_attachments(manifest, wanted)
    data = _store(config).attachment(slot, attachment)
    if data is None:
        what = f"the attachment '{attachment.name}' of the running release is not kept on this device"
        hint = "'twinslot info IMAGE --attachment' reads it from the image"
        raise DeviceError(what, code="attachments-missing", hint=hint)
    return attachment, data


def _store(config: Config) -> AttachmentStore:
    return AttachmentStore(config.record.directory / DIRECTORY)


def _running(config: Config) -> tuple[SlotName, Manifest]:
    with look(config) as view:
        slot, known = view.facts.running, view.facts.holds(view.facts.running)
    data = _store(config).manifest(slot, known.release.manifest) if slot and known else None
    if slot is None or data is None:
        what = "what came with the running release is not kept on this device"
        hint = "it is kept from the next update on, unless 'install.keep_attachments' is 0"
        raise DeviceError(what, code="attachments-missing", hint=hint)
    return slot, parse_manifest(data)
