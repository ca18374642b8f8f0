"""An approval says who said what of a release, when and as what; a wrong person, image or clock is refused."""

from __future__ import annotations

import base64
import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from release_bench import ReleaseBench

from independent_reader import read_image
from twinslot_image.cli import main

CONTENT = b"superblock".ljust(4096, b"\1") + bytes(20_000)
PERSON = ("--as", "A. Weber", "--meaning", "approval after a trial on the ward")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> ReleaseBench:
    bench = ReleaseBench.make(tmp_path_factory.mktemp("team"))
    bench.image("1.0", 10, CONTENT)
    return bench


@pytest.fixture
def image(bench: ReleaseBench, tmp_path: Path) -> Path:
    """A signed image in a directory of its own."""
    path = tmp_path / "1.0.twin"
    path.write_bytes((bench.directory / "1.0.twin").read_bytes())
    return path


def key_of(bench: ReleaseBench, role: str) -> Path:
    (key,) = (bench.directory / "keys/private").glob(f"{role}.*.pem")
    return key


def approve(image: Path, *words: object) -> int:
    return main(["approve", str(image), *map(str, words)])


def approvals(image: Path) -> list[Path]:
    return sorted(image.parent.glob(f"{image.name}.*.approval.json"))


def shown(image: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert main(["inspect", "--json", str(image)]) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["image"]["approvals"]
    return found


def refused(capsys: pytest.CaptureFixture[str], image: Path, *words: object) -> str:
    """The code of the refusal; nothing was written."""
    before = sorted(image.parent.iterdir())
    capsys.readouterr()
    assert main(["--json", "approve", str(image), *map(str, words)]) != 0
    error = json.loads(capsys.readouterr().out)
    assert sorted(image.parent.iterdir()) == before
    reasons = error.get("reasons")
    return str(reasons[0]["code"] if reasons else error["code"])


@pytest.mark.verifies("REQ-EVI-01")
def test_an_approval_carries_who_when_as_what_and_what_was_looked_at(
    bench: ReleaseBench, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (image.parent / "trial.pdf").write_bytes(b"%PDF")
    before, begun = image.read_bytes(), datetime.now(UTC).replace(microsecond=0)
    seen = ("--looked-at", image.parent / "trial.pdf")
    assert approve(image, "--role", "clinical", *PERSON, *seen, "--key", key_of(bench, "clinical")) == 0
    assert "A. Weber as 'clinical'" in capsys.readouterr().out
    assert image.read_bytes() == before, "what a device checks stays as it is"
    [found] = shown(image, capsys)
    assert found["problem"] is None
    assert found["name"] == "A. Weber"
    assert found["role"] == "clinical"
    assert found["meaning"] == "approval after a trial on the ward"
    assert found["release"] == "1.0"
    assert found["time_source"].startswith("system clock, ")
    assert begun <= datetime.fromisoformat(found["time"]) <= datetime.now(UTC)
    assert [each["name"] for each in found["looked_at"]] == ["trial.pdf"]
    assert main(["inspect", str(image)]) == 0
    text = capsys.readouterr().out
    assert "clinical: A. Weber, approval after a trial on the ward, 20" in text
    assert "looked at trial.pdf" in text


@pytest.mark.verifies("REQ-EVI-01")
def test_an_approval_is_an_in_toto_statement_that_other_tools_verify(bench: ReleaseBench, image: Path) -> None:
    key = key_of(bench, "clinical")
    assert approve(image, "--role", "clinical", *PERSON, "--key", key) == 0
    [path] = approvals(image)
    envelope = json.loads(path.read_bytes())
    payload, kind = base64.b64decode(envelope["payload"]), envelope["payloadType"].encode()
    encoded = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)  # DSSE 1.0.2, "signature definition"
    private = load_pem_private_key(key.read_bytes(), None)
    [signature] = envelope["signatures"]
    private.public_key().verify(base64.b64decode(signature["sig"]), encoded)  # type: ignore[union-attr, call-arg]
    statement = json.loads(payload)
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "tag:twinslot.org,2026:approval/1"
    contents = read_image(image.read_bytes())
    assert contents.signed["version"] == statement["predicate"]["release"]["sequence"] == 10


@pytest.mark.verifies("REQ-EVI-01")
def test_who_does_not_hold_the_role_cannot_approve_for_it(
    bench: ReleaseBench, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engineer = key_of(bench, "engineering")
    assert refused(capsys, image, "--role", "clinical", *PERSON, "--key", engineer) == "refused.wrong-key"
    assert refused(capsys, image, "--role", "surgery", *PERSON, "--key", engineer) == "refused.role-unknown"


@pytest.mark.verifies("REQ-EVI-01")
@pytest.mark.parametrize("verb", ["approve", "detached"])
def test_a_clock_that_is_behind_the_image_is_refused(
    bench: ReleaseBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("SOURCE_DATE_EPOCH", "4000000000")  # 2096: to this image every clock of today is wrong
        built = bench.image("9.0", 90, CONTENT, roles=())
    image = tmp_path / built.name
    image.write_bytes(built.read_bytes())
    way = ("--key", key_of(bench, "clinical")) if verb == "approve" else ("--detached-payload", tmp_path / "to-sign")
    assert refused(capsys, image, "--role", "clinical", *PERSON, *way) == "refused.clock"


@pytest.mark.verifies("REQ-EVI-01")
def test_an_approval_is_signed_elsewhere_and_attached(
    bench: ReleaseBench, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    say, signature = tmp_path / "say", tmp_path / "signature"
    assert approve(image, "--role", "clinical", *PERSON, "--detached-payload", say) == 0
    sign = ["openssl", "pkeyutl", "-sign", "-rawin", "-inkey", str(key_of(bench, "clinical")), "-in", str(say)]
    subprocess.run([*sign, "-out", str(signature)], check=True)
    assert approve(image, "--attach", signature, "--statement", say) == 0
    [found] = shown(image, capsys)
    assert found["problem"] is None
    assert found["name"] == "A. Weber"
    subprocess.run([*sign[:5], str(key_of(bench, "engineering")), "-in", str(say), "-out", str(signature)], check=True)
    assert refused(capsys, image, "--attach", signature, "--statement", say, "--force") == "refused.bad-signature"
    say.write_bytes(say.read_bytes().replace(b"A. Weber", b"B. Weber"))
    assert refused(capsys, image, "--attach", signature, "--statement", say, "--force") == "refused.bad-signature"
    say.write_bytes(say.read_bytes() + b" ")
    assert refused(capsys, image, "--attach", signature, "--statement", say, "--force") == "image.approval"


@pytest.mark.verifies("REQ-EVI-01")
def test_an_approval_of_another_image_is_not_attached_and_does_not_count(
    bench: ReleaseBench, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "2.0.twin"
    other.write_bytes(bench.image("2.0", 20, CONTENT).read_bytes())
    say = tmp_path / "say"
    assert approve(image, "--role", "clinical", *PERSON, "--detached-payload", say) == 0
    assert refused(capsys, other, "--attach", say, "--statement", say) == "refused.other-manifest"
    assert approve(image, "--role", "clinical", *PERSON, "--key", key_of(bench, "clinical")) == 0
    [made] = approvals(image)
    made.rename(tmp_path / made.name.replace("1.0.twin", "2.0.twin"))
    [found] = shown(other, capsys)
    assert found["problem"] == "of another manifest"
    assert main(["inspect", str(other)]) == 0
    assert "DOES NOT COUNT" in capsys.readouterr().out


def test_more_signatures_on_the_image_leave_an_approval_good(
    bench: ReleaseBench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = tmp_path / "3.0.twin"
    image.write_bytes(bench.image("3.0", 30, CONTENT, roles=()).read_bytes())
    assert approve(image, "--role", "clinical", *PERSON, "--key", key_of(bench, "clinical"), "--sign") == 0
    assert main(["sign", str(image), "--role", "engineering", "--key", str(key_of(bench, "engineering"))]) == 0
    roles = "engineering,clinical"
    assert main(["verify", str(image), "--root", str(bench.root), "--roles", roles]) == 0, "one act, both signatures"
    [found] = shown(image, capsys)
    assert found["problem"] is None


def test_an_approval_that_is_there_is_not_replaced_unasked(
    bench: ReleaseBench, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--role", "clinical", *PERSON, "--key", key_of(bench, "clinical"))
    assert approve(image, *words) == 0
    assert refused(capsys, image, *words) == "refused.output-exists"
    assert approve(image, *words, "--force") == 0


def test_who_may_not_sign_the_image_yet_leaves_no_approval_of_it_either(
    bench: ReleaseBench, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = '\n[policy]\nattachments = "vex"\nroles = "clinical"\n'
    image = bench.image("7.0", 70, CONTENT, more=policy, roles=())
    words = ("--role", "clinical", *PERSON, "--key", key_of(bench, "clinical"))
    for _ in range(2):
        assert refused(capsys, image, *words, "--sign") == "refused.policy-missing"
        assert not approvals(image)


@pytest.mark.parametrize(
    "words",
    [
        ("--role", "clinical", "--as", "A", "--key", "k"),
        ("--attach", "s"),
        ("--attach", "s", "--statement", "x", "--as", "A"),
        ("--role", "clinical", *PERSON, "--detached-payload", "x", "--sign"),
        ("--role", "clinical", *PERSON, "--key", "k", "--statement", "x"),
    ],
)
def test_options_that_do_not_go_together_are_refused(image: Path, words: tuple[str, ...]) -> None:
    assert approve(image, *words) == 2


@pytest.mark.parametrize("name", ["", "  ", "A\nB", "A\x1b[2J", "A\u202eB", "A\udcff", "x" * 201])
def test_a_name_that_cannot_be_printed_is_refused(
    bench: ReleaseBench, image: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    words = ("--role", "clinical", "--as", name, "--meaning", "approval", "--key", key_of(bench, "clinical"))
    assert refused(capsys, image, *words) in ("image.approval", "usage.missing")


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{}",
        b"[]",
        b'{"payload":"","payloadType":"application/vnd.in-toto+json","signatures":[]}',
        b'{"payload":"e30=","payloadType":"text/plain","signatures":[]}',
        b'{"payload":"e30=","payloadType":"application/vnd.in-toto+json","signatures":[{}]}',
        b'{"payload":"\xff","payloadType":"application/vnd.in-toto+json","signatures":[]}',
        b"[" * 5000,
    ],
)
def test_a_damaged_approval_is_named_and_hides_nothing_else(
    image: Path, capsys: pytest.CaptureFixture[str], damage: bytes
) -> None:
    image.with_name(f"{image.name}.clinical.x.approval.json").write_bytes(damage)
    [found] = shown(image, capsys)
    assert found["problem"]
    assert main(["inspect", str(image)]) == 0
    assert "DOES NOT COUNT" in capsys.readouterr().out
