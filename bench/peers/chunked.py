"""casync and zchunk: chunks cut by content, fetched from a server; no base need be known to it."""

from __future__ import annotations

import shutil

from bench.pairs import Pair
from bench.peers.base import Bench, UnableError, UpdateJob, Work, debian_version, make_once, prepare

_DELTA = (Work.SECURITY, Work.ONEFILE, Work.UNKNOWN_BASE)


class Casync:
    """`casync extract` of a block index, the running slot as seed, chunks by HTTP."""

    name = "casync"

    def __init__(self, bench: Bench) -> None:
        self._bench, self._home = bench, bench.home("casync")

    def version(self) -> str:
        """Debian's."""
        return debian_version("casync")

    def job(self, work: Work) -> UpdateJob:
        """Index and chunks from the server."""
        pair = _pair(self._bench, work)
        index, store = self._bench.public / f"{pair.name}.caibx", self._bench.public / f"{pair.name}.castr"
        made = make_once(index, "casync", "make", f"--store={store}", index, pair.new)
        urls = [f"--store={self._bench.server.url(store.name)}", f"--seed={self._bench.slot_a.path}"]
        return UpdateJob(
            ["casync", "extract", *urls, self._bench.server.url(index.name), str(self._bench.slot_b.path)],
            published=(index,),
            made=made,
            note="nothing signed",
        )

    def close(self) -> None:
        """Nothing runs."""


class Zchunk:
    """`zckdl` with the old file as source, then `unzck` into the slot."""

    name = "zchunk"

    def __init__(self, bench: Bench) -> None:
        self._bench, self._home = bench, bench.home("zchunk")

    def version(self) -> str:
        """Debian's."""
        return debian_version("zchunk")

    def job(self, work: Work) -> UpdateJob:
        """The missing chunks from the server."""
        pair = _pair(self._bench, work)
        new, old = self._bench.public / f"{pair.name}.zck", self._home / f"{pair.name}-old.zck"
        made = make_once(new, "zck", "-o", new, pair.new)
        if not old.exists():
            prepare("zck", "-o", old, pair.old)
        work_at = self._home / "download"

        def before() -> None:
            shutil.rmtree(work_at, ignore_errors=True)
            work_at.mkdir()

        script = f"cd {work_at} && zckdl -s {old} {self._bench.server.url(new.name)} && unzck -c {new.name}"
        return UpdateJob(
            ["/bin/sh", "-c", f"{script} > {self._bench.slot_b.path}"],
            before=before,
            published=(new,),
            made=made,
            note="needs the old and the new .zck as files beside the slots; nothing signed",
        )

    def close(self) -> None:
        """Nothing runs."""


def _pair(bench: Bench, work: Work) -> Pair:
    if work not in _DELTA:
        raise UnableError("measured as a delta only")
    return bench.pair(work)
