"""From measured rounds to a page: ratios within the run, goals, tables and plots."""

from __future__ import annotations

import itertools
import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.__main__ import _kept, _same_run
from bench.document import PATCHES, page, patches, plot_files, write
from bench.filesystem import used_inodes
from bench.goals import judge
from bench.packages import parse_uris
from bench.plot import Bar, bars
from bench.report import figures, floor_of, ratios, spread, start_figures
from bench.suite import CONTESTS

MIB = 1 << 20


def one_round(wall: float, *, fetched: int = 1000, peak: int = 10 * MIB, good: bool = True) -> dict[str, Any]:
    memory = {"peak": peak, "who": [], "moving": peak // 2, "processes": 1, "samples": 9, "period": 0.03, "cpu": 0.01}
    return {
        "status": 0 if good else 1,
        "verified": good,
        "wall": wall,
        "flush": 0.0,
        "cpu": wall / 2,
        "memory": memory,
        "written": 5 * MIB,
        "zeroed": 0,
        "discarded": 0,
        "wire": {"sent": fetched, "received": 10, "requests": 1},
        "fetched": fetched,
    }


def row(work: str, peer: str, rounds: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    facts = {
        "command": f"{peer} install",
        "note": "as it comes",
        "published": 9,
        "product": 9,
        "front": 100,
        "made": {},
    }
    return {"work": work, "peer": peer, "version": "1.0", "rounds": rounds, **facts, **more}


def a_report() -> dict[str, Any]:
    made = {"wall": 30.0, "cpu": 50.0, "memory": 300 * MIB}
    rows = [
        row("full-file", "floor", [one_round(1.0), one_round(2.0), one_round(1.5)]),
        row("full-file", "floor, unsampled", [one_round(1.0)]),
        row("full-file", "twinslot", [one_round(1.4), one_round(2.9), one_round(2.0)]),
        row("full-file", "rauc verity", [one_round(0.1, good=False)], unable="no | device\nmapper"),
        row("security", "twinslot", [one_round(1.0, fetched=1_900_000)], made=made),
        row("security", "xdelta3", [one_round(1.0, fetched=3_600_000)]),
        row("onefile", "twinslot", [one_round(1.0, fetched=4_100)]),
        {"work": "security", "peer": "mender", "version": "3", "rounds": [], "unable": "commercial"},
    ]
    for each in rows:
        each["figures"] = figures(each, floor_of(rows, each["work"]))
    packages = [{"name": "openssl", "version": "1", "file": "f", "size": 1, "sha256": "0" * 64}]
    security = {
        "suite": "bookworm",
        "architecture": "arm64",
        "size": 512 * MIB,
        "changed": ["openssl"],
        "in_use": {"old": 344 * MIB, "new": 344 * MIB},
        "packages": {"old": packages, "new": [packages[0] | {"version": "2"}]},
        "differs": {"4096": 5 * MIB, "65536": 6 * MIB},
    }
    start = {
        "command": "twinslot status",
        "beside": "pass",
        "more": {kind: spread([0.1, 0.12]) for kind in ("warm", "cold")},
    }
    machine = {"made": "2026-01-01T00:00:00Z", "commit": "c" * 40, "cores": 2, "cpu": "a processor", "memory": 8 << 30}
    report = {
        "quick": False,
        "rounds": 3,
        "machine": machine
        | {"kernel": "6", "system": "Debian 13", "python": "3", "load_before": 0.1, "load_after": 2.0},
        "pairs": {"security": security, "onefile": security | {"file_size": 20_000}},
        "rows": rows,
        "start": start,
    }
    return json.loads(json.dumps(report | {"goals": judge(report)}))  # type: ignore[no-any-return]


def test_the_page_has_the_patches_of_other_architectures_as_their_reports_say() -> None:
    section = patches()
    assert section in page(a_report(), [])
    assert section in (Path(__file__).parents[2] / "docs/benchmarks.md").read_text()
    told = [one for path in PATCHES for one in json.loads(path.read_text())]
    rows = [line for line in section.splitlines() if line.startswith(("| armhf, ", "| amd64, "))]
    pairs = [f"{one['pair']}, {one['updates']}" for one in told]
    assert [row.split(" | ")[0].removeprefix("| ") for row in rows[::2]] == pairs
    for row, formats in zip(rows, (one["formats"][at : at + 3] for one in told for at in (0, 3)), strict=True):
        assert [f"{found['size']:,}" for found in formats] == row.split(" | ")[2:5]
        assert float(row.split(" | ")[5]) <= 0.85, "what was asked"


def test_a_ratio_is_taken_within_its_round_before_the_median() -> None:
    report = a_report()
    floor, ours = report["rows"][0], report["rows"][2]
    assert ratios(ours, floor) == pytest.approx([1.4, 1.45, 2.0 / 1.5])
    assert figures(ours, floor)["ratio"]["median"] == pytest.approx(1.4)


def test_who_was_measured_once_is_divided_by_the_floors_median() -> None:
    floor = row("w", "floor", [one_round(1.0), one_round(2.0), one_round(4.0)])
    assert ratios(row("w", "once", [one_round(3.0)]), floor) == [1.5]


def test_a_round_that_failed_or_left_another_image_counts_for_nothing() -> None:
    wrong = one_round(0.5) | {"verified": False}
    told = figures(row("w", "p", [one_round(1.0), wrong, one_round(0.1, good=False)]), None)
    assert told["wall"] == {"median": 1.0, "low": 1.0, "high": 1.0, "count": 1}
    assert figures(row("w", "p", [wrong]), None) == {}


def test_goals_are_reached_missed_or_not_measured() -> None:
    goals = {goal["what"]: goal for goal in a_report()["goals"]}
    assert goals["full install, wall over the floor"]["met"] is False
    assert goals["over HTTP, wall over the floor"]["met"] is None
    assert goals["bytes, security update: 0.55 x xdelta3"]["met"] is True
    assert goals["bytes, security update: 0.55 x xdelta3"]["bound"] == pytest.approx(1980)
    assert goals["bytes, one file changed, without the manifest"]["found"] == pytest.approx(4.0)
    assert goals["device writes over bytes that changed"]["found"] == pytest.approx(1.0)
    report = a_report()
    report["rows"][2]["figures"]["ratio"]["median"] = 1.3
    assert {goal["what"]: goal for goal in judge(report)}["full install, wall over the floor"]["met"] is True


def test_the_page_says_who_was_measured_how_and_who_could_not() -> None:
    text = page(a_report(), ["full-file.ratio.svg"])
    assert "| twinslot | 2.00 (1.40-2.90) | 1.40 (1.33-1.45) |" in text
    assert "`twinslot install`" in text
    assert "Cannot do it here: no \\| device mapper" in text
    assert "Cannot do it here: commercial" in text
    assert "![Full install from a file](benchmarks/full-file.ratio.svg)" in text
    assert "| openssl | 1 | 2 |" in text
    assert "| full install, wall over the floor | 1.30 x | 1.40 x | **not reached** |" in text
    assert "| bytes, security update: 0.55 x xdelta3 | 1980 kB | 1900 kB | reached |" in text
    assert "quick run" not in text
    assert "quick run" in page(a_report() | {"quick": True}, [])


def test_every_table_has_as_many_cells_in_each_line() -> None:
    lines = page(a_report(), []).splitlines()
    for before, line in itertools.pairwise(lines):
        if before.startswith("|") and line.startswith("|"):
            assert before.replace("\\|", "").count("|") == line.replace("\\|", "").count("|"), line


def test_plots_are_xml_with_a_bar_for_each_who_worked_but_the_floor(tmp_path: Path) -> None:
    files = plot_files(a_report())
    assert set(files) == {"full-file.ratio.svg", "security.fetched.svg"}
    texts = [element.text for element in ET.fromstring(files["security.fetched.svg"]).findall("{*}text")]
    assert "twinslot" in texts
    assert "xdelta3" in texts
    assert "floor" not in "".join(filter(None, texts))
    write(a_report(), tmp_path)
    assert {path.name for path in (tmp_path / "benchmarks").iterdir()} == set(files)
    assert (tmp_path / "benchmarks.md").read_text().startswith("# Benchmarks")


@given(st.lists(st.tuples(st.text(max_size=20), st.floats(0, 1e12)), min_size=1, max_size=9), st.floats(0, 1e12))
def test_no_bar_leaves_the_picture(items: list[tuple[str, float]], bound: float) -> None:
    printable = ["".join(c for c in name if c.isprintable()) for name, _ in items]
    picture = ET.fromstring(
        bars("a <title> & more", [Bar(n, v, v, v, "v") for n, (_, v) in zip(printable, items, strict=True)], bound)
    )
    width = float(picture.attrib["viewBox"].split()[2])
    for bar in picture.findall("{*}rect")[1:]:
        assert float(bar.attrib["x"]) + float(bar.attrib["width"]) <= width


def test_packages_are_read_from_what_apt_would_fetch() -> None:
    text = f"Reading...\n'http://m/pool/o/o_1%3a2-3_arm64.deb' o_1%3a2-3_arm64.deb 123 SHA256:{'a' * 64}\nDone\n"
    (package,) = parse_uris(text)
    assert (package.name, package.version, package.size, package.sha256) == ("o", "1:2-3", 123, "a" * 64)


def test_inodes_in_use_are_those_that_are_not_free() -> None:
    dump = "Inode count:              20\n\nGroup 0:\n  Free inodes: 14-15, 18\nGroup 1:\n  Free inodes: 20\n"
    assert list(used_inodes(dump)) == [2, 11, 12, 13, 16, 17, 19]


def test_the_start_is_compared_run_by_run() -> None:
    seconds = {"cold": {"pass": [0.1, 0.5], "status": [0.2, 0.7]}}
    assert start_figures({"seconds": seconds})["cold"]["median"] == pytest.approx(0.15)


def test_an_interrupted_run_goes_on_only_as_the_same_run(tmp_path: Path) -> None:
    about = {"commit": "0" * 40, "rounds": 7, "pairs": ["a"]}
    assert _same_run(tmp_path / "rows", about)
    measured: list[int] = []

    def measure() -> list[dict[str, Any]]:
        measured.append(1)
        return [{"peer": "floor"}]

    contest = next(iter(CONTESTS))
    for _ in range(2):
        assert _kept(tmp_path / "rows", contest, measure) == [{"peer": "floor"}]
    assert len(measured) == 1, "the second time as the first run wrote it down"
    assert _same_run(tmp_path / "rows", about)
    assert not _same_run(tmp_path / "rows", about | {"rounds": 2})
    (tmp_path / "rows" / "about.json").unlink()
    assert not _same_run(tmp_path / "rows", about), "rows of nobody knows what"
