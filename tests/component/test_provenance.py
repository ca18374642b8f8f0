"""Provenance of an image: opened by in-toto's own library, its signature verified by OpenSSL, bound to its image."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict  # type: ignore[import-untyped]
from in_toto_attestation.predicates.provenance.v1.provenance_pb2 import Provenance  # type: ignore[import-untyped]
from in_toto_attestation.v1.statement import Statement  # type: ignore[import-untyped]
from in_toto_attestation.v1.statement_pb2 import Statement as StatementMessage  # type: ignore[import-untyped]

from twinslot_image.cli import main

TOML = """
product = "Pump"
release = "2026.11"
sequence = 1
compatible = "acme,pump"
trust = "keys"
[source]
commit = "{commit}"
tag = "v2026.11"
build = "job 17"
builder = "https://ci.example/pump"
[payloads.firmware]
file = "firmware.bin"
check = "none"
[attachments."notes.md"]
file = "notes.md"
type = "release-notes"
"""

KEYED = ("--role", "engineering", "--key", "KEY")


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keys of two roles, and an unsigned image."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    assert main(["keys", "init", str(tmp_path / "keys"), "--roles", "engineering,clinical"]) == 0
    (tmp_path / "firmware.bin").write_bytes(bytes(range(256)) * 16)
    (tmp_path / "notes.md").write_text("# 1\n")
    (tmp_path / "recipe.bb").write_text("SUMMARY = 'pump'\n")
    (tmp_path / "image.toml").write_text(TOML.replace("{commit}", "c" * 40))
    assert main(["build", str(tmp_path / "image.toml"), "-o", str(tmp_path / "pump.twin")]) == 0
    return tmp_path


def key(bench: Path, role: str = "engineering") -> str:
    return str(next((bench / "keys/private").glob(f"{role}.*.pem")))


def sign(bench: Path, *more: str) -> int:
    argv = ["provenance", str(bench / "pump.twin"), "--role", "engineering", "--key", key(bench)]
    return main([*argv, "--input", f"recipe={bench / 'recipe.bb'}", *more])


def envelope(bench: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((bench / "pump.twin.provenance.json").read_text())
    return found


def payload(bench: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(base64.b64decode(envelope(bench)["payload"]))
    return found


@pytest.mark.verifies("REQ-IMG-28")
def test_in_toto_and_slsa_read_what_is_said_of_the_build(bench: Path) -> None:
    assert sign(bench, "--repository", "https://git.example/pump") == 0
    whole = payload(bench)
    Statement.copy_from_pb(ParseDict(whole, StatementMessage())).validate()
    said = ParseDict(whole["predicate"], Provenance())
    assert whole["predicateType"] == "https://slsa.dev/provenance/v1"
    assert said.run_details.builder.id == "https://ci.example/pump"
    assert said.run_details.metadata.invocation_id == "job 17"
    assert said.run_details.metadata.started_on.ToJsonString() == "2023-11-14T22:13:20Z"
    inputs = {each.name: each for each in said.build_definition.resolved_dependencies}
    assert inputs["source"].digest["gitCommit"] == "c" * 40
    assert inputs["source"].uri == f"git+https://git.example/pump@{'c' * 40}"
    listed = subprocess.run(
        ["sha256sum", bench / "recipe.bb", bench / "firmware.bin", bench / "notes.md"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    names = ("recipe", "payload/firmware", "attachment/notes.md")
    assert [inputs[name].digest["sha256"] for name in names] == [line.split()[0] for line in listed]
    subjects = {each["name"]: each["digest"]["sha256"] for each in whole["subject"]}
    assert subjects["payload/firmware"] == inputs["payload/firmware"].digest["sha256"]


@pytest.mark.verifies("REQ-IMG-28")
def test_openssl_verifies_the_signature_by_the_encoding_of_dsse_alone(bench: Path) -> None:
    assert sign(bench) == 0
    whole = envelope(bench)
    body = base64.b64decode(whole["payload"])
    kind = whole["payloadType"].encode()
    (bench / "pae").write_bytes(b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(body), body))
    (bench / "sig").write_bytes(base64.b64decode(whole["signatures"][0]["sig"]))
    public: list[str | Path] = ["openssl", "pkey", "-in", key(bench), "-pubout", "-out", bench / "public.pem"]
    subprocess.run(public, check=True)
    argv: list[str | Path] = ["openssl", "pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", bench / "public.pem"]
    subprocess.run([*argv, "-in", bench / "pae", "-sigfile", bench / "sig"], check=True, capture_output=True)


def test_the_same_image_and_inputs_give_the_same_bytes_also_when_it_was_signed_meanwhile(bench: Path) -> None:
    assert sign(bench) == 0
    first = (bench / "pump.twin.provenance.json").read_bytes()
    assert main(["sign", str(bench / "pump.twin"), "--role", "clinical", "--key", key(bench, "clinical")]) == 0
    assert sign(bench) == 0
    assert (bench / "pump.twin.provenance.json").read_bytes() == first


@pytest.mark.verifies("REQ-IMG-28")
def test_a_signature_that_was_made_elsewhere_is_attached_and_one_for_another_image_is_not(
    bench: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, said = str(bench / "pump.twin"), str(bench / "said")
    assert main(["provenance", image, "--detached-payload", said]) == 0
    signing: list[str | Path] = ["openssl", "pkeyutl", "-sign", "-rawin", "-inkey", key(bench), "-in", said]
    subprocess.run([*signing, "-out", bench / "sig"], check=True)
    attach = ["provenance", image, "--attach", str(bench / "sig"), "--statement", said, "--role"]
    assert main([*attach, "clinical"]) == 4
    assert "no key of role 'clinical'" in capsys.readouterr().err
    assert main([*attach, "engineering"]) == 0
    assert payload(bench)["subject"][0]["name"] == "manifest"
    (bench / "firmware.bin").write_bytes(b"another")
    assert main(["build", str(bench / "image.toml"), "-o", image, "--sequence", "2"]) == 0
    capsys.readouterr()
    assert main([*attach, "engineering", "--force"]) == 4
    assert "the provenance is of another image" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "status", "words"),
    [
        (["--role", "clinical", "--key", "KEY"], 4, "this key does not belong to role 'clinical'"),
        (["--role", "nobody", "--key", "KEY"], 4, "the image has no role 'nobody'"),
        (["--key", "KEY"], 4, "need a role"),
        (["--role", "engineering", "--key", "KEY", "--builder", "me"], 4, "by a URI: expected 'a URI such as"),
        (["--role", "engineering", "--attach", "KEY"], 2, "needs the statement"),
        (["--role", "engineering", "--key", "KEY", "--statement", "KEY"], 2, "belongs to '--attach'"),
        (["--role", "engineering", "--attach", "KEY", "--statement", "KEY"], 3, "holds no provenance"),
        (["--role", "engineering", "--key", "KEY", "--input", "x=absent"], 6, "there is no file 'absent'"),
        ([*KEYED, "--input", "x=KEY", "--input", "x=KEY"], 2, "that no other input has', found 'x'"),
        ([*KEYED, "--input", "payload/firmware=KEY"], 2, "that no other input has', found 'payload/firmware'"),
        ([*KEYED, "--input", "attachment/notes.md=KEY"], 2, "that no other input has"),
        ([*KEYED, "--input", "a\nb=KEY"], 2, "a name that can be printed"),
        ([*KEYED, "--input", "\udcff=KEY"], 2, "a name that can be printed"),
        ([*KEYED, "--repository", "my sources"], 2, "expected 'a URI such as https://git.example/pump'"),
    ],
)
def test_what_cannot_be_said_is_refused_and_nothing_is_written(
    bench: Path, argv: list[str], status: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [each.replace("KEY", key(bench)) for each in argv]
    assert main(["provenance", str(bench / "pump.twin"), *argv]) == status
    assert words in capsys.readouterr().err
    assert not (bench / "pump.twin.provenance.json").exists()


@pytest.mark.verifies("REQ-IMG-28")
@pytest.mark.parametrize("verb", ["sign", "provenance"])
def test_a_clock_of_before_the_build_signs_nothing(
    bench: Path, verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "4000000000")
    assert main(["build", str(bench / "image.toml"), "-o", str(bench / "pump.twin"), "--sequence", "2"]) == 0
    before = (bench / "pump.twin").read_bytes()
    argv = [verb, str(bench / "pump.twin"), "--role", "engineering", "--key", key(bench)]
    assert main(argv) == 4
    assert "the clock of this machine is behind the image" in capsys.readouterr().err
    assert (bench / "pump.twin").read_bytes() == before
