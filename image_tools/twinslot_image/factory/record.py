"""What manufacture gives a new device beside the slot itself: a first record, and the environment's variables.

Without it a device knows nothing of the release that it left the factory with, and could not go back to it later.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from twinslot.core.boot_variables import rebuild
from twinslot.core.canonical import parse_document
from twinslot.core.errors import DeviceError
from twinslot.core.events import AuditEvent
from twinslot.core.manifest import parse_manifest
from twinslot.core.model import Floors, SlotName, SlotRecord, SlotState, StoredPayload
from twinslot.image.wire import parse_trust
from twinslot.storage.record.record import FILE_NAME, Record
from twinslot_image.file_kind import read_image_front
from twinslot_image.outputs import Target
from twinslot_image.replacement import workspace


# keeps: S24
def provision(image: Path, slot: SlotName, record: Target, built: datetime) -> dict[str, str]:
    """Write the record of a device that leaves the factory with this image in one slot.

    Args:
        image: A signed image; its payloads are what manufacture writes to the slot.
        slot: Which slot.
        record: The database to write; goes to /var/lib/twinslot/record.sqlite on the data partition.
        built: Stamped on it.

    Returns:
        The variables for both copies of the boot environment (docs/boot-contract.md section 2).

    Raises:
        ImageError: Not an image, or one whose targets document is damaged.
        OSError: The record cannot be written.
    """
    front = read_image_front(image)
    manifest, targets = parse_manifest(front.manifest), parse_trust(front.trust).targets
    parse_document(targets, "trust")  # else the device would hold every image to what it cannot read
    release = manifest.release
    payloads = {p.name: StoredPayload(p.size, p.group_size, p.digest, p.type) for p in manifest.payloads}
    stamp = built.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    with workspace(record.folder) as directory:
        with _about(record.folder), Record(directory, lambda: stamp, "factory") as new:
            new.audit(AuditEvent.PROVISIONED, slot=slot, release=release.name, manifest=release.manifest)
            new.save_slot(SlotRecord(slot, release, payloads, "", stamp))
            new.keep_documents({"targets": targets.decode()})  # what the device compares the next one with (S24)
            new.raise_floors(Floors(release.sequence, release.epoch, 1))
            new.saw_generation(1)
        with record.writing() as sink:
            sink.write((directory / FILE_NAME).read_bytes())
    return factory_variables(image, slot)


@contextmanager
def _about(folder: Path) -> Iterator[None]:
    """A record that cannot be made is no device's: its errors name where the output goes."""
    try:
        yield
    except DeviceError as e:
        what = f"the record cannot be made in '{folder}'"
        raise DeviceError(what, code="output", found="a full disk" if e.code == "device.record-full" else None) from e


def factory_variables(image: Path, slot: SlotName) -> dict[str, str]:
    """The variables for both copies of the boot environment (docs/boot-contract.md section 2).

    Raises:
        ImageError: Not an image.
    """
    release = parse_manifest(read_image_front(image).manifest).release
    return first_variables(slot, Floors(release.sequence, release.epoch, 1))


def first_variables(slot: SlotName, floors: Floors) -> dict[str, str]:
    """The same for a device with a whole system in this slot, nothing in the other, and these floors."""
    variables = rebuild(slot, SlotState.BAD, "", 1, floors, trial=None, failed=None)
    return {name: str(value) for name, value in variables.items() if value}  # without a value there is no variable
