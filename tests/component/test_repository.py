"""A device and its repository, through both command lines, a real web server and the real workers."""

from __future__ import annotations

import json
import os
import random
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from release_bench import ReleaseBench
from repository_bench import CONTENT, RepositoryBench, repository_bench

from twinslot.cli.parser import make_parser
from twinslot.config.repository import RepositoryConfig
from twinslot.core.canonical import encode
from twinslot.engine import trust_time
from twinslot_image import replacement, repository_publish
from twinslot_image.cli import main as image_main

pytestmark = pytest.mark.slow


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[RepositoryBench]:
    with repository_bench(tmp_path) as bench:
        yield bench


def test_a_device_hears_of_a_release_and_installs_what_status_names(bench: RepositoryBench) -> None:
    assert bench.poll()[0] == 0
    offer = bench.offered()
    assert offer is not None
    assert (offer["release"]["sequence"], offer["why_not"]) == (11, None)
    assert bench.device.install(offer["image"]).release.sequence == 11


def test_when_nothing_is_new_a_poll_is_one_small_request(bench: RepositoryBench) -> None:
    bench.poll()
    bench.web.asked.clear()
    before = bench.web.wire
    status, said = bench.poll()
    assert (status, said["asked"]) == (0, True)
    assert bench.web.asked == ["/metadata/timestamp.json"]
    assert bench.web.wire - before < 500
    assert bench.offered() is not None


def test_a_server_without_validators_costs_one_request_as_well(bench: RepositoryBench) -> None:
    def plain(asked: BaseHTTPRequestHandler) -> None:
        data = (bench.fleet / "public/metadata/timestamp.json").read_bytes()
        asked.send_response(200)
        asked.send_header("Content-Length", str(len(data)))
        asked.end_headers()
        asked.wfile.write(data)

    bench.web.answers["timestamp.json"] = plain
    bench.poll()
    bench.web.asked.clear()
    assert bench.poll()[0] == 0
    assert bench.web.asked == ["/metadata/timestamp.json"]


@pytest.mark.verifies("S29")
def test_a_frozen_repository_is_noticed_told_once_and_forgiven_when_it_is_fresh_again(bench: RepositoryBench) -> None:
    bench.poll()
    future = datetime.now(UTC) + timedelta(days=20)
    bench.later(future)
    for _ in range(2):
        status, error = bench.poll()
        assert (status, error["code"]) == (4, "refused.repository-expired")
    assert bench.run("status")[1]["repository"]["stale"] == "frozen"
    assert bench.audit().count("repository-stale") == 1
    findings = {each["name"]: each for each in bench.run("doctor")[1]["findings"]}
    assert findings["repository"]["severity"] == "warning"
    assert "expired" in findings["repository"]["text"]
    bench.publish(future)
    assert bench.poll()[0] == 0
    assert bench.run("status")[1]["repository"]["stale"] is None
    assert bench.audit()[-1] == "repository-fresh"


def test_a_server_that_stays_away_counts_as_silent_after_the_time_configured(bench: RepositoryBench) -> None:
    bench.poll()
    bench.configure(silence=3600.0)
    bench.web.answers["timestamp.json"] = lambda asked: asked.send_error(404)
    bench.publish()
    shutil.rmtree(bench.fleet / "public/metadata")
    assert bench.poll()[1]["code"] == "transport.repository"
    assert bench.run("status")[1]["repository"]["stale"] is None, "an hour has not passed"
    bench.later(datetime.now(UTC) + timedelta(hours=2))
    bench.poll()
    assert bench.run("status")[1]["repository"]["stale"] == "silent"
    assert "repository-stale" in bench.audit()


@pytest.mark.verifies("S29")
def test_an_older_state_of_the_repository_is_refused_and_what_was_known_stays(
    bench: RepositoryBench, tmp_path: Path
) -> None:
    public, old = bench.fleet / "public", tmp_path / "old"
    shutil.copytree(public, old)
    bench.offer("1.2", 12)
    bench.poll()
    for path in (public, old):
        assert path.is_dir()
    shutil.rmtree(public)
    old.rename(public)
    status, error = bench.poll()
    assert (status, error["code"]) == (4, "refused.repository-version")
    offer = bench.offered()
    assert offer is not None
    assert offer["release"]["sequence"] == 12
    assert bench.run("status")[1]["repository"]["stale"] == "refused"


def test_another_makers_repository_is_refused(bench: RepositoryBench, tmp_path: Path) -> None:
    other = tmp_path / "other"
    assert image_main(["repository", "init", str(other)]) == 0
    assert image_main(["repository", "publish", str(other)]) == 0
    bench.poll()
    shutil.rmtree(bench.fleet / "public/metadata")
    shutil.copytree(other / "public/metadata", bench.fleet / "public/metadata")
    status, error = bench.poll()
    assert (status, error["code"]) == (4, "refused.repository-signatures")
    assert bench.offered() is not None


def test_a_device_follows_new_keys_of_every_role(bench: RepositoryBench) -> None:
    bench.poll()
    for role in ("root", "targets", "offers", "snapshot", "timestamp"):
        assert image_main(["keys", "rotate", str(bench.fleet / "keys"), role]) == 0
    bench.offer("1.2", 12)
    assert bench.poll()[0] == 0
    assert bench.run("status")[1]["repository"]["versions"]["root"] == 5
    offer = bench.offered()
    assert offer is not None
    assert offer["release"]["sequence"] == 12


@pytest.mark.verifies("S29")
def test_roots_that_another_process_put_among_the_kept_ones_count_for_nothing(
    bench: RepositoryBench, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    assert image_main(["repository", "init", str(other)]) == 0
    assert image_main(["keys", "rotate", str(other / "keys"), "root"]) == 0
    roots = bench.device.directory / "data/repository/roots"
    roots.mkdir(parents=True)
    shutil.copy(other / "keys/2.root.json", roots / "2.json")
    assert bench.poll()[0] == 0
    assert bench.run("status")[1]["repository"]["versions"]["root"] == 1


def test_a_server_that_wants_to_be_left_alone_is_by_the_timer_over_restarts_and_not_by_hand(
    bench: RepositoryBench,
) -> None:
    def busy(asked: BaseHTTPRequestHandler) -> None:
        asked.send_response(503)
        asked.send_header("Retry-After", "7200")
        asked.send_header("Content-Length", "0")
        asked.end_headers()

    bench.web.answers["timestamp.json"] = busy
    status, error = bench.poll()
    assert (status, error["code"]) == (5, "transport.busy")
    asked = len(bench.web.asked)
    status, said = bench.poll("--if-due")  # a new process, as after a restart
    assert (status, said["asked"]) == (0, False)
    assert 7000 < said["wait"] <= 9000
    assert len(bench.web.asked) == asked
    bench.web.answers.clear()
    assert bench.poll()[0] == 0
    assert bench.poll("--if-due")[1]["asked"]


def test_without_a_repository_the_timer_does_nothing_and_a_user_is_told(bench: RepositoryBench) -> None:
    bench.configure(url="")
    nothing = {"type": "poll", "asked": False, "wait": 0.0, "repository": None, "recall": None}
    assert bench.poll("--if-due") == (0, nothing)
    status, error = bench.poll()
    assert (status, error["code"]) == (4, "refused.no-repository")


def test_an_offer_waits_for_its_wave_and_a_halted_one_for_nothing(bench: RepositoryBench) -> None:
    future = (datetime.now(UTC) + timedelta(days=3)).strftime("%Y-%m-%dT%H:%M:%SZ")
    bench.image("wave", "1.1", f"100%,{future}")
    bench.publish()
    bench.poll()
    offer = bench.offered()
    assert offer is not None
    assert offer["start"].startswith(future[:-1])
    bench.image("wave", "1.1")
    bench.image("halt", "1.1", "--reason", "alarm too quiet")
    bench.publish()
    bench.poll()
    offer = bench.offered()
    assert offer is not None
    assert "alarm too quiet" in offer["why_not"]
    bench.image("halt", "1.1", "--undo")
    bench.publish()
    bench.poll()
    offer = bench.offered()
    assert offer is not None
    assert offer["why_not"] is None


@pytest.mark.verifies("REQ-REP-06")
def test_the_turn_that_the_guide_has_one_reckon_is_the_one_that_the_device_takes(bench: RepositoryBench) -> None:
    page = (Path(__file__).parents[2] / "docs/guide-repository.md").read_text()
    (line,) = re.findall(r"^```sh place\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    bench.image("wave", "1.1", "12.5%,2030-01-01T00:00:00Z,6h", "87.5%,2030-02-01T00:00:00Z,5d")
    bench.publish()
    bench.poll()
    (offer,) = json.loads((bench.fleet / "repository.json").read_text())["offers"]["acme,pump-3"]
    numbers = set()
    for identity in ("bed-1", "bed-2", "ward 7/bed:3", *(f"{number:032x}" for number in range(9))):
        (bench.fleet.parent / "device/machine-id").write_text(f"{identity}\n")
        variables = {"ID": identity, "MANIFEST": offer["manifest"], "PATH": os.environ["PATH"]}
        told = subprocess.run(["sh", "-c", line], env=variables, capture_output=True, check=True).stdout
        place, first, low, start = int(told, 16), 0, 0, 0.0
        for wave in offer["waves"]:
            first += wave["share"]
            high = first * 2**32 // 10**6
            if place < high:
                start = datetime.fromisoformat(wave["start"]).timestamp() + wave["spread"] * (place - low) // (
                    high - low
                )
                break
            low = high
        found = bench.offered()
        assert found
        assert datetime.fromisoformat(found["start"]).timestamp() == start
        numbers.add(found["wave"]["number"])
    assert numbers == {1, 2}


def test_a_device_without_a_clock_takes_its_turn_by_when_the_repository_was_published(
    bench: RepositoryBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trust_time, "utc_now", lambda: datetime(1970, 1, 1, tzinfo=UTC))
    now = datetime.now(UTC).replace(microsecond=0)
    start = now + timedelta(hours=1)
    bench.image("wave", "1.1", f"100%,{start:%Y-%m-%dT%H:%M:%SZ}")
    bench.publish(now)
    bench.poll()
    assert "its turn comes" in str(_why_not(bench))
    early = bench.fleet / "public/metadata/timestamp.json"
    replayed = early.read_bytes()
    bench.publish(start + timedelta(minutes=1))
    bench.poll()
    assert _why_not(bench) is None
    assert (
        bench.run("status")[1]["repository"]["published"] == f"{start + timedelta(minutes=1):%Y-%m-%dT%H:%M:%S+00:00}"
    )
    early.write_bytes(replayed)
    assert bench.poll()[1]["code"] == "refused.repository-version"
    assert _why_not(bench) is None, "an older timestamp takes nothing back"


@pytest.mark.verifies("REQ-REP-06")
def test_a_timestamp_from_a_clock_that_was_wrong_counts_until_the_next_one(
    bench: RepositoryBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trust_time, "utc_now", lambda: datetime(1970, 1, 1, tzinfo=UTC))
    now = datetime.now(UTC).replace(microsecond=0)
    bench.image("wave", "1.1", f"100%,{now + timedelta(days=2):%Y-%m-%dT%H:%M:%SZ}")
    bench.publish(now + timedelta(days=3))
    bench.poll()
    assert _why_not(bench) is None
    bench.publish(now)
    assert bench.poll()[0] == 0
    assert "its turn comes" in str(_why_not(bench))
    assert bench.run("status")[1]["repository"]["stale"] is None, "and no document expired by it"


def test_a_release_that_is_not_newer_is_not_offered(bench: RepositoryBench) -> None:
    bench.poll()
    bench.device.install(bench.maker.directory / "1.1.twin")
    with bench.device.record() as record:
        held = record.slot(bench.device.running)
        assert held is not None
        record.save_slot(type(held)(held.slot, type(held.release)("1.1", 11), held.payloads))
    assert bench.offered() is None


def test_publishing_twice_at_one_time_gives_the_same_bytes(bench: RepositoryBench, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(bench.fleet, copy)
    moment = datetime.now(UTC) + timedelta(days=60)
    bench.publish(moment)
    theirs = RepositoryBench(bench.maker, copy, bench.web, bench.device)
    theirs.publish(moment)
    files = sorted(path.relative_to(copy) for path in copy.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(bench.fleet) for path in bench.fleet.rglob("*") if path.is_file())
    assert all((copy / path).read_bytes() == (bench.fleet / path).read_bytes() for path in files)


def test_an_interrupted_publication_changes_nothing_for_readers_and_the_next_one_goes_on(
    bench: RepositoryBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.poll()
    image = bench.maker.image("1.2", 12, CONTENT + b"2")
    bench.image("add", str(image))
    whole, left = replacement.write_whole, [0]

    def fails(path: Path, data: bytes) -> None:
        if not left[0]:
            raise OSError(28, "No space left on device", str(path))
        left[0] -= 1
        whole(path, data)

    monkeypatch.setattr(repository_publish, "write_whole", fails)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", str(int(datetime.now(UTC).timestamp())))
    for writes in (0, 1, 1, 1):  # offers, their document, the snapshot: what is there already is not written again
        left[0] = writes
        bench.image("publish", status=6)
        assert bench.poll()[0] == 0
        offer = bench.offered()
        assert offer is not None
        assert offer["release"]["sequence"] == 11
    monkeypatch.undo()
    bench.publish()
    assert bench.poll()[0] == 0


def test_what_a_device_would_refuse_is_not_published(
    bench: RepositoryBench, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (bench.fleet / "public/metadata/timestamp.json").read_bytes()
    targets = json.loads((bench.fleet / "keys/targets.json").read_bytes())
    targets["signed"]["version"] += 1  # and so nobody has signed it
    (bench.fleet / "keys/targets.json").write_bytes(encode(targets))
    bench.image("publish", status=4)
    assert "'targets'" in capsys.readouterr().err
    assert (bench.fleet / "public/metadata/timestamp.json").read_bytes() == before


def test_the_guide_works_from_an_empty_directory(
    bench: RepositoryBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[2] / "docs/guide-repository.md").read_text()
    named = dict(re.findall(r"^```(?:sh|toml) (\w+)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL))
    place = tmp_path / "guide"
    place.mkdir()
    shutil.copy(bench.maker.image("2026.11", 42, CONTENT), place / "pump-2026.11.twin")
    monkeypatch.chdir(place)
    for name in ("init", "offer", "halt"):
        _run(named[name])
    (found,) = json.loads((place / "fleet/repository.json").read_text())["offers"]["acme,pump-3"]
    assert (found["halted"], len(found["waves"])) == ("alarm too quiet", 2)
    shutil.copy(bench.maker.image("2026.12", 43, CONTENT), place / "pump-2026.12.twin")
    assert image_main(["repository", "add", "fleet", "pump-2026.12.twin"]) == 0
    _run(named["recall"])
    shutil.rmtree("fleet")
    _run(named["approve"])
    assert RepositoryConfig(**tomllib.loads(named["device"])["repository"]).url == "https://updates.example/fleet"


def _run(lines: str) -> None:
    for line in lines.splitlines():
        program, *argv = shlex.split(line)
        assert (program, image_main(argv)) == ("twinslot-image", 0)


def test_with_the_keys_of_snapshot_and_timestamp_alone_the_same_is_published_again(bench: RepositoryBench) -> None:
    bench.poll()
    for path in (bench.fleet / "keys/private").iterdir():
        if path.name.partition(".")[0] not in ("snapshot", "timestamp"):
            path.unlink()
    later = datetime.now(UTC) + timedelta(days=20)
    bench.publish(later)
    bench.later(later)
    assert bench.poll()[0] == 0
    bench.image("halt", "1.1", "--reason", "alarm too quiet")
    bench.image("publish", status=6)


def test_a_repository_that_is_damaged_at_random_is_an_error_with_a_code_and_changes_nothing(
    bench: RepositoryBench,
) -> None:
    """Each time another place, another one on each day; the sound one is taken again afterwards."""
    bench.poll()
    draw = random.Random(f"{datetime.now(UTC):%j}")
    slots = {name: bench.device.content(name) for name in bench.device.slots}
    for _ in range(8):
        bench.publish()
        path = draw.choice(sorted(path for path in (bench.fleet / "public/metadata").rglob("*.json")))
        data = bytearray(path.read_bytes())
        at = draw.randrange(len(data))
        data[at : at + draw.randrange(1, 40)] = draw.randbytes(draw.randrange(0, 40))
        whole = path.read_bytes()
        path.write_bytes(data)
        shutil.rmtree(bench.device.directory / "data/repository", ignore_errors=True)
        (bench.device.directory / "data/repository.json").unlink(missing_ok=True)
        status, said = bench.poll()
        assert status in (0, 4, 5), said
        if status:
            assert said["code"].partition(".")[0] in ("refused", "transport"), said
            assert bench.offered() is None
        path.write_bytes(whole)
        assert bench.poll()[0] == 0
        assert bench.offered() is not None
    assert {name: bench.device.content(name) for name in bench.device.slots} == slots


def test_the_command_of_the_unit_is_one_that_the_parser_takes() -> None:
    unit = (Path(__file__).parents[2] / "systemd/twinslot-poll.service").read_text()
    (line,) = (line for line in unit.splitlines() if line.startswith("ExecStart="))
    assert make_parser().parse_args(line.split()[1:]).if_due


# Approvals


def _wait_for_clinical(bench: RepositoryBench) -> None:
    past = (datetime.now(UTC) - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    bench.image("wave", "1.1", f"0%,{past},ring=ward-7", f"100%,{past},approved-by=clinical")
    bench.publish()


def _add_approver(bench: RepositoryBench) -> None:
    keys, change = bench.fleet / "keys", bench.maker.directory / "change.json"
    pem = bench.maker.directory / "clinical.pem"
    key = Ed25519PrivateKey.generate()
    pem.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    propose = ["keys", "propose", str(keys), "clinical", "--add-role", "1/1", "--add", str(pem), "-o", str(change)]
    assert image_main(propose) == 0
    assert image_main(["keys", "sign", str(keys), str(change), "--yes"]) == 0
    assert image_main(["keys", "finish", str(keys), str(change)]) == 0
    roles = json.loads((keys / "targets.json").read_bytes())["signed"]["delegations"]["roles"]
    key_id = next(role["keyids"][0] for role in roles if role["name"] == "clinical")
    private = keys / "private" / f"clinical.{key_id[:16]}.pem"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    private.chmod(0o600)


@pytest.mark.verifies("REQ-REP-01")
def test_a_wave_that_a_role_must_approve_waits_for_its_signature_and_stops_when_it_is_taken_back(
    bench: RepositoryBench,
) -> None:
    _add_approver(bench)
    _wait_for_clinical(bench)
    assert bench.poll()[0] == 0
    assert _why_not(bench) == "wave 2 is not approved by clinical"
    bench.image("approve", "1.1", "--role", "clinical", "--by", "A. Meyer", "--meaning", "pilots read")
    assert bench.poll()[0] == 0
    assert _why_not(bench), "it was not published yet"
    bench.publish()
    bench.web.asked.clear()
    assert bench.poll()[0] == 0
    assert _why_not(bench) is None
    assert len([name for name in bench.web.asked if "root.json" in name]) == 1, "each document is asked for once"
    bench.image("approve", "1.1", "--role", "clinical", "--undo")
    bench.publish()
    bench.poll()
    assert _why_not(bench) == "wave 2 is not approved by clinical"
    bench.configure(ring="ward-7")
    assert _why_not(bench) is None, "its wave needs no approval"
    bench.configure(ring="ward-7", approved_by=("clinical",))
    assert _why_not(bench) == "wave 1 is not approved by clinical", "the device's own policy wants one"


@pytest.mark.verifies("REQ-REP-01")
def test_an_approval_that_has_expired_approves_nothing_and_keeps_no_halt_from_coming(
    bench: RepositoryBench, capsys: pytest.CaptureFixture[str]
) -> None:
    _add_approver(bench)
    _wait_for_clinical(bench)
    bench.image("approve", "1.1", "--role", "clinical")
    bench.publish()
    later = datetime.now(UTC) + timedelta(days=400)  # the approvals have expired
    bench.image("halt", "1.1", "--reason", "alarm too quiet")
    capsys.readouterr()
    bench.publish(later)
    assert "role 'clinical' approves nothing new" in capsys.readouterr().out
    bench.later(later)
    assert bench.poll()[0] == 0
    assert "alarm too quiet" in str(_why_not(bench))
    bench.image("halt", "1.1", "--undo")
    bench.publish(later)
    bench.poll()
    assert _why_not(bench) == "wave 2 is not approved by clinical"
    findings = [each["text"] for each in bench.run("doctor")[1]["findings"] if each["name"] == "repository"]
    assert any("role 'clinical' approves nothing" in text for text in findings)


@pytest.mark.verifies("REQ-REP-01")
def test_of_two_who_must_approve_one_is_not_enough(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fleet = tmp_path / "fleet"
    plan = ["--root", "2/3", "--targets", "2/3", "--approver", "clinical=2/2"]
    assert image_main(["repository", "init", str(fleet), *plan]) == 0
    (tmp_path / "maker").mkdir()
    maker = ReleaseBench.make(tmp_path / "maker")
    assert image_main(["repository", "add", str(fleet), str(maker.image("1.1", 11, CONTENT))]) == 0
    one, other = sorted((fleet / "keys/private").glob("clinical.*"))
    away = other.rename(tmp_path / other.name)
    approve = ["repository", "approve", str(fleet), "1.1", "--role", "clinical"]
    assert image_main(approve) == 0
    assert "1 of 2 signatures" in capsys.readouterr().out
    assert image_main(["repository", "publish", str(fleet)]) == 0
    assert "its approvals lack signatures" in capsys.readouterr().out
    away.rename(other)
    one.unlink()
    assert image_main(approve) == 0
    assert "2 of 2 signatures" in capsys.readouterr().out
    assert image_main(["repository", "publish", str(fleet)]) == 0
    assert "lack" not in capsys.readouterr().out


def _why_not(bench: RepositoryBench) -> str | None:
    offer = bench.offered()
    assert offer is not None
    why: str | None = offer["why_not"]
    return why


def test_who_approves_has_to_be_known_and_so_has_the_wave(
    bench: RepositoryBench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.image("approve", "1.1", "--role", "clinical", status=4)
    assert "no role 'clinical' approves here" in capsys.readouterr().err
    _add_approver(bench)
    bench.image("approve", "1.1", "--role", "clinical", "--wave", "3", status=4)
    assert "has no wave 3" in capsys.readouterr().err
    bench.image("approve", "1.9", "--role", "clinical", status=4)
    for path in (bench.fleet / "keys/private").glob("clinical.*"):
        path.unlink()
    bench.image("approve", "1.1", "--role", "clinical", status=6)


# Recalls


@pytest.mark.verifies("REQ-REP-02")
def test_a_device_that_runs_a_recalled_release_says_so_at_once_and_once(bench: RepositoryBench) -> None:
    bench.image("recall", "1.0", "--sequence", "10", "--reason", "alarm too quiet", "--successor", "1.1")
    bench.publish()
    for _ in range(2):
        status, said = bench.poll()
        assert (status, said["recall"]["action"]) == (0, "nothing")
    assert bench.audit().count("release-recalled") == 1
    (told,) = bench.run("status")[1]["repository"]["recalled"]
    assert (told["running"], told["reason"], told["successor"]) == (True, "alarm too quiet", 11)
    findings = [each for each in bench.run("doctor")[1]["findings"] if each["name"] == "repository"]
    assert any(each["severity"] == "fault" and "recalled 1.0" in each["text"] for each in findings)
    bench.image("recall", "1.0", "--undo")
    bench.publish()
    bench.poll()
    assert bench.audit()[-1] == "recall-lifted"
    assert bench.run("status")[1]["repository"]["recalled"] == []


@pytest.mark.verifies("REQ-REP-02")
def test_by_policy_the_successor_is_installed_once_it_may_be(bench: RepositoryBench) -> None:
    bench.configure(on_recall="successor")
    bench.image("halt", "1.1", "--reason", "not yet")
    bench.image("recall", "1.0", "--sequence", "10", "--reason", "alarm too quiet", "--successor", "1.1")
    bench.publish()
    status, said = bench.poll()
    assert (status, said["recall"]["action"]) == (0, "nothing")
    assert "not yet" in said["repository"]["recall_answer"]["why_not"]
    bench.image("halt", "1.1", "--undo")
    bench.publish()
    status, said = bench.poll()
    assert (status, said["recall"]["action"], said["recall"]["outcome"]) == (0, "install", "armed")


@pytest.mark.verifies("REQ-REP-02")
def test_by_policy_a_device_goes_back_from_a_recalled_release_and_stays_when_there_is_no_way_back(
    bench: RepositoryBench,
) -> None:
    bench.configure(on_recall="back")
    bench.image("recall", "1.0", "--sequence", "10", "--reason", "alarm too quiet")
    bench.publish()
    _, said = bench.poll()
    assert said["repository"]["recall_answer"]["why_not"] == "the other slot holds no committed release"
    bench.image("recall", "1.0", "--undo")
    bench.publish()
    bench.poll()
    bench.device.install(bench.maker.directory / "1.1.twin")
    bench.image("recall", "1.1", "--reason", "alarm too quiet")
    bench.publish()
    _, said = bench.poll()
    assert (said["recall"]["action"], said["recall"]["outcome"]) == ("cancel", "abandoned")


@pytest.mark.verifies("REQ-REP-08")
def test_an_update_that_waits_is_dropped_once_its_release_is_halted_and_may_be_taken_when_that_is_over(
    bench: RepositoryBench,
) -> None:
    bench.poll()
    bench.device.install(bench.maker.directory / "1.1.twin")
    assert bench.run("status")[1]["transaction"]["state"] == "armed"
    bench.image("halt", "1.1", "--reason", "alarm too quiet")
    bench.publish()
    _, said = bench.poll()
    assert (said["recall"]["action"], said["recall"]["outcome"]) == ("cancel", "abandoned")
    assert (bench.run("status")[1]["state"], bench.run("status")[1]["repository"]["halted"]) == ("idle", None)
    bench.image("halt", "1.1", "--undo")
    bench.publish()
    assert bench.poll()[1]["recall"] is None
    assert (bench.offered() or {})["why_not"] is None


def test_a_release_that_was_never_offered_is_recalled_by_its_sequence_alone(
    bench: RepositoryBench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.image("recall", "0.9", "--reason", "alarm too quiet", status=4)
    assert "no release '0.9' is offered" in capsys.readouterr().err
    bench.image("recall", "0.9", "--undo", status=4)
    bench.image("recall", "0.9", "--sequence", "9", "--reason", "x", "--successor", "7.7", status=4)


# The graph


@pytest.mark.verifies("REQ-REP-03")
def test_no_device_passes_a_barrier_by_and_a_dead_end_is_told_to_maker_and_device(
    bench: RepositoryBench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.offer("1.2", 12)
    bench.poll()
    assert (bench.offered() or {})["release"]["sequence"] == 12
    bench.image("barrier", "1.1")
    bench.publish()
    bench.poll()
    assert (bench.offered() or {})["release"]["sequence"] == 11
    bench.image("recall", "1.1", "--reason", "it does not start on rev-c")
    capsys.readouterr()
    bench.publish()
    assert "dead end" not in capsys.readouterr().out, "what is recalled is no barrier"
    bench.image("recall", "1.1", "--undo")
    bench.image("halt", "1.1", "--reason", "not yet")
    bench.publish()
    bench.poll()
    assert (bench.offered() or {})["why_not"] == "it cannot follow the release that runs"
    bench.image("barrier", "1.1", "--undo")
    bench.publish()
    bench.poll()
    assert (bench.offered() or {})["release"]["sequence"] == 12


def test_a_device_whose_id_became_another_says_so(bench: RepositoryBench) -> None:
    bench.poll()
    (bench.fleet.parent / "device/machine-id").write_text("fedcba9876543210\n")
    findings = [each["text"] for each in bench.run("doctor")[1]["findings"] if each["name"] == "repository"]
    assert any("the id of this device is another one" in text for text in findings)
    bench.poll()
    bench.poll()
    assert bench.audit().count("identity-changed") == 1
