"""How often a verb takes the lock and recovers, and how often it reads the environment, counted at the edges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from host_device import HostDevice
from release_bench import ReleaseBench

from twinslot.bootloader.base import CopyState
from twinslot.bootloader.uboot.backend import UBoot
from twinslot.bootloader.uboot.medium import Medium
from twinslot.core.lifecycle import State
from twinslot.core.model import Floors, Release, SlotName
from twinslot.core.requests import InstallOptions
from twinslot.core.transaction import Transaction
from twinslot.engine.engine import Engine
from twinslot.storage.blockdev import BlockTarget

pytestmark = pytest.mark.slow

CONTENT = b"superblock".ljust(4096, b"\1") + bytes(100_000)


@dataclass
class Counts:
    """What was counted."""

    reads: Counter[int] = field(default_factory=Counter)  # of each copy of the environment
    before_first_byte: Counter[int] = field(default_factory=Counter)
    locks: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> ReleaseBench:
    bench = ReleaseBench.make(tmp_path_factory.mktemp("bench"))
    bench.image("2.0", 20, CONTENT)
    return bench


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counts:
    """Counts while the real code runs."""
    counts, read, write = Counts(), Medium.read, BlockTarget.write

    def counted_read(self: Medium, index: int, size: int | None = None) -> bytes:
        counts.reads[index] += size is None  # a larger read tells a lost copy from one looked at with a wrong size
        return read(self, index, size)

    def counted_write(self: BlockTarget, *arguments: object) -> object:
        counts.before_first_byte = counts.before_first_byte or counts.reads.copy()
        return write(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Medium, "read", counted_read)
    monkeypatch.setattr(BlockTarget, "write", counted_write)
    return counts


def counting(device: HostDevice, counts: Counts) -> Engine:
    """The engine; each taking of the lock is noted."""
    edges = device.edges()

    @contextmanager
    def lock(what: str) -> Iterator[None]:
        counts.locks.append(what)
        with edges.lock(what):
            yield

    return Engine(replace(edges, lock=lock))


def written(device: HostDevice) -> None:
    device.install(device.bench.directory / "2.0.twin", InstallOptions(activate=False))


def armed(device: HostDevice) -> None:
    device.install(device.bench.directory / "2.0.twin")


def rolled_back(device: HostDevice) -> None:
    armed(device)
    device.rig.boot.write({"slot": "a", "slot_b": "bad", "ts_failed": "20", "ts_reason": "bootlimit"})
    device.boots = 2


def cut_while_written(device: HostDevice) -> None:
    update = Transaction("0" * 32, State.WRITING, SlotName.B, Release("1.9", 19))
    with device.record() as record:
        record.save(update, "accepted")


def behind(device: HostDevice) -> None:
    with device.record() as record:
        record.raise_floors(Floors(15))


def damaged_and_behind(device: HostDevice) -> None:
    behind(device)
    device.rig.damage(1)


def older_copy_damaged(device: HostDevice) -> None:
    copies = device.rig.boot.read().copies
    device.rig.damage(next(index for index, copy in enumerate(copies) if copy.state is CopyState.OLDER))


def lost(device: HostDevice) -> None:
    device.rig.damage(0)
    device.rig.damage(1)


def saved_by_the_boot_loader(device: HostDevice) -> None:
    device.rig.boot.write({"ts_generation": "0", "operator": ""})


FOUND: dict[str, Callable[[HostDevice], None]] = {
    "nothing under way": lambda _: None,
    "an update that waits": written,
    "an armed update": armed,
    "an install that was cut": cut_while_written,
    "a rollback that nobody has told": rolled_back,
    "one damaged copy": lambda device: device.rig.damage(1),
    "copies that differ": lambda device: device.rig.boot.write({"operator": "yes"}),  # type: ignore[dict-item]
    "floors that sank": behind,
    "floors that sank and one damaged copy": damaged_and_behind,
    "both copies lost": lost,
    "the default, as the boot loader saved it": saved_by_the_boot_loader,
}


@pytest.mark.verifies("S26")
@pytest.mark.parametrize(
    ("found", "reads"),
    [
        # One look when the lock is taken, one when the image is accepted, and one after each of the two writes that
        # call the target bad.
        ("nothing under way", 4),
        ("an update that waits", 4),
        ("an install that was cut", 4),
        # One more after each write that comes before those.
        ("one damaged copy", 5),
        ("copies that differ", 5),
        ("an armed update", 6),
        ("a rollback that nobody has told", 6),
        ("floors that sank", 6),
        ("floors that sank and one damaged copy", 6),
        ("both copies lost", 6),
        ("the default, as the boot loader saved it", 6),
    ],
)
def test_an_install_reads_both_copies_at_most_six_times_before_its_first_byte(
    tmp_path: Path, bench: ReleaseBench, counts: Counts, found: str, reads: int
) -> None:
    assert reads_of_an_install(HostDevice(tmp_path, bench), counts, FOUND[found]) == {0: reads, 1: reads}


def reads_of_an_install(device: HostDevice, counts: Counts, *found: Callable[[HostDevice], None]) -> Counter[int]:
    """Before the first byte of the target, on a device that was brought into this state."""
    device.engine().boot()
    for each in found:
        each(device)
    counts.reads.clear()
    counts.before_first_byte.clear()
    device.install(device.bench.directory / "2.0.twin", InstallOptions(activate=False, retry=True))
    return counts.before_first_byte


@pytest.mark.parametrize(
    ("first", "second", "reads"),
    [(armed, older_copy_damaged, 7), (rolled_back, behind, 8)],
)
def test_each_repair_in_front_of_another_costs_the_looks_that_prove_it(
    tmp_path: Path,
    bench: ReleaseBench,
    counts: Counts,
    first: Callable[[HostDevice], None],
    second: Callable[[HostDevice], None],
    reads: int,
) -> None:
    assert reads_of_an_install(HostDevice(tmp_path, bench), counts, first, second) == {0: reads, 1: reads}


def test_each_run_of_the_tool_is_followed_by_a_look_at_both_copies(
    tmp_path: Path, bench: ReleaseBench, counts: Counts, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, seen = UBoot._run, []

    def counted_run(self: UBoot, *arguments: Any) -> str:
        seen.append(counts.reads.copy())
        return run(self, *arguments)

    monkeypatch.setattr(UBoot, "_run", counted_run)
    device = HostDevice(tmp_path, bench)
    device.install(bench.directory / "2.0.twin")
    device.running, device.boots = SlotName.B, 2
    device.engine().boot()
    device.engine().commit()
    written = [*seen, counts.reads]
    assert len(seen) > 4
    assert all(after[copy] > before[copy] for before, after in pairwise(written) for copy in (0, 1))


@pytest.mark.verifies("S4")
@pytest.mark.parametrize("in_a_later_boot", [False, True])
def test_what_another_wrote_while_a_slot_was_read_back_is_what_arming_starts_from(
    tmp_path: Path, bench: ReleaseBench, monkeypatch: pytest.MonkeyPatch, in_a_later_boot: bool
) -> None:
    device, read_direct = HostDevice(tmp_path, bench), BlockTarget.read_direct

    def read_while_another_writes(self: BlockTarget, *arguments: Any) -> Any:
        if "operator" not in device.environment():
            device.rig.boot.write({"operator": "yes"})
        return read_direct(self, *arguments)

    if in_a_later_boot:
        written(device)
        device.boots = 2
    monkeypatch.setattr(BlockTarget, "read_direct", read_while_another_writes)
    if in_a_later_boot:
        device.engine().activate()
    else:
        armed(device)
    stands = device.environment()
    assert (stands["operator"], stands["slot"], stands["slot_b"]) == ("yes", "b", "trial")


@pytest.mark.verifies("S26")
def test_from_the_health_checks_to_the_commit_the_device_recovers_three_times(
    tmp_path: Path, bench: ReleaseBench, counts: Counts
) -> None:
    device = HostDevice(tmp_path, bench)
    device.install(bench.directory / "2.0.twin")
    device.running, device.boots = SlotName.B, 2
    device.engine().boot()
    engine = counting(device, counts)
    checked = engine.check()
    assert checked is not None
    assert checked.state is State.TRIAL
    committed = engine.commit(if_trial=True)
    assert committed is not None
    assert committed.outcome == "committed"
    assert counts.locks == ["check", "check", "commit"]  # before and after the checks, which run without the lock


def test_an_operators_commit_that_runs_the_checks_itself_recovers_twice(
    tmp_path: Path, bench: ReleaseBench, counts: Counts
) -> None:
    device = HostDevice(tmp_path, bench)
    device.install(bench.directory / "2.0.twin")
    device.running, device.boots = SlotName.B, 2
    device.engine().boot()
    committed = counting(device, counts).commit()
    assert committed is not None
    assert committed.outcome == "committed"
    assert counts.locks == ["commit", "commit"]
