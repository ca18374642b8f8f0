"""Releases of two payloads, small enough to be installed, recorded and judged on this machine in seconds.

Root file system: a real erofs, which nothing starts. Beside it: bytes. Of both, one part is the same in each release,
so that an update takes groups from where they stand.
"""

from __future__ import annotations

import random
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import twinslot_image
from twinslot.core.model import SlotName
from twinslot_image import factory
from twinslot_image.factory.disk import assemble
from twinslot_image.factory.record import provision
from twinslot_image.outputs import Target
from twinslot_lab.build import BoardFiles, make_data, make_slot
from twinslot_lab.cache import cached, fingerprint
from twinslot_lab.crash.bootmodel import DEFAULT
from twinslot_lab.description import BoardDescription, load
from twinslot_lab.release import Image, LabRelease, ReleaseTeam

BESIDE: Final = "voices"  # the payload beside the root file system
_BUILT: Final = datetime(2026, 1, 1, tzinfo=UTC)
_COMMON: Final = 6 * 65536  # bytes of each payload that every release has
# Bytes that only one release has. The client hands its writes on by the mebibyte (storage/write_buffer.py) and flushes
# after four (payloads/partition/flush.py): with more than the one and less than the other some of both payloads waits
# at once.
_OWN: Final = 2_500_000  # in the root file system
_OWN_BESIDE: Final = 1_300_000  # beside it; no whole number of groups, so that there is a tail


def small_board() -> BoardDescription:
    """virt-arm64 with partitions of a few MiB, and one for the second payload in either slot."""
    board = load("virt-arm64")
    return replace(board, disk=replace(board.disk, slot_mib=4, data_mib=16, beside={BESIDE: 2}))


class SmallTeam(ReleaseTeam):
    """Builds releases for `small_board`, and a device that leaves the factory with one of them."""

    def __init__(self) -> None:
        super().__init__()
        self.board = small_board()

    def image(self, release: LabRelease) -> Image:
        """See `ReleaseTeam`; takes a second."""

        def make(work: Path) -> None:
            self._slot(release, work)
            (work / f"{BESIDE}.img").write_bytes(
                _bytes(BESIDE, _COMMON) + _bytes(f"{BESIDE} {release.name}", _OWN_BESIDE)
            )
            (work / "notes.md").write_text(f"# Release {release.name}\n")
            self._pack(release, work, f'check = "none"\n[payloads.{BESIDE}]\nfile = "{BESIDE}.img"\ncheck = "none"')

        folder = cached("small-release", self._key(release), make)
        return Image(release, folder / "image.twin", folder / "slot.img")

    def factory(self, release: LabRelease) -> BoardFiles:
        """Disk and card of a device with this release in slot a; there is no firmware."""
        image = self.image(release)

        def make(work: Path) -> None:
            variables = provision(image.path, SlotName.A, Target(work / "record.sqlite"), _BUILT)
            contents = {"slot_a": image.slot, f"{BESIDE}_a": image.content(BESIDE)}
            contents["data"] = make_data(self.board, work / "data.img", work / "record.sqlite")
            variables = dict(DEFAULT) | variables
            assemble(self.board.layout, work / "disk.img", work / "card.img", contents, variables)

        key = fingerprint(str(image.path), Path(__file__), Path(factory.__file__).parent)
        return BoardFiles(self.board, cached("small-factory", key, make))

    def _slot(self, release: LabRelease, work: Path) -> Path:
        tree = work / "tree"
        release.apply(tree)
        (tree / "common").write_bytes(_bytes("root", _COMMON))
        (tree / "own").write_bytes(_bytes(f"root {release.name}", _OWN))
        slot = make_slot(self.board, tree, work / "slot.img")
        shutil.rmtree(tree)
        return slot

    def _key(self, release: LabRelease) -> str:
        what = [release.name, release.sequence, release.motor, release.epoch, self.compatible]
        tools = (Path(twinslot_image.__file__).parent, Path(__file__))
        return fingerprint(what, self.keys / "1.root.json", *tools)


def _bytes(seed: str, count: int) -> bytes:
    return random.Random(seed).randbytes(count)
