"""A slot of two partitions: the root file system, and one beside it whose name sorts before or behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from simulation.board import SimulatedBoard, power_may_go
from simulation.image import SmallImage, SmallStream
from simulation.power import Power
from simulation.test_power_cuts import memory
from twinslot.core.errors import DeviceError, RefusedError
from twinslot.core.model import SlotName
from twinslot.core.requests import InstallOptions
from twinslot.core.transaction import Outcome

pytestmark = pytest.mark.slow

NAMES = ("assets", "voices")  # "rootfs" is between them: neither order may matter


def releases(name: str) -> tuple[SmallImage, SmallImage, SmallImage]:
    old, new = SmallImage("1.0", 10, more=(name,)), SmallImage("2.0", 20, more=(name,))
    return old, new, SmallImage("3.0", 30, more=(name,), well=False)


@contextmanager
def boards(name: str) -> Iterator[SimulatedBoard]:
    with TemporaryDirectory(dir=memory()) as directory:
        board = SimulatedBoard(Path(directory), *releases(name))
        board.live()
        yield board


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("ranged", [False, True], ids=["stream", "ranges"])
def test_both_payloads_of_a_release_are_tried_and_kept_together(name: str, ranged: bool) -> None:
    _, new, sick = releases(name)
    with boards(name) as board:
        board.engine().install(SmallStream(new, ranged=ranged), InstallOptions(reboot=True))
        board.live()
        assert board.system() == new
        with board.open_record() as record:
            known = record.slot(SlotName.B)
            assert known is not None
            assert set(known.payloads) == {"rootfs", name}
        board.engine().install(SmallStream(sick, ranged=ranged), InstallOptions(reboot=True))
        board.live()
        assert board.system() == new


@pytest.mark.parametrize("name", NAMES)
def test_an_image_without_one_of_the_payloads_is_refused_before_anything_changes(name: str) -> None:
    with boards(name) as board, pytest.raises(RefusedError, match="lacks a payload that this device needs"):
        board.install(SmallImage("4.0", 40))


@pytest.mark.parametrize("name", NAMES)
def test_the_payload_beside_the_root_is_read_back_too_before_a_rollback(name: str) -> None:
    _, new, _ = releases(name)
    with boards(name) as board:
        board.install(new)
        board.live()
        board.partitions[SlotName.A][name].fill(b"rot")
        with pytest.raises(DeviceError, match=f"payload '{name}' in slot 'a' is not what was installed"):
            board.engine().rollback()
        board.live()
        assert board.system() == new
        assert board.holds(SlotName.A) is None


@pytest.mark.verifies("REQ-OPS-05")
@pytest.mark.parametrize("name", NAMES)
def test_a_cut_at_any_call_leaves_one_whole_release_of_both_payloads(name: str) -> None:
    _, new, _ = releases(name)
    for cut, board in cuts(name, new):
        board.live()
        assert board.system() is not None, f"cut {cut}: a mixture runs"
        with board.open_record() as record:
            ended = [each.outcome for each in record.history()]
        assert (board.system() == new) == (Outcome.COMMITTED in ended), f"cut {cut}"


@pytest.mark.verifies("S5")
@pytest.mark.parametrize("name", NAMES)
def test_with_the_environment_lost_no_root_starts_beside_a_payload_that_is_not_whole(name: str) -> None:
    """U-Boot's default takes slot a first: so an update into slot a is cut, and the environment lost with it."""
    _, new, _ = releases(name)
    for cut, board in cuts(name, new, SmallImage("4.0", 40, more=(name,))):
        board.lose_power()
        board.lose_environment(0, 1)
        assert board.start() is not None
        assert board.system() is not None, f"cut {cut}: slot {board.running} starts and is a mixture"
        board.live()
        assert board.system() is not None


def cuts(name: str, *images: SmallImage) -> Iterator[tuple[int, SimulatedBoard]]:
    """The last of these updates with a cut at each call, each time from the factory; ends after the last call."""
    cut = 0
    while True:
        cut += 1
        with boards(name) as board:
            for image in images:
                board.releases[image.content.ljust(len(board.disks[SlotName.A].content()), b"\0")] = image
            for image in images[:-1]:
                board.install(image)
                board.live()
            power = Power(cut, seed=1)
            board.set_power(power)
            with power_may_go(board):
                board.install(images[-1])
                board.live()
            if not power.off:
                return
            yield cut, board
