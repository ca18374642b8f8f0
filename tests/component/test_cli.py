"""The command on a device of this host: signed images, real workers, real libubootenv; signals by process id."""

from __future__ import annotations

import base64
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import pytest
from bus_bench import Caller, private_bus, service_on
from file_web import serving_files
from host_device import CONFIG, SLOT_SIZE, HostDevice
from release_bench import ReleaseBench

import waits
from twinslot.cli.main import main
from twinslot_image.cli import main as make_images

pytestmark = pytest.mark.slow

CONTENT = b"superblock".ljust(4096, b"\1") + random.Random(1).randbytes(700_000) + bytes(100_000)

# A process that is `twinslot` on a device in a directory: slots in files, and the root mount said instead of found.
PROGRAM = """
import sys
sys.path[:0] = {path!r}
from pathlib import Path
from bus_bench import Caller, private_bus, service_on
from host_device import HostDevice
from release_bench import ReleaseBench
from twinslot.cli import main as cli
from twinslot.engine import assemble
device = HostDevice(Path({directory!r}), ReleaseBench(Path({bench!r})))
assemble.open_device = lambda config, get_worker, origin: device.edges()
sys.exit(cli.main(["--no-service", "--config-root", {directory!r}, *sys.argv[1:]]))
"""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> ReleaseBench:
    bench = ReleaseBench.make(tmp_path_factory.mktemp("bench"))
    bench.image("2.0", 20, CONTENT)
    return bench


@pytest.fixture
def image(bench: ReleaseBench) -> Path:
    return bench.directory / "2.0.twin"


@dataclass
class Machine:
    """A directory that is a device, and `twinslot` in processes of its own."""

    directory: Path
    bench: ReleaseBench

    def start(self, *argv: str, stdin: int | IO[bytes] = subprocess.DEVNULL) -> subprocess.Popen[str]:
        """Start one command."""
        code = PROGRAM.format(path=sys.path, directory=str(self.directory), bench=str(self.bench.directory))
        pipe = subprocess.PIPE
        return subprocess.Popen([sys.executable, "-c", code, *argv], stdin=stdin, stdout=pipe, stderr=pipe, text=True)

    def environment(self) -> dict[str, str]:
        """What U-Boot would read."""
        argv = ["fw_printenv", "-c", str(self.directory / "fw_env.config"), "-f", "/dev/null/none"]
        printed = subprocess.run(argv, capture_output=True, text=True, check=False).stdout
        return dict(line.split("=", 1) for line in printed.splitlines() if "=" in line)

    def slot(self, name: str) -> bytes:
        """A slot's bytes."""
        return (self.directory / f"slot_{name}").read_bytes()


@pytest.fixture
def machine(tmp_path: Path, bench: ReleaseBench) -> Machine:
    (tmp_path / "etc/twinslot").mkdir(parents=True)
    (tmp_path / "etc/twinslot/config.toml").write_text(CONFIG.format(directory=tmp_path, root=bench.root))
    return Machine(tmp_path, bench)


def lines(text: str) -> list[dict[str, Any]]:
    """JSON lines."""
    return [json.loads(line) for line in text.splitlines()]


def test_an_image_is_installed_from_a_file(machine: Machine, image: Path) -> None:
    process = machine.start("install", str(image), "--json")
    out, err = process.communicate(timeout=waits.HANG)
    assert (process.returncode, err) == (0, "")
    *progress, result = lines(out)
    assert {line["type"] for line in progress} == {"progress"}
    transaction = result["transaction"]
    assert (transaction["state"], transaction["target"], transaction["release"]["name"]) == ("armed", "b", "2.0")
    assert transaction["bytes_fetched"] == image.stat().st_size
    assert machine.slot("b") == CONTENT.ljust(SLOT_SIZE, b"\0")
    assert machine.environment()["slot"] == "b"


@pytest.fixture
def encrypted(machine: Machine, bench: ReleaseBench) -> Path:
    """An image for this device's key."""
    key = machine.directory / "decryption.pem"
    assert make_images(["recipients", "new", str(key)]) == 0
    return bench.image("5.0", 50, CONTENT, recipients=(key.with_suffix(".pub.pem"),))


def with_key(machine: Machine) -> None:
    with (machine.directory / "etc/twinslot/config.toml").open("a") as file:
        file.write(f'[decryption]\nkey = "{machine.directory}/decryption.pem"\n[http]\nretry_wait = 0.05\n')


def test_an_encrypted_image_is_refused_by_a_device_without_a_key(machine: Machine, encrypted: Path) -> None:
    process = machine.start("install", str(encrypted))
    _, err = process.communicate(timeout=waits.HANG)
    assert (process.returncode, err.splitlines()[-1]) == (6, "  hint: set '[decryption] key'")
    assert machine.environment()["slot"] == "a"
    assert machine.slot("b") == b"b" * SLOT_SIZE


def test_an_encrypted_image_is_installed_from_a_file(machine: Machine, encrypted: Path) -> None:
    with_key(machine)
    out, err = machine.start("install", str(encrypted), "--json").communicate(timeout=waits.HANG)
    assert err == ""
    assert lines(out)[-1]["transaction"]["release"]["name"] == "5.0"
    assert machine.slot("b") == CONTENT.ljust(SLOT_SIZE, b"\0")
    assert machine.environment()["slot"] == "b"


def test_an_encrypted_image_is_fetched_on_where_the_network_cut_it(machine: Machine, encrypted: Path) -> None:
    with_key(machine)
    with serving_files(encrypted.parent) as web:
        web.left = encrypted.stat().st_size // 2
        process = machine.start("install", web.url(encrypted.name), "--json")
        waits.until(lambda: web.left is not None and web.left < 4096)
        web.left = None
        out, _ = process.communicate(timeout=waits.HANG)
        assert process.returncode == 0
        assert web.sent[encrypted.name] < encrypted.stat().st_size * 1.5, "what had come was kept"
    assert lines(out)[-1]["transaction"]["release"]["name"] == "5.0"
    assert machine.slot("b") == CONTENT.ljust(SLOT_SIZE, b"\0")


JOURNAL = """
import os, socket, subprocess, sys
os.makedirs("/run/systemd/journal")
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
    journal.bind("/run/systemd/journal/socket")
    journal.setblocking(False)
    subprocess.run([sys.executable, "-c", {program!r}, *sys.argv[1:]], check=True, stdout=subprocess.DEVNULL)
    try:
        while True:
            sys.stdout.buffer.write(journal.recv(1 << 18) + b"\\n")
    except BlockingIOError:
        pass
"""


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="makes a mount namespace")
def test_the_journal_hears_of_each_step_of_an_install_by_its_own_socket(machine: Machine, image: Path) -> None:
    program = PROGRAM.format(path=sys.path, directory=str(machine.directory), bench=str(machine.bench.directory))
    script = JOURNAL.format(program=program)
    command = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs tmpfs /run && exec "$@"', "sh"]
    command += [sys.executable, "-c", script, "install", str(image)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=waits.HANG, check=True)
    entries = [dict(line.split("=", 1) for line in entry.splitlines()) for entry in result.stdout.split("\n\n")[:-1]]
    told = {entry["TWINSLOT_EVENT"]: entry for entry in entries if "TWINSLOT_EVENT" in entry}
    assert list(told) == ["accepted", "verified", "activate"]
    for entry in told.values():
        assert (entry["PRIORITY"], entry["SYSLOG_IDENTIFIER"], len(entry["MESSAGE_ID"])) == ("6", "twinslot", 32)
        assert (entry["TWINSLOT_RELEASE"], entry["TWINSLOT_SLOT"], len(entry["TWINSLOT_TRANSACTION"])) == (
            "2.0",
            "b",
            32,
        )


@pytest.mark.verifies("REQ-IMG-01")
def test_an_image_is_installed_from_a_pipe(machine: Machine, image: Path) -> None:
    with subprocess.Popen(["cat", str(image)], stdout=subprocess.PIPE) as cat:
        assert cat.stdout is not None
        process = machine.start("install", "-", stdin=cat.stdout)
        out, err = process.communicate(timeout=waits.HANG)
    assert process.returncode == 0, err
    assert out.splitlines()[0] == "2.0 (sequence 20) starts on trial from slot b at the next boot"
    assert "writing: 0 %" in err
    assert machine.environment()["slot"] == "b"


def until_phase(process: subprocess.Popen[str], phase: str) -> None:
    """Read the lines that it prints, until this phase has begun."""
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line).get("phase") == phase:
            return
    raise AssertionError(f"'{phase}' never began")


@pytest.mark.verifies("REQ-CLI-06")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("phase", ["verify", "write"])
def test_an_interrupted_install_ends_in_a_defined_state_and_tells_it(
    machine: Machine, image: Path, number: signal.Signals, status: int, phase: str
) -> None:
    reader, writer = os.pipe()
    process = machine.start("install", "-", "--json", stdin=reader)
    os.close(reader)
    data = image.read_bytes()
    try:
        os.write(writer, data[: 1000 if phase == "verify" else len(data) - 200_000])  # and then the source says nothing
        until_phase(process, phase)
        process.send_signal(number)
        out, err = process.communicate(timeout=waits.HANG)
    finally:
        os.close(writer)
    assert (process.returncode, err) == (status, "")
    last = lines(out)[-1]
    assert (last["type"], last["exit_status"]) == ("error", status)
    assert last["code"].startswith("cancelled")
    assert last["slots"]["b"]["state"] == "bad"
    assert machine.environment()["slot"] == "a"
    assert machine.slot("a") == b"a" * SLOT_SIZE
    if phase == "write":
        assert not any(machine.slot("b")[:65536]), "the slot does not load"
    else:
        assert machine.slot("b") == b"b" * SLOT_SIZE, "nothing of it was touched"


@pytest.mark.verifies("REQ-CLI-06")
def test_a_person_who_interrupts_reads_what_the_slots_hold(machine: Machine, image: Path) -> None:
    reader, writer = os.pipe()
    process = machine.start("install", "-", stdin=reader)
    os.close(reader)
    assert process.stderr is not None
    try:
        os.write(writer, image.read_bytes()[:-200_000])
        while "writing: " not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=waits.HANG)
    finally:
        os.close(writer)
    assert process.returncode == 130
    assert "twinslot: stopping\n" in err
    assert "twinslot: the install was cancelled\n" in err
    assert "Traceback" not in err
    assert "   b     bad " in out


def test_a_reader_that_leaves_does_not_stop_the_install(machine: Machine, image: Path) -> None:
    process = machine.start("install", str(image), "--json")
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(waits.HANG) == 0
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()
    assert machine.environment()["slot"] == "b"


def test_a_truncated_image_is_the_senders_fault(machine: Machine, image: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.twin"
    cut.write_bytes(image.read_bytes()[:-1])
    process = machine.start("install", str(cut))
    _, err = process.communicate(timeout=waits.HANG)
    assert process.returncode == 3
    assert err.splitlines()[-2].startswith("twinslot: ")
    assert err.splitlines()[-1] == "  hint: fetch the image again"
    assert machine.environment()["slot"] == "a"


# info: in this process, with the real trust process


def info(machine: Machine, *argv: str | Path) -> int:
    """Look at an image on the device."""
    return main(["info", *map(str, argv), "--config-root", str(machine.directory)])


@pytest.fixture
def made(machine: Machine, tmp_path: Path, bench: ReleaseBench) -> HostDevice:
    """The device, so that its environment and record exist."""
    device = HostDevice(tmp_path, bench)
    device.record().close()
    return device


def test_info_shows_the_image_and_that_the_device_would_take_it(
    machine: Machine, made: HostDevice, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert info(machine, image) == 0
    out = capsys.readouterr().out
    assert out.startswith("Pump 2.0 (feature)\n  sequence  20, security epoch 0\n  for       acme,pump-3\n")
    assert "trusted: signed by engineering 1 of 1, clinical 1 of 1\nthis device would take it\n" in out
    assert info(machine, image, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["type"], told["trusted"], told["accepted"], told["reasons"]) == ("info", True, True, [])
    assert (told["image"]["release"], told["image"]["payloads"][0]["size"]) == ("2.0", len(CONTENT))


def test_info_tells_every_reason_at_once_and_ends_as_a_refusal(
    machine: Machine, made: HostDevice, bench: ReleaseBench, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = bench.image("8.0", 80, CONTENT, compatible=("acme,ventilator",), checks=("lungs",), roles=("engineering",))
    capsys.readouterr()
    assert info(machine, wrong, "--json") == 4
    told = json.loads(capsys.readouterr().out)
    assert (told["trusted"], told["accepted"]) == (False, False)
    codes = [reason["code"].removeprefix("refused.") for reason in told["reasons"]]
    assert codes[-2:] == ["compatible", "check-unknown"]
    assert len(codes) == 3, "and the signature of the role that is missing"
    assert info(machine, wrong) == 4
    out = capsys.readouterr().out
    assert "NOT TRUSTED by this device\nthis device would refuse it:\n" in out
    assert "\n  the image is for another device type: expected 'acme,pump-3', found 'acme,ventilator'\n" in out


@pytest.mark.verifies("FLAW-OSTREE-724873", "REQ-IMG-06")
def test_info_and_install_hold_an_image_to_the_hardware_of_the_device(
    machine: Machine, made: HostDevice, bench: ReleaseBench, capsys: pytest.CaptureFixture[str]
) -> None:
    narrow = bench.image("9.0", 90, CONTENT, hardware=("rev-c", "rev-d"), variants=("icu",))
    path = machine.directory / "etc/twinslot/config.toml"
    plain = path.read_text()
    for own, reason in [
        ("", "another hardware revision: expected '(none configured)', found 'rev-c, rev-d'"),
        ('hardware = "rev-b"\nvariant = "icu"', "another hardware revision: expected 'rev-b', found 'rev-c, rev-d'"),
        ('hardware = "rev-c"\nvariant = "home"', "another variant of the device: expected 'home', found 'icu'"),
    ]:
        path.write_text(plain.replace("[slots]", f"{own}\n[slots]"))
        capsys.readouterr()
        assert info(machine, narrow) == 4
        out = capsys.readouterr().out
        assert "\n  hardware  rev-c, rev-d\n  variants  icu\n" in out
        assert f"  the image is for {reason}\n" in out
    path.write_text(plain.replace("[slots]", 'hardware = "rev-c"\nvariant = "icu"\n[slots]'))
    assert info(machine, narrow, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["image"]["hardware"], told["image"]["variants"]) == (["rev-c", "rev-d"], ["icu"])


def test_info_works_on_a_machine_that_is_no_device(
    image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["info", str(image), "--config-root", str(tmp_path)]) == 0
    assert capsys.readouterr().out.endswith(
        "note: this machine has no Twinslot configuration, so trust is not checked\n"
    )
    assert main(["info", str(image), "--config-root", str(tmp_path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["trusted"], told["accepted"]) == (None, None)


@pytest.fixture
def with_notes(bench: ReleaseBench) -> Path:
    """An image with release notes."""
    from image_samples import ATTACHMENTS, make_sample

    path = bench.directory / "notes.twin"
    path.write_bytes(make_sample(attachments=ATTACHMENTS).data)
    return path


def test_an_attachment_is_printed_byte_for_byte(
    with_notes: Path, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    argv = ["info", str(with_notes), "--config-root", str(tmp_path), "--attachment"]
    assert main([*argv, "known-anomalies.md"]) == 0
    out, err = capfdbinary.readouterr()
    assert out == "None known \u2014 yet.\n".encode()
    assert b"trust is not checked" in err
    assert main([*argv, "release-notes.md", "--json"]) == 0
    told = json.loads(capfdbinary.readouterr().out)
    assert base64.b64decode(told["base64"]) == b"# 2026.11\n\nAlarm is louder.\n"
    assert main([*argv, "../etc/passwd"]) == 4
    assert b"expected 'known-anomalies.md, release-notes.md', found '../etc/passwd'" in capfdbinary.readouterr().err


def test_an_attachment_of_an_encrypted_image_is_for_who_has_a_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from image_samples import ATTACHMENTS, FACTS, make_sample

    path = tmp_path / "encrypted.twin"
    path.write_bytes(make_sample(attachments=ATTACHMENTS, facts=replace(FACTS, requires=("encryption",))).data)
    assert main(["info", str(path), "--config-root", str(tmp_path)]) == 0, "the manifest is for everybody"
    assert main(["info", str(path), "--config-root", str(tmp_path), "--attachment", "release-notes.md"]) == 4
    assert "the image is encrypted" in capsys.readouterr().err


@pytest.mark.parametrize("keep", [0, 3, 40, 200, 1000])
def test_info_on_what_is_cut_or_no_image_names_the_section(
    with_notes: Path, tmp_path: Path, keep: int, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = tmp_path / "cut.twin"
    cut.write_bytes(with_notes.read_bytes()[:keep])
    assert main(["info", str(cut), "--config-root", str(tmp_path), "--attachment", "release-notes.md"]) == 3
    assert "section" in capsys.readouterr().err
    cut.write_bytes(random.Random(keep).randbytes(5000))
    assert main(["info", str(cut), "--config-root", str(tmp_path)]) == 3
    assert "Traceback" not in capsys.readouterr().err


# Over a real bus, to a service whose device only pretends: the first line of a file tells it what to do


@pytest.fixture(scope="module")
def bus() -> Iterator[str]:
    with private_bus() as address, service_on(address):
        yield address


def over_bus(address: str, machine: Machine, *argv: str) -> subprocess.Popen[str]:
    """`twinslot`, as anyone types it."""
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-m", "twinslot", "--config-root", str(machine.directory), *argv],
        stdout=pipe,
        stderr=pipe,
        text=True,
        env=os.environ | {"DBUS_SYSTEM_BUS_ADDRESS": address},
    )


def script(machine: Machine, scenario: str) -> str:
    """An image file for the pretending service."""
    path = machine.directory / f"{scenario}.twin"
    path.write_text(f"{scenario}\n")
    return str(path)


def test_an_install_over_the_bus_shows_progress_and_the_result(bus: str, machine: Machine) -> None:
    out, err = over_bus(bus, machine, "install", script(machine, "good")).communicate(timeout=waits.HANG)
    assert out.startswith("2026.11 'ü' (sequence 7) starts on trial from slot b at the next boot\n")
    assert "verifying signatures ...\nwriting: 0 %" in err
    out, err = over_bus(bus, machine, "install", script(machine, "good"), "--json").communicate(timeout=waits.HANG)
    assert [line["type"] for line in lines(out)][-1] == "result"
    assert err == ""


@pytest.mark.parametrize(
    ("scenario", "status"),
    [("image", 3), ("refused", 4), ("transport", 5), ("device", 6), ("lifecycle", 1), ("cancelled", 8)],
)
def test_errors_of_the_service_end_as_errors_of_this_process(
    bus: str, machine: Machine, scenario: str, status: int
) -> None:
    process = over_bus(bus, machine, "install", script(machine, scenario), "--json")
    out, _ = process.communicate(timeout=waits.HANG)
    assert process.returncode == status
    assert lines(out)[-1]["code"].startswith(scenario)
    process = over_bus(bus, machine, "install", script(machine, scenario))
    _, err = process.communicate(timeout=waits.HANG)
    assert process.returncode == status
    assert len([line for line in err.splitlines() if line.startswith("twinslot: ")]) == (
        3 if scenario == "refused" else 1
    )
    assert "Traceback" not in err


def test_interrupting_cancels_the_job_of_the_service(bus: str, machine: Machine) -> None:
    process = over_bus(bus, machine, "install", script(machine, "wait"), "--json")
    until_phase(process, "write")
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=waits.HANG)
    assert (process.returncode, err) == (143, "")
    assert lines(out)[-1]["code"] == "cancelled"
    assert not Caller(bus).get("Busy")


def test_the_other_verbs_over_the_bus(bus: str, machine: Machine) -> None:
    answers = {}
    for argv in ("activate --reboot", "rollback --reason why --no-reboot", "cancel", "commit --force demo"):
        process = over_bus(bus, machine, *argv.split(), "--json")
        out, err = process.communicate(timeout=waits.HANG)
        assert (process.returncode, err) == (0, "")
        answers[argv.split()[0]] = lines(out)[-1]["transaction"]
    assert answers["activate"]["reason"] == "reboot=True"
    assert answers["rollback"]["reason"] == "why reboot=False"
    assert answers["cancel"]["outcome"] == "abandoned"
    assert answers["commit"]["forced"]


def test_without_a_bus_the_way_without_it_is_named(machine: Machine) -> None:
    process = over_bus("unix:path=/nowhere/socket", machine, "cancel")
    _, err = process.communicate(timeout=waits.HANG)
    assert process.returncode == 6
    assert err.startswith("twinslot: ")
    assert "--no-service" in err.splitlines()[-1]
