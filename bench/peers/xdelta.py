"""xdelta3 and zstd: a patch of the whole image, applied from one slot to the other."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from bench.pairs import Pair
from bench.peers.base import Bench, UnableError, UpdateJob, Work, debian_version, make_once

_WINDOW: Final = 1 << 30  # bytes of the old image that xdelta3 may look into; 64 MiB is its default


def encoder(old: Path, new: Path, patch: Path) -> list[str | Path]:
    """The command that makes xdelta3's smallest patch, which may look at all of the old image."""
    return ["xdelta3", "-9", "-S", "lzma", "-B", str(_window(old)), "-e", "-f", "-s", old, new, patch]


def _window(old: Path) -> int:
    return min(_WINDOW, old.stat().st_size)


class Xdelta:
    """`xdelta3 -9`, decoded straight into the slot; nothing authenticates the patch."""

    name = "xdelta3"

    def __init__(self, bench: Bench) -> None:
        self._bench, self._home = bench, bench.home("xdelta3")

    def version(self) -> str:
        """Debian's."""
        return debian_version("xdelta3")

    def job(self, work: Work) -> UpdateJob:
        """A patch against the running slot."""
        pair = _known_base(self._bench, work)
        patch = self._bench.public / f"{work}.vcdiff"
        made = make_once(patch, *encoder(pair.old, pair.new, patch))
        slots = ["-s", str(self._bench.slot_a.path), str(patch), str(self._bench.slot_b.path)]
        return UpdateJob(
            ["xdelta3", "-d", "-f", "-B", str(_window(pair.old)), *slots],
            local=(patch,),
            published=(patch,),
            made=made,
            note="holds the window in memory; nothing signed",
        )

    def close(self) -> None:
        """Nothing runs."""


class Zstd:
    """`zstd --patch-from`, decoded into the slot."""

    name = "zstd --patch-from"

    def __init__(self, bench: Bench) -> None:
        self._bench, self._home = bench, bench.home("zstd")

    def version(self) -> str:
        """Debian's."""
        return debian_version("zstd")

    def job(self, work: Work) -> UpdateJob:
        """A patch against a file that holds the old image: zstd asks a base for its size as a file has one."""
        pair = _known_base(self._bench, work)
        patch = self._bench.public / f"{work}.zst"
        made = make_once(
            patch,
            "zstd",
            "-q",
            "-f",
            f"-{9 if self._bench.quick else 19}",
            "--long=30",
            f"--patch-from={pair.old}",
            pair.new,
            "-o",
            patch,
        )
        script = f"zstd -q -d -c --long=30 --memory=2048MB --patch-from={pair.old} {patch} > {self._bench.slot_b.path}"
        return UpdateJob(
            ["/bin/sh", "-c", script],
            local=(patch,),
            published=(patch,),
            made=made,
            note="the base is a file, not the slot; nothing signed",
        )

    def close(self) -> None:
        """Nothing runs."""


def _known_base(bench: Bench, work: Work) -> Pair:
    if not work.knows_base:
        raise UnableError("patches a known base only")
    return bench.pair(work)
