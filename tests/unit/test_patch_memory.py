"""What making a patch keeps in memory follows neither the images nor the programs in them: both are read in parts."""

from __future__ import annotations

import random
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elf_samples import PAGE, Program, a64_program
from elf_samples_code import ARM, X86_64, arm_slot, code_program, thumb_slot, x86_slot
from image_samples import make_sample
from twinslot.image.patch import Op
from twinslot_image import patch_finders, patch_moved, patch_project, patch_shifts
from twinslot_image.patch_known import knowledge, look
from twinslot_image.patch_pages import FileBytes
from twinslot_image.patch_path import Stretch
from twinslot_image.patch_references import References, join_references
from twinslot_image.patch_sections import ARM64, Part, find_parts
from twinslot_image.patch_shifts import Samples, Sampling, fit
from twinslot_image.patch_store import Followed, StoredReferences, store, store_words

MIB = 1 << 20
PROGRAMS = {
    "A64": a64_program(1, {}),
    "A32": code_program(ARM, arm_slot, 1, {}),
    "T32": code_program(ARM, thumb_slot, 1, {}),
    "x86-64": code_program(X86_64, x86_slot, 1, {}),
}


def columns(references: References) -> list[list[int]]:
    return [getattr(references, name).tolist() for name in References.__slots__]


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS.keys())
def test_a_program_that_is_looked_at_in_parts_has_the_references_that_it_has_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: Program
) -> None:
    path = tmp_path / "payload"
    data = program.build()
    path.write_bytes(data + bytes(-len(data) % PAGE))
    every = np.ones(path.stat().st_size // PAGE, np.bool_)
    parts = find_parts(path, every)
    with FileBytes(path) as content:
        whole = join_references(list(patch_finders.find_references(content, parts, every)))
        assert len(whole.places) > 1000
        monkeypatch.setattr(patch_finders, "CHUNK", 1000)
        assert columns(join_references(list(patch_finders.find_references(content, parts, every)))) == columns(whole)
        every[::2] = False
        some = join_references(list(patch_finders.find_references(content, parts, every)))
    kept = every[whole.places // PAGE]
    assert columns(some) == [[one for one, good in zip(column, kept, strict=True) if good] for column in columns(whole)]


def measured(work: Callable[[], object]) -> float:
    """MiB that it had in memory at most, above what was there before."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1] / MIB
    finally:
        tracemalloc.stop()


def test_one_section_may_be_of_any_size(tmp_path: Path) -> None:
    """Of a browser's code 150 MB stand in one section."""
    path, size = tmp_path / "payload", 12 * MIB
    path.write_bytes(np.full(size // 4, 0x94000123, "<u4").tobytes())
    part, every = Part(0, size, ARM64, 0, 0), np.ones(size // PAGE, np.bool_)

    def work() -> None:
        with FileBytes(path) as content:
            store(tmp_path / "stored", patch_finders.find_references(content, [part], every))

    assert measured(work) < 24, "87 MiB of references"
    with StoredReferences(tmp_path / "stored") as stored:
        assert sum(len(some.places) for some in stored.every()) == size // 4
        assert measured(lambda: [stored.references([(at, at + 4)]) for at in range(0, size, MIB)]) < 2
        assert measured(lambda: store_words(tmp_path / "stored", stored.every())) < 50


def test_what_moved_together_is_compared_in_parts(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).write_bytes(random.Random(1).randbytes(32 * MIB))
    with FileBytes(tmp_path / "old") as old, FileBytes(tmp_path / "new") as new:
        whole, found = [(0, 32 * MIB)], list[Stretch]()
        assert measured(lambda: found.extend(patch_moved.find_moved(old, new, whole, whole))) < 40
    assert found == [Stretch(0, 32 * MIB, Op.COPY, 0)]


@given(
    st.sets(st.integers(0, 5000), min_size=1, max_size=2000),
    st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 900)), max_size=6),
    st.integers(1, 500),
)
def test_who_asks_for_ranges_gets_what_stands_in_them(
    tmp_path_factory: pytest.TempPathFactory, places: set[int], ranges: list[tuple[int, int]], step: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "stored"
    every = np.array(sorted(places), np.int64)

    def some(start: int) -> References:
        here = every[start : start + step]
        return References(here, here + 1, here + 2, here.astype(np.uint32), np.zeros(len(here), np.uint8))

    store(path, map(some, range(0, len(every), step)))
    with StoredReferences(path) as stored:
        assert list(chain.from_iterable(one.places.tolist() for one in stored.every())) == every.tolist()
        found = stored.references((start, start + size) for start, size in ranges)
    got = found.places.tolist()
    assert sorted(set(got)) == got
    assert {place for place in places for start, size in ranges if start <= place < start + size} <= set(got)
    assert found.targets.tolist() == [place + 2 for place in got]


def test_a_word_at_the_edge_is_left_as_it_is_and_one_inside_is_followed(tmp_path: Path) -> None:
    (tmp_path / "payload").write_bytes(bytes(range(64)))
    here = np.array([4, 20, 33], np.int64)
    found = References(here, here, np.array([16, 32, 48], np.int64), np.zeros(3, np.uint32), np.full(3, 9, np.uint8))
    store(tmp_path / "known", [found])
    store_words(tmp_path / "known", [found])
    with FileBytes(tmp_path / "payload") as content, Followed(content, tmp_path / "known") as followed:
        assert followed[6:36].tobytes() == bytes(range(6, 20)) + b"\x20\0\0\0" + bytes(range(24, 36))
        assert followed[4:8].tobytes() == b"\x10\0\0\0"
        assert len(followed) == 64


PEAK = """
import sys
from pathlib import Path
from twinslot_image.cli import main
status = main(sys.argv[1:])
print(next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")).split()[1])
sys.exit(status)
"""


@pytest.mark.slow
def test_the_memory_of_the_tool_does_not_follow_the_size_of_the_images(tmp_path: Path) -> None:
    def peak(size: int) -> float:
        """MiB that the command had resident at most: what it touched of mapped files counts, too."""
        old, new, out = (tmp_path / name for name in ("old.img", "new.twin", "out"))
        content = bytearray(random.Random(1).randbytes(MIB) + bytes((size - 1) * MIB))
        old.write_bytes(content)
        content[-100_000:-99_990] = content[5000:5010] = b"otherwise!"
        new.write_bytes(make_sample({"rootfs": bytes(content)}, group_size=65_536).data)
        words = [sys.executable, "-c", PEAK, "patch", old, new, "-o", out, "--force"]
        done = subprocess.run(list(map(str, words)), check=True, capture_output=True, text=True)
        return int(done.stdout.split()[-1]) / 1024

    assert peak(80) < peak(4) + 16


def test_samples_of_a_large_content_stay_few_and_still_say_what_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patch_shifts, "SAMPLES_MAX", 1000)
    targets, sampling = 4 * np.arange(100_000, dtype=np.int64), Sampling()
    shifts = np.where(targets < 200_000, 64, -128)
    for at in range(0, len(targets), 3000):
        part = slice(at, at + 3000)
        sampling.add(Samples.of(targets[part], shifts[part], np.ones(len(targets[part]), np.int64)))
    found = sampling.result()
    assert 100 < len(found.targets) <= 1000
    moved = fit(found, 1 << 30).moved(np.array([1000, 190_000, 210_000, 399_000], np.int64))
    assert moved.tolist() == [1064, 190_064, 209_872, 398_872]


def test_samples_are_the_same_however_many_additions_are_looked_at_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = tmp_path / "old", tmp_path / "new"
    for path, insert in zip(paths, ({}, {5: 8}), strict=True):
        data = a64_program(1, insert).build()
        path.write_bytes(data + bytes(-len(data) % PAGE))
    first, second = (np.ones(path.stat().st_size // PAGE, np.bool_) for path in paths)
    assert look(tmp_path / "known", paths[0], paths[1], first, second, 3)
    stretches = [Stretch(at, at + 1024, Op.ADD, 0 if at < 0x2000 else -8) for at in range(0x1000, 0x8000, 1024)]
    found = list[list[list[int]]]()
    with knowledge(tmp_path / "known") as known:
        for size in (1 << 20, 3000, 1):
            monkeypatch.setattr(patch_project, "_AT_ONCE", size)
            samples = known.samples(stretches)
            found.append([samples.targets.tolist(), samples.shifts.tolist(), samples.counts.tolist()])
    assert found[0] == found[1] == found[2]
    assert len(found[0][0]) > 100
