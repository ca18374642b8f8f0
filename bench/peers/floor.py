"""The floor (see `bench.floor`): what every other wall time is divided by."""

from __future__ import annotations

import platform
import sys

import zstandard

from bench import floor
from bench.peers.base import Bench, Job, UnableError, Work


class Floor:
    """Decodes, hashes, writes, flushes."""

    name = "floor"

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    def version(self) -> str:
        """Of the codec and the language."""
        return f"Python {platform.python_version()}, zstandard {zstandard.__version__}"

    def job(self, work: Work) -> Job:
        """Full installs only."""
        if not work.is_full:
            raise UnableError("the floor of a full install only")
        source = self._bench.public / "floor.groups"
        if not source.exists():
            floor.make(self._bench.pair(work).new, source)
        where = str(source) if work.is_local else self._bench.server.url(source.name)
        return Job(
            [sys.executable, "-m", "bench.floor", where, str(self._bench.slot_b.path)],
            local=(source,) if work.is_local else (),
            published=(source,),
        )

    def close(self) -> None:
        """Nothing runs."""
