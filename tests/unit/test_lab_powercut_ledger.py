"""The ledger of power cuts: what is kept of each, that none counts twice, and the page that is printed from it."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from twinslot_lab.client_digest import TESTED, client_subject
from twinslot_lab.command import ROOT
from twinslot_lab.matrix.reach import digest_of
from twinslot_lab.powercut import ledger
from twinslot_lab.powercut.cut import Report
from twinslot_lab.powercut.plan import draw
from twinslot_lab.powercut.recovery import Boot, Recovery
from twinslot_lab.powercut.verdict import SlotContents
from twinslot_lab.release import Image, LabRelease


def line(number: int, folder: Path, *, problem: str = "") -> dict[str, Any]:
    """A line of a campaign, as one is written there."""
    image = Image(LabRelease("1.0", 10), folder, folder / "slot")
    image.slot.write_bytes(b"x")
    report = Report(draw(1, number), [1.5], recovery=Recovery([Boot("a", image.digest, 20.0)]))
    report.problems = [problem] if problem else []
    return {"board": "virt-arm64", "seed": 1} | report.as_dict(SlotContents(image, image))


def test_a_cut_that_stands_in_the_ledger_is_not_added_again(tmp_path: Path) -> None:
    file = tmp_path / "cuts.jsonl"
    first = ledger.merge(file, [ledger.entry(line(0, tmp_path), "abc")])
    again = ledger.merge(file, [ledger.entry(line(n, tmp_path), "abc") for n in range(2)])
    other = ledger.merge(file, [ledger.entry(line(0, tmp_path), "def")])
    assert [len(first), len(again), len(other)] == [1, 2, 3], "one of another client is another cut"
    assert len(file.read_text().splitlines()) == 3


def test_a_line_says_of_which_client_it_is_in_the_matrix_words(tmp_path: Path) -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    assert list(TESTED) == settings["twinslot_subject"]
    assert f"TESTED := {' '.join(TESTED)}\n" in (ROOT / "Makefile").read_text()
    assert client_subject() == digest_of(ROOT, [ROOT / each for each in TESTED])
    assert client_subject(tmp_path) == "", "without a checkout nobody can say"
    assert ledger.entry(line(0, tmp_path), "abc", "d" * 64)["subject"] == "d" * 64
    assert "subject" not in ledger.entry(line(0, tmp_path), "abc")


def test_the_page_counts_cuts_bricks_and_boards_of_each_client(tmp_path: Path) -> None:
    lines = [line(n, tmp_path, problem="gone" if n == 3 else "") for n in range(5)]
    page = ledger.page([ledger.entry(told, "abc") for told in lines])
    assert "**5 cuts, 0 of them twice in a row: power went 5 times. 1 bricks, 0 of 0 known audit rows lost.**" in page
    assert "## virt-arm64, client abc" in page
    assert "5 starts, half of them in less than 20 s" in page
    assert page.count("\n| ") == 2 + 5 + 1, "a head, a line for each phase, a sum"


def test_the_page_in_the_repository_is_printed_from_its_ledger() -> None:
    file = ROOT / "docs" / "power-cuts.jsonl"
    entries = [json.loads(text) for text in file.read_text().splitlines()]
    assert (ROOT / "docs" / "power-cuts.md").read_text() == ledger.page(entries)
    assert not [entry for entry in entries if entry["outcome"] == "BRICK"], "tell it in safety.md, with what was done"


def test_a_client_is_named_by_what_the_device_gets_and_not_by_what_tests_it(tmp_path: Path) -> None:
    parts = [tmp_path / name for name in ("client/x.py", "systemd/x.service", "debian/rules")]
    others = [tmp_path / name for name in ("qemu/x.py", "debian/build.sh")]
    script = tmp_path / "bootloader_hooks/uboot/common.env"
    names = list[str]()
    for part in (script, *parts, *others):
        part.parent.mkdir(parents=True, exist_ok=True)
        part.write_text("1")
    for changed in (None, script, *parts, *others):
        if changed is not None:
            changed.write_text("2")
        names.append(ledger.client(tmp_path))
    assert len(set(names)) == 5, "each of the device's parts gives another name"
    assert names[-1] == names[-2] == names[-3], "the lab and what builds the package do not"
