"""What the release gate reads: orders of versions, scores, vulnerabilities and statements about them; of unit tests."""

from __future__ import annotations

import contextlib
import copy
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinslot.core.errors import ImageError
from twinslot_image.gate.osv import parse_vulnerabilities, read_vulnerabilities
from twinslot_image.gate.severity import Severity, base_score, severity_of_score
from twinslot_image.gate.tests_run import read_coverage, read_tests
from twinslot_image.gate.versions import is_before
from twinslot_image.gate.vex import VexStatement, read_vex
from twinslot_image.sbom.read import Bill, Component, read_bill, split_purl

VERSIONS = st.from_regex(r"([0-9]:)?[0-9][0-9a-z.+~]{0,6}(-[0-9a-z.+~]{1,4})?", fullmatch=True)
OPENSSL = Component(
    "deb:openssl:3.5.1-1:arm64",
    "openssl",
    "3.5.1-1",
    "pkg:deb/debian/openssl@3.5.1-1",
    "deb",
    "debian",
    "debian-13",
    ("openssl", "3.5.1-1"),
)
BILL = Bill("11111111-1111-4111-8111-111111111111", "system", "Pump", "2026.11", (), (OPENSSL,))


@pytest.mark.skipif(shutil.which("dpkg") is None, reason="no dpkg here")
@settings(max_examples=60, deadline=None)
@given(VERSIONS, VERSIONS)
def test_versions_are_ordered_as_dpkg_orders_them(one: str, other: str) -> None:
    real = subprocess.run(["dpkg", "--compare-versions", one, "lt", other], stderr=subprocess.DEVNULL).returncode
    assert is_before(one, other) == (real == 0)


@pytest.mark.parametrize(
    ("vector", "score", "severity"),
    [
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H", 9.8, Severity.CRITICAL),
        ("CVSS:3.0/AV:N/AC:L/PR:N/UI:N/S:C/C:H/I:H/A:H", 10.0, Severity.CRITICAL),
        ("CVSS:3.1/AV:L/AC:L/PR:L/UI:N/S:U/C:H/I:H/A:H", 7.8, Severity.HIGH),
        ("CVSS:3.1/AV:N/AC:L/PR:L/UI:N/S:C/C:L/I:L/A:N", 6.4, Severity.MEDIUM),
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N", 6.1, Severity.MEDIUM),
        ("CVSS:3.1/AV:N/AC:H/PR:N/UI:R/S:U/C:L/I:N/A:N", 3.1, Severity.LOW),
        ("CVSS:3.1/AV:P/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:N", 0.0, Severity.LOW),
    ],
)
def test_a_vector_has_the_score_that_first_publishes(vector: str, score: float, severity: Severity) -> None:
    assert base_score(vector) == score
    assert severity_of_score(score) is severity


@given(st.text(max_size=60))
def test_any_other_text_is_no_vector(text: str) -> None:
    assert base_score(text) is None or text.startswith("CVSS:3.")


def osv(tmp_path: Path, **entry: Any) -> bool:
    """Whether an entry concerns openssl 3.5.1-1 of Debian 13."""
    affected = {"package": {"ecosystem": "Debian:13", "name": "openssl"}} | entry
    (tmp_path / "osv.json").write_text(json.dumps({"id": "DSA-1", "affected": [affected]}))
    (found,) = read_vulnerabilities((tmp_path / "osv.json",))
    return found.concerns(OPENSSL)


@pytest.mark.parametrize(
    ("entry", "concerned"),
    [
        ({}, True),
        ({"versions": ["3.5.1-1"]}, True),
        ({"versions": ["3.5.0-1"]}, False),
        ({"ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "3.5.1-1+deb13u1"}]}]}, True),
        ({"ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "3.5.1-1"}]}]}, False),
        ({"ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "3.5.2"}]}]}, False),
        ({"ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "3.0"}, {"last_affected": "3.5.1-1"}]}]}, True),
        ({"ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "3.0"}, {"last_affected": "3.5.0"}]}]}, False),
        ({"ranges": [{"type": "GIT", "events": [{"introduced": "0"}]}]}, True),
        ({"package": {"ecosystem": "Debian:12", "name": "openssl"}}, False),
        ({"package": {"ecosystem": "Ubuntu", "name": "openssl"}}, False),
        ({"package": {"ecosystem": "PyPI", "name": "openssl"}}, False),
        ({"package": {"purl": "pkg:deb/debian/openssl?arch=source"}}, True),
        ({"package": {"purl": "pkg:deb/debian/curl"}}, False),
    ],
)
def test_an_entry_concerns_the_versions_that_it_names_and_what_cannot_be_told(
    tmp_path: Path, entry: dict[str, Any], concerned: bool
) -> None:
    assert osv(tmp_path, **entry) is concerned


def test_a_withdrawn_entry_is_none_and_a_directory_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "1.json").write_text(
        json.dumps({"vulns": [{"id": "A"}, {"id": "B", "withdrawn": "2026-01-01T00:00:00Z"}]})
    )
    (tmp_path / "2.json").write_text(json.dumps({"id": "C", "database_specific": {"severity": "HIGH"}}))
    found = read_vulnerabilities((tmp_path,))
    assert [(each.names, each.severity) for each in found] == [(("A",), None), (("C",), Severity.HIGH)]


def openvex(product: object, status: str = "not_affected") -> dict[str, Any]:
    said = {"vulnerability": {"name": "CVE-2026-1"}, "products": [product], "status": status}
    return {"@context": "https://openvex.dev/ns/v0.2.0", "statements": [said]}


def csaf(name: str, status: str = "known_not_affected", purl: str | None = None) -> dict[str, Any]:
    product: dict[str, Any] = {"name": name, "product_id": "P1"}
    product |= {"product_identification_helper": {"purl": purl}} if purl else {}
    tree = {"branches": [{"category": "vendor", "name": "v", "branches": [{"category": "x", "product": product}]}]}
    said = [{"cve": "CVE-2026-1", "product_status": {status: ["P1"]}}]
    return {"document": {"category": "csaf_vex"}, "product_tree": tree, "vulnerabilities": said}


def cyclonedx(ref: str, state: str = "not_affected", **more: Any) -> dict[str, Any]:
    said = {"id": "CVE-2026-1", "analysis": {"state": state}, "affects": [{"ref": ref}]}
    return {"bomFormat": "CycloneDX", "specVersion": "1.6", "vulnerabilities": [said]} | more


@pytest.mark.parametrize(
    ("document", "covers", "closes"),
    [
        (openvex("pkg:deb/debian/openssl@3.5.1-1"), True, True),
        (openvex({"@id": "pkg:deb/debian/openssl"}, "fixed"), True, True),
        (openvex({"@id": "x", "identifiers": {"purl": "pkg:deb/debian/openssl"}}, "under_investigation"), True, False),
        (openvex({"@id": "Pump", "subcomponents": [{"@id": "pkg:deb/debian/curl"}]}), False, True),
        (openvex({"@id": "pump 2026.11"}, "affected"), True, False),
        (openvex("pkg:deb/debian/openssl@3.5.0-1"), False, True),
        (openvex({"@id": "Monitor 2026.11"}), False, True),
        (csaf("Pump 2026.11"), True, True),
        (csaf("Monitor", purl="pkg:deb/debian/openssl@3.5.1-1"), True, True),
        (csaf("Pump", "known_affected"), True, False),
        (csaf("Monitor"), False, True),
        (cyclonedx(f"urn:cdx:{BILL.serial}/1#deb:openssl:3.5.1-1:arm64"), True, True),
        (cyclonedx(f"urn:cdx:{BILL.serial}/1"), True, True),
        (cyclonedx("urn:cdx:22222222-2222-4222-8222-222222222222/1#deb:openssl:3.5.1-1:arm64"), False, True),
        (cyclonedx("system", "exploitable", serialNumber=f"urn:uuid:{BILL.serial}"), True, False),
        (
            cyclonedx("x", components=[{"bom-ref": "x", "name": "openssl", "purl": "pkg:deb/debian/openssl@3.5.1-1"}]),
            True,
            True,
        ),
        (cyclonedx("deb:openssl:3.5.1-1:arm64"), False, True),
    ],
)
def test_a_statement_is_of_the_products_that_it_names(document: dict[str, Any], covers: bool, closes: bool) -> None:
    (found,) = read_vex(json.dumps(document).encode(), "vex.json")
    assert found.names == {"CVE-2026-1"}
    assert (found.covers(BILL, OPENSSL), found.closes) == (covers, closes)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
KEYS = st.sampled_from(
    [
        "@context",
        "statements",
        "vulnerability",
        "products",
        "status",
        "bomFormat",
        "vulnerabilities",
        "affects",
        "ref",
        "document",
        "category",
        "id",
        "product_tree",
        "branches",
        "product",
        "affected",
        "package",
        "ranges",
        "events",
        "components",
        "metadata",
        "component",
        "hashes",
        "purl",
        "name",
        "runs",
        "faults",
        "format",
        "totals",
        "severity",
    ]
)
WORDS = st.sampled_from(
    ["https://openvex.dev/ns", "CycloneDX", "csaf_vex", "twinslot-matrix/1", "pkg:deb/debian/openssl@1", "Debian", "X"]
)
HOSTILE = st.recursive(
    WORDS | st.none() | st.integers() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=20,
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(KEYS, HOSTILE, max_size=6))
def test_no_document_ends_a_reader_but_by_a_sentence(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    data = json.dumps(value).encode()
    file = tmp_path_factory.getbasetemp() / "hostile.json"
    file.write_bytes(data)
    codes = set()
    for read in (
        lambda: [each.covers(BILL, OPENSSL) for each in read_vex(data, "x")],
        lambda: [each.concerns(OPENSSL) for each in read_vulnerabilities((file,))],
        lambda: read_bill(data, "x"),
        lambda: read_tests(file),
        lambda: read_coverage(file),
    ):
        try:
            read()
        except ImageError as error:
            codes.add(error.code)
    assert codes <= {"image.evidence", "image.sbom"}


ENTRY: Final = {
    "id": "CVE-2026-1",
    "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}],
    "affected": [
        {
            "package": {"ecosystem": "Debian:13", "name": "openssl"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "3.6"}]}],
        }
    ],
}
GOOD: Final = (
    openvex({"@id": "Pump", "subcomponents": [{"@id": "x"}]}),
    csaf("Pump"),
    cyclonedx("x"),
    {"vulns": [ENTRY]},
)


def places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a document but the top."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield (*above, key)
        yield from places(each, (*above, key))


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([(good, place) for good in GOOD for place in places(good)]), HOSTILE)
def test_one_wrong_value_in_a_good_document_ends_no_reader_but_by_a_sentence(
    at: tuple[Any, tuple[Any, ...]], value: Any
) -> None:
    good, (*above, last) = at
    document = inner = copy.deepcopy(good)
    for key in above:
        inner = inner[key]
    inner[last] = value
    data = json.dumps(document).encode()
    read = parse_vulnerabilities if "vulns" in document else read_vex
    with contextlib.suppress(ImageError):
        for each in read(data, "x"):
            _ = each.covers(BILL, OPENSSL) if isinstance(each, VexStatement) else each.concerns(OPENSSL)


@given(st.text(max_size=40))
def test_a_package_url_is_split_or_none(text: str) -> None:
    assert split_purl(text) is None or text.startswith("pkg:")
    assert split_purl(f"pkg:deb/debian/a%2Bb@1%3A2?arch=x&distro=debian-13&upstream=s%40{1}") == (
        *("deb", "debian", "a+b", "1:2", "debian-13", "s@1"),
    )


JUNIT = '<testsuites><testsuite><testcase classname="a" name="b"/>{}</testsuite></testsuites>'
BOMB = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>' + JUNIT.format("<system-out>&b;</system-out>")


def test_junit_is_read_and_a_failed_test_is_named(tmp_path: Path) -> None:
    file = tmp_path / "junit.xml"
    file.write_text(JUNIT.format('<testcase classname="pump" name="stops"><failure/></testcase>'))
    run = read_tests(file)
    assert (run.passed, run.wrong) == (1, ("pump.stops",))
    file.write_text(JUNIT.format('<testcase classname="pump" name="stops"><skipped/></testcase>'))
    assert read_tests(file).passed == 1


@pytest.mark.parametrize("counted", ['failures="2"', 'errors="1"', 'failures="?"', 'tests="9" failures="1" errors="0"'])
def test_a_suite_that_counts_a_failure_which_no_case_shows_has_failed(tmp_path: Path, counted: str) -> None:
    (tmp_path / "junit.xml").write_text(JUNIT.format("").replace("<testsuite>", f'<testsuite name="pump" {counted}>'))
    [wrong] = read_tests(tmp_path / "junit.xml").wrong
    assert wrong.startswith("'pump' counts")


def test_junit_may_begin_with_the_mark_of_its_encoding(tmp_path: Path) -> None:
    (tmp_path / "junit.xml").write_bytes(b"\xef\xbb\xbf" + JUNIT.format("").encode())
    assert read_tests(tmp_path / "junit.xml").passed == 1


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (BOMB, "a document type or entities"),
        ('<!DOCTYPE x SYSTEM "file:///etc/passwd"><testsuite/>', "a document type or entities"),
        ("<testsuite>", "no element found"),
        ("<html/>", "'html'"),
        ("{}", "nothing at 'format'"),
        ("[]", "list indices"),
        ("", "None"),
        ("[" * 90_000, "None"),
        ('{"format": "twinslot-matrix/1"}', "nothing at 'subject'"),
    ],
)
def test_what_are_no_results_is_refused(tmp_path: Path, text: str, found: str) -> None:
    (tmp_path / "results").write_text(text)
    with pytest.raises(ImageError) as caught:
        read_tests(tmp_path / "results")
    assert caught.value.code == "image.evidence"
    assert found in str(caught.value.found)


def test_two_gigabytes_of_results_are_refused_and_not_read(tmp_path: Path) -> None:
    with (tmp_path / "junit.xml").open("wb") as file:
        file.write(b"<testsuite>")
        file.truncate(2 << 30)
    with pytest.raises(ImageError, match="larger than evidence may be"):
        read_tests(tmp_path / "junit.xml")
