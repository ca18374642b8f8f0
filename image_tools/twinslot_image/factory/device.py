"""A whole disk for a new device: the image's payloads in slot a, its record, both copies of its environment.

Nothing is written that the device would not believe: the image is verified against the root document, by the roles that
the device's own configuration demands, and that configuration is held to the board (`slot_check`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from twinslot.bootloader.env_lines import read_default
from twinslot.core.errors import DeviceError, ImageError, LifecycleError, Refusal, RefusedError
from twinslot.core.manifest import Manifest
from twinslot.core.model import SlotName
from twinslot.trust.verdict import TrustPolicy
from twinslot_image.factory.board import FactoryBoard
from twinslot_image.factory.disk import assemble, make_data
from twinslot_image.factory.layout import ROOT_PAYLOAD, DiskLayout
from twinslot_image.factory.record import provision
from twinslot_image.factory.slot_check import disagreements, read_config
from twinslot_image.fs_tree import FileSystemImage
from twinslot_image.outputs import Target
from twinslot_image.patch_sources import Content, unpack_image
from twinslot_image.progress import ProgressLine
from twinslot_image.recipients import LOCKED, Unlock
from twinslot_image.rootfs import open_tree
from twinslot_image.verify import verify_image

SLOT: Final = SlotName.A  # a new device starts from the first slot


@dataclass(frozen=True, slots=True)
class NewDevice:
    """What stands on the disk: release, roles that signed it, the environment's variables, bytes of the disk."""

    manifest: Manifest
    roles: tuple[str, ...]
    variables: dict[str, str]
    size: int


def make_device(
    image: Path,
    board: FactoryBoard,
    root: bytes,
    disk: Path,
    card: Path,
    folder: Path,
    built: datetime,
    unlock: Unlock = LOCKED,
) -> NewDevice:
    """Write the disk of a new device, and the card with its environment if that has one of its own.

    Args:
        image: A signed image.
        board: Where things go.
        root: The root document that the device trusts.
        disk: The file to fill.
        card: The same for the card; not touched if the environment stands on the disk.
        folder: For temporary files as large as the payloads.
        built: Stamped on the record.
        unlock: Opens an encrypted image.

    Raises:
        ImageError: Not an image, damaged, or it does not fit.
        RefusedError: Not trusted, or not for this board; with every reason.
        DeviceError: `device.config-*` of the system in the image, `device.disk-tool`, `device.env-full`.
        OSError: A file cannot be read or written.
    """
    contents = _unpack(image, folder, unlock)
    manifest, roles = _believe(image, board, root, contents, unlock)
    (folder / "record").mkdir()
    variables = provision(image, SLOT, Target(folder / "record" / "record.sqlite"), built)
    data = make_data(folder / "data.img", board.layout.disk.data_mib, folder / "record" / "record.sqlite")
    names = board.layout.disk.names_of(SLOT)
    parts = {names[content.name]: content.file for content in contents.values()} | {"data": data}
    defaults = read_default(board.default_environment) if board.default_environment else {}
    try:
        assemble(board.layout, disk, card, parts, {**defaults, **variables}, board.firmware)
    except LifecycleError as e:
        what = "the variables do not fit into a copy of the environment"
        raise DeviceError(what, code="env-full", expected=e.expected, found=e.found) from e
    return NewDevice(manifest, roles, variables, board.layout.disk.size())


def _unpack(image: Path, folder: Path, unlock: Unlock) -> dict[str, Content]:
    place = folder / "payloads"
    place.mkdir()
    with ProgressLine("unpacking", image.stat().st_size) as progress:
        return unpack_image(image, place, progress.update, unlock)


def _believe(
    image: Path, board: FactoryBoard, root: bytes, contents: dict[str, Content], unlock: Unlock
) -> tuple[Manifest, tuple[str, ...]]:
    """Verify as the device would, and see that the device would find what is written for it."""
    if ROOT_PAYLOAD not in contents:
        what = "the image has no root file system"
        raise ImageError(what, code="payload", expected=ROOT_PAYLOAD, found=", ".join(sorted(contents)))
    with contents[ROOT_PAYLOAD].file.open("rb") as file:
        tree = open_tree(FileSystemImage(file, f"{image}: {ROOT_PAYLOAD}"))
        config = read_config(tree)
        policy = TrustPolicy(config.trust.roles)
        with ProgressLine("verifying", image.stat().st_size) as progress:
            verified = verify_image(image, root, policy, datetime.now(UTC), progress.update, unlock=unlock)
        reasons = [
            *_places(board.layout.disk, contents),
            *disagreements(tree, config, board.layout, root, verified.manifest),
        ]
    if reasons:
        raise RefusedError(tuple(reasons))
    return verified.manifest, config.trust.roles


def _places(disk: DiskLayout, contents: dict[str, Content]) -> list[Refusal]:
    """Payloads and partitions that do not go together."""
    rooms = {payload: size for payload, (_, size) in disk.payloads(SLOT).items()}
    reasons = []
    if rooms.keys() != contents.keys():
        what, hint = "the image has other payloads than the board has partitions", "see '[disk.beside]' of the board"
        reasons.append(Refusal("factory-payload", what, ", ".join(sorted(rooms)), ", ".join(sorted(contents)), hint))
    for name, content in contents.items():
        if content.size > rooms.get(name, content.size):
            what = f"payload '{name}' is larger than its partition"
            reasons.append(Refusal("payload-size", what, f"{rooms[name]} bytes or less", f"{content.size} bytes"))
    return reasons
