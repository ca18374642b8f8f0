"""How often a verb takes the lock and recovers, and how often it reads the environment, counted at the edges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from host_device import HostDevice
from release_bench import ReleaseBench

from twinslot.bootloader.uboot.medium import Medium
from twinslot.core.lifecycle import State
from twinslot.core.model import SlotName
from twinslot.core.requests import InstallOptions
from twinslot.engine.engine import Engine
from twinslot.storage.blockdev import BlockTarget

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
        counts.reads[index] += 1
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


def test_an_install_reads_both_copies_at_most_six_times_before_its_first_byte(
    tmp_path: Path, bench: ReleaseBench, counts: Counts
) -> None:
    device = HostDevice(tmp_path, bench)
    device.engine().boot()
    counts.reads.clear()
    device.install(bench.directory / "2.0.twin", InstallOptions(activate=False))
    # Gathered once, read anew for the decision; the two writes that say 'bad' read both copies before and after (S4).
    assert counts.before_first_byte == {0: 6, 1: 6}


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
