"""A small release with all the evidence that a dossier can have: image, keys, and files as the programs write them."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from release_bench import ReleaseBench

from twinslot_image.cli import main
from twinslot_image.compose import read_front

CLIENT = "c1" * 32
CONTENT = b"superblock".ljust(4096, b"\1") + bytes(20_000)
TOML = """
image = "pump.twin"
class = "clinical"
[documents]
summary = "summary.md"
changes = "changes.json"
matrix = "matrix.json"
previous_matrix = "before.json"
coverage = "coverage.json"
power_cuts = ["report.json", "ledger.jsonl"]
crash_states = ["crash.json"]
sbom = "sbom.cdx.json"
vulnerabilities = "vex.json"
provenance = "provenance.json"
anomalies = "anomalies.md"
deployment = "offers.json"
[reproducibility]
second = "second.twin"
[pccp]
modification = "The occlusion detector was trained anew on 400 more infusions."
protocol = "protocol.md"
comparison = "comparison.json"
rollback = "demo.json"
"""


def matrix(subject: str = CLIENT, **changes: Any) -> dict[str, Any]:
    """A matrix of two requirements, one risk and three tests."""
    tests = [
        {"test": "tests/test_pump.py::test_an_occlusion_stops_the_motor", "outcome": "passed", "runs": ["desk"]},
        {"test": "tests/test_pump.py::test_the_alarm_is_loud", "outcome": "passed", "runs": ["desk", "board"]},
    ]
    requirements = [
        {
            "id": f"PUMP-{number}",
            "title": title,
            "risks": ["RISK-1"],
            "fingerprint": f"{number}" * 32,
            "verdict": "passed",
            "tests": [test],
        }
        for number, title, test in ((1, "An occlusion stops the motor", tests[0]), (2, "The alarm is loud", tests[1]))
    ]
    whole = {
        "format": "twinslot-matrix/1",
        "subject": subject,
        "runs": [{"name": "desk", "subject": subject, "passed": 40, "failed": 0, "skipped": 1}],
        "faults": [],
        "requirements": requirements,
        "risks": [{"id": "RISK-1", "title": "An occlusion is not noticed"}],
        "tests": tests,
    }
    return whole | changes


def cut(number: int, outcome: str = "new committed", **more: Any) -> dict[str, Any]:
    """A line of a power cut."""
    return {"board": "virt-arm64", "seed": 1, "number": number, "phase": "verify", "outcome": outcome} | more


def power_cuts(subject: str = CLIENT, bricks: int = 0) -> dict[str, Any]:
    """A report of cuts."""
    cuts = [cut(number, "BRICK" if number < bricks else "new committed") for number in range(3)]
    return {"bricks": bricks, "campaigns": [{"made_of": {"subject": subject}}], "cuts": cuts}


def crash(subject: str = CLIENT, bad: int = 0) -> dict[str, Any]:
    """A report of crash states."""
    phases = {"verify": {"states": 100, "distinct": 80, "bad": bad}}
    return {"subject": subject, "states": 100, "distinct": 80, "bad": bad, "phases": phases}


def coverage(subject: str = CLIENT, percent: float = 97.0) -> dict[str, Any]:
    """What coverage.py writes with `--show-contexts`; without a subject as without that option."""
    file: dict[str, Any] = {"executed_lines": [1, 2]}
    if subject:
        file["contexts"] = {"1": [f"subject={subject}"], "2": [f"subject={subject}|test_it"]}
    totals = {"num_statements": 100, "covered_lines": 97, "percent_covered": percent}
    meta = {"timestamp": "2026-11-01T10:00:00", "version": "7.6"}
    return {"meta": meta, "files": {"twinslot/app.py": file}, "totals": totals}


def bill(digest: str) -> dict[str, Any]:
    """A bill of materials of a payload."""
    component = {"type": "operating-system", "name": "Pump", "hashes": [{"alg": "SHA-256", "content": digest}]}
    parts = [{"type": "library", "name": "libc6", "version": "2.41-6", "purl": "pkg:deb/debian/libc6@2.41-6"}]
    return {"bomFormat": "CycloneDX", "specVersion": "1.6", "metadata": {"component": component}, "components": parts}


def vex(product: str = "pkg:deb/debian/libc6@2.41-6", why: str = "never called") -> dict[str, Any]:
    """A statement in OpenVEX on one vulnerability of a product or of a part of it."""
    said = {"vulnerability": {"name": "CVE-2026-1"}, "status": "not_affected", "impact_statement": why}
    return {"@context": "https://openvex.dev/ns/v0.2.0", "statements": [said | {"products": [{"@id": product}]}]}


def provenance(digest: str, *keys: Path) -> dict[str, Any]:
    """A statement of where a payload is from, signed by another program than ours."""
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "predicateType": "https://slsa.dev/provenance/v1",
        "subject": [{"name": "payload/rootfs", "digest": {"sha256": digest}}],
    }
    body, kind = json.dumps(statement).encode(), "application/vnd.in-toto+json"
    covered = b"DSSEv1 %d %b %d %b" % (len(kind), kind.encode(), len(body), body)
    loaded: list[Any] = [load_pem_private_key(key.read_bytes(), None) for key in keys]
    signatures = [{"sig": base64.b64encode(key.sign(covered)).decode()} for key in loaded]
    return {"payload": base64.b64encode(body).decode(), "payloadType": kind, "signatures": signatures}


@dataclass(frozen=True)
class DossierBench:
    """A directory with the inputs, and the team whose keys sign."""

    team: ReleaseBench

    @staticmethod
    def make(directory: Path) -> DossierBench:
        """Keys, an image in two builds, approved by clinical, and every file that `TOML` names."""
        team = ReleaseBench.make(directory)
        bench = DossierBench(team)
        image = team.image("2026.11", 7, CONTENT)
        (directory / "pump.twin").write_bytes(image.read_bytes())
        (directory / "second.twin").write_bytes(image.read_bytes())
        words = ("--role", "clinical", "--as", "A. Weber", "--meaning", "approval for clinical use")
        assert main(["approve", str(directory / "pump.twin"), *words, "--key", str(bench.key("clinical"))]) == 0
        bench.write_inputs()
        return bench

    @property
    def directory(self) -> Path:
        """Where everything is."""
        return self.team.directory

    @property
    def manifest(self) -> bytes:
        """Of the image, signatures included."""
        with (self.directory / "pump.twin").open("rb") as file:
            return read_front(file).manifest

    def key(self, role: str) -> Path:
        """The private key of a role."""
        (key,) = (self.directory / "keys/private").glob(f"{role}.*.pem")
        return key

    def write(self, name: str, content: object) -> Path:
        """One input: JSON, or a text as it is."""
        path = self.directory / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    def write_inputs(self) -> None:
        """Every file that `TOML` names but the images."""
        digest = hashlib.sha256(self.manifest).hexdigest()
        rows = [{"criterion": "sensitivity", "baseline": "97.1 %", "modified": "98.0 %", "limit": "97 %", "met": True}]
        old = matrix("0" * 64)
        old["requirements"][0]["fingerprint"] = "f" * 32
        for name, content in {
            "dossier.toml": TOML,
            "summary.md": "# 2026.11\n\nThe alarm is louder, since it was not heard in intensive care (PR-118).\n",
            "changes.json": {"packages": {"changed": ["libc6"]}},
            "matrix.json": matrix(),
            "before.json": old,
            "coverage.json": coverage(),
            "report.json": power_cuts(),
            "ledger.jsonl": json.dumps(cut(9, subject=CLIENT)) + "\n" + json.dumps(cut(8, subject="d" * 64)) + "\n",
            "crash.json": crash(),
            "sbom.cdx.json": bill(hashlib.sha256(CONTENT).hexdigest()),
            "vex.json": vex(),
            "provenance.json": provenance(hashlib.sha256(CONTENT).hexdigest(), self.key("engineering")),
            "anomalies.md": "PR-120: the clock of the log is an hour late in the night of a change of summer time.\n",
            "offers.json": {"offers": [{"manifest": digest, "waves": ["5 %", "100 %"]}]},
            "protocol.md": "Sensitivity on the locked test set, one-sided, 95 %.\n",
            "comparison.json": {"rows": rows},
            "demo.json": {"good": {"outcome": "committed"}, "bad": {"outcome": "rolled back"}},
        }.items():
            self.write(name, content)

    def dossier(self, out: Path, *more: str, role: str = "engineering") -> int:
        """Make it."""
        words = ["dossier", "make", str(self.directory / "dossier.toml"), "-o", str(out)]
        return main([*words, "--role", role, "--key", str(self.key(role)), *more])
