"""Forged dossiers: the small reader, which shares no code with the writer, tells each apart from a good one.

A forgery is made by somebody without a key, who can change files only, or by somebody who signs all of it anew: with
the key that may (a maker who fools himself), or with another.
"""

from __future__ import annotations

import ast
import base64
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from dossier_bench import CLIENT, DossierBench, bill, coverage, crash, cut, matrix, power_cuts, provenance

from twinslot_image.cli import main

READER = Path(__file__).parents[2] / "image_tools/twinslot_image/dossier_verify.py"
OTHER = "e" * 64
INDEX = "index.dsse.json"


@dataclass
class Forger:
    """The files of a dossier in memory, to be changed; whoever has a key may sign them again."""

    bench: DossierBench
    files: dict[str, bytes]
    keys: dict[str, Ed25519PrivateKey]
    links: dict[str, str] = field(default_factory=dict)

    def put(self, name: str, content: object) -> None:
        self.files[name] = content if isinstance(content, bytes) else json.dumps(content).encode()

    def statement(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(base64.b64decode(json.loads(self.files[name])["payload"]))
        return found

    def sign(self, name: str, statement: dict[str, Any], key: Ed25519PrivateKey) -> None:
        body, kind = json.dumps(statement).encode(), b"application/vnd.in-toto+json"
        covered = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(body), body)
        signature = {"keyid": "0" * 64, "sig": base64.b64encode(key.sign(covered)).decode()}
        envelope = {"payload": base64.b64encode(body).decode(), "payloadType": kind.decode(), "signatures": [signature]}
        self.put(name, envelope)

    def change(self, name: str, change: Callable[[dict[str, Any]], object], role: str = "engineering") -> None:
        """Change a statement and sign it again."""
        statement = self.statement(name)
        change(statement)
        self.sign(name, statement, self.keys[role])

    def seal(self, change: Callable[[dict[str, Any]], object] = lambda _: None, role: str = "engineering") -> None:
        """An index of the files as they are, changed and signed again."""

        def renew(statement: dict[str, Any]) -> None:
            statement["subject"] = [
                {"name": name, "digest": {"sha256": hashlib.sha256(data).hexdigest()}}
                for name, data in self.files.items()
                if name != INDEX
            ]
            change(statement["predicate"])

        self.change(INDEX, renew, role)

    def remade(self, name: str, content: object, figure: str) -> None:
        """Another file of results, and its figure to match, all signed again."""
        self.put(name, content)

        def renew(statement: dict[str, Any]) -> None:
            for each in statement["predicate"]["configuration"]:
                each["digest"]["sha256"] = hashlib.sha256(self.files[each["name"]]).hexdigest()

        self.change(figure, renew)
        self.seal()

    @property
    def approval(self) -> str:
        (name,) = (name for name in self.files if name.startswith("approvals/"))
        return name


def row(index: dict[str, Any], id_: str) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in index["sections"] if each["id"] == id_)
    return found


MATRIX, FIGURE = "files/matrix/matrix.json", "figures/matrix.dsse.json"
FORGERIES: dict[str, tuple[Callable[[Forger], object], str, str]] = {}  # what is done; what is found, and where


def forgery(kind: str, where: str) -> Callable[[Callable[[Forger], object]], Callable[[Forger], object]]:
    def add(function: Callable[[Forger], object]) -> Callable[[Forger], object]:
        FORGERIES[function.__name__] = (function, kind, where)
        return function

    return add


# Without a key


@forgery("forged", "files/summary/summary.md")
def a_file_is_changed(f: Forger) -> None:
    f.files["files/summary/summary.md"] += b"Nothing else changed.\n"


@forgery("forged", "dossier.html")
def the_page_is_changed(f: Forger) -> None:
    f.files["dossier.html"] = f.files["dossier.html"].replace(b"passed", b"well passed")


@forgery("forged", "files/vulnerabilities/more.json")
def a_file_is_added(f: Forger) -> None:
    f.put("files/vulnerabilities/more.json", {})


@forgery("forged", "files/anomalies/anomalies.md")
def a_file_is_removed(f: Forger) -> None:
    del f.files["files/anomalies/anomalies.md"]


@forgery("forged", "files/anomalies/anomalies.md")
def a_file_becomes_a_link(f: Forger) -> None:
    del f.files["files/anomalies/anomalies.md"]
    f.links["files/anomalies/anomalies.md"] = "/etc/hostname"


@forgery("forged", "check_index")
def the_index_is_removed(f: Forger) -> None:
    del f.files[INDEX]


@forgery("forged", INDEX)
def the_index_is_edited_below_its_signature(f: Forger) -> None:
    envelope = json.loads(f.files[INDEX])
    body = base64.b64decode(envelope["payload"]).replace(b'"release":"2026.11"', b'"release":"2026.12"')
    f.put(INDEX, envelope | {"payload": base64.b64encode(body).decode()})


@forgery("forged", INDEX)
def a_signature_is_taken_from_another_statement(f: Forger) -> None:
    signatures = json.loads(f.files[FIGURE])["signatures"]
    f.put(INDEX, json.loads(f.files[INDEX]) | {"signatures": signatures})


# With a key that may not


@forgery("forged", INDEX)
def all_is_signed_again_by_a_strangers_key(f: Forger) -> None:
    f.files["files/summary/summary.md"] += b"Nothing else changed.\n"
    f.seal(role="stranger")


@forgery("forged", INDEX)
def all_is_signed_again_by_a_role_that_must_not(f: Forger) -> None:
    f.seal(lambda index: index.update(role="clinical"), role="clinical")


@forgery("forged", "image/targets.json")
def the_stranger_gives_himself_the_role(f: Forger) -> None:
    targets = json.loads(f.files["image/targets.json"])
    public = f.keys["stranger"].public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()
    for key in targets["signed"]["delegations"]["keys"].values():
        key["keyval"]["public"] = public
    f.put("image/targets.json", targets)
    f.seal(role="stranger")


@forgery("forged", FIGURE)
def a_figure_is_signed_by_a_stranger(f: Forger) -> None:
    f.change(FIGURE, lambda _: None, "stranger")
    f.seal()


@forgery("forged", "the approval")
def an_approval_is_signed_by_another_role(f: Forger) -> None:
    f.change(f.approval, lambda _: None, "engineering")
    f.seal()


# With the key that may: what a maker does who takes old results for new ones


@forgery("missing", "power-cuts")
def a_row_of_the_index_is_removed(f: Forger) -> None:
    f.seal(lambda index: index["sections"].remove(row(index, "power-cuts")))


@forgery("stale", FIGURE)
def a_figure_is_of_another_client(f: Forger) -> None:
    f.change(FIGURE, lambda statement: statement["subject"][0]["digest"].update(sha256=OTHER))
    f.seal()


@forgery("stale", MATRIX)
def a_matrix_is_of_another_client(f: Forger) -> None:
    f.remade(MATRIX, matrix(OTHER), FIGURE)


@forgery("stale", "files/power-cuts/report.json")
def cuts_are_of_another_client(f: Forger) -> None:
    f.remade("files/power-cuts/report.json", power_cuts(OTHER), "figures/power-cuts.dsse.json")


@forgery("stale", "files/crash-states/crash.json")
def crash_states_are_of_another_client(f: Forger) -> None:
    f.remade("files/crash-states/crash.json", crash(OTHER), "figures/crash-states.dsse.json")


@forgery("stale", "files/coverage/coverage.json")
def coverage_is_of_another_client(f: Forger) -> None:
    f.remade("files/coverage/coverage.json", coverage(OTHER), "figures/coverage.dsse.json")


@forgery("stale", "files/coverage/coverage.json")
def a_part_of_the_coverage_is_of_another_client(f: Forger) -> None:
    other = coverage(OTHER)["files"]["twinslot/app.py"]
    whole = coverage()
    whole["files"]["twinslot/cli.py"] = other
    f.remade("files/coverage/coverage.json", whole, "figures/coverage.dsse.json")


@forgery("stale", FIGURE)
def results_are_newer_than_their_figure(f: Forger) -> None:
    f.put(MATRIX, matrix(runs=[{"name": "desk", "subject": CLIENT, "passed": 41, "failed": 0, "skipped": 0}]))
    f.seal()


@forgery("forged", FIGURE)
def a_figure_hides_a_test_that_failed(f: Forger) -> None:
    f.remade(
        MATRIX, matrix(runs=[{"name": "desk", "subject": CLIENT, "passed": 40, "failed": 1, "skipped": 0}]), FIGURE
    )


@forgery("forged", "figures/power-cuts.dsse.json")
def a_figure_hides_a_brick(f: Forger) -> None:
    f.remade("files/power-cuts/report.json", power_cuts(bricks=1), "figures/power-cuts.dsse.json")


@forgery("forged", "figures/power-cuts.dsse.json")
def a_figure_hides_a_brick_of_the_ledger(f: Forger) -> None:
    line = json.dumps(cut(9, "BRICK", subject=CLIENT)).encode()
    f.remade("files/power-cuts/ledger.jsonl", line, "figures/power-cuts.dsse.json")


@forgery("forged", "figures/crash-states.dsse.json")
def a_figure_hides_a_bad_state(f: Forger) -> None:
    f.remade("files/crash-states/crash.json", crash(bad=1), "figures/crash-states.dsse.json")


@forgery("forged", "matrix")
def a_result_loses_its_figure(f: Forger) -> None:
    del f.files[FIGURE]
    f.seal(lambda index: row(index, "matrix").update(figure=""))


@forgery("forged", "matrix")
def a_result_that_was_not_passed_is_called_there(f: Forger) -> None:
    f.change(FIGURE, lambda statement: statement["predicate"].update(result="FAILED"))
    f.seal()


@forgery("forged", "touched")
def a_section_is_called_there_and_has_nothing(f: Forger) -> None:
    f.seal(lambda index: row(index, "touched").update(files=[]))


@forgery("forged", "dossier.json")
def the_page_says_something_else_than_the_index(f: Forger) -> None:
    told = json.loads(f.files["dossier.json"])
    for section in told["sections"]:
        section["state"] = "missing"
    f.put("dossier.json", told)
    f.seal()


@forgery("forged", "image/manifest.json")
def the_manifest_is_another_images(f: Forger) -> None:
    manifest = json.loads(f.files["image/manifest.json"])
    manifest["signed"]["x-twinslot"]["release"] = "2026.12"
    f.put("image/manifest.json", manifest)
    f.seal()


@forgery("missing", "image/manifest.json")
def the_manifest_lost_a_signature(f: Forger) -> None:
    manifest = json.loads(f.files["image/manifest.json"])
    f.put("image/manifest.json", manifest | {"signatures": manifest["signatures"][:1]})
    f.seal()


@forgery("forged", "the approval")
def an_approval_is_of_another_manifest(f: Forger) -> None:
    f.change(f.approval, lambda statement: statement["subject"][0]["digest"].update(sha256=OTHER), "clinical")
    f.seal()


@forgery("stale", "the approval")
def an_approval_is_older_than_the_image(f: Forger) -> None:
    f.change(f.approval, lambda statement: statement["predicate"].update(time="1970-01-01T00:00:00Z"), "clinical")
    f.seal()


@forgery("forged", "files/sbom/sbom.cdx.json")
def the_bill_of_materials_is_another_images(f: Forger) -> None:
    f.put("files/sbom/sbom.cdx.json", bill(OTHER))
    f.seal()


@forgery("forged", "files/provenance/provenance.json")
def the_provenance_is_another_images(f: Forger) -> None:
    f.put("files/provenance/provenance.json", provenance(OTHER))
    f.seal()


@forgery("forged", "files/provenance/provenance.json")
def the_provenance_is_signed_by_nobody(f: Forger) -> None:
    envelope = json.loads(f.files["files/provenance/provenance.json"])
    f.put("files/provenance/provenance.json", envelope | {"signatures": []})
    f.seal()


@forgery("forged", "files/provenance/provenance.json")
def the_provenance_is_signed_by_a_stranger(f: Forger) -> None:
    f.change("files/provenance/provenance.json", lambda _: None, "stranger")
    f.seal()


@forgery("forged", "files/provenance/provenance.json")
def another_statement_is_given_for_the_provenance(f: Forger) -> None:
    f.change("files/provenance/provenance.json", lambda said: said.update(predicateType="https://example.org/1"))
    f.seal()


@forgery("forged", FIGURE)
def a_test_that_failed_is_no_fault_of_the_matrix(f: Forger) -> None:
    red = matrix()
    red["tests"][1]["outcome"] = "failed"
    f.remade(MATRIX, red, FIGURE)


@forgery("forged", "figures/power-cuts.dsse.json")
def a_report_does_not_count_its_brick(f: Forger) -> None:
    f.remade("files/power-cuts/report.json", power_cuts(bricks=1) | {"bricks": 0}, "figures/power-cuts.dsse.json")


@forgery("forged", "figures/crash-states.dsse.json")
def a_report_does_not_count_its_bad_state(f: Forger) -> None:
    f.remade("files/crash-states/crash.json", crash(bad=1) | {"bad": 0}, "figures/crash-states.dsse.json")


@forgery("forged", "files/reproducibility/builds.json")
def two_builds_that_differ_are_called_there(f: Forger) -> None:
    builds = json.loads(f.files["files/reproducibility/builds.json"])
    f.put("files/reproducibility/builds.json", builds | {"second": {"file": OTHER}, "equal": False})
    f.seal()


@forgery("stale", "files/deployment/offers.json")
def the_deployment_is_of_another_image(f: Forger) -> None:
    f.put("files/deployment/offers.json", {"offers": [{"manifest": OTHER}]})
    f.seal()


@forgery("forged", "image/attachments/release-notes.md")
def an_attachment_is_not_the_images(f: Forger) -> None:
    f.put("image/attachments/release-notes.md", b"All is well.\n")
    f.seal()


@forgery("forged", "files/reproducibility/builds.json")
def two_builds_that_differ_are_called_equal(f: Forger) -> None:
    builds = json.loads(f.files["files/reproducibility/builds.json"])
    f.put("files/reproducibility/builds.json", builds | {"second": {"file": OTHER}})
    f.seal()


@forgery("forged", "figures")
def the_index_is_of_another_form(f: Forger) -> None:
    f.seal(lambda index: row(index, "matrix").update(figure=[]))


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Forger:
    """A dossier as it was made."""
    bench = DossierBench.make(tmp_path_factory.mktemp("team"))
    out = bench.directory / "dossier"
    assert bench.dossier(out) == 0
    files = {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    keys: dict[str, Any] = {
        role: load_pem_private_key(bench.key(role).read_bytes(), None) for role in ("engineering", "clinical")
    }
    return Forger(bench, files, keys | {"stranger": Ed25519PrivateKey.generate()})


def verified(forger: Forger, out: Path) -> tuple[int, set[tuple[str, str]]]:
    """Status and findings of the program, which is run alone, without what is installed beside it."""
    for name, data in forger.files.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(data)
    for name, target in forger.links.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).symlink_to(target)
    alone = out.parent / "reader.py"
    shutil.copyfile(READER, alone)
    words = ["--root", str(forger.bench.team.root), "--signer", "engineering", "--roles", "engineering,clinical"]
    done = subprocess.run([sys.executable, "-I", alone, out, *words], capture_output=True, text=True)
    assert not done.stderr
    lines = [line.split(": ") for line in done.stdout.splitlines() if ": " in line]
    return done.returncode, {(kind, where) for kind, where, *_ in lines}


@pytest.mark.verifies("REQ-EVI-02", "REQ-EVI-04")
def test_a_good_dossier_has_no_finding_but_what_it_says_itself(good: Forger, tmp_path: Path) -> None:
    status, found = verified(good, tmp_path / "dossier")
    assert found == set()
    assert status == 0


@pytest.mark.verifies("REQ-EVI-04")
@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_dossier_is_told_apart(good: Forger, tmp_path: Path, name: str) -> None:
    forge, kind, where = FORGERIES[name]
    forger = Forger(good.bench, dict(good.files), good.keys)
    forge(forger)
    status, found = verified(forger, tmp_path / "dossier")
    assert (kind, forger.approval if where == "the approval" else where) in found
    assert status in ((1, 2) if kind == "missing" else (2,))


@pytest.mark.verifies("REQ-EVI-04")
def test_a_forged_dossier_is_one_whether_or_not_standard_output_is_open(good: Forger, tmp_path: Path) -> None:
    forger = Forger(good.bench, dict(good.files), good.keys)
    a_file_is_changed(forger)
    verified(forger, tmp_path / "dossier")
    program = [sys.executable, "-I", str(READER), str(tmp_path / "dossier"), "--root", str(good.bench.team.root)]
    for end, status in ((">&-", 2), ("> /dev/full", 120)):  # 120: Python's own, when what it wrote was lost
        done = subprocess.run(["sh", "-c", f'exec "$@" {end}', "sh", *program], capture_output=True, text=True)
        assert (done.returncode, "Traceback" in done.stderr) == (status, False)


def test_what_signs_dossiers_may_be_a_key_that_the_auditor_brings(good: Forger, tmp_path: Path) -> None:
    out = tmp_path / "dossier"
    verified(good, out)
    for role, status in (("engineering", 0), ("clinical", 4)):
        public = tmp_path / f"{role}.pem"
        public.write_bytes(good.keys[role].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        assert main(["dossier", "verify", str(out), "--key", str(public)]) == status


def test_the_tool_says_what_the_program_says(good: Forger, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "dossier"
    verified(good, out)
    (out / "dossier.html").write_text("good")
    capsys.readouterr()
    assert main(["--json", "dossier", "verify", str(out), "--root", str(good.bench.team.root)]) == 4
    findings, error = map(json.loads, capsys.readouterr().out.splitlines())
    assert [(each["kind"], each["where"]) for each in findings["findings"]] == [("forged", "dossier.html")]
    assert error["reasons"][0]["code"] == "refused.dossier"


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"null", b'"x"', b"[" * 9999, b"\xff", b'{"payload":"e30="}'])
@pytest.mark.parametrize("name", [INDEX, "image/targets.json", "image/manifest.json", MATRIX, FIGURE, "dossier.json"])
def test_no_file_gives_a_traceback(good: Forger, tmp_path: Path, name: str, content: bytes) -> None:
    out = tmp_path / "dossier"
    for path, data in (good.files | {name: content}).items():
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        (out / path).write_bytes(data)
    assert main(["dossier", "verify", str(out), "--root", str(good.bench.team.root)]) == 4


@pytest.mark.parametrize(
    "words",
    [["gone", "--key", "k"], ["."], [".", "--key", "gone.pem"], [".", "--root", __file__]],
)
def test_a_wrong_command_line_of_the_program_is_a_sentence(tmp_path: Path, words: list[str]) -> None:
    done = subprocess.run([sys.executable, "-I", READER, *words], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 3 or "--root" in words
    assert "Traceback" not in done.stderr


@pytest.mark.verifies("REQ-EVI-04")
def test_the_reader_is_small_and_shares_no_code_with_the_writer() -> None:
    text = READER.read_text()
    assert len(text.splitlines()) <= 300
    imported = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(text))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported <= set(sys.stdlib_module_names) | {"cryptography"}
