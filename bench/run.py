"""One round of one job: prepare the slot, run, measure, verify."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from bench.devices import digest_of
from bench.measure import Sample, run_measured
from bench.peers.base import Bench, UpdateJob, Work
from bench.peers.twinslot import python_path

BLOCK: Final = 4096  # bytes of a block of the images' file systems
_STEP: Final = 1 << 20


def run_round(bench: Bench, work: Work, name: str, job: UpdateJob) -> dict[str, Any]:
    """What one round measured, ready for the report; all sizes in bytes, times in seconds."""
    prepare_slot(bench, work)
    job.before()
    bench.server.take()
    before = bench.slot_b.traffic()
    log = bench.directory / f"log/{work}.{name}.txt"
    log.parent.mkdir(exist_ok=True)
    env = {"PYTHONPATH": python_path(), **job.env}
    sample = run_measured(
        job.argv, log, env=env, flush=bench.slot_b.flush, written=bench.slot_b.written, sampled=job.sampled
    )
    traffic, wire = bench.slot_b.traffic() - before, bench.server.take()
    job.after()
    verified = job.verify() if job.verify else holds(bench, work)
    local = sum(path.stat().st_size for path in job.local)
    return _result(sample, verified=verified) | {
        **data_and_zeros(traffic.written, sample.handed_over),
        "discarded": traffic.discarded,
        "wire": asdict(wire),
        "fetched": wire.sent + local,
    }


def data_and_zeros(counted: int, handed_over: int) -> dict[str, int]:
    """The device's counter parted into data and BLKZEROOUT, which the kernel counts as writes of that length.

    BLKZEROOUT carries no data, so that it is not among what the processes handed over. What they wrote elsewhere is,
    so `written` is never too small.
    """
    written = min(counted, handed_over)
    return {"written": written, "zeroed": counted - written}


def prepare_slot(bench: Bench, work: Work) -> None:
    """What the target holds before: noise for a full install, the old image for a delta, nothing for a large one."""
    if work is Work.LARGE:
        bench.slot_b.clear()
    elif work.is_full:
        bench.slot_b.fill_with_noise()
    else:
        bench.slot_b.fill_with(bench.pair(work).old)


def holds(bench: Bench, work: Work) -> bool:
    """The medium holds the new image, read anew."""
    new = bench.pair(work).new
    return bench.slot_b.digest(new.stat().st_size).removesuffix("+tail") == digest_of(new)


def changed(old: Path, new: Path, grain: int) -> int:
    """Bytes in blocks of `grain` that differ between two images of one size."""
    count = 0
    with old.open("rb") as first, new.open("rb") as second:
        while after := second.read(_STEP):
            before = first.read(_STEP)
            count += sum(
                len(after[at : at + grain])
                for at in range(0, len(after), grain)
                if before[at : at + grain] != after[at : at + grain]
            )
    return count


def _result(sample: Sample, *, verified: bool) -> dict[str, Any]:
    result = {
        "status": sample.status,
        "verified": verified,
        "wall": sample.wall,
        "flush": sample.flush,
        "cpu": sample.cpu,
        "memory": asdict(sample.memory),
    }
    if sample.status != 0 or not verified:
        result["said"] = sample.said
    return result
