"""Who is measured at what, and how often."""

from __future__ import annotations

import contextlib
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bench.peers.base import Bench, Peer, UnableError, UpdateJob, Work
from bench.peers.chunked import Casync, Zchunk
from bench.peers.floor import Floor
from bench.peers.mender import Mender
from bench.peers.ostree import Ostree
from bench.peers.rauc import Rauc
from bench.peers.swupdate import Swupdate
from bench.peers.twinslot import Twinslot
from bench.peers.xdelta import Xdelta, Zstd
from bench.run import run_round
from twinslot_lab.command import ROOT
from twinslot_lab.progress import say

_Make = Callable[[Bench], Peer]


@dataclass(frozen=True)
class Contest:
    """One work.

    Attributes:
        work: What is done.
        rivals: Measured in interleaved rounds.
        once: Measured once, after the rounds.
    """

    work: Work
    rivals: Sequence[_Make]
    once: Sequence[_Make] = ()


def _rauc_verity(bench: Bench) -> Peer:
    return Rauc(bench, format="verity")


def _rauc_streaming(bench: Bench) -> Peer:
    return Rauc(bench, format="verity", stream=True)


def _floor_unsampled(bench: Bench) -> Peer:
    return Floor(bench, sampled=False)


CONTESTS: Final = (
    Contest(Work.FULL_FILE, (Floor, _floor_unsampled, Twinslot, Rauc, Swupdate), (Mender, _rauc_verity)),
    Contest(Work.FULL_HTTP, (Floor, Twinslot, Rauc, Swupdate), (Mender, _rauc_streaming)),
    Contest(Work.SECURITY, (Twinslot, Xdelta), (Zstd, Ostree, Rauc, Mender)),
    Contest(Work.ONEFILE, (Twinslot, Xdelta), (Zstd, Casync, Swupdate, Ostree, Zchunk)),
    Contest(Work.UNKNOWN_BASE, (Twinslot,), (Casync, Swupdate, Zchunk)),
)
_SLOW: Final = (Ostree, Zchunk)  # to make; left out of a quick run where the other pair tells as much
LARGE: Final = Contest(Work.LARGE, (), (Twinslot, Rauc, Swupdate))
EROFS: Final = Contest(Work.EROFS, (), (Twinslot, Xdelta))


def run_contest(bench: Bench, contest: Contest, rounds: int) -> list[dict[str, Any]]:
    """The rows of one work: each peer's facts and what its rounds measured."""
    rows: list[dict[str, Any]] = []
    with _entered(bench, contest.work, contest.rivals, rows) as entries:
        for number in range(rounds):
            say(f"{contest.work}: round {number + 1} of {rounds}")
            turn = number % max(len(entries), 1)
            for peer, job, row in entries[turn:] + entries[:turn]:
                _round(bench, contest.work, peer, job, row)
    for make in contest.once:
        if bench.quick and contest.work is Work.ONEFILE and make in _SLOW:
            continue
        with _entered(bench, contest.work, (make,), rows) as entries:
            for peer, job, row in entries:
                say(f"{contest.work}: {peer.name}")
                _round(bench, contest.work, peer, job, row)
    return rows


_Entry = tuple[Peer, UpdateJob, dict[str, Any]]


@contextlib.contextmanager
def _entered(bench: Bench, work: Work, makers: Sequence[_Make], rows: list[dict[str, Any]]) -> Iterator[list[_Entry]]:
    """Peers with their jobs, closed afterwards; who cannot gets a row that says so, and no job."""
    entries: list[_Entry] = []
    with contextlib.ExitStack() as stack:
        for make in makers:
            peer = make(bench)
            stack.callback(peer.close)
            row: dict[str, Any] = {"work": str(work), "peer": peer.name, "version": peer.version(), "rounds": []}
            rows.append(row)
            start = time.monotonic()
            try:
                job = peer.job(work)
            except UnableError as e:
                row["unable"] = readable(bench, str(e))
                continue
            row["command"] = readable(bench, " ".join(map(shlex.quote, job.argv)))
            row["note"] = readable(bench, job.note)
            row["published"] = sum(path.stat().st_size for path in job.published)
            row["product"] = job.published[-1].stat().st_size if job.published else 0
            row["front"], row["made"] = job.front, dict(job.made)
            row["prepared_in"] = time.monotonic() - start
            entries.append((peer, job, row))
        yield entries


def _round(bench: Bench, work: Work, peer: Peer, job: UpdateJob, row: dict[str, Any]) -> None:
    """One round, added to the row; a peer that fails has a reason instead."""
    result = run_round(bench, work, peer.name.replace(" ", "-"), job)
    said = result.pop("said", "")
    if said:
        row["unable"] = f"ended with status {result['status']}: {readable(bench, said.strip())[-600:]}"
    row["rounds"].append(result)


def readable(bench: Bench, text: str) -> str:
    """Without this machine's paths, devices and ports."""
    names = {
        str(bench.slot_a.path): "SLOT_A",
        str(bench.slot_b.path): "SLOT_B",
        bench.server.url("").rstrip("/"): "http://SERVER",
        str(bench.directory): "BENCH",
        sys.executable: "python",
        str(ROOT): "CHECKOUT",
    }
    for pair in bench.pairs.values():
        names[str(pair.directory)] = pair.name.upper()
    for found, name in sorted(names.items(), key=lambda one: -len(one[0])):
        text = text.replace(found, name)
    return text
