"""What earlier versions wrote is read by this one: tests/data has a sample of each format (docs/compatibility.md)."""

from __future__ import annotations

import hashlib
import json
import lzma
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from data.make_samples import words
from independent_patch_reader import apply_patch
from patch_samples import plain_list
from twinslot.bootloader.uboot import rawenv
from twinslot.bus.names import DESCRIPTION
from twinslot.core.approvals import parse_approvals
from twinslot.core.backoff import Moment
from twinslot.core.boot_variables import read_state
from twinslot.core.manifest import SequenceRange, Source
from twinslot.core.model import SlotName, SlotState
from twinslot.core.offer import parse_offers
from twinslot.image.patch import PatchDecoder, parse_patch_head
from twinslot.repository.directory import DirectoryFetcher
from twinslot.repository.poll import Poll, PollSetting
from twinslot.repository.state import PollState
from twinslot.storage.record.published import Published
from twinslot.storage.record.record import Record
from twinslot.trust.verdict import TrustPolicy, TrustTime
from twinslot.worker import launch
from twinslot_image.cli import main
from twinslot_image.patch_check import check_patch
from twinslot_image.patch_sources import unpack_image
from twinslot_image.report_read import read_report
from twinslot_image.verify import verify_image

DATA = Path(__file__).parents[1] / "data"
VERSIONS = sorted(path for path in DATA.iterdir() if path.is_dir() and path.name[0].isdigit())
NOW = datetime(2026, 12, 1, tzinfo=UTC)


@pytest.fixture(params=VERSIONS, ids=lambda path: path.name)
def version(request: pytest.FixtureRequest) -> Path:
    """What one version wrote."""
    path: Path = request.param
    return path


def test_there_is_a_sample_of_the_first_version() -> None:
    assert [path.name for path in VERSIONS][:1] == ["0.1.0"]


@pytest.mark.parametrize("kind", ["x25519", "p256"])
def test_an_encrypted_image_of_an_earlier_version_opens_for_each_of_its_recipients(
    version: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    sealed = version / "sealed"
    (image,) = sealed.glob("*.twin")
    identity = ("--identity", str(sealed / f"{kind}.pem"))
    assert main(["verify", str(image), "--root", str(sealed / "root.json"), "--roles", "engineering", *identity]) == 0
    notes = tmp_path / "notes.md"
    assert main(["extract-attachment", str(image), "release-notes.md", "-o", str(notes), *identity]) == 0
    assert notes.read_text() == "# Nobody else reads this\n"
    capsys.readouterr()
    (blocks,) = sealed.glob("*.twinblocks")
    assert main(["inspect", str(blocks), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["type"] == "inspect"


@pytest.mark.verifies("REQ-CMP-01")
def test_an_image_of_an_earlier_version_verifies_and_says_what_it_said(version: Path) -> None:
    image = version / "pump-2026.11.twin"
    root = (version / "root.json").read_bytes()
    found = verify_image(image, root, TrustPolicy(("engineering", "clinical")), NOW)
    manifest = found.manifest
    assert (manifest.release.name, manifest.release.sequence, manifest.release.epoch) == ("2026.11", 42, 1)
    assert (manifest.compatible, manifest.hardware) == (("acme,pump-3", "acme,pump-4"), ("rev-c",))
    assert (manifest.variants, manifest.checks) == (("icu",), ("pump-motor",))
    assert manifest.taken_from == SequenceRange(lowest=40)
    assert manifest.source == Source(
        "0123456789abcdef0123456789abcdef01234567", "v2026.11", "job 17", "https://ci.example/pump"
    )
    assert [(payload.name, payload.type) for payload in manifest.payloads] == [
        ("firmware", "partition"),
        ("rootfs", "partition"),
    ]
    assert [attachment.name for attachment in manifest.attachments] == ["release-notes.md"]


def test_an_approval_and_a_dossier_of_an_earlier_version_still_count(
    version: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evidence = version / "evidence"
    assert main(["inspect", "--json", str(evidence / "pump.twin")]) == 0
    [approval] = json.loads(capsys.readouterr().out)["image"]["approvals"]
    assert (approval["problem"], approval["name"], approval["role"]) == (None, "A. Weber", "clinical")
    roles = ("--signer", "engineering", "--roles", "engineering,clinical")
    words = ["--json", "dossier", "verify", str(evidence / "dossier"), "--root", str(evidence / "root.json"), *roles]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)["findings"]
    assert {each["kind"] for each in found} == {"missing"}
    assert not {"summary", "approvals", "keys"} & {each["where"] for each in found}


def test_a_patch_and_a_block_list_of_an_earlier_version_fit_the_image_as_they_did(
    version: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = version / "pump-2026.10.twin", version / "pump-2026.11.twin"
    (patch,) = version.glob("*.twinpatch")
    (blocks,) = version.glob("*.twinblocks")
    for file in (patch, blocks):
        assert main(["inspect", str(file), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["type"] == "inspect"
    contents = []
    for image in (old, new):
        (folder := tmp_path / image.stem).mkdir()
        contents.append(unpack_image(image, folder))
    names = sorted(contents[1])
    head = check_patch(patch, [(contents[0][name], contents[1][name]) for name in names], lambda *_: None)
    assert [part.name for part in head.payloads] == names


@pytest.mark.verifies("REQ-CMP-01")
def test_what_a_repository_offered_approved_and_recalled_is_read(version: Path) -> None:
    offered = parse_offers((version / "repository/offers.json").read_bytes())
    barrier, offer = offered.offers
    assert (barrier.barrier, offer.lowest) == (True, barrier.sequence)
    ring, first, rest = offer.waves
    assert (ring.rings, first.roles, first.networks) == (("ward-7",), ("clinical",), ("ethernet", "wifi"))
    assert (first.share, first.spread, rest.share) == (10_000, 21_600, 990_000)
    assert first.end == datetime(2026, 12, 20, tzinfo=UTC)
    (recall,) = offered.recalls
    assert (recall.name, recall.sequence, recall.successor) == ("2026.09", 40, offer.sequence)
    (approval,) = parse_approvals((version / "repository/approvals.json").read_bytes())
    assert (approval.manifest, approval.reach, approval.by) == (offer.manifest, 10_000, "A. Meyer")


@pytest.mark.verifies("REQ-CMP-01")
def test_a_device_asks_a_stick_of_an_earlier_version_and_knows_when_it_was_published(
    version: Path, tmp_path: Path
) -> None:
    stick = version / "stick"
    time, moment = TrustTime(NOW, NOW, NOW), Moment(0.0, "boot", 0.0)
    root, names = (stick / "1.root.json").read_bytes(), ("acme,pump-3",)
    setting = PollSetting(str(stick), root, names, (), "", time, moment, silence=3600.0, jitter=0.0)
    state, error = Poll(setting, tmp_path, DirectoryFetcher(stick), lambda: launch.start("verify")).run(PollState())
    assert error is None
    (offer,) = parse_offers(state.offers["acme,pump-3"].encode()).offers
    assert (offer.name, offer.image) == ("2026.11", "images/pump-2026.11.twin")
    assert state.published == "2026-11-29T00:00:00+00:00"


@pytest.mark.verifies("REQ-CMP-01")
def test_a_report_of_a_device_is_verified_and_says_what_it_said(version: Path) -> None:
    report = read_report(version / "report.json", {})
    assert (report.device["id"], report.rows[0]["event"], report.updates[0]["outcome"]) == (
        "device-1",
        "committed",
        "committed",
    )


@pytest.mark.verifies("REQ-CMP-01")
def test_an_audit_and_the_receipt_of_a_device_verify_and_the_update_is_explained(
    version: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    audit = version / "audit"
    key = ("--key", str(audit / "pump.pem"))
    assert main(["--json", "audit", "verify", str(audit / "pump.audit"), *key]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["end"][:2], found["anchor"][:2]) == ("3-", "2-")
    assert main(["--json", "explain", str(audit / "pump.audit"), "last", *key]) == 0
    account = json.loads(capsys.readouterr().out)
    assert (account["state"], account["differences"]) == ("armed", [])
    assert main(["--json", "verify-attestation", str(audit / "retirement.json"), *key]) == 0
    said = json.loads(capsys.readouterr().out)["said"]
    assert (said["reason"], said["audit"]) == ("sold", found["end"])


@pytest.mark.verifies("REQ-CMP-01")
def test_an_attestation_verifies_and_is_listed(version: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, key = str(version / "attestation/pump.json"), str(version / "attestation/pump.pem")
    assert main(["--json", "verify-attestation", file, "--key", key, "--nonce", "5ca1ab1e"]) == 0
    said = json.loads(capsys.readouterr().out)["said"]
    assert (said["running"], said["state"], said["slots"]["a"]["release"]["sequence"]) == ("a", "idle", 10)
    assert main(["--json", "inventory", file, "--key", key]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert (listed["release"], listed["floor_sequence"], listed["faults"]) == ("1.0", 10, 0)


@pytest.mark.verifies("REQ-CMP-01")
@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_patch_of_each_format_makes_what_it_made(version: Path, number: int) -> None:
    base = lzma.decompress((version / "patches/programs.xz").read_bytes())
    data = (version / f"patches/format-{number}.twinpatch").read_bytes()
    head = parse_patch_head(data)
    part = head.payload("rootfs")
    new_list = part.new_plain_list(plain_list(base, part.group_size))
    assert (head.version, hashlib.sha256(new_list).hexdigest()) == (number, part.plain_list)
    made = dict(PatchDecoder(part, new_list, lambda at, size: base[at : at + size]).groups([data[head.length :]]))
    assert len(made) == len(part.changed)
    assert None not in made.values()
    assert made == apply_patch(data, base)


@pytest.mark.verifies("REQ-CMP-01")
def test_a_record_of_an_earlier_version_is_read_and_its_chain_holds(version: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(version / "record", tmp_path / "record"))
    with Record(folder, lambda: "2027-01-01T00:00:00Z") as record:
        assert not record.set_aside
        assert record.first_broken_link() is None
        _look_at(record)
        assert [row.event for row in record.audit_rows()] == ["accepted", "accepted"]
    with Record(folder, lambda: "", read_only=True) as again:
        _look_at(again)


def test_the_published_status_of_an_earlier_version_is_read(version: Path) -> None:
    _look_at(Published(version / "record"))


def _look_at(record: Record | Published) -> None:
    slot, current = record.slot(SlotName.A), record.current()
    assert slot is not None
    assert current is not None
    assert (slot.release.name, slot.release.sequence, slot.payloads["rootfs"].size) == ("2026.10", 41, 100_000)
    assert (slot.payloads["rootfs"].type, record.slot(SlotName.B)) == ("partition", None)
    assert (record.floors().sequence, record.floors().epoch, record.floors().root) == (41, 1, 1)
    assert record.failed() == {42: "unhealthy"}
    assert (current.state, current.release.name) == ("writing", "2026.12")
    ended = record.history()[-1]
    assert (ended.outcome, ended.reason, ended.origin.kind) == ("rolled-back", "unhealthy", "cli")
    (check,) = ended.checks
    assert (check.name, check.passed, check.detail, check.tries) == ("pump-motor", False, "no answer", 3)


@pytest.mark.verifies("REQ-CMP-01")
def test_a_boot_environment_of_an_earlier_version_says_what_it_said(version: Path) -> None:
    copies = [rawenv.decode((version / f"environment-{number}.bin").read_bytes()) for number in (1, 2)]
    assert [copy.flags if copy else None for copy in copies] == [1, 2]
    assert rawenv.current(1, 2) == 1
    for copy in copies:
        assert copy is not None
        state = read_state(copy.variables)
        assert (state.slot, state.states[SlotName.A], state.states[SlotName.B]) == (
            SlotName.A,
            SlotState.GOOD,
            SlotState.BAD,
        )
        assert (state.floors.sequence, state.floors.epoch, state.floors.root) == (41, 1, 1)
        assert (state.failed_sequence, state.transaction, state.generation) == (42, "c" * 32, 9)


def test_a_boot_environment_that_an_earlier_version_armed_starts_the_same_trial(version: Path) -> None:
    kept, armed = (rawenv.decode((version / f"environment-on-trial-{number}.bin").read_bytes()) for number in (1, 2))
    assert kept is not None
    assert armed is not None
    assert rawenv.current(kept.flags, armed.flags) == 1
    state = read_state(armed.variables)
    assert (state.trial, state.way_back(SlotName.B), state.bootcount, state.reason) == (SlotName.B, SlotName.A, 0, "")
    assert (state.trial_sequence, state.trial_epoch, state.transaction) == (42, 1, "d" * 32)
    assert read_state(kept.variables).trial is None, "the copy that the write did not reach"


@pytest.mark.verifies("REQ-CMP-02")
def test_no_word_that_an_earlier_version_knew_is_gone(version: Path) -> None:
    present = dict(words())
    for kind, known in json.loads((version / "words.json").read_text()).items():
        assert set(known) <= set(present[kind]), kind


@pytest.mark.verifies("REQ-CMP-01")
def test_whoever_speaks_an_earlier_version_of_the_bus_is_understood(version: Path) -> None:
    assert _members(version / DESCRIPTION.name) <= _members(DESCRIPTION)


def _members(path: Path) -> set[tuple[Any, ...]]:
    """Every method, signal and property with the types of what goes in and out."""
    return set(_walk(ElementTree.parse(path).getroot()))


def _walk(root: ElementTree.Element) -> Iterator[tuple[Any, ...]]:
    for interface in root.iter("interface"):
        for member in interface:
            if member.tag in ("method", "signal"):
                types = [(arg.get("direction", "out"), arg.get("type")) for arg in member.iter("arg")]
                yield (interface.get("name"), member.tag, member.get("name"), *types)
            elif member.tag == "property":
                yield (interface.get("name"), "property", member.get("name"), member.get("type"), member.get("access"))


def test_a_later_image_is_read_though_it_has_a_key_that_this_version_does_not_know(
    version: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """tests/unit/test_manifest.py has each place where such a key may stand, and the refusal of an unknown feature."""
    image = tmp_path / "later.twin"
    image.write_bytes(
        (version / "pump-2026.11.twin").read_bytes().replace(b'"variants":["icu"]', b'"waiting2":["icu"]')
    )
    assert main(["inspect", str(image), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["image"]["variants"] == []
