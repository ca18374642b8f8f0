"""The bench's patches file by file: of what changed, and of nothing else."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from bench.files import RIVALS, compare, main, read_files
from rootfs_samples import make_ext4, make_tree

OLD = random.Random(1).randbytes(20_000)
NEW = OLD[:9000] + b"something else" + OLD[9000:]


@pytest.mark.parametrize("name", RIVALS)
def test_each_tool_makes_a_small_patch_of_a_small_change(name: str) -> None:
    assert 10 < len(RIVALS[name](OLD, NEW)) < 600


def test_only_files_that_are_on_both_sides_and_differ_count() -> None:
    old, new = {b"a": b"1", b"b": b"2", b"gone": b"3"}, {b"a": b"1", b"b": b"4", b"new": b"5"}
    (row,) = compare(old, new, {"bsdiff4": lambda before, after: before + after})
    assert (row.files, row.size) == (1, 2)


def test_it_reads_two_file_systems_and_prints_a_line_for_each_tool(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = []
    for name, content in (("old", OLD), ("new", NEW)):
        tree = make_tree(tmp_path / name)
        (tree / "program").write_bytes(content)
        images.append(make_ext4(tree, tmp_path / f"{name}.img"))
    assert read_files(images[1])[b"program"] == NEW
    assert main([str(image) for image in images]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["name"], row["files"]) for row in rows] == [(name, 1) for name in RIVALS]
    assert all(0 < row["size"] < 600 and row["version"] for row in rows)
