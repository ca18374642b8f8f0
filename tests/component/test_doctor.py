"""`twinslot doctor` on a device in a directory: every row of the table of looks is made to find what it is for."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from host_device import HostDevice
from release_bench import ReleaseBench

import waits
from trust_samples import changed
from twinslot.app.local import LocalUpdater
from twinslot.bootloader.uboot import tool_lock as toollock
from twinslot.bootloader.uboot.backend import UBoot
from twinslot.cli.host import Host
from twinslot.cli.main import main
from twinslot.config.options import Config
from twinslot.core.boot_variables import arm, read_state
from twinslot.core.lifecycle import State
from twinslot.core.model import Release, SlotName, SlotRecord, StoredPayload
from twinslot.core.transaction import Transaction
from twinslot.crypto.keys import make_private
from twinslot.image.envelope import Kem
from twinslot.queries import doctor as doctor_module
from twinslot.queries import doctor_boot as looks_boot
from twinslot.queries import doctor_device as looks_device
from twinslot.queries.diagnosis import Diagnosis
from twinslot.repository.state import PollState, write_state
from twinslot.storage import mounts
from twinslot.storage.device_key import DeviceKeyFiles
from twinslot.storage.known_lists import KnownList, ListStore
from twinslot.storage.lock import this_boot
from twinslot.storage.record.record import Record
from twinslot.storage.running_slot import RunningSlot
from twinslot.trust.device_key import make_device_key
from twinslot_image.key_files import load_signer

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 6, 1, tzinfo=UTC)
CONFIG = """
[device]
compatible = "acme,pump-3"
[slots]
a = {{ rootfs = "{0}/slot_a" }}
b = {{ rootfs = "{0}/slot_b" }}
[trust]
root = "{0}/root.json"
roles = ["engineering", "clinical"]
build_time = 2026-01-01T00:00:00Z
[boot]
fw_env_config = "{0}/fw_env.config"
default_env = "{0}/default-env.txt"
[record]
directory = "{0}/data"
[health]
directories = ["{0}/health.d"]
"""


@dataclass
class Ward:
    """This machine, but for what a directory cannot be: the root mount, the clock, the files of the system."""

    directory: Path
    keys: Path
    slot: SlotName | None = SlotName.A
    claims: tuple[str, ...] = ()
    now: datetime = NOW
    root: bool = True

    @property
    def host(self) -> Host:
        """What the command line takes."""
        return Host(is_root=lambda: self.root, local=lambda config: _Here(self, config))

    def diagnosis(self, config: Config) -> Diagnosis:
        evidence = ("the root mount is /dev/mmcblk0p2 (179:2, erofs)",)
        where = RunningSlot(self.slot, frozenset(), evidence, self.claims)
        system = self.directory / "system"
        return doctor_module.doctor(config, root=system, running=lambda *_: where, now=self.now, is_root=self.root)

    def set(self, old: str, new: str) -> None:
        """Change the configuration."""
        path = self.directory / "etc/twinslot/config.toml"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def system(self, path: str, text: str = "") -> Path:
        """A file of the system."""
        found = self.directory / "system" / path
        found.parent.mkdir(parents=True, exist_ok=True)
        found.write_text(text)
        return found

    def check(self, name: str, mode: int = 0o755) -> None:
        """A health check."""
        path = self.directory / "health.d" / name
        path.write_text("#!/bin/sh\n")
        path.chmod(mode)

    def record(self) -> Record:
        """The record, for writing."""
        return Record(self.directory / "data", lambda: "2026-01-01T00:00:00Z", "boot")


class _Here(LocalUpdater):
    """This machine, but for what the ward says of it."""

    def __init__(self, ward: Ward, config: Config) -> None:
        super().__init__(config)
        self._ward = ward

    def doctor(self) -> Diagnosis:
        return self._ward.diagnosis(self.config)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> ReleaseBench:
    return ReleaseBench.make(tmp_path_factory.mktemp("bench"))


def root_until(keys: Path, day: str, version: int = 1) -> bytes:
    """The root of a key directory, good until then, signed anew by its own keys."""
    signers = [load_signer(path.read_bytes(), str(path)) for path in sorted((keys / "private").glob("root.*.pem"))]
    said = {"expires": f"{day}T00:00:00Z", "version": version}
    return changed((keys / "1.root.json").read_bytes(), lambda signed: signed.update(said), signers)


@pytest.fixture
def ward(tmp_path: Path, bench: ReleaseBench, monkeypatch: pytest.MonkeyPatch) -> Ward:
    """A device on which nothing is wrong."""
    device = HostDevice(tmp_path, bench)
    with device.record() as record:
        payload = {"rootfs": StoredPayload(8192, 4096, "0" * 64)}
        dates: dict[str, Any] = {"read_at": "2026-05-20T00:00:00Z", "started_at": "2026-05-10T00:00:00Z"}
        record.save_slot(SlotRecord(SlotName.B, Release("2026.10", 9), payload, **dates))
        record.saw_generation(1)
    device.rig.boot.write({"slot_b": "good", "ts_generation": "2"})
    device.rig.boot.settle()
    (tmp_path / "root.json").write_bytes(root_until(bench.directory / "keys", "2036-01-01"))
    (tmp_path / "etc/twinslot").mkdir(parents=True)
    (tmp_path / "etc/twinslot/config.toml").write_text(CONFIG.format(tmp_path))
    (tmp_path / "health.d").mkdir()
    make_device_key(DeviceKeyFiles(tmp_path / "data", ""))
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin/systemctl"
    program.write_text(f"#!/bin/sh\ncat {tmp_path}/watchdog\n")
    program.chmod(0o755)
    (tmp_path / "watchdog").write_text("RuntimeWatchdogUSec=30s\n")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    ward = Ward(tmp_path, bench.directory / "keys")
    ward.check("10-motor")
    ward.system("dev/watchdog0")
    return ward


def examined(ward: Ward, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    """Status and answer of `twinslot doctor --json`."""
    capsys.readouterr()
    status = main(["doctor", "--json", "--config-root", str(ward.directory)], ward.host)
    return status, json.loads(capsys.readouterr().out)


def bad(told: dict[str, Any]) -> set[tuple[str, str]]:
    """Name and severity of what is not fine."""
    return {(each["name"], each["severity"]) for each in told["findings"] if each["severity"] != "fine"}


@pytest.mark.verifies("REQ-CLI-08")
def test_on_a_device_without_a_fault_it_says_so(ward: Ward, capsys: pytest.CaptureFixture[str]) -> None:
    status, told = examined(ward, capsys)
    assert (status, told["healthy"], bad(told)) == (0, True, set())
    assert told["decision"] == "slot a runs; the next boot starts slot a"
    assert main(["doctor", "--config-root", str(ward.directory)], ward.host) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith(("ok    ", "        hint: ")) for line in lines[:-2])
    assert any(line.startswith("ok    environment: copy at ") and ", serial " in line for line in lines)


def no_slot(ward: Ward) -> None:
    ward.slot = None


def other_claim(ward: Ward) -> None:
    ward.claims = ("the kernel command line says slot 'b', but 'a' runs",)


def one_copy_damaged(ward: Ward) -> None:
    with (ward.directory / "card").open("r+b") as file:
        file.seek(0x1000 + 100)
        file.write(b"\xa5" * 512)


def no_environment(ward: Ward) -> None:
    (ward.directory / "fw_env.config").unlink()


def went_back(ward: Ward) -> None:
    with ward.record() as record:
        record.saw_generation(7)


def no_default(ward: Ward) -> None:
    (ward.directory / "default-env.txt").unlink()


def deadline_differs(ward: Ward) -> None:
    ward.system("usr/lib/twinslot/deadline.env", "# seconds\nTWINSLOT_DEADLINE=300\n")
    ward.system("etc/twinslot/deadline.env", 'TWINSLOT_DEADLINE="120"\n')


def deadline_of_the_configuration_differs(ward: Ward) -> None:
    ward.set("[record]", "[trial]\ndeadline = 180\n[record]")


def hook_only_in_the_unit(ward: Ward) -> None:
    ward.system("etc/twinslot/deadline.env", "TWINSLOT_HOOK=/usr/lib/product/hook\n")


def hook_only_in_the_configuration(ward: Ward) -> None:
    hook = ward.directory / "hook"
    hook.write_text("#!/bin/sh\nprintf 'slot=a\\nslot_a=good\\nslot_b=good\\nts_generation=2\\n'\n")
    hook.chmod(0o755)
    ward.set("[boot]", f'[boot]\nbackend = "hook"\nhook = "{hook}"')


def no_hook_file(ward: Ward) -> None:
    ward.set("[boot]", '[boot]\nbackend = "hook"\nhook = "/nowhere/hook"')
    ward.system("etc/twinslot/deadline.env", "TWINSLOT_HOOK=/nowhere/hook\n")


def describing(ward: Ward, said: str) -> None:
    hook = ward.directory / "hook"
    hook.write_text(f"#!/bin/sh\n[ $1 = describe ] && {{ {said}; }}\nprintf 'slot=a\\nslot_a=good\\nslot_b=good\\n'\n")
    hook.chmod(0o755)
    ward.set("[boot]", f'[boot]\nbackend = "hook"\nhook = "{hook}"')


def one_start(ward: Ward) -> None:
    describing(ward, "echo counts=no; exit")


def no_handing_over(ward: Ward) -> None:
    describing(ward, "echo hands_over=no; exit")


def no_reason(ward: Ward) -> None:
    describing(ward, "echo tells_reason=no; exit")


def one_copy(ward: Ward) -> None:
    describing(ward, "echo copies=1; exit")


def describes_nonsense(ward: Ward) -> None:
    describing(ward, "echo counts=perhaps; exit")


def watchdog_off(ward: Ward) -> None:
    (ward.directory / "watchdog").write_text("RuntimeWatchdogUSec=0\n")


def worn_medium(ward: Ward) -> None:
    place = "sys/class/mmc_host/mmc0/mmc0:0001"
    for name, text in (("life_time", "0x0a 0x01"), ("pre_eol_info", "0x01"), ("name", "8GTF4R")):
        ward.system(f"{place}/{name}", f"{text}\n")


def in_use_for_ever(ward: Ward) -> None:
    held(ward, days=15)


def held(ward: Ward, days: float, uptime: float = 20.0) -> None:
    """By a file that is so old, on a device that runs for so many days."""
    path = ward.system("run/twinslot/inhibit.d/therapy", "an infusion runs\n")
    begun = ward.now.timestamp() - days * 86_400
    os.utime(path, (begun, begun))
    ward.system("proc/uptime", f"{uptime * 86_400:.2f} 0.00\n")


def no_watchdog_device(ward: Ward) -> None:
    (ward.directory / "system/dev/watchdog0").unlink()


def systemd_silent(ward: Ward) -> None:
    (ward.directory / "bin/systemctl").write_text("#!/bin/sh\nexit 1\n")


def tool_lock_open(ward: Ward) -> None:
    ward.system(str(toollock.TOOL_LOCKS[0]).lstrip("/")).chmod(0o666)


def broken_chain(ward: Ward) -> None:
    with ward.record() as record:
        record.audit("one")
        record.audit("two")
    database = sqlite3.connect(ward.directory / "data/record.sqlite")
    database.execute("UPDATE audit SET event = 'three' WHERE event = 'two'")
    database.commit()
    database.close()


def no_record(ward: Ward) -> None:
    (ward.directory / "data/record.sqlite").unlink()


def no_partition(ward: Ward) -> None:
    (ward.directory / "slot_b").unlink()


def type_not_known(ward: Ward) -> None:
    ward.set("[record]", '[slots.types]\nrootfs = "file"\n[record]')


def other_slot_changed(ward: Ward) -> None:
    ListStore(ward.directory / "data/lists").save(SlotName.B, "rootfs", KnownList(8192, 4096, "0" * 64, bytes(64)))


def other_slot_not_known(ward: Ward) -> None:
    with ward.record() as record:
        record.forget_slot(SlotName.B)


def no_checks(ward: Ward) -> None:
    (ward.directory / "health.d/10-motor").unlink()


def only_wanted_checks(ward: Ward) -> None:
    no_checks(ward)
    ward.set("[health]", '[[health.command]]\nname = "x"\nargv = ["true"]\nrequired = false\n[health]')


def check_without_x(ward: Ward) -> None:
    ward.check("20-pump", 0o644)


def leftover_check(ward: Ward) -> None:
    ward.check("20-pump.bak")


def check_gone(ward: Ward) -> None:
    (ward.directory / "health.d/20-pump").symlink_to("/nowhere/pump")


def check_twice(ward: Ward) -> None:
    ward.set("[health]", '[[health.command]]\nname = "10-motor"\nargv = ["true"]\n[health]')


def unit_pattern(ward: Ward) -> None:
    ward.set("[health]", '[health]\nunits = ["pump*"]')


def drop_in_without_suffix(ward: Ward) -> None:
    ward.system("etc/twinslot/config.d/10-http.conf")


def drop_in_hidden(ward: Ward) -> None:
    ward.system("etc/twinslot/config.d/.10-http.toml")


def drop_in_to_nowhere(ward: Ward) -> None:
    ward.system("etc/twinslot/config.d/10-masked.toml").unlink()
    (ward.directory / "system/etc/twinslot/config.d/10-masked.toml").symlink_to("/dev/null")
    (ward.directory / "system/etc/twinslot/config.d/20-x.toml").symlink_to("/nowhere/x")


def root_expired(ward: Ward) -> None:
    (ward.directory / "root.json").write_bytes(root_until(ward.keys, "2026-05-31"))


def root_expires_soon(ward: Ward) -> None:
    (ward.directory / "root.json").write_bytes(root_until(ward.keys, "2026-07-01"))


def newer_root_expires_soon(ward: Ward) -> None:
    newer = root_until(ward.keys, "2026-07-02", 2).decode()
    with ward.record() as record:
        record.keep_documents({"root": newer, "roots": json.dumps([newer])})


def root_of_another(ward: Ward) -> None:
    """Put into the record by who can write it; that it expired is nobody's concern."""
    document = json.loads(root_until(ward.keys, "2026-05-31", 2))
    document["signed"]["expires"] = "2026-05-30T00:00:00Z"
    with ward.record() as record:
        record.keep_documents({"root": json.dumps(document), "roots": json.dumps([json.dumps(document)])})


def manifest_expired(ward: Ward) -> None:
    with ward.record() as record:
        record.keep_documents({"dates": json.dumps({"manifest": "2026-05-01T00:00:00+00:00"})})


def no_root_file(ward: Ward) -> None:
    (ward.directory / "root.json").unlink()


def root_is_no_root(ward: Ward) -> None:
    (ward.directory / "root.json").write_text("[]")


def no_build_time(ward: Ward) -> None:
    ward.set("build_time = 2026-01-01T00:00:00Z\n", "")


def clock_before_build(ward: Ward) -> None:
    ward.now = datetime(1970, 1, 1, tzinfo=UTC)


def no_device_key(ward: Ward) -> None:
    (ward.directory / "data/device-key.pub").unlink()


def device_key_of_another(ward: Ward) -> None:
    (ward.directory / "data/device-key.pem").unlink()
    make_device_key(DeviceKeyFiles(ward.directory / "another", ""))
    (ward.directory / "another/device-key.pem").rename(ward.directory / "data/device-key.pem")


def taken_out_of_service(ward: Ward) -> None:
    with ward.record() as record:
        record.keep_retired()
    (ward.directory / "data/device-key.pem").unlink()


def device_key_open(ward: Ward) -> None:
    (ward.directory / "data/device-key.pem").chmod(0o444)


def other_rows(ward: Ward) -> None:
    with Record(ward.directory / "data", lambda: "") as record:
        record.audit("checked")
    UBoot(ward.directory / "fw_env.config", timeout=waits.HANG).write({"ts_audit": "77-" + "0" * 64, "ts_x": "1"})


def never_read(ward: Ward) -> None:
    _change_other_slot(ward, read_at="")


def never_started(ward: Ward) -> None:
    _change_other_slot(ward, started_at="")


def unsound(ward: Ward) -> None:
    _change_other_slot(ward, unsound="payload 'rootfs' in slot 'b' is not what was installed")


def _change_other_slot(ward: Ward, **fields: str) -> None:
    with Record(ward.directory / "data", lambda: "") as record:
        known = record.slot(SlotName.B)
        assert known is not None
        record.save_slot(replace(known, **fields))  # type: ignore[arg-type]


def repository(ward: Ward, **state: Any) -> None:
    """One is configured, and polls have found this."""
    (ward.directory / "repository-root.json").write_text("{}")
    table = f'[repository]\nurl = "https://server/fleet"\nroot = "{ward.directory}/repository-root.json"\n'
    ward.set("[record]", f"{table}[record]")
    if state:
        write_state(ward.directory / "data", PollState("https://server/fleet", **state))


def never_polled(ward: Ward) -> None:
    repository(ward)


def no_repository_root(ward: Ward) -> None:
    repository(ward)
    (ward.directory / "repository-root.json").unlink()


def repository_frozen(ward: Ward) -> None:
    repository(ward, first="2026-05-01T00:00:00+00:00", fresh="2026-05-30T00:00:00+00:00", stale="frozen", failures=1)


def repository_silent(ward: Ward) -> None:
    repository(ward, first="2026-05-01T00:00:00+00:00", fresh="2026-05-17T00:00:00+00:00")


def polls_failed(ward: Ward) -> None:
    error = {"code": "transport.network", "message": "the server is away"}
    repository(ward, first="2026-05-31T00:00:00+00:00", failures=3, error=error)


def no_decryption_key(ward: Ward) -> None:
    ward.set("[record]", f'[decryption]\nkey = "{ward.directory}/key.pem"\n[record]')


def decryption_key_open(ward: Ward) -> None:
    no_decryption_key(ward)
    (ward.directory / "key.pem").write_bytes(make_private(Kem.X25519).pem())
    (ward.directory / "key.pem").chmod(0o644)


def decryption_key_of_another_kind(ward: Ward) -> None:
    no_decryption_key(ward)
    (ward.directory / "key.pem").write_text("hello\n")
    (ward.directory / "key.pem").chmod(0o400)


def plain_http(ward: Ward) -> None:
    ward.set("[health]", '[http]\nschemes = ["https", "http"]\n[health]')


def window_of_the_past(ward: Ward) -> None:
    ward.set("[health]", '[[policy.restart_window]]\ncalendar = "2020-01-01 02:00"\nduration = 7200\n[health]')


FINDINGS: list[tuple[Callable[[Ward], None], str, str, str]] = [
    (no_slot, "running-slot", "fault", "no configured slot holds the root file system: the root mount is /dev/mm"),
    (other_claim, "claims", "warning", "the kernel command line says slot 'b'"),
    (one_copy_damaged, "environment", "warning", "is corrupt"),
    (no_environment, "environment", "fault", "cannot be read"),
    (went_back, "reconciled", "warning", "the environment went back from generation 7 to 2"),
    (no_default, "default-environment", "warning", "there is no default environment at"),
    (deadline_differs, "deadline", "warning", "the deadline unit waits 120 seconds, 'trial.deadline' says 300"),
    (deadline_of_the_configuration_differs, "deadline", "warning", "waits 300 seconds, 'trial.deadline' says 180"),
    (hook_only_in_the_unit, "hook", "fault", "the deadline unit uses the hook '/usr/lib/product/hook', the conf"),
    (hook_only_in_the_configuration, "hook", "fault", "the deadline unit uses U-Boot's tools, the configuration the"),
    (no_hook_file, "hook", "fault", "the hook '/nowhere/hook' is not an executable file"),
    (one_copy, "loader", "warning", "the boot loader's hook keeps the environment once"),
    (describes_nonsense, "loader", "unknown", "the hook does not tell what the boot loader can do"),
    (watchdog_off, "watchdog", "warning", "systemd feeds no watchdog"),
    (no_watchdog_device, "watchdog", "warning", "there is no watchdog device"),
    (in_use_for_ever, "in-use", "warning", "'therapy' (file) uses the device since "),
    (worn_medium, "wear", "warning", "says that 100 % of its life are used"),
    (systemd_silent, "watchdog", "unknown", "systemd does not tell"),
    (tool_lock_open, "tool-lock", "warning", "may be opened by others (mode 0666)"),
    (broken_chain, "record", "fault", "does not follow from the one before"),
    (other_rows, "record", "fault", "the audit is not the one of which the boot environment has the end at row 77"),
    (no_record, "record", "warning", "record"),
    (type_not_known, "partitions", "fault", "payload 'rootfs' is of type 'file', which this client does not know"),
    (no_partition, "partitions", "fault", "slot_b' (rootfs of slot b) does not exist"),
    (other_slot_changed, "other-slot", "fault", "slot b is good, and payload 'rootfs' no longer begins as installed"),
    (other_slot_not_known, "other-slot", "warning", "slot b is good, and the record does not know what it holds"),
    (never_read, "fallback", "warning", "slot b was never read whole"),
    (never_started, "fallback", "warning", "no system is known to have started from slot b"),
    (unsound, "fallback", "fault", "slot b was read and is not sound: payload 'rootfs' in slot 'b' is not what was"),
    (no_checks, "health-checks", "warning", "no required health check is configured"),
    (only_wanted_checks, "health-checks", "warning", "no required health check is configured"),
    (check_without_x, "health-checks", "warning", "'20-pump' is not asked: the file is not executable"),
    (leftover_check, "health-checks", "warning", "'20-pump.bak' is not asked"),
    (check_gone, "health-checks", "fault", "'20-pump' is not asked: the file cannot be looked at"),
    (check_twice, "health-checks", "warning", "the second is asked as '10-motor (2)'"),
    (unit_pattern, "health-checks", "fault", "'pump*' is a pattern of units"),
    (drop_in_without_suffix, "drop-ins", "warning", "'10-http.conf' in /etc/twinslot/config.d is not read"),
    (drop_in_hidden, "drop-ins", "warning", "'.10-http.toml' in /etc/twinslot/config.d is not read"),
    (drop_in_to_nowhere, "drop-ins", "warning", "'20-x.toml' in /etc/twinslot/config.d is not read: it is no file"),
    (root_expired, "trust", "warning", "the root document expired on 2026-05-31"),
    (root_expires_soon, "trust", "warning", "the root document expires soon, on 2026-07-01"),
    (newer_root_expires_soon, "trust", "warning", "the root document expires soon, on 2026-07-02"),
    (root_of_another, "trust", "warning", "1 of 1 root documents in the record do not follow from '"),
    (manifest_expired, "trust", "warning", "the manifest of the running release expired on 2026-05-01"),
    (no_root_file, "trust", "fault", "cannot be read: found 'No such file or directory'"),
    (root_is_no_root, "trust", "fault", "is no root document"),
    (no_device_key, "device-key", "warning", "this device has no key of its own"),
    (device_key_of_another, "device-key", "fault", "is the public part of another key"),
    (device_key_open, "device-key", "fault", "may be read or replaced by others"),
    (
        taken_out_of_service,
        "device-key",
        "warning",
        "this device was taken out of service, and its keys were destroyed",
    ),
    (never_polled, "repository", "warning", "'https://server/fleet' was never asked"),
    (no_repository_root, "repository", "fault", "there is no '"),
    (repository_frozen, "repository", "warning", "what the repository gives has expired"),
    (repository_silent, "repository", "warning", "the repository has given nothing fresh for a long time"),
    (polls_failed, "repository", "warning", "the last 3 polls failed"),
    (no_decryption_key, "decryption-key", "fault", "key.pem' cannot be read"),
    (decryption_key_open, "decryption-key", "fault", "key.pem' is not kept secret"),
    (decryption_key_of_another_kind, "decryption-key", "fault", "the decryption key cannot be used"),
    (plain_http, "addresses", "warning", "addresses that begin with http:// are allowed"),
    (no_build_time, "clock", "warning", "'trust.build_time' is not set"),
    (window_of_the_past, "clock", "warning", "no 'restart' window is open, and none ever opens again"),
    (clock_before_build, "clock", "warning", "which is before the build time of this system (2026-01-01"),
]


@pytest.mark.verifies("REQ-CLI-08")
@pytest.mark.parametrize(("provoke", "name", "severity", "text"), FINDINGS, ids=[row[0].__name__ for row in FINDINGS])
def test_each_look_finds_what_it_is_for(
    ward: Ward,
    capsys: pytest.CaptureFixture[str],
    provoke: Callable[[Ward], None],
    name: str,
    severity: str,
    text: str,
) -> None:
    provoke(ward)
    status, told = examined(ward, capsys)
    assert (name, severity) in bad(told)
    found = [each for each in told["findings"] if (each["name"], each["severity"]) == (name, severity)]
    assert any(text in each["text"] for each in found), found
    assert status == (6 if any(each["severity"] == "fault" for each in told["findings"]) else 0)
    assert told["findings"][0]["severity"] != "fine", "the worst come first"


def test_an_inhibitor_is_told_with_who_since_when_and_why_and_warned_of_when_updates_waited_for_longer_than_for_people(
    ward: Ward, capsys: pytest.CaptureFixture[str]
) -> None:
    def found() -> tuple[str, str]:
        (one,) = [each for each in examined(ward, capsys)[1]["findings"] if each["name"] == "in-use"]
        return one["severity"], one["text"]

    assert found() == ("fine", "nobody says that the device is in use; programs in 'ready.d' were not asked")
    held(ward, days=13)
    begun = f"{ward.now - timedelta(days=13):%Y-%m-%d %H:%M} UTC"
    text = f"'therapy' (file) uses the device since {begun}, for 13.0 days: an infusion runs"
    assert found() == ("fine", text), "the limit of people is fourteen days"
    ward.set("[record]", "[policy.consent]\nlimit = 1000000\n[record]")
    assert found() == ("warning", text)
    held(ward, days=20_000, uptime=0.5)
    assert found()[0] == "fine", "the clock was set after the start: nothing outlives one"
    held(ward, days=-3)
    assert "for 0.0 days" in found()[1], "nor began it tomorrow"


def test_an_update_that_is_armed_is_no_reason_for_a_warning(ward: Ward, capsys: pytest.CaptureFixture[str]) -> None:
    release, boot = Release("2026.11", 11), UBoot(ward.directory / "fw_env.config", timeout=waits.HANG)
    ward.claims = (
        "the boot environment says slot 'b', but 'a' runs",
        "the kernel command line says slot 'b', but 'a' runs",
    )
    assert [each for each in examined(ward, capsys)[1]["findings"] if each["text"] == ward.claims[0]]
    with ward.record() as record:
        armed = Transaction("d" * 32, State.ARMED, SlotName.B, release, armed=True, boot_id=this_boot())
        record.save(armed, "activate")
    boot.write(arm(read_state(boot.read().variables), SlotName.B, armed.id, release, SlotName.A))
    _, told = examined(ward, capsys)
    found = {each["text"]: each["severity"] for each in told["findings"] if each["name"] in ("claims", "other-slot")}
    assert found == {ward.claims[1]: "warning", "slot b holds 2026.11, which starts on trial next": "fine"}


def test_copies_close_together_on_a_card_are_found(
    ward: Ward, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    card = ward.directory / "system/sys/devices/mmc0/block/mmcblk0"
    (card / "mmcblk0p1").mkdir(parents=True)
    (card / "mmcblk0p1/partition").write_text("1\n")
    (card / "mmcblk0p1/start").write_text("20480\n")
    numbers = ward.directory / "system/sys/dev/block"
    numbers.mkdir(parents=True)
    (numbers / "179:0").symlink_to(card)
    (numbers / "179:1").symlink_to(card / "mmcblk0p1")
    devices = {"/dev/mmcblk0": (179, 0), "/dev/mmcblk0p1": (179, 1)}
    monkeypatch.setattr(mounts, "device_of", lambda path: devices.get(str(path)))
    for second, severity in [("/dev/mmcblk0 0x300000", "warning"), ("/dev/mmcblk0p1 0x0", "fine")]:
        (ward.directory / "fw_env.config").write_text(f"/dev/mmcblk0 0x100000 0x2000\n{second} 0x2000\n")
        _, told = examined(ward, capsys)
        (found,) = [each for each in told["findings"] if each["name"] == "distance"]
        assert found["severity"] == severity, found


def test_a_full_data_partition_is_found(
    ward: Ward, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looks_device, "SPACE", 1 << 60)
    _, told = examined(ward, capsys)
    assert ("space", "warning") in bad(told)


@pytest.mark.verifies("REQ-CLI-08")
def test_every_look_is_provoked_to_its_worst() -> None:
    elsewhere = {"distance", "space"}  # the tests around this one
    elsewhere |= {"reports"}  # tests/component/test_reports.py, where a server does not take them
    worst = {look.name: str(look.worst) for look in doctor_module.LOOKS}
    assert worst.keys() - elsewhere == {row[1] for row in FINDINGS}
    for name in worst.keys() - elsewhere:
        assert (name, worst[name]) in {(row[1], row[2]) for row in FINDINGS}


def test_a_user_who_is_not_root_is_told_what_he_cannot_read_and_that_is_no_fault(
    ward: Ward, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> int:
        raise PermissionError(13, os.strerror(13), "card")

    ward.root = False
    monkeypatch.setattr("twinslot.bootloader.uboot.medium._open", refuse)
    status, told = examined(ward, capsys)
    assert status == 0
    assert bad(told) == {("environment", "unknown"), ("device-key", "unknown")}
    assert told["decision"] is None
    assert main(["doctor", "--config-root", str(ward.directory)], ward.host) == 0
    out = capsys.readouterr().out
    assert "?     environment: not readable without root\n" in out
    assert out.endswith("decision  not known without root\n")


def test_the_hint_at_root_is_only_given_where_rights_were_missing(
    ward: Ward, capsys: pytest.CaptureFixture[str]
) -> None:
    no_environment(ward)
    for ward.root in (True, False):
        assert main(["doctor", "--config-root", str(ward.directory)], ward.host) == 6
        out = capsys.readouterr().out
        assert "sudo" not in out
        assert "rebuilt" not in out, "nothing is known of the environment"


def test_the_page_is_printed_from_the_table() -> None:
    assert (ROOT / "docs/doctor.md").read_text() == doctor_module.page(), "run: python docs/make_doctor.py"


def test_the_deadline_of_the_shell_is_the_default_here() -> None:
    assert f"TWINSLOT_DEADLINE:={looks_boot.DEADLINE}}}" in (ROOT / "systemd/deadline").read_text()


@pytest.mark.parametrize(
    ("arrange", "text"),
    [
        (one_start, "the boot loader starts a slot on trial once: any reset before the commit is a rollback"),
        (no_handing_over, "the boot loader changes no variable when it leaves a trial"),
        (no_reason, "the boot loader does not say why it left a slot: the reason is 'not-booted' or 'resets'"),
    ],
)
def test_what_the_boot_loader_cannot_do_is_said_and_is_no_fault(
    ward: Ward, capsys: pytest.CaptureFixture[str], arrange: Callable[[Ward], None], text: str
) -> None:
    arrange(ward)
    found = [each for each in examined(ward, capsys)[1]["findings"] if each["name"] == "loader"]
    assert [each["severity"] for each in found] == ["fine"]
    assert found[0]["text"].startswith(text)


def test_a_boot_loader_that_keeps_its_variables_once_gets_no_finding_about_copies(
    ward: Ward, capsys: pytest.CaptureFixture[str]
) -> None:
    one_copy(ward)
    tool_lock_open(ward)  # of a tool that nobody here uses
    found = examined(ward, capsys)[1]["findings"]
    assert not [each for each in found if "cop" in each["text"]]
    assert not [each for each in found if each["name"] in ("distance", "tool-lock")]
    (said,) = [each["text"] for each in found if "environment at" in each["text"]]
    assert said == f"environment at {ward.directory / 'hook'} is current"


@pytest.mark.parametrize(
    ("armed_in", "hands_over", "text"),
    [
        ("another", "no", "slot a runs, after an update was left; the next boot starts slot a"),
        ("this", "no", "slot a runs, and an update is armed; the next boot starts slot b"),
        ("another", "yes", "slot a runs, and an update is armed; the next boot starts slot b"),
    ],
)
def test_what_the_next_start_finds_is_foretold_by_what_the_boot_loader_does(
    ward: Ward, capsys: pytest.CaptureFixture[str], armed_in: str, hands_over: str, text: str
) -> None:
    said = "slot=b slot_a=good slot_b=trial upgrade_available=1 ts_release=20 ts_txn=7 ts_generation=2"
    describing(ward, f"echo hands_over={hands_over}; exit; }}; {{ printf '%s\\n' {said}; exit")
    boot = this_boot() if armed_in == "this" else armed_in
    with ward.record() as record:
        update = Transaction("7", State.ARMED, SlotName.B, Release("2.0", 20), armed=True, boot_id=boot)
        record.save(update, "activate")
    assert examined(ward, capsys)[1]["decision"] == text


@pytest.mark.verifies("S24")
def test_roots_in_the_record_that_follow_from_nothing_are_said_not_to_count(
    ward: Ward, capsys: pytest.CaptureFixture[str]
) -> None:
    root_of_another(ward)
    main(["doctor", "--json", "--config-root", str(ward.directory)], ward.host)
    findings = json.loads(capsys.readouterr().out)["findings"]
    texts = [each["text"] for each in findings if each["name"] == "trust"]
    assert any("1 of 1 root documents in the record do not follow" in text for text in texts)
    assert not any("2026-05-3" in text for text in texts), "what they say of themselves is not shown"
