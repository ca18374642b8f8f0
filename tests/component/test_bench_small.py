"""The bench's small commands: what each process costs before data moves, and patches of small and of odd pairs."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import changed, making
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


@pytest.mark.slow
def test_a_pair_that_asks_for_most_has_a_row_with_memory_and_the_patch_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(making, "HOME", tmp_path)
    assert making.main(["--mib", "16", "mixed", "unknown"]) == 0
    mixed, unknown = capsys.readouterr().out.splitlines()[2:]
    assert mixed.startswith("| mixed | 16 | ")
    assert 0 < int(mixed.split(" | ")[-1].rstrip(" |").replace(",", "")) < making.BLOCK
    assert unknown.endswith(" | none |")
    assert list(tmp_path.iterdir()) == []


def test_a_size_that_is_no_multiple_of_a_block_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        making.main(["--mib", "10"])
    assert "expected a multiple of 16, found [10]" in capsys.readouterr().err
