"""The release gate (a component test): an image is built, and signed for a role, once all is there that it asks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rootfs_samples import make_ext4, make_tree
from sbom_samples import make_dpkg_tree, put
from twinslot_image.cli import main

TOML = """
product = "Pump"
release = "2026.11"
sequence = 1
compatible = "acme,pump"
architecture = "amd64"
trust = "keys"
sbom = "auto"
[payloads.rootfs]
file = "rootfs.ext4"
[attachments."notes.md"]
file = "notes.md"
type = "release-notes"
"""
RUN = {"name": "host", "passed": 5, "failed": 0, "skipped": 1}
MATRIX: dict[str, Any] = {"requirements": [], "risks": [], "tests": []} | {
    "format": "twinslot-matrix/1",
    "subject": "ab" * 16,
    "faults": [],
    "runs": [RUN],
}
OSV: dict[str, Any] = {
    "id": "CVE-2026-1",
    "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}],
    "affected": [{"package": {"purl": "pkg:deb/pumpos/libpump1"}, "versions": ["1:2.0-3"]}],
}
VEX: dict[str, Any] = {
    "@context": "https://openvex.dev/ns/v0.2.0",
    "statements": [
        {
            "vulnerability": {"name": "CVE-2026-1"},
            "products": [{"@id": "pkg:deb/pumpos/libpump1"}],
            "status": "not_affected",
        }
    ],
}
ALL = """
[policy]
attachments = ["release-notes", "sbom"]
tests = "matrix.json"
subject = "abababababababababababababababab"
coverage = "coverage.json"
coverage_before = "before.json"
vulnerabilities = "osv.json"
vex = "vex.json"
"""


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root file system with two packages, keys of two roles, and evidence that is all as it should be."""
    bench = tmp_path_factory.mktemp("gate")
    make_ext4(make_dpkg_tree(make_tree(bench / "tree", "amd64")), bench / "rootfs.ext4", "8M")
    assert main(["keys", "init", str(bench / "keys"), "--roles", "engineering,clinical"]) == 0
    return bench


@pytest.fixture
def bench(product: Path) -> Path:
    put(product, "notes.md", "# 1\n")
    for name, value in (("matrix", MATRIX), ("osv", OSV), ("vex", VEX)):
        put(product, f"{name}.json", json.dumps(value))
    put(product, "coverage.json", json.dumps({"totals": {"percent_covered": 91.0}}))
    put(product, "before.json", json.dumps({"totals": {"percent_covered": 90.5}}))
    (product / "pump.twin").unlink(missing_ok=True)
    return product


def build(bench: Path, policy: str = ALL, toml: str = TOML) -> int:
    put(bench, "image.toml", toml + policy)
    return main(["--json", "build", str(bench / "image.toml"), "-o", str(bench / "pump.twin")])


def sign(bench: Path, role: str, *more: str) -> int:
    key = next((bench / "keys/private").glob(f"{role}.*.pem"))
    return main(["--json", "sign", str(bench / "pump.twin"), "--role", role, "--key", str(key), *more])


def said(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return found


def codes(error: dict[str, Any]) -> list[str]:
    return [reason["code"].removeprefix("refused.") for reason in error["reasons"]]


@pytest.mark.verifies("REQ-IMG-29")
def test_a_release_with_all_that_its_policy_asks_for_is_built(bench: Path) -> None:
    assert build(bench) == 0


@pytest.mark.verifies("REQ-IMG-29")
def test_every_reason_is_given_at_once_and_nothing_is_written(bench: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(bench, "matrix.json", json.dumps(MATRIX | {"subject": "cd" * 16, "runs": [RUN | {"failed": 1}]}))
    put(bench, "coverage.json", json.dumps({"totals": {"percent_covered": 90.4}}))
    put(bench, "vex.json", json.dumps(VEX | {"statements": [VEX["statements"][0] | {"status": "affected"}]}))
    policy = ALL.replace('["release-notes", "sbom"]', '["release-notes", "known-anomalies", "sbom"]')
    assert build(bench, policy) == 4
    error = said(capsys)
    assert codes(error) == [
        *("policy-attachment", "policy-tests", "policy-subject", "policy-coverage", "policy-vulnerability")
    ]
    found = {reason["code"].rpartition("policy-")[2]: reason["found"] for reason in error["reasons"]}
    assert found == {
        "attachment": "release-notes, sbom",
        "tests": "1 failed in run 'host'",
        "subject": "cd" * 16,
        "coverage": "90.40 %",
        "vulnerability": "libpump1 1:2.0-3, critical",
    }
    assert not (bench / "pump.twin").exists()


@pytest.mark.verifies("REQ-IMG-29")
@pytest.mark.parametrize(
    ("file", "value", "code"),
    [
        (
            "matrix.json",
            MATRIX | {"faults": [{"kind": "test-failed", "about": "x", "message": "x failed"}]},
            "policy-tests",
        ),
        ("matrix.json", MATRIX | {"runs": []}, "policy-tests"),
        ("matrix.json", MATRIX | {"tests": [{"test": "test_pump.py::test_it", "outcome": "failed"}]}, "policy-tests"),
        ("matrix.json", MATRIX | {"subject": "cd" * 16}, "policy-subject"),
        ("coverage.json", {"totals": {"percent_covered": 90.49}}, "policy-coverage"),
        ("osv.json", OSV | {"id": "CVE-2026-2"}, "policy-vulnerability"),
        ("osv.json", OSV | {"id": "CVE-2026-3", "severity": []}, "policy-vulnerability"),
        ("vex.json", VEX | {"statements": []}, "policy-vulnerability"),
        (
            "vex.json",
            VEX | {"statements": [VEX["statements"][0] | {"products": ["pkg:deb/debian/curl"]}]},
            "vex-other",
        ),
    ],
)
def test_each_thing_that_is_not_as_it_must_be_stops_the_release(
    bench: Path, file: str, value: object, code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    put(bench, file, json.dumps(value))
    assert build(bench) == 4
    assert code in codes(said(capsys))


@pytest.mark.parametrize(
    ("file", "value"),
    [
        ("osv.json", OSV | {"withdrawn": "2026-01-01T00:00:00Z", "id": "CVE-2026-2"}),
        ("osv.json", OSV | {"id": "CVE-2026-2", "aliases": ["CVE-2026-1"]}),
        ("osv.json", OSV | {"id": "CVE-2026-2", "severity": [], "database_specific": {"severity": "HIGH"}}),
        ("osv.json", OSV | {"id": "CVE-2026-2", "affected": [{"package": {"purl": "pkg:deb/pumpos/curl"}}]}),
    ],
)
def test_what_does_not_concern_the_release_does_not_stop_it(bench: Path, file: str, value: object) -> None:
    put(bench, file, json.dumps(value))
    assert build(bench) == 0


def test_a_lower_severity_stops_where_the_policy_says_so(bench: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(bench, "osv.json", json.dumps(OSV | {"id": "X-2", "severity": [], "database_specific": {"severity": "HIGH"}}))
    assert build(bench, ALL + 'severity = "high"\n') == 4
    assert codes(said(capsys)) == ["policy-vulnerability"]


def test_vex_that_is_attached_counts(bench: Path) -> None:
    attached = TOML + '[attachments."vex.json"]\nfile = "vex.json"\ntype = "vex"\n'
    assert build(bench, ALL.replace('vex = "vex.json"\n', ""), attached) == 0


def test_a_bill_of_another_image_is_refused(bench: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = {"bomFormat": "CycloneDX", "metadata": {"component": {"name": "Pump", "version": "2026.11"}}}
    toml = TOML.replace('sbom = "auto"\n', "") + '[attachments.bill]\nfile = "bill.json"\ntype = "sbom"\n'
    policy = '[policy]\nattachments = ["sbom"]\n'
    put(bench, "bill.json", json.dumps(other))
    assert build(bench, policy, toml) == 0, "one of another tool, of this release by its name"
    for component in ({"name": "Pump", "version": "2026.10"}, {"hashes": [{"alg": "SHA-256", "content": "0" * 64}]}):
        put(bench, "bill.json", json.dumps(other | {"metadata": {"component": component}}))
        capsys.readouterr()
        assert build(bench, policy, toml) == 4
        assert codes(said(capsys)) == ["sbom-other"]


@pytest.mark.verifies("REQ-IMG-29")
def test_a_policy_for_a_role_lets_others_sign_and_binds_the_role_to_the_very_policy(
    bench: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = ALL + 'roles = "clinical"\n'
    put(bench, "matrix.json", json.dumps(MATRIX | {"runs": []}))
    assert build(bench, policy) == 0, "a draft"
    assert sign(bench, "engineering") == 0
    capsys.readouterr()
    assert sign(bench, "clinical") == 4
    assert codes(said(capsys)) == ["policy-missing"]
    put(bench, "easy.toml", '[policy]\nattachments = ["release-notes"]\n')
    assert sign(bench, "clinical", "--policy", str(bench / "easy.toml")) == 4
    assert codes(said(capsys)) == ["policy-other"]
    before = (bench / "pump.twin").read_bytes()
    assert sign(bench, "clinical", "--policy", str(bench / "image.toml")) == 4
    assert codes(said(capsys)) == ["policy-tests"]
    assert (bench / "pump.twin").read_bytes() == before
    put(bench, "matrix.json", json.dumps(MATRIX))
    assert sign(bench, "clinical", "--policy", str(bench / "image.toml")) == 0


def test_a_signer_may_bring_a_policy_of_their_own(bench: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert build(bench, "") == 0
    put(bench, "mine.toml", '[policy]\nattachments = ["instructions-for-use"]\n')
    capsys.readouterr()
    assert sign(bench, "engineering", "--policy", str(bench / "mine.toml")) == 4
    assert codes(said(capsys)) == ["policy-attachment"]


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ("[policy]\n", "a policy that asks for nothing"),
        ('[policy]\nattachment = "sbom"\n', "did you mean 'attachments'?"),
        ('[policy]\nattachments = "notes"\n', "types of attachments"),
        ('[policy]\nattachments = "sbom"\nvex = "vex.json"\n', "'vulnerabilities' beside it"),
        ('[policy]\nattachments = "sbom"\nseverity = "low"\n', "'vulnerabilities' beside it"),
        ('[policy]\ntests = "matrix.json"\ncoverage = "coverage.json"\n', "'coverage_before' beside it"),
        ('[policy]\nvulnerabilities = "osv.json"\nseverity = "worst"\n', "critical"),
        ('[policy]\nattachments = "sbom"\nroles = "clincal"\n', "did you mean 'clinical'?"),
        ('[policy]\ntests = "absent.json"\n', "'{0}/absent.json' that the policy names cannot be read"),
        ("[policy\n", "image.toml"),
    ],
)
def test_a_policy_that_is_wrong_is_refused_with_what_was_expected(
    bench: Path, policy: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build(bench, policy) == 3
    error = said(capsys)
    assert words.format(bench) in json.dumps(error)
    assert not (bench / "pump.twin").exists()


@pytest.mark.parametrize("key", ["tests", "coverage", "coverage_before", "vulnerabilities", "vex"])
def test_evidence_that_is_something_else_is_refused_by_name(
    bench: Path, key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name = {"tests": "matrix.json", "coverage_before": "before.json", "vulnerabilities": "osv.json"}.get(
        key, f"{key}.json"
    )
    put(bench, name, '{"some": "thing"}')
    assert build(bench) == 3
    error = said(capsys)
    assert error["code"] == "image.evidence"
    assert name in error["message"]


@pytest.mark.verifies("REQ-IMG-29")
def test_the_gate_reads_the_attachments_of_an_encrypted_image_with_a_recipient_s_key_and_signs_without_none(
    bench: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if not (bench / "build.pem").exists():
        assert main(["recipients", "new", str(bench / "build.pem")]) == 0
    policy = '[policy]\nroles = ["clinical"]\nattachments = ["release-notes", "known-anomalies"]\n'
    toml = TOML + '[encryption]\nrecipients = ["build.pub.pem"]\n'
    given, key = ("--policy", str(bench / "image.toml")), ("--identity", str(bench / "build.pem"))
    assert build(bench, policy, toml) == 0
    capsys.readouterr()
    assert sign(bench, "clinical", *given) == 4
    assert codes(said(capsys)) == ["encrypted"]
    assert sign(bench, "clinical", *given, *key) == 4
    assert codes(said(capsys)) == ["policy-attachment"]
    assert build(bench, policy.replace(', "known-anomalies"', ""), toml) == 0
    assert sign(bench, "clinical", *given, *key) == 0
    assert sign(bench, "engineering") == 0, "a role that the policy does not name needs no key to sign"
