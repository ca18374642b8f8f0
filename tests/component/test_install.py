"""The whole client on this host: signed images, real workers, real libubootenv (issue table "bad input")."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import sqlite3
import subprocess
import threading
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from host_device import SLOT_SIZE, HostDevice
from release_bench import ReleaseBench
from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]

from trust_samples import Authority, changed
from twinslot.core.errors import (
    CancelledError,
    DeviceError,
    ImageError,
    RefusedError,
    TransportError,
)
from twinslot.core.lifecycle import State
from twinslot.core.model import SlotName
from twinslot.core.progress import Phase, Progress
from twinslot.core.requests import InstallOptions
from twinslot.engine import trust_time
from twinslot.system.cancellation import Cancellation
from twinslot_image.cli import main

CONTENT = b"superblock".ljust(4096, b"\1") + random.Random(1).randbytes(700_000) + bytes(100_000)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> ReleaseBench:
    bench = ReleaseBench.make(tmp_path_factory.mktemp("bench"))
    bench.image("2.0", 20, CONTENT)
    return bench


@pytest.fixture
def image(bench: ReleaseBench) -> Path:
    return bench.directory / "2.0.twin"


@pytest.fixture
def device(tmp_path: Path, bench: ReleaseBench) -> HostDevice:
    return HostDevice(tmp_path, bench)


def assert_untouched(device: HostDevice) -> None:
    """Neither the slot nor the decision changed."""
    assert device.content(SlotName.B) == b"b" * SLOT_SIZE
    assert device.content(SlotName.A) == b"a" * SLOT_SIZE
    assert device.environment()["ts_generation"] == "1"
    assert device.environment()["slot"] == "a"


def assert_unbootable(device: HostDevice) -> None:
    """The target neither counts nor loads, and the running slot is as it was."""
    assert not any(device.content(SlotName.B)[:65536])
    assert device.content(SlotName.A) == b"a" * SLOT_SIZE
    environment = device.environment()
    assert (environment["slot"], environment["slot_b"], environment["upgrade_available"]) == ("a", "bad", "0")


def codes(error: pytest.ExceptionInfo[RefusedError]) -> list[str]:
    return [reason.code for reason in error.value.reasons]


def test_an_image_is_streamed_into_the_other_slot_and_armed(device: HostDevice, image: Path) -> None:
    reports: list[Progress] = []
    transaction = device.install(image, InstallOptions(reboot=True), reports.append)
    assert device.content(SlotName.B) == CONTENT.ljust(SLOT_SIZE, b"\0"), "the tail is zeroed"
    environment = device.environment()
    assert environment["slot"] == "b"
    assert environment["slot_b"] == "trial"
    assert environment["ts_release"] == "20"
    assert environment["ts_txn"] == transaction.id
    assert device.rebooted == 1
    assert transaction.bytes_fetched == image.stat().st_size
    assert transaction.bytes_written + transaction.bytes_zeroed == len(CONTENT)
    phases = list(dict.fromkeys(report.phase for report in reports))
    assert phases == [Phase.VERIFY, Phase.PREPARE, Phase.WRITE, Phase.READ_BACK, Phase.FINISH, Phase.ARM]


def test_the_whole_life_with_the_real_environment(device: HostDevice, image: Path) -> None:
    device.install(image)
    device.running, device.boots = SlotName.B, 2
    report = device.engine().boot()
    assert report.state == "trial"
    device.engine().check()
    kept = device.engine().commit(if_trial=True)
    assert kept is not None
    assert kept.outcome == "committed"
    assert device.environment()["slot_b"] == "good"
    assert device.environment()["ts_sequence"] == "20"
    with device.record() as record:
        assert record.first_broken_link() is None
        assert record.slot(SlotName.B).release.name == "2.0"  # type: ignore[union-attr]
        dates = json.loads(record.document("dates") or "{}")
    assert dates.keys() == {"root version 1", "targets document", "manifest"}, "for 'twinslot doctor'"


def test_a_piped_image_is_installed_like_a_file(device: HostDevice, image: Path) -> None:
    install_piped(device, image)
    assert device.environment()["slot"] == "b"


def install_piped(device: HostDevice, image: Path) -> None:
    """Install what somebody else pours into a pipe."""
    reader, writer = os.pipe()

    def pour() -> None:
        with contextlib.suppress(BrokenPipeError), os.fdopen(writer, "wb") as pipe:
            pipe.write(image.read_bytes())

    thread = threading.Thread(target=pour)
    thread.start()
    try:
        device.install(reader)
    finally:
        os.close(reader)
        thread.join()


@pytest.mark.verifies("S19")
@pytest.mark.parametrize(
    ("roles", "expires", "sentence"),
    [
        ((), datetime(2099, 1, 1, tzinfo=UTC), "role 'engineering'"),
        (("engineering",), datetime(2099, 1, 1, tzinfo=UTC), "role 'clinical'"),
        (("engineering", "clinical"), datetime(2026, 11, 2, tzinfo=UTC), "expired"),
    ],
)
def test_what_is_not_signed_as_policy_demands_is_refused_before_any_payload_byte(
    device: HostDevice, bench: ReleaseBench, roles: tuple[str, ...], expires: datetime, sentence: str
) -> None:
    os.environ["SOURCE_DATE_EPOCH"] = "1750000000"  # built before it expires
    image = bench.image("9.0", 90, CONTENT, roles=roles, expires=expires)
    del os.environ["SOURCE_DATE_EPOCH"]
    with pytest.raises(RefusedError, match=sentence):
        device.install(image)
    assert_untouched(device)
    with device.record() as record:
        (row,) = record.audit_rows()
    assert (row.event, row.body["source"], row.body["claimed"]) == ("refused", str(image), True)
    assert (row.body["release"], row.body["origin"]) == ("9.0", {"kind": "cli", "uid": 0, "login": "root"})
    assert any(sentence in str(reason) for reason in row.body["reasons"])


def test_all_reasons_come_at_once(device: HostDevice, bench: ReleaseBench) -> None:
    image = bench.image("8.0", 80, bytes(SLOT_SIZE + 1), compatible=("acme,ventilator",), checks=("lungs",))
    with pytest.raises(RefusedError) as error:
        device.install(image)
    assert codes(error) == ["compatible", "payload-size", "check-unknown"]
    assert_untouched(device)


def test_an_image_for_other_hardware_is_refused_and_one_for_this_is_installed(
    device: HostDevice, bench: ReleaseBench
) -> None:
    image = bench.image("9.5", 95, CONTENT, hardware=("rev-c",), variants=("icu",))
    with pytest.raises(RefusedError) as error:
        device.install(image)
    assert codes(error) == ["hardware", "variant"]
    assert_untouched(device)
    own = replace(device.config.device, hardware="rev-c", variant="icu")
    device.config = replace(device.config, device=own)
    assert device.install(image).state is State.ARMED


def test_a_downgrade_is_refused_by_the_floor_in_the_environment_alone(device: HostDevice, bench: ReleaseBench) -> None:
    device.rig.boot.write({"ts_sequence": "50", "ts_generation": "1"})
    with pytest.raises(RefusedError, match="downgrade"):
        device.install(bench.directory / "2.0.twin")


@pytest.mark.slow
@pytest.mark.parametrize("fraction", [0.0, 0.001, 0.02, 0.3, 0.7, 0.999])
def test_a_truncated_image_leaves_nothing_that_boots(
    device: HostDevice, image: Path, tmp_path: Path, fraction: float
) -> None:
    data = image.read_bytes()
    short = tmp_path / "short.twin"
    short.write_bytes(data[: int(len(data) * fraction)])
    with pytest.raises(ImageError, match=r"truncated|ends|expected"):
        device.install(short)
    assert_untouched(device)  # a file tells its length
    with pytest.raises(ImageError, match=r"truncated|ends|expected"):
        install_piped(device, short)
    if fraction < 0.02:
        assert_untouched(device)
    else:
        assert_unbootable(device)
    device.install(image)  # and the next one works


@pytest.mark.verifies("S2")
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_a_flipped_byte_anywhere_never_reaches_a_slot(
    device: HostDevice, image: Path, tmp_path: Path, seed: int
) -> None:
    data = bytearray(image.read_bytes())
    position = random.Random(seed).randrange(len(data))
    data[position] ^= 1 << (seed % 8)
    damaged = tmp_path / "damaged.twin"
    damaged.write_bytes(data)
    with pytest.raises((ImageError, RefusedError)):
        device.install(damaged)
    written = device.content(SlotName.B)
    for at in range(0, SLOT_SIZE, 65536):
        group = written[at : at + 65536]
        assert group in (b"b" * 65536, bytes(65536), CONTENT[at : at + 65536].ljust(65536, b"b")), at
    assert device.environment()["slot"] == "a"
    assert device.environment()["slot_b"] == "bad"


def test_trailing_bytes_are_refused_and_the_slot_does_not_boot(device: HostDevice, image: Path, tmp_path: Path) -> None:
    long = tmp_path / "long.twin"
    long.write_bytes(image.read_bytes() + b"x")
    with pytest.raises(ImageError, match="follow"):
        device.install(long)
    assert device.environment()["slot"] == "a"
    assert device.environment()["slot_b"] == "bad"


@pytest.mark.verifies("CVE-2020-25860")
def test_a_file_that_is_rewritten_while_it_is_read_never_reaches_a_slot(
    device: HostDevice, image: Path, tmp_path: Path
) -> None:
    moving = tmp_path / "moving.twin"
    moving.write_bytes(image.read_bytes())

    def rewrite(report: Progress) -> None:
        if report.phase is Phase.PREPARE:
            with moving.open("r+b") as file:
                file.seek(400_000)
                file.write(random.Random(2).randbytes(300_000))

    try:
        device.install(moving, observer=rewrite)
    except (ImageError, TransportError):
        assert_unbootable(device)
    else:
        assert device.content(SlotName.B) == CONTENT.ljust(SLOT_SIZE, b"\0")  # it had been read before


def test_cancelling_in_the_middle_leaves_a_defined_state_and_the_next_install_works(
    device: HostDevice, image: Path
) -> None:
    cancelled = Cancellation()

    def cancel(report: Progress) -> None:
        if report.phase is Phase.WRITE:
            cancelled.set()

    with pytest.raises(CancelledError):
        device.install(image, observer=cancel, cancelled=cancelled)
    assert_unbootable(device)
    with device.record() as record:
        assert record.history(1)[0].reason == "cancelled"
    device.install(image)


def test_a_worker_that_is_killed_in_the_middle_is_noticed(
    device: HostDevice, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from twinslot.worker import launch

    started = []
    real = launch.start

    def start(kind: str) -> launch.Worker:
        worker = real(kind)
        started.append(worker)
        return worker

    monkeypatch.setattr(launch, "start", start)

    def kill(report: Progress) -> None:
        if report.phase is Phase.PREPARE:
            process = started[0]._process
            assert process is not None
            process.kill()

    with pytest.raises(TransportError, match="process is gone"):
        device.install(image, observer=kill)
    assert_unbootable(device)
    device.install(image)


@pytest.mark.verifies("S17")
def test_a_second_job_is_told_who_holds_the_lock(device: HostDevice, image: Path) -> None:
    with device.lock("factory test"), pytest.raises(RefusedError, match="factory test"):
        device.install(image)
    assert_untouched(device)


@pytest.mark.root
def test_a_full_data_partition_refuses_the_install_and_nothing_is_written(device: HostDevice, image: Path) -> None:
    data = device.directory / "data"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", data], check=True)
    try:
        device.engine().boot()
        with (data / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
            while True:
                filler.write(bytes(4096))
        with pytest.raises(DeviceError, match="full") as error:
            device.install(image)
        assert error.value.code == "device.record-full"
        assert_untouched(device)
        (data / "filler").unlink()
        device.install(image)
    finally:
        subprocess.run(["umount", data], check=True)


@pytest.mark.verifies("S12")
@pytest.mark.root
@pytest.mark.parametrize("how", ["full", "read-only"])
def test_a_trial_is_committed_although_the_data_partition_is(device: HostDevice, image: Path, how: str) -> None:
    data = device.directory / "data"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", data], check=True)
    try:
        device.install(image)
        if how == "full":
            with (data / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
                while True:
                    filler.write(bytes(4096))
        else:
            subprocess.run(["mount", "-o", "remount,ro", data], check=True)
        device.running, device.boots = SlotName.B, 2
        device.engine().boot()
        device.engine().check()
        device.engine().commit(if_trial=True)
        assert device.environment()["slot_b"] == "good"
        subprocess.run(["mount", "-o", "remount,rw", data], check=True)
        (data / "filler").unlink(missing_ok=True)
        device.engine().boot()  # and the record is brought forward
        with device.record() as record:
            assert record.history(1)[0].outcome == "committed"
    finally:
        subprocess.run(["umount", data], check=True)


def test_a_damaged_record_is_set_aside_and_the_install_goes_on(device: HostDevice, image: Path) -> None:
    (device.directory / "data/record.sqlite").write_bytes(b"SQLite format 3\0" + os.urandom(9000))
    device.install(image)
    names = [path.name for path in (device.directory / "data").iterdir()]
    assert "record.sqlite.damaged.1" in names
    assert device.environment()["slot"] == "b"


@pytest.mark.parametrize("lost", [0, 1])
def test_one_lost_environment_copy_is_repaired_and_the_install_goes_on(
    device: HostDevice, image: Path, lost: int
) -> None:
    device.rig.damage(lost)
    device.install(image)
    assert device.environment()["slot"] == "b"
    with device.record() as record:
        assert "environment-repaired" in [row.event for row in record.audit_rows()]


def test_both_lost_environment_copies_are_rebuilt_from_what_runs(device: HostDevice) -> None:
    device.rig.damage(0)
    device.rig.damage(1)
    device.engine().boot()
    environment = device.environment()
    assert (environment["slot"], environment["slot_a"], environment["slot_b"]) == ("a", "good", "bad")
    assert environment["bootcmd"], "the script came back with the default"


@pytest.mark.parametrize("year", [1970, 2106])
def test_no_clock_stops_a_commit_or_a_rollback(
    device: HostDevice, image: Path, monkeypatch: pytest.MonkeyPatch, year: int
) -> None:
    device.install(image)
    device.clock = datetime(year, 2, 7, tzinfo=UTC)
    monkeypatch.setattr(trust_time, "utc_now", lambda: device.clock)
    device.running, device.boots = SlotName.B, 2
    device.engine().boot()
    device.engine().check()
    kept = device.engine().commit(if_trial=True)
    assert kept is not None
    assert kept.outcome == "committed"
    assert device.environment()["slot_b"] == "good"


def test_a_clock_in_2106_is_named_with_the_dates_it_was_compared_with_and_an_override_is_audited(
    device: HostDevice, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trust_time, "utc_now", lambda: datetime(2106, 2, 7, tzinfo=UTC))
    with pytest.raises(RefusedError, match="expire") as error:
        device.install(image)
    assert any("2106-02-07" in str(reason) for reason in error.value.reasons)
    assert_untouched(device)
    device.install(image, InstallOptions(ignore_expiry=True))
    with device.record() as record:
        (overridden,) = [row.body for row in record.audit_rows() if row.event == "overridden"]
        assert overridden == {"options": ["ignore_expiry"], "release": "2.0", "origin": device.origin.as_dict()}
        (accepted,) = [row.body for row in record.audit_rows() if row.event == "accepted"]
        assert accepted["trust"]["time_source"] == "clock"
        assert accepted["trust"]["overridden"]


def test_a_clock_in_1970_is_overruled_by_the_build_time_and_by_what_was_verified(
    device: HostDevice, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trust_time, "utc_now", lambda: datetime(1970, 1, 1, tzinfo=UTC))
    built = datetime(2026, 1, 1, tzinfo=UTC)
    device.config = replace(device.config, trust=replace(device.config.trust, build_time=built))
    device.install(image)
    with device.record() as record:
        (accepted,) = [row.body for row in record.audit_rows() if row.event == "accepted"]
    assert (accepted["trust"]["time_source"], accepted["trust"]["reference"]) == ("build", "2026-01-01T00:00:00Z")


# Keys (S24)


def as_weak_as_before(bench: ReleaseBench, targets: int) -> None:
    """The first root with another threshold of targets, signed by its own keys: no tool makes such a 1 any more."""
    signers = Authority(bench.directory / "keys").signers("root")
    root = changed(
        bench.root.read_bytes(), lambda signed: signed["roles"]["targets"].update(threshold=targets), signers
    )
    bench.root.write_bytes(root)


def steal_roles(bench: ReleaseBench) -> None:
    """With the public documents and one private key of targets: a key directory in which all roles are the thief's."""
    authority, stolen = Authority(bench.directory / "keys"), bench.directory / "stolen"
    (stolen / "private").mkdir(parents=True)

    def take(signed: dict[str, Any]) -> None:
        signed["version"] += 1
        for role in signed["delegations"]["roles"]:
            key = Ed25519PrivateKey.generate()
            public = CryptoSigner(key).public_key
            signed["delegations"]["keys"][public.keyid] = public.to_dict()
            role |= {"keyids": [public.keyid], "threshold": 1}
            pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            (stolen / f"private/{role['name']}.mine.pem").write_bytes(pem)
        used = {key_id for role in signed["delegations"]["roles"] for key_id in role["keyids"]}
        keys = signed["delegations"]["keys"]
        signed["delegations"]["keys"] = {key_id: keys[key_id] for key_id in used}

    targets = (authority.directory / "targets.json").read_bytes()
    (stolen / "targets.json").write_bytes(changed(targets, take, authority.signers("targets")[:1]))
    (stolen / "1.root.json").write_bytes(bench.root.read_bytes())


@pytest.mark.verifies("S24")
@pytest.mark.parametrize(("targets", "code"), [(2, "signatures"), (1, "outranked")])
def test_one_targets_key_does_not_make_an_image_that_host_tool_or_device_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], targets: int, code: str
) -> None:
    team = ReleaseBench(tmp_path / "team")
    assert main(["keys", "init", str(team.directory / "keys"), "--roles", "engineering,clinical=2/3"]) == 0
    as_weak_as_before(team, targets)
    kept = team.directory / "keys/targets.json"
    (tmp_path / "device").mkdir()
    device = HostDevice(tmp_path / "device", team)
    with device.record() as record:
        record.keep_documents({"targets": kept.read_text()})
    steal_roles(team)
    image = team.image("9.0", 90, CONTENT, roles=("engineering", "clinical"), trust="stolen")
    capsys.readouterr()
    verify = ["verify", str(image), "--root", str(team.root), "--roles", "engineering,clinical"]
    assert main([*verify, "--targets", str(kept)]) == 4
    said = capsys.readouterr().err
    assert ("outranks role 'clinical', which goes from 2 of 3 keys to 1 of 1" in said) is (code == "outranked")
    with pytest.raises(RefusedError) as error:
        device.install(image)
    assert codes(error) == [code]
    assert_untouched(device)


@pytest.mark.verifies("S24")
def test_what_a_device_compares_with_comes_with_each_release_and_counts_from_its_commit_on(
    device: HostDevice, image: Path, bench: ReleaseBench
) -> None:
    transaction = device.install(image)
    with device.record() as record:
        pending = record.pending_documents(transaction.id)
        assert record.document("targets") is None
    assert pending["targets"] == (bench.directory / "keys/targets.json").read_text()


def commit(device: HostDevice) -> None:
    """The trial of slot b is well and is kept."""
    device.running, device.boots = SlotName.B, device.boots + 1
    device.engine().boot()
    device.engine().check()
    device.engine().commit(if_trial=True)


def forge(device: HostDevice, **entries: str) -> None:
    """What somebody does who can write the data partition and nothing else."""
    with contextlib.closing(sqlite3.connect(device.directory / "data/record.sqlite")) as database, database:
        for name, text in entries.items():
            row = f"document.{name}", text
            database.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", row)


@pytest.mark.slow
@pytest.mark.verifies("S24")
@pytest.mark.parametrize("entry", ["root", "roots"])
@pytest.mark.parametrize("version", [1, 2])
def test_a_foreign_root_in_the_record_makes_no_image_welcome_and_is_dropped(
    device: HostDevice, image: Path, tmp_path: Path, entry: str, version: int
) -> None:
    thief = ReleaseBench.make(tmp_path / "thief")
    assert main(["keys", "rotate", str(thief.directory / "keys"), "root"]) == 0
    root = (thief.directory / f"keys/{version}.root.json").read_text()
    forged = thief.image("9.0", 90, CONTENT)
    with device.record() as record:
        record.audit("as-before")
    forge(device, **{entry: root if entry == "root" else json.dumps([root])})
    for _ in range(2):
        with pytest.raises(RefusedError) as error:
            device.install(forged)
        assert codes(error)[0] == "signatures"
    assert_untouched(device)
    with device.record() as record:
        said = [row.body for row in record.audit_rows() if row.event == "roots-dropped"]
        kept = record.document("root"), record.document("roots")
    if version == 2:
        assert kept == (None, None)
        assert [(row["fit"], row["origin"]) for row in said] == [(0, device.origin.as_dict())], "once: it is gone"
        assert said[0]["dropped"] == [hashlib.sha256(root.encode()).hexdigest()]
    else:
        assert said == [], "no newer than the built-in one: nobody looks at it"
    device.install(image)
    assert device.environment()["slot_b"] == "trial"


@pytest.mark.verifies("S24")
def test_a_device_keeps_the_whole_chain_and_an_older_client_finds_the_newest_root(tmp_path: Path) -> None:
    team = ReleaseBench.make(tmp_path / "team")
    first = team.root.read_text()
    for _ in range(2):
        assert main(["keys", "rotate", str(team.directory / "keys"), "root"]) == 0
    (tmp_path / "device").mkdir()
    device = HostDevice(tmp_path / "device", team)
    device.install(team.image("2.0", 20, CONTENT))
    commit(device)
    roots = [(team.directory / f"keys/{version}.root.json").read_text() for version in (1, 2, 3)]
    with device.record() as record:
        assert (roots[0], json.loads(record.document("roots") or "")) == (first, roots[1:])
        assert record.document("root") == roots[2]
        assert record.audit_rows()[0].event != "roots-dropped"
    assert device.environment()["ts_root"] == "3"
    # An image that has only the newest root reaches a device that kept the others, and no other.
    for version in (1, 2):
        (team.directory / f"keys/{version}.root.json").rename(tmp_path / f"{version}.root.json")
    lean = team.image("3.0", 30, CONTENT)
    (tmp_path / "1.root.json").rename(team.root)
    device.install(lean)
    with device.record() as record:
        assert not [row for row in record.audit_rows() if row.event == "roots-dropped"]


def test_the_newest_root_of_an_older_client_is_taken_where_it_follows_and_dropped_behind_a_hole(tmp_path: Path) -> None:
    team = ReleaseBench.make(tmp_path / "team")
    for _ in range(2):
        assert main(["keys", "rotate", str(team.directory / "keys"), "root"]) == 0
    image = team.image("2.0", 20, CONTENT)
    roots = [(team.directory / f"keys/{version}.root.json").read_text() for version in (2, 3)]
    for newest, fit, stored in ((roots[0], None, roots), (roots[1], 0, roots)):
        (tmp_path / f"{fit}").mkdir()
        device = HostDevice(tmp_path / f"{fit}", team)
        with device.record() as record:
            record.keep_documents({"root": newest})
        device.install(image)
        commit(device)
        with device.record() as record:
            assert [row.body["fit"] for row in record.audit_rows() if row.event == "roots-dropped"] == (
                [] if fit is None else [fit]
            )
            assert json.loads(record.document("roots") or "") == stored
