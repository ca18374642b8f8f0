"""The floor (see `bench.floor`): what every other wall time is divided by."""

from __future__ import annotations

import platform
import sys

import zstandard

from bench import floor
from bench.peers.base import Bench, UnableError, UpdateJob, Work


class Floor:
    """Decodes, hashes, writes, flushes.

    Args:
        sampled: With a look at its memory; the difference is what looking costs.
    """

    def __init__(self, bench: Bench, *, sampled: bool = True) -> None:
        self.name = "floor" if sampled else "floor, unsampled"
        self._bench, self._sampled = bench, sampled

    def version(self) -> str:
        """Of the codec and the language."""
        return f"Python {platform.python_version()}, zstandard {zstandard.__version__}"

    def job(self, work: Work) -> UpdateJob:
        """Full installs only."""
        if not work.is_full:
            raise UnableError("the floor of a full install only")
        source = self._bench.public / "floor.groups"
        if not source.exists():
            floor.make(self._bench.pair(work).new, source)
        where = str(source) if work.is_local else self._bench.server.url(source.name)
        return UpdateJob(
            [sys.executable, "-m", "bench.floor", where, str(self._bench.slot_b.path)],
            local=(source,) if work.is_local else (),
            published=(source,),
            sampled=self._sampled,
        )

    def close(self) -> None:
        """Nothing runs."""
