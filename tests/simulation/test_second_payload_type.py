"""A payload of a second type beside the root file system: a file on the data partition, through the same table.

Nothing in the client was changed for it: its handler stands in tests/fakes/file_payload.py and in the table alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from fakes.file_payload import FileHandler
from simulation.board import SimulatedBoard, power_may_go
from simulation.image import SmallImage, SmallStream
from simulation.power import Power, PowerCut
from simulation.test_power_cuts import memory
from twinslot.config.options import SlotsConfig
from twinslot.core.errors import DeviceError, RefusedError
from twinslot.core.model import SlotName
from twinslot.core.requests import InstallOptions
from twinslot.core.transaction import Outcome
from twinslot.payloads.base import PayloadPlace
from twinslot.payloads.select import HANDLERS, find_places
from twinslot.storage.running_slot import RunningSlot

MODEL = "model"
OLD = SmallImage("1.0", 10, more=(MODEL,), files=(MODEL,))
NEW = SmallImage("2.0", 20, more=(MODEL,), files=(MODEL,))
SICK = SmallImage("3.0", 30, more=(MODEL,), files=(MODEL,), well=False)


class SameModel(SmallImage):
    """A release with a root file system of its own and the model of release 1.0."""

    @cached_property
    def contents(self) -> dict[str, bytes]:
        return super().contents | {MODEL: OLD.contents[MODEL]}


class BoardWithFile(SimulatedBoard):
    """One partition in each slot, and beside it a directory of each slot on the data partition."""

    def __init__(self, directory: Path, factory: SmallImage, *releases: SmallImage) -> None:
        super().__init__(directory, factory, *releases)
        for slot in SlotName:
            del self.partitions[slot][MODEL]
        place = self.model(SlotName.A)
        place.mkdir()
        (place / "whole").write_bytes(factory.contents[MODEL])
        (place / "selected").symlink_to("whole")

    def model(self, slot: SlotName) -> Path:
        return self.data / f"model-{slot}"

    def holds(self, slot: SlotName) -> SmallImage | None:
        """Root file system and file are of one release, and the slot takes the file."""
        found, selected = super().holds(slot), self.model(slot) / "selected"
        whole = found and selected.exists() and selected.read_bytes() == found.contents[MODEL]
        return found if whole else None

    def meet(self, name: str) -> None:
        """The steps of the file's handler are on the same power supply."""
        if self.power.call(name):
            raise PowerCut(name)

    def _places(self, slot: SlotName) -> dict[str, PayloadPlace]:
        slots = SlotsConfig(a={MODEL: self.model(SlotName.A)}, b={MODEL: self.model(SlotName.B)}, types={MODEL: "file"})
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(HANDLERS, "file", FileHandler(self.meet))
            places = find_places(slots, RunningSlot(self.running, frozenset(), ()))
        return super()._places(slot) | dict(places[slot])


@contextmanager
def boards() -> Iterator[BoardWithFile]:
    with TemporaryDirectory(dir=memory()) as directory:
        board = BoardWithFile(Path(directory), OLD, NEW, SICK)
        board.live()
        yield board


@pytest.mark.parametrize("ranged", [False, True], ids=["stream", "ranges"])
def test_a_file_and_the_root_are_tried_kept_and_left_together(ranged: bool) -> None:
    with boards() as board:
        board.engine().install(SmallStream(NEW, ranged=ranged), InstallOptions(reboot=True))
        board.live()
        assert board.system() == NEW
        with board.open_record() as record:
            known = record.slot(SlotName.B)
            assert known is not None
            assert set(known.payloads) == {"rootfs", MODEL}
        board.engine().install(SmallStream(SICK, ranged=ranged), InstallOptions(reboot=True))
        board.live()
        assert board.system() == NEW
        assert not (board.model(SlotName.A) / "selected").exists(), "what was left is not what a slot takes"


def test_an_image_that_has_the_file_as_a_partition_is_refused() -> None:
    with boards() as board, pytest.raises(RefusedError, match="of a type that its place on this device is not for"):
        board.install(SmallImage("4.0", 40, more=(MODEL,)))


def test_a_committed_file_is_read_back_before_a_rollback_to_its_slot() -> None:
    with boards() as board:
        board.install(NEW)
        board.live()
        whole = board.model(SlotName.A) / "whole"
        before = whole.read_bytes()
        whole.write_bytes(b"rot")
        with pytest.raises(DeviceError, match=f"payload '{MODEL}' in slot 'a' is not what was installed"):
            board.engine().rollback()
        board.live()
        assert board.system() == NEW
        assert whole.read_bytes() != before


def test_a_rollback_to_a_committed_slot_takes_its_file() -> None:
    with boards() as board:
        board.install(NEW)
        board.live()
        board.engine().rollback()
        board.live()
        assert board.system() == OLD


@pytest.mark.verifies("S12")
def test_a_way_back_that_was_not_taken_after_all_stays_as_it_is() -> None:
    with boards() as board:
        board.install(NEW)
        board.live()
        board.engine().rollback(reboot=False)
        board.engine().cancel()
        assert board.holds(SlotName.A) == OLD
        board.live()
        assert board.system() == NEW


def test_a_file_that_did_not_change_is_copied_from_the_running_slot_and_not_fetched() -> None:
    same = SameModel("2.0", 20, more=(MODEL,), files=(MODEL,))
    with boards() as board:
        board.releases[same.content.ljust(len(board.disks[SlotName.A].content()), b"\0")] = same
        stream = SmallStream(same, ranged=True)
        done = board.engine().install(stream, InstallOptions(reboot=True))
        assert sorted(stream.groups) == list(range(5)), "the five groups of the root file system"
        assert done.bytes_copied == len(same.contents[MODEL])
        board.live()
        assert board.system() == same


@pytest.mark.slow
@pytest.mark.verifies("S5", "REQ-OPS-05")
def test_a_cut_at_any_call_leaves_one_whole_release_of_root_and_file() -> None:
    cut = 0
    while True:
        cut += 1
        with boards() as board:
            power = Power(cut, seed=1)
            board.set_power(power)
            with power_may_go(board):
                board.install(NEW)
                board.live()
            if not power.off:
                assert any(call.startswith("file ") for call in power.trace)
                return
            board.live()
            assert board.system() is not None, f"cut {cut}: a mixture runs"
            with board.open_record() as record:
                ended = [each.outcome for each in record.history()]
            assert (board.system() == NEW) == (Outcome.COMMITTED in ended), f"cut {cut}"
