"""What differs between two releases: real file systems, package databases, and what given files say."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dossier_bench import matrix
from release_bench import ReleaseBench

from rootfs_samples import make_ext4, make_tree
from twinslot_image.cli import main

HOSTILE = "<img src=x onerror=alert(1)>"


def status(*packages: tuple[str, str]) -> str:
    """dpkg's database with these packages."""
    form = "Package: {}\nStatus: install ok installed\nVersion: {}\nArchitecture: arm64\nMaintainer: A\n\n"
    return "".join(form.format(*package) for package in packages)


def tree(place: Path, *packages: tuple[str, str], **files: str) -> Path:
    """A root file system with packages and files."""
    make_tree(place)
    (place / "var/lib/dpkg").mkdir(parents=True)
    (place / "var/lib/dpkg/status").write_text(status(*packages))
    (place / "etc/os-release").write_text('ID=debian\nVERSION_ID="13"\n')
    for name, content in files.items():
        (place / "etc" / name).write_text(content)
    return place


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The release before, and the release."""
    place = tmp_path_factory.mktemp("trees")
    old = tree(
        place / "old", ("libc6", "2.41-6"), ("openssl", "3.5.0-1"), ("telnet", "0.17"), alarm="60 dB\n", log="off\n"
    )
    new = tree(
        place / "new", ("libc6", "2.41-6"), ("openssl", "3.5.1-1"), ("nftables", "1.1.3"), alarm="75 dB\n", sync="on\n"
    )
    return old, new


def diff(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["diff", "--json", "--quiet", *map(str, words)]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def directory(place: Path, _: Path) -> Path:
    return place


def ext4(place: Path, out: Path) -> Path:
    return make_ext4(place, out / f"{place.name}.ext4")


def erofs(place: Path, out: Path) -> Path:
    subprocess.run(["mkfs.erofs", "-T0", out / f"{place.name}.erofs", place], check=True, capture_output=True)
    return out / f"{place.name}.erofs"


def tar(place: Path, out: Path) -> Path:
    subprocess.run(["tar", "-C", place, "--sort=name", "-cf", out / f"{place.name}.tar", "."], check=True)
    return out / f"{place.name}.tar"


def image(place: Path, out: Path) -> Path:
    bench = ReleaseBench(out) if (out / "keys").exists() else ReleaseBench.make(out)
    content = make_ext4(place, out / "content.ext4").read_bytes()
    return bench.image(place.name, 10 if place.name == "old" else 11, content)


@pytest.mark.verifies("REQ-EVI-05")
@pytest.mark.parametrize("form", [directory, tar, ext4, erofs, image])
def test_packages_and_files_that_differ_are_found_in_every_form_of_a_release(
    trees: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], form: Callable[[Path, Path], Path]
) -> None:
    old, new = (form(each, tmp_path) for each in trees)
    found = diff(capsys, old, new)
    assert {row["name"]: (row["before"], row["after"]) for row in found["packages"]} == {
        "nftables": ("", "1.1.3"),
        "openssl": ("3.5.0-1", "3.5.1-1"),
        "telnet": ("0.17", ""),
    }
    files = {row["path"].removeprefix("rootfs:/"): row["change"] for row in found["files"]}
    assert files == {
        "etc/alarm": "changed",
        "etc/log": "removed",
        "etc/sync": "added",
        "var/lib/dpkg/status": "changed",
    }
    if form is image:
        facts = {row["field"]: (row["before"], row["after"]) for row in found["manifest"]}
        assert facts["sequence"] == ("10", "11")
    assert not list(tmp_path.glob(".twinslot-*"))


def test_a_release_does_not_differ_from_itself(trees: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    found = diff(capsys, trees[0], trees[0])
    assert [found[key] for key in ("manifest", "packages", "files", "sizes")] == [[]] * 4
    assert main(["diff", str(trees[0]), str(trees[0])]) == 0
    assert "Packages: nothing differs" in capsys.readouterr().out


def test_requirements_risks_and_tests_that_differ_are_named(
    trees: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, after = matrix(), matrix()
    after["requirements"][1] |= {"fingerprint": "f" * 32, "verdict": "failed"}
    after["tests"].append({"test": "tests/test_new.py::test_it", "outcome": "failed", "runs": [], "verifies": []})
    for name, content in (("old.json", before), ("new.json", after)):
        (tmp_path / name).write_text(json.dumps(content))
    found = diff(capsys, *trees, "--matrix", tmp_path / "old.json", tmp_path / "new.json")
    [row] = found["requirements"]
    assert row["id"] == "PUMP-2"
    assert row["change"] == "changed text, passed before, failed now"
    assert [risk["id"] for risk in found["risks"]] == ["RISK-1"]
    assert found["tests"] == [{"test": "tests/test_new.py::test_it", "before": "", "after": "failed"}]


ALL = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}]}]
OSV = {
    "id": "DSA-1",
    "aliases": ["CVE-2026-1"],
    "database_specific": {"severity": "CRITICAL"},
    "affected": [{"package": {"ecosystem": "Debian:13", "name": "openssl"}, "versions": ["3.5.0-1"]}],
}
UNTIL_NEXT = {
    "id": "CVE-2026-2",
    "affected": [
        {"package": {"ecosystem": "Debian", "name": "openssl"}, "versions": ["3.5.0-1", "3.5.1-1"]},
        {"package": {"ecosystem": "PyPI", "name": "openssl"}, "ranges": ALL},
    ],
}
ALWAYS = {
    "id": "CVE-2026-3",
    "affected": [{"package": {"ecosystem": "Debian", "name": "nftables"}, "ranges": ALL}],
}


def openvex(state: str, product: str = "pkg:deb/debian/openssl@3.5.1-1?arch=arm64") -> dict[str, Any]:
    statement = {"vulnerability": {"name": "CVE-2026-2"}, "products": [{"@id": product}], "status": state}
    return {"@context": "https://openvex.dev/ns/v0.2.0", "statements": [statement]}


def cyclonedx(state: str) -> dict[str, Any]:
    affected = {"id": "CVE-2026-2", "analysis": {"state": state}, "affects": [{"ref": "a"}]}
    component = {"bom-ref": "a", "purl": "pkg:deb/debian/openssl@3.5.1-1", "name": "openssl", "type": "library"}
    return {"bomFormat": "CycloneDX", "specVersion": "1.6", "components": [component], "vulnerabilities": [affected]}


def csaf(state: str) -> dict[str, Any]:
    helper = {"purl": "pkg:deb/debian/openssl@3.5.1-1"}
    product = {"product_id": "P", "name": "o", "product_identification_helper": helper}
    tree_ = {"branches": [{"branches": [{"product": product}]}]}
    statement = {"cve": "CVE-2026-2", "product_status": {state: ["P"]}}
    return {"document": {"category": "csaf_vex"}, "product_tree": tree_, "vulnerabilities": [statement]}


@pytest.mark.verifies("REQ-EVI-05")
def test_vulnerabilities_open_close_and_stay(
    trees: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "osv.json").write_text(json.dumps({"vulns": [OSV, UNTIL_NEXT, ALWAYS]}))
    found = diff(capsys, *trees, "--vulnerabilities", tmp_path / "osv.json")["vulnerabilities"]
    assert [(row["id"], row["package"]) for row in found["opened"]] == [("CVE-2026-3", "nftables")]
    assert [(row["id"], row["severity"]) for row in found["closed"]] == [("DSA-1", "critical")]
    assert [(row["id"], row["version"]) for row in found["still_open"]] == [("CVE-2026-2", "3.5.1-1")]


@pytest.mark.verifies("REQ-EVI-05")
@pytest.mark.parametrize(
    ("closing", "open_"),
    [
        (openvex("not_affected"), openvex("under_investigation")),
        (openvex("fixed"), openvex("affected")),
        (cyclonedx("not_affected"), cyclonedx("exploitable")),
        (csaf("known_not_affected"), csaf("known_affected")),
    ],
    ids=["openvex", "openvex-fixed", "cyclonedx", "csaf"],
)
def test_what_a_person_judged_counts_before_what_is_known(
    trees: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], closing: object, open_: object
) -> None:
    (tmp_path / "osv.json").write_text(json.dumps(UNTIL_NEXT))
    for content, still in ((closing, []), (open_, ["CVE-2026-2"])):
        (tmp_path / "vex.json").write_text(json.dumps(content))
        given = ("--vulnerabilities", tmp_path / "osv.json", "--vulnerabilities", tmp_path / "vex.json")
        found = diff(capsys, *trees, *given)["vulnerabilities"]
        assert [row["id"] for row in (*found["still_open"], *found["opened"])] == still


@pytest.mark.verifies("REQ-EVI-05")
def test_a_statement_on_another_product_is_refused(
    trees: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "vex.json").write_text(json.dumps(openvex("not_affected", "pkg:generic/ventilator@2.0")))
    old, new = map(str, trees)
    capsys.readouterr()
    assert main(["diff", "--json", old, new, "--vulnerabilities", str(tmp_path / "vex.json")]) == 4
    [reason] = json.loads(capsys.readouterr().out)["reasons"]
    assert reason["code"] == "refused.vex-other"
    assert "ventilator" in reason["found"]


def test_a_statement_on_the_whole_product_counts_for_its_packages(
    trees: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the name of what the bill is of."""
    part = {"type": "library", "name": "openssl", "version": "3.5.1-1", "purl": "pkg:deb/debian/openssl@3.5.1-1"}
    bill = {"bomFormat": "CycloneDX", "metadata": {"component": {"name": "Pump"}}, "components": [part]}
    for name, content in (("bill.json", bill), ("osv.json", UNTIL_NEXT), ("vex.json", openvex("not_affected", "Pump"))):
        (tmp_path / name).write_text(json.dumps(content))
    bills = ("--sbom", tmp_path / "bill.json", tmp_path / "bill.json", "--vulnerabilities", tmp_path / "osv.json")
    known = diff(capsys, *trees, *bills)["vulnerabilities"]["still_open"]
    assert [row["id"] for row in known] == ["CVE-2026-2"]
    judged = diff(capsys, *trees, *bills, "--vulnerabilities", tmp_path / "vex.json")["vulnerabilities"]
    assert judged["still_open"] == []


def test_versions_in_a_range_are_compared_as_the_package_manager_does(
    trees: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ranges = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "3.5.1~rc1-1"}]}]
    affected = {"package": {"ecosystem": "Debian", "name": "openssl"}, "ranges": ranges}
    (tmp_path / "osv.json").write_text(json.dumps({"id": "X", "affected": [affected]}))
    found = diff(capsys, *trees, "--vulnerabilities", tmp_path / "osv.json")["vulnerabilities"]
    assert [row["version"] for row in found["closed"]] == ["3.5.0-1"]


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"vulnerabilities":1}'])
def test_a_file_of_no_known_format_is_refused(
    trees: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    (tmp_path / "x.json").write_bytes(content)
    capsys.readouterr()
    old, new = map(str, trees)
    assert main(["diff", "--json", old, new, "--vulnerabilities", str(tmp_path / "x.json")]) == 3
    assert json.loads(capsys.readouterr().out)["code"] == "image.evidence"


def test_what_others_wrote_stays_text_on_the_page(
    trees: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = tmp_path / "new"
    shutil.copytree(trees[0], new, symlinks=True)
    (new / "etc" / HOSTILE.replace("/", "")).write_text("x")
    (new / "etc" / "\x1b[2J\u202egnp").write_text("x")
    bill = {"bomFormat": "CycloneDX", "components": [{"type": "library", "name": HOSTILE, "version": HOSTILE}]}
    (tmp_path / "bill.json").write_text(json.dumps(bill))
    page = tmp_path / "diff.html"
    words = [str(trees[0]), str(new), "--sbom", *[str(tmp_path / "bill.json")] * 2, "--html", str(page)]
    assert main(["diff", *words]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    text = page.read_text()
    assert "&lt;img src=x" in text
    assert "<img" not in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert not re.search(r"<script|https?://", text)
    first = page.read_bytes()
    assert main(["diff", *words]) == 0, "a page may be replaced by a page"
    assert page.read_bytes() == first
    page.write_text("years of work")
    assert main(["diff", *words]) == 4
