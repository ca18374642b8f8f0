"""The bench's table of patches by format, that of other tools, and package lists of a mirror that is out of step."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path

import pytest

from bench import formats
from bench.files import RIVALS, RivalSum
from bench.formats import FORMATS, FormatSize, measure, packages_changed
from bench.packages import TRIES, prefer, update_lists
from bench.pairs import Pair
from rootfs_samples import make_ext4, make_tree
from twinslot_lab.command import run
from twinslot_lab.errors import BuildError

ROOT = Path(__file__).parents[2]


def a_package(name: str, version: str) -> dict[str, object]:
    digest = hashlib.sha256(f"{name} {version}".encode()).hexdigest()
    return {"name": name, "version": version, "file": f"{name}.deb", "size": 1, "sha256": digest}


FACTS = {
    "changed": ["grew", "new"],
    "packages": {
        "old": [a_package("grew", "1"), a_package("same", "1")],
        "new": [a_package("grew", "2"), a_package("new", "1"), a_package("same", "1")],
    },
}


def a_pair(folder: Path) -> Pair:
    content = random.Random(1).randbytes(200_000)
    for name, program in (("old", content), ("new", content[:90_000] + b"something else" + content[90_000:])):
        tree = make_tree(folder / f"{name}.tree")
        (tree / "program").write_bytes(program)
        make_ext4(tree, folder / f"{name}.img")
    return Pair("security", folder, FACTS)


@pytest.mark.slow
def test_a_pair_has_a_row_for_each_format_and_each_says_what_it_really_is(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    rows = list(measure(a_pair(tmp_path), 65_536, tmp_path / "work", name="arm64", updates="suite"))
    assert [row.newest for row in rows] == list(FORMATS)
    assert rows[0].version == 1
    assert rows[0].ratio == 1.0
    for row in rows:
        assert row.version <= row.newest
        assert row.size == (tmp_path / f"work/{row.newest}.twinpatch").stat().st_size
        assert row.ratio == row.size / rows[0].size
        assert 0 < row.digests < row.size
        assert row.line().startswith(f"| arm64 | suite | 64 | {row.newest} | {row.version} | {row.size:,} |")


def test_packages_are_told_by_what_each_side_has(tmp_path: Path) -> None:
    found = packages_changed(FACTS)
    assert list(found) == ["grew", "new"]
    assert found["grew"]["old"] == {"version": "1", "sha256": a_package("grew", "1")["sha256"]}
    assert found["grew"]["new"]["version"] == "2"
    assert found["new"]["old"] is None


@pytest.mark.slow
def test_the_rivals_stand_in_a_table_of_their_own_and_the_report_names_the_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pair, report = a_pair(tmp_path), tmp_path / "report.json"
    monkeypatch.setattr(formats, "make_pairs", lambda **_: {"security": pair})
    monkeypatch.setattr(formats, "HOME", tmp_path)
    choice = ["--architecture", "armhf", "--updates", "point", "--group-size", "65536", "--format", "1"]
    assert formats.main([*choice, "--rivals", "--report", str(report)]) == 0
    first, second = capsys.readouterr().out.split("\n\n")
    assert first.splitlines()[2].startswith("| armhf | point | 64 | 1 | 1 | ")
    names = [line.split(" | ")[2].split()[0] for line in second.splitlines()[2:]]
    assert names == ["xdelta3", *RIVALS]
    assert [line.split(" | ")[3] for line in second.splitlines()[2:]] == ["the image"] + ["1 files"] * len(RIVALS)
    (told,) = json.loads(report.read_text())
    assert told["changed"] == packages_changed(FACTS)
    assert [told["packages"][side]["count"] for side in ("old", "new")] == [2, 3]
    assert told["packages"]["old"]["sha256"] != told["packages"]["new"]["sha256"]
    assert [row["name"] for row in told["rivals"]] == names
    assert all(0 < row["size"] < 10_000 for row in told["rivals"])


def test_the_page_has_what_the_kept_report_of_armhf_says() -> None:
    page = (ROOT / "docs/decisions/0074-references-in-armhf-and-amd64.md").read_text()
    told = json.loads((ROOT / "bench/armhf.json").read_text())
    assert [(one["pair"], one["updates"]) for one in told] == [("armhf", "point"), ("armhf", "unstable")]
    for one in told:
        rows = [FormatSize(**row).line() for row in one["formats"]]
        rows += [RivalSum(**row).line(one["pair"], one["updates"]) for row in one["rivals"]]
        assert len(rows) == 2 * len(FORMATS) + 1 + len(RIVALS)
        assert [row for row in rows if row not in page] == []
        largest = max(row["ratio"] for row in one["formats"] if row["newest"] == FORMATS[-1])
        assert largest <= 0.85, "what format 3 was made for"


def test_a_pair_that_cannot_be_made_is_told_and_is_in_no_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def out_of_step(**_: object) -> dict[str, Pair]:
        raise BuildError("no package lists")

    monkeypatch.setattr(formats, "make_pairs", out_of_step)
    assert formats.main(["--architecture", "armhf", "--report", str(tmp_path / "report.json")]) == 1
    assert capsys.readouterr().err == "bench.formats: armhf: no package lists\n"
    assert json.loads((tmp_path / "report.json").read_text()) == []


def publish(folder: Path, suite: str, packages: str, signed: str) -> None:
    """A suite of a mirror in a folder, whose Release file has the digest of `signed`."""
    place = folder / f"mirror/dists/{suite}/main/binary-arm64"
    place.mkdir(parents=True)
    (place / "Packages").write_text(packages)
    digest = hashlib.sha256(signed.encode()).hexdigest()
    lines = [f" {digest} {len(signed)} main/binary-arm64/Packages"]
    head = [f"Suite: {suite}", f"Codename: {suite}", "Architectures: arm64", "Components: main", "SHA256:"]
    (place.parents[1] / "Release").write_text("\n".join([*head, *lines]) + "\n")


def options(folder: Path, *suites: str, preferences: str = "") -> list[str]:
    """apt's, for suites of a mirror in a folder."""
    (folder / "lists/partial").mkdir(parents=True)
    (folder / "status").touch()
    (folder / "preferences").write_text(preferences)
    lines = [f"deb [trusted=yes] file:{folder}/mirror {suite} main\n" for suite in suites]
    (folder / "sources.list").write_text("".join(lines))
    settings = {
        "Dir::State": folder,
        "Dir::State::status": folder / "status",
        "Dir::State::lists": folder / "lists",
        "Dir::Cache": folder,
        "Dir::Etc::sourcelist": folder / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferences": folder / "preferences",
        "Dir::Etc::preferencesparts": "/dev/null",
        "APT::Sandbox::User": "root",
        "APT::Architecture": "arm64",
        "APT::Architectures::": "arm64",
        "Acquire::Languages": "none",
        "Acquire::ForceHash": "sha256",
    }
    return [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]


def a_list(version: int) -> str:
    words = {"Package": "a", "Version": version, "Architecture": "arm64", "Filename": f"a_{version}_arm64.deb"}
    return "".join(f"{key}: {value}\n" for key, value in {**words, "Size": 1, "SHA256": "0" * 64}.items()) + "\n"


def mirror(folder: Path, *, in_step: bool) -> list[str]:
    """apt's options for a mirror whose list of packages fits its Release file or does not."""
    publish(folder, "stable", a_list(1) if in_step else a_list(1) + "\n", a_list(1))
    return options(folder, "stable")


@pytest.mark.parametrize(("preferences", "version"), [("", "2"), (prefer("stable-updates"), "1")])
def test_of_two_suites_the_newer_version_is_taken_unless_the_earlier_one_is_preferred(
    tmp_path: Path, preferences: str, version: str
) -> None:
    for suite, has in (("stable", 2), ("stable-updates", 1)):
        publish(tmp_path, suite, a_list(has), a_list(has))
    words = options(tmp_path, "stable", "stable-updates", preferences=preferences)
    update_lists(words, pause=0)
    told = run("apt-get", *words, "-y", "-q", "install", "--print-uris", "a")
    assert f"a_{version}_arm64.deb" in told


def test_lists_that_fit_their_signed_file_are_taken(tmp_path: Path) -> None:
    update_lists(mirror(tmp_path, in_step=True), pause=0)
    assert list((tmp_path / "lists").glob("*Release"))


def test_a_mirror_out_of_step_is_tried_again_and_then_told_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(BuildError) as caught:
        update_lists(mirror(tmp_path, in_step=False), pause=0)
    assert caught.value.message.startswith(f"no package lists after {TRIES} tries: Failed to fetch ")
    assert "\n" not in str(caught.value)
    assert "--updates point" in str(caught.value.hint)
    assert capsys.readouterr().err.count("more tries") == TRIES - 1
