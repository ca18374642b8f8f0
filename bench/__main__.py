"""`python -m bench [--quick] [--rounds N]`: measure, then write build/bench/report.json and docs/benchmarks.md."""

from __future__ import annotations

import argparse
import compileall
import contextlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from bench import document, report
from bench.cold import cold_start
from bench.devices import LoopDevice
from bench.pairs import HOME, Pair, make_pairs
from bench.peers.base import Bench, Work
from bench.server import CountingServer
from bench.suite import CONTESTS, EROFS, LARGE, Contest, run_contest
from twinslot_lab.command import ROOT
from twinslot_lab.progress import say

ROUNDS: Final = 7
_QUICK_ROUNDS: Final = 2
_MIB: Final = 1 << 20
_LARGE: Final = {False: 8 << 30, True: 1 << 28}  # bytes of the sparse image, by `quick`


def main(argv: list[str] | None = None) -> int:
    """Measure and tell; needs root."""
    arguments = _arguments(argv)
    if os.geteuid() != 0:
        sys.stderr.write("bench: loop devices need root\n")
        return 1
    compileall.compile_dir(ROOT / "client", quiet=1)  # what installing the package does
    facts = report.machine(ROOT)
    pairs = make_pairs(quick=arguments.quick)
    directory = HOME / ("run-quick" if arguments.quick else "run")
    kept = directory.with_name(directory.name + "-rows")
    for old in (directory,) if arguments.resume else (directory, kept):
        shutil.rmtree(old, ignore_errors=True)
    if not _same_run(kept, {"commit": facts["commit"], "rounds": arguments.rounds, "pairs": _names(pairs)}):
        sys.stderr.write("bench: the interrupted run was of another commit, other images or other rounds\n")
        return 1
    rows: list[dict[str, Any]] = []
    size = pairs["security"].new.stat().st_size
    with contextlib.ExitStack() as stack:
        slot_a, slot_b = (stack.enter_context(LoopDevice(directory / f"slot-{name}", size)) for name in "ab")
        server = stack.enter_context(CountingServer(directory / "public"))
        bench = Bench(directory, pairs, slot_a, slot_b, server, arguments.quick)
        slot_a.fill_with(pairs["security"].old)
        start = cold_start(bench, 2 * arguments.rounds + 1)
        for contest in CONTESTS:
            if not arguments.only or contest.work in arguments.only:
                rows += _kept(kept, contest, partial(run_contest, bench, contest, arguments.rounds))
    for contest, run in ((EROFS, _erofs), (LARGE, _large)):
        if contest.work in arguments.only or not (arguments.only or (arguments.quick and contest is EROFS)):
            rows += _kept(kept, contest, partial(run, directory, pairs["security"], quick=arguments.quick))
    told = report.make(rows, pairs, start, facts, quick=arguments.quick, rounds=arguments.rounds)
    if arguments.board.exists():
        told["board"] = json.loads(arguments.board.read_text())
    out = arguments.report
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(told, indent=1) + "\n")
    say(f"report: {out}")
    if arguments.docs:
        document.write(told, arguments.docs)
    return 0


def _names(pairs: Mapping[str, Pair]) -> list[str]:
    """Which pairs: their directories carry the fingerprint of what they are made of."""
    return sorted(str(pair.directory) for pair in pairs.values())


def _same_run(folder: Path, about: dict[str, Any]) -> bool:
    """Note what this run is about; False if what is kept there is about something else."""
    file = folder / "about.json"
    folder.mkdir(parents=True, exist_ok=True)
    if not file.exists() and not any(folder.iterdir()):
        file.write_text(json.dumps(about) + "\n")
    return file.exists() and json.loads(file.read_text()) == about


def _kept(folder: Path, contest: Contest, run: Callable[[], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The rows of one work, written down as soon as they are measured, or as an earlier run wrote them down."""
    file = folder / f"{contest.work}.json"
    if not file.exists():
        part = file.with_suffix(".part")
        part.write_text(json.dumps(run(), indent=1) + "\n")
        part.replace(file)
    rows: list[dict[str, Any]] = json.loads(file.read_text())
    return rows


def _aside(directory: Path, contest: Contest, pair: Pair, size: int, *, quick: bool) -> list[dict[str, Any]]:
    """One contest on slots of its own, of `size` bytes; what it leaves is removed."""
    at = directory / contest.work
    at.mkdir(exist_ok=True)
    try:
        with (
            LoopDevice(at / "slot-a", size) as slot_a,
            LoopDevice(at / "slot-b", size) as slot_b,
            CountingServer(at / "public") as server,
        ):
            if contest.work is not Work.LARGE:
                slot_a.fill_with(pair.old)
            return run_contest(Bench(at, {contest.work: pair}, slot_a, slot_b, server, quick), contest, 0)
    finally:
        shutil.rmtree(at)


def _large(directory: Path, pair: Pair, *, quick: bool) -> list[dict[str, Any]]:
    """The new image with gigabytes of nothing behind it, into a slot of that size; files are sparse."""
    at, size = directory / LARGE.work, _LARGE[quick]
    at.mkdir()
    shutil.copyfile(pair.new, at / "new.img")
    os.truncate(at / "new.img", size)
    return _aside(directory, LARGE, replace(pair, name="large", directory=at), size, quick=quick)


def _erofs(directory: Path, pair: Pair, *, quick: bool) -> list[dict[str, Any]]:
    """The trees of the security update once more, in erofs images."""
    erofs = replace(pair, name="erofs", suffix="erofs")
    size = max(image.stat().st_size for image in (erofs.old, erofs.new))
    return _aside(directory, EROFS, erofs, -(-size // _MIB) * _MIB, quick=quick)


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="small images and few rounds: minutes instead of half an hour"
    )
    parser.add_argument("--rounds", type=int, help=f"interleaved rounds (default: {ROUNDS}; quick: {_QUICK_ROUNDS})")
    parser.add_argument(
        "--only", action="append", default=[], metavar="WORK", help="only this work; may be given again"
    )
    parser.add_argument("--resume", action="store_true", help="measure only the works that an interrupted run has not")
    parser.add_argument("--report", type=Path, default=HOME / "report.json", metavar="FILE")
    parser.add_argument("--board", type=Path, default=HOME / "board.json", metavar="FILE", help="installs on a board")
    parser.add_argument("--docs", type=Path, metavar="DIR", help="write benchmarks.md and its plots here")
    arguments = parser.parse_args(argv)
    arguments.rounds = arguments.rounds or (_QUICK_ROUNDS if arguments.quick else ROUNDS)
    return arguments


if __name__ == "__main__":
    sys.exit(main())
