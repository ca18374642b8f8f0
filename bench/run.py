"""One round of one job: prepare the slot, run, measure, verify."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from bench.devices import file_digest
from bench.measure import run_measured
from bench.peers.base import Bench, Job, Work
from bench.peers.twinslot import python_path


def run_round(bench: Bench, work: Work, name: str, job: Job) -> dict[str, Any]:
    """What one round measured, ready for the report; all sizes in bytes, times in seconds."""
    pair = bench.pair(work)
    if work in (Work.FULL_FILE, Work.FULL_HTTP):
        bench.slot_b.fill_with_noise()
    else:
        bench.slot_b.fill_with(pair.old)
    job.before()
    bench.server.take()
    before = bench.slot_b.traffic()
    log = bench.directory / f"log/{work}.{name}.txt"
    log.parent.mkdir(exist_ok=True)
    env = {"PYTHONPATH": python_path(), **job.env}
    sample = run_measured(job.argv, log, env=env, flush=bench.slot_b.flush)
    traffic = bench.slot_b.traffic() - before
    wire = bench.server.take()
    job.after()
    size = pair.new.stat().st_size
    found = bench.slot_b.digest(size)
    verified = job.verify() if job.verify else found.removesuffix("+tail") == file_digest(pair.new)
    result = {
        "status": sample.status,
        "verified": verified,
        "tail": found.endswith("+tail"),
        "wall": sample.wall,
        "flush": sample.flush,
        "cpu": sample.cpu,
        "memory": asdict(sample.memory),
        "written": traffic.written,
        "discarded": traffic.discarded,
        "wire": asdict(wire),
    }
    if sample.status != 0 or not verified:
        result["said"] = sample.said
    return result
