"""Documents about vulnerabilities in a dossier: of this product, of another, of nobody, and where it cannot be told."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from dossier_bench import DossierBench, vex

SECTION = "vulnerabilities"
OTHER = "pkg:generic/ventilator@2.0"
OSV = {"id": "CVE-2026-1", "affected": [{"package": {"ecosystem": "Debian", "name": "libc6"}}]}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> DossierBench:
    return DossierBench.make(tmp_path_factory.mktemp("team"))


@pytest.fixture
def bench(made: DossierBench, tmp_path: Path) -> DossierBench:
    """The same inputs, to be changed."""
    shutil.copytree(made.directory, tmp_path / "team")
    return DossierBench(type(made.team)(tmp_path / "team"))


def csaf(name: str, **more: Any) -> dict[str, Any]:
    product = {"product_id": "P", "name": name}
    said = [{"cve": "CVE-2026-1", "product_status": {"known_not_affected": ["P"]}}]
    tree = {"branches": [{"product": product}]}
    return {"document": {"category": "csaf_vex"}, "product_tree": tree, "vulnerabilities": said} | more


def cyclonedx(name: str, **more: Any) -> dict[str, Any]:
    part = {"bom-ref": "a", "type": "library", "name": name, "purl": f"pkg:deb/debian/{name}@2.41-6"}
    said = [{"id": "CVE-2026-1", "analysis": {"state": "not_affected"}, "affects": [{"ref": "a"}]}]
    about = {"component": {"type": "application", "name": name}}
    whole = {"bomFormat": "CycloneDX", "specVersion": "1.6", "metadata": about, "components": [part]}
    return whole | {"vulnerabilities": said} | more


def section(out: Path) -> dict[str, Any]:
    [found] = [each for each in json.loads((out / "dossier.json").read_text())["sections"] if each["id"] == SECTION]
    assert isinstance(found, dict)
    return found


@pytest.mark.verifies("REQ-EVI-03")
@pytest.mark.parametrize(
    "document",
    [
        vex(OTHER),
        csaf("Ventilator"),
        cyclonedx("ventilator"),
        csaf("Ventilator", vulnerabilities=[]),
        cyclonedx("ventilator", vulnerabilities=[]),
    ],
    ids=["openvex", "csaf", "cyclonedx", "csaf without statements", "cyclonedx without statements"],
)
def test_a_document_on_another_product_is_refused_whatever_its_form(
    bench: DossierBench, tmp_path: Path, capsys: pytest.CaptureFixture[str], document: dict[str, Any]
) -> None:
    bench.write("vex.json", document)
    capsys.readouterr()
    assert bench.dossier(tmp_path / "dossier", "--json") == 4
    [reason] = json.loads(capsys.readouterr().out)["reasons"]
    assert (reason["code"], reason["expected"]) == ("refused.vex-other", "Pump 2026.11")
    assert "ventilator" in reason["found"].lower()
    assert "vex.json" in reason["message"]
    assert not (tmp_path / "dossier").exists()


@pytest.mark.verifies("REQ-EVI-03")
@pytest.mark.parametrize(
    ("document", "row"),
    [
        (vex("Pump"), ["CVE-2026-1", "not_affected", "Pump"]),
        (csaf("pump 2026.11"), ["CVE-2026-1", "known_not_affected", "pump 2026.11"]),
        (cyclonedx("libc6"), ["CVE-2026-1", "not_affected", "pkg:deb/debian/libc6@2.41-6"]),
        (OSV, ["CVE-2026-1", "not known"]),
    ],
    ids=["the product", "the release", "a package", "a list of known ones"],
)
def test_what_was_said_of_this_product_stands_in_the_section_row_by_row(
    bench: DossierBench, tmp_path: Path, document: dict[str, Any], row: list[str]
) -> None:
    bench.write("vex.json", document)
    assert bench.dossier(tmp_path / "dossier") == 0
    found = section(tmp_path / "dossier")
    assert found["state"] == "there"
    assert [table["rows"] for table in found["body"]["tables"]] == [[row]]


@pytest.mark.verifies("REQ-EVI-03")
def test_without_a_bill_of_materials_statements_on_packages_are_unbound_and_none_at_all_are_there(
    bench: DossierBench, tmp_path: Path
) -> None:
    """Whether a package is in the product, only a bill tells; what names the product needs none."""
    text = (bench.directory / "dossier.toml").read_text()
    bench.write("dossier.toml", text.replace('sbom = "sbom.cdx.json"\n', ""))
    empty = vex() | {"statements": []}
    for number, (document, state) in enumerate(((vex(), "unbound"), (vex("Pump"), "there"), (empty, "there"))):
        bench.write("vex.json", document)
        assert bench.dossier(tmp_path / str(number)) == 0
        assert section(tmp_path / str(number))["state"] == state
    assert "no bill of materials says whether" in section(tmp_path / "0")["note"]
