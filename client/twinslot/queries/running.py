"""What came with a release, without its image: for `info --running` and, of the update that waits, `info --waiting`.

No lock, nothing changed, any user.
"""

from __future__ import annotations

from typing import Any

from twinslot.config.options import Config
from twinslot.core.attachments import find_attachments
from twinslot.core.describe import describe_manifest
from twinslot.core.errors import DeviceError, Refusal, RefusedError
from twinslot.core.lifecycle import WAITING
from twinslot.core.manifest import Attachment, Manifest, parse_manifest
from twinslot.core.model import SlotName
from twinslot.engine.facts import look
from twinslot.storage.attachments import DIRECTORY, AttachmentStore


def running_release(config: Config) -> dict[str, Any]:
    """The running release as its manifest has it, JSON-ready; `kept` says of each attachment whether it is here.

    Raises:
        DeviceError: `device.attachments-missing`: nothing of it is kept; `device.attachments`.
    """
    return _described(config, *_running(config))


def waiting_release(config: Config) -> dict[str, Any]:
    """The same of the update that is written and was not started yet.

    Raises:
        RefusedError: `refused.not-waiting`: there is none.
        DeviceError: As `running_release`.
    """
    return _described(config, *_waiting(config))


def _described(config: Config, slot: SlotName, manifest: Manifest) -> dict[str, Any]:
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
    return _attachment(config, *_running(config), wanted)


def waiting_attachment(config: Config, wanted: str) -> tuple[Attachment, bytes]:
    """The same of the update that waits; raises `refused.not-waiting`, too."""
    return _attachment(config, *_waiting(config), wanted)


def _attachment(config: Config, slot: SlotName, manifest: Manifest, wanted: str) -> tuple[Attachment, bytes]:
    attachment = find_attachments(manifest, wanted)
    data = _store(config).attachment(slot, attachment)
    if data is None:
        what = f"the attachment '{attachment.name}' of release '{manifest.release.name}' is not kept on this device"
        hint = "'twinslot info IMAGE --attachment' reads it from the image"
        raise DeviceError(what, code="attachments-missing", hint=hint)
    return attachment, data


def _store(config: Config) -> AttachmentStore:
    return AttachmentStore(config.record.directory / DIRECTORY)


def _running(config: Config) -> tuple[SlotName, Manifest]:
    with look(config) as view:
        slot, known = view.facts.running, view.facts.holds(view.facts.running)
    manifest = _kept(config, slot, known.release.manifest) if slot and known else None
    if slot is None or manifest is None:
        what = "what came with the running release is not kept on this device"
        hint = "it is kept from the next update on, unless 'install.keep_attachments' is 0"
        raise DeviceError(what, code="attachments-missing", hint=hint)
    return slot, manifest


def _waiting(config: Config) -> tuple[SlotName, Manifest]:
    with look(config) as view:
        found = view.facts.transaction
    if found is None or found.state not in WAITING or found.kind != "install":
        hint = "'twinslot status' shows what is under way"
        raise RefusedError(Refusal("not-waiting", "no update waits to be started", hint=hint))
    manifest = _kept(config, found.target, found.release.manifest)
    if manifest is None:
        what = "what came with the update that waits is not kept on this device"
        hint = "'twinslot info IMAGE' reads it from the image; see 'install.keep_attachments'"
        raise DeviceError(what, code="attachments-missing", hint=hint)
    return found.target, manifest


def _kept(config: Config, slot: SlotName, digest: str) -> Manifest | None:
    data = _store(config).manifest(slot, digest)
    return parse_manifest(data) if data is not None else None
