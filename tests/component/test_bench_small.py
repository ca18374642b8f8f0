"""The bench's small commands: what each process costs before data moves, and a patch of a pair that changed little."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import changed
from bench.processes import PROCESSES, measure


def test_each_process_of_an_install_is_looked_at_while_the_others_live() -> None:
    found = measure()
    assert list(found) == list(PROCESSES)
    assert all(memory > 0 and spent > 0 for memory, spent in found.values())


@pytest.mark.slow
def test_a_pair_that_changed_little_has_a_row_and_a_patch_of_what_is_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changed, "FILES", 21)
    monkeypatch.setattr(changed, "SIZE_MIB", 12)
    row = changed.measure("ext4", tmp_path)
    size = (tmp_path / "ext4.twinpatch").stat().st_size
    assert row.startswith("| ext4 | ")
    assert row.endswith(f" | {size:,} |\n")
    assert changed.EDIT < size < 2 * changed.EDIT
