"""Real worker processes: what they hand over, how they end, and what they cannot do."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from http_bench import give, give_whole, say, serving

import twinslot
import waits
from image_samples import Sample, make_sample
from trust_samples import Authority, make_authority
from twinslot.core.bitset import bits_where
from twinslot.core.errors import DeviceError, ImageError, LifecycleError, RefusedError, TransportError, TwinslotError
from twinslot.core.manifest import Payload
from twinslot.core.stream import GroupPart, ListPart, Part
from twinslot.transport.http.download import HttpSettings
from twinslot.worker import __main__ as entry
from twinslot.worker import launch, stream
from twinslot.worker.launch import Worker
from twinslot.worker.protocol import Channel, Kind
from twinslot.worker.stream import WorkerStream, open_remote, verify_in_worker

SAMPLE = make_sample()
BLOCK_MAJOR, BLOCK_MINOR = 1, 0  # /dev/ram0 (Documentation/admin-guide/devices.txt); it need not exist to be refused
DISK = 6  # the group of block devices (Debian's base-passwd)


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """No zombie and no descriptor stays behind, however a test ends its worker."""
    open_before, before = len(list(Path("/proc/self/fd").iterdir())), children()
    yield
    assert children() == before  # another file's tests may have left multiprocessing's resource tracker
    assert len(list(Path("/proc/self/fd").iterdir())) == open_before


def children() -> list[str]:
    return Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "x.twin"
    path.write_bytes(SAMPLE.data)
    return path


@contextlib.contextmanager
def reading(source: Path | str | int, request: dict[str, Any] | None = None) -> Iterator[tuple[WorkerStream, Worker]]:
    """A stream from a real worker, and the worker."""
    request = {"limits": {}} | (request or {})
    if isinstance(source, Path):
        with source.open("rb") as file:
            taken = WorkerStream(launch.start("fetch"), request, file.fileno())
    elif isinstance(source, int):
        taken = WorkerStream(launch.start("fetch"), request, source)
    else:
        settings = HttpSettings(connect_timeout=waits.HANG, read_timeout=waits.HANG, retries=2, retry_wait=0.01)
        taken = open_remote(launch.start, {"url": source, "http": asdict(settings)} | request)
    try:
        yield taken, taken._worker
    finally:
        taken.close()


def process_of(worker: Worker) -> subprocess.Popen[bytes]:
    assert worker._process is not None
    return worker._process


def everything(taken: WorkerStream, sample: Sample = SAMPLE) -> Iterator[Part]:
    """All parts; where the worker waits, it is asked for all groups."""
    asked = ""
    for part in taken.parts(sample.manifest):
        if isinstance(part, GroupPart) and asked and part.index == sample.manifest.payload(asked).groups - 1:
            yield part
            taken.want(asked, b"")
            continue
        if isinstance(part, ListPart):
            asked = part.payload if part.waits else ""
            if asked:
                taken.want(asked, all_groups(sample.manifest.payload(asked)))
        yield part


def all_groups(payload: Payload) -> bytes:
    return bits_where(payload.groups, lambda _: True)


def contents(taken: WorkerStream, sample: Sample = SAMPLE) -> dict[str, bytes]:
    """Everything that a stream hands over."""
    assert taken.head().manifest == sample.manifest_bytes
    found: dict[str, bytes] = {}
    lists = []
    for part in everything(taken, sample):
        if isinstance(part, ListPart):
            lists.append(part.payload)
        else:
            assert isinstance(part, GroupPart)
            found[part.payload] = found.get(part.payload, b"") + part.data
    assert lists == [payload.name for payload in sample.manifest.payloads]
    return found


def test_a_file_comes_out_as_its_payloads(image: Path) -> None:
    with reading(image) as (taken, _):
        assert contents(taken) == SAMPLE.payloads
        assert taken.fetched == len(SAMPLE.data) - SAMPLE.header.attachments, "which nobody wanted"


def test_a_download_comes_out_as_its_payloads() -> None:
    with serving(give_whole(SAMPLE.data, breaks=3000), say(503), give(SAMPLE.data)) as web:
        with reading(f"{web.url}/x.twin") as (taken, _):
            assert contents(taken) == SAMPLE.payloads
            assert taken.fetched == len(SAMPLE.data)


def test_a_pipe_comes_out_as_its_payloads_and_shows_life_while_it_waits() -> None:
    reader, writer = os.pipe()
    with reading(reader) as (taken, worker):
        assert worker.receive(Kind.FETCHED).payload == bytes(8), "at once, before the first byte"
        os.write(writer, SAMPLE.data)
        os.close(writer)
        assert contents(taken) == SAMPLE.payloads
    os.close(reader)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (say(404), "transport.http-404"),
        (give_whole(b"<html>" + bytes(100)), "image.header"),
        (give_whole(b""), "image.truncated"),
    ],
)
def test_what_goes_wrong_out_there_arrives_as_its_own_error(answer: Any, code: str) -> None:
    with serving(answer) as web, reading(f"{web.url}/x.twin") as (taken, _):
        with pytest.raises((TransportError, ImageError)) as error:
            taken.head()
    assert error.value.code == code


def test_a_wrong_address_and_missing_certificates_arrive_as_errors(tmp_path: Path) -> None:
    with reading("file:///etc/shadow") as (taken, _), pytest.raises(TransportError, match="not an address"):
        taken.head()
    http = asdict(HttpSettings(ca_file=str(tmp_path / "missing.pem")))
    with reading("https://127.0.0.1:9/", {"http": http}) as (taken, _):
        with pytest.raises(DeviceError, match=r"missing\.pem"):
            taken.head()


def test_a_truncated_list_is_named_and_its_groups_never_come(tmp_path: Path) -> None:
    short = tmp_path / "short.twin"
    start = SAMPLE.header.total - SAMPLE.header.groups - SAMPLE.header.stored_tables - 3
    short.write_bytes(SAMPLE.data[:start])
    with reading(short) as (taken, _):
        with pytest.raises(ImageError, match="'plain-lists'") as error:
            taken.head()  # a file tells its length
    assert error.value.code == "image.truncated"


def test_a_file_that_changes_under_the_reader_is_explained(image: Path) -> None:
    with reading(image) as (taken, _):
        taken.head()  # small: all of it has been read; what follows is the next chunk
    grown = make_sample({"rootfs": os.urandom(3_000_000)}, group_size=65536)
    image.write_bytes(grown.data)
    with reading(image) as (taken, _):
        taken.head()
        with image.open("r+b") as file:
            file.seek(2_000_000)
            file.write(bytes(600_000))
        with pytest.raises(ImageError, match="changed while it was read") as error:
            list(everything(taken, grown))
    assert error.value.code == "image.changed"


def test_an_image_above_the_devices_bounds_is_refused_by_its_header(image: Path) -> None:
    with reading(image, {"limits": {"image_size": len(SAMPLE.data)}}) as (taken, _):
        assert contents(taken) == SAMPLE.payloads
    with reading(image, {"limits": {"image_size": len(SAMPLE.data) - 1}}) as (taken, _):
        with pytest.raises(ImageError, match="larger than this device takes"):
            taken.head()
    with reading(image, {"limits": {"group_size": 2048}}) as (taken, _):
        taken.head()
        with pytest.raises(ImageError, match="group size"):
            list(everything(taken))


def test_another_manifest_than_the_one_that_was_read_is_refused(image: Path) -> None:
    other = make_sample({"rootfs": b"other"})
    with reading(image) as (taken, _):
        taken.head()
        taken._manifest = other.manifest_bytes
        with pytest.raises(LifecycleError, match="not this image's"):
            list(everything(taken, other))


def test_a_worker_that_is_killed_says_so_and_is_collected(image: Path) -> None:
    with reading(image) as (taken, worker):
        taken.head()
        process_of(worker).kill()
        with pytest.raises(TransportError, match=r"process is gone.*signal 9") as error:
            list(everything(taken))
    assert error.value.code == "transport.worker-gone"


def test_a_worker_that_is_killed_while_groups_flow_is_noticed(tmp_path: Path) -> None:
    large = make_sample({"rootfs": os.urandom(4_000_000)}, group_size=65536)
    path = tmp_path / "large.twin"
    path.write_bytes(large.data)
    with reading(path) as (taken, worker):
        taken.head()
        parts = everything(taken, large)
        for _ in range(5):
            next(parts)
        process_of(worker).kill()
        with pytest.raises(TransportError, match="signal 9"):
            list(parts)


def test_a_worker_that_hangs_is_left_when_its_time_ends(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "STALL", 0.3)
    with reading(image) as (taken, worker):
        taken.head()
        process_of(worker).send_signal(signal.SIGSTOP)
        with pytest.raises(TransportError, match="sent nothing in time") as error:
            list(everything(taken))
    assert error.value.code == "transport.worker-silent"


def test_closing_from_another_thread_ends_a_wait_for_a_silent_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "STALL", waits.HANG)
    reader, writer = os.pipe()
    with reading(reader) as (taken, worker):
        pid = process_of(worker).pid
        timer = threading.Timer(0.3, taken.close)
        timer.start()
        with pytest.raises(TransportError) as error:
            taken.head()
        assert error.value.code != "transport.worker-silent", "it was not waited for"
        timer.join()
        assert not Path(f"/proc/{pid}").exists()
        taken.close()
    os.close(reader)
    os.close(writer)


def ending(worker: Worker, end: Callable[[subprocess.Popen[bytes]], object]) -> tuple[int, bytes]:
    """How the process ends after this, and its last words."""
    process = process_of(worker)
    end(process)
    assert process.stderr is not None
    return process.wait(waits.HANG), process.stderr.read()


def test_sigterm_ends_a_worker_quietly(image: Path) -> None:
    with reading(image) as (taken, worker):
        taken.head()
        assert ending(worker, lambda process: process.terminate()) == (0, b"")


def test_ctrl_c_in_the_terminal_is_for_the_engine_to_judge(image: Path) -> None:
    with reading(image) as (taken, worker):
        taken.head()
        process_of(worker).send_signal(signal.SIGINT)
        assert sum(len(part.data) for part in everything(taken) if isinstance(part, GroupPart)) > 0


@pytest.mark.parametrize("parts", [-1, 0, 3])
def test_a_worker_whose_engine_is_gone_ends_quietly(tmp_path: Path, parts: int) -> None:
    large = make_sample({"rootfs": os.urandom(4_000_000)}, group_size=65536)
    path = tmp_path / "large.twin"
    path.write_bytes(large.data)
    with reading(path) as (taken, worker):
        if parts >= 0:
            taken.head()
            flow = everything(taken, large)
            for _ in range(parts):
                next(flow)
        assert ending(worker, lambda _: worker.channel.close()) == (0, b"")


def test_what_is_no_request_is_answered_with_an_error() -> None:
    for payload in (b"", b"[]", b'{"limits": {"colour": 1}}', b"[" * 1000):
        worker = launch.start("fetch")
        worker.send(Kind.OPEN, payload)
        with pytest.raises(DeviceError, match="request to the worker"):
            worker.receive(Kind.HEAD)
        worker.close()


def test_a_worker_that_dies_at_its_start_says_why(monkeypatch: pytest.MonkeyPatch, image: Path) -> None:
    monkeypatch.setattr(launch, "_environment", lambda: {"PATH": os.environ["PATH"], "PYTHONPATH": "/nonexistent"})
    monkeypatch.setattr(sys, "executable", sys._base_executable)  # type: ignore[attr-defined]  # knows no twinslot
    with pytest.raises(TransportError, match="No module named") as error, reading(image) as (taken, _):
        taken.head()
    assert error.value.code == "transport.worker-gone"


def test_the_worker_that_was_started_ahead_is_the_next_of_its_kind_and_no_other() -> None:
    before = children()
    launch.start_ahead("verify")
    (ahead,) = {*children()} - {*before}
    with contextlib.closing(launch.start("fetch")) as other, contextlib.closing(launch.start("verify")) as taken:
        assert (str(process_of(other).pid) != ahead, str(process_of(taken).pid)) == (True, ahead)
        with contextlib.closing(launch.start("verify")) as fresh:
            assert str(process_of(fresh).pid) != ahead
    launch.end_ahead()


def test_a_worker_that_was_started_ahead_and_not_taken_is_ended() -> None:
    before = children()
    launch.start_ahead("verify")
    assert len(children()) == len(before) + 1
    launch.end_ahead()
    assert children() == before


def test_a_worker_that_cannot_be_started_ahead_is_told_to_whoever_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "without_privileges", lambda _: ["/nonexistent/setpriv"])
    launch.start_ahead("verify")
    with pytest.raises(DeviceError, match="cannot be started"):
        launch.start("verify")


def test_a_worker_that_cannot_be_started_is_the_devices_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "without_privileges", lambda _: ["/nonexistent/setpriv"])
    with pytest.raises(DeviceError, match="cannot be started"):
        launch.start("fetch")


def run_entry(*arguments: str, stdin: Any = subprocess.DEVNULL) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-s", "-P", "-m", "twinslot.worker", *arguments]
    return subprocess.run(
        command, stdin=stdin, capture_output=True, text=True, env=launch._environment(), timeout=waits.HANG, check=False
    )


@pytest.mark.parametrize("arguments", [(), ("fetch",), ("sign",), ("fetch", "verify")])
def test_a_worker_started_by_hand_explains_itself(arguments: tuple[str, ...]) -> None:
    done = run_entry(*arguments)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", entry.USAGE + "\n")


@pytest.mark.root
@pytest.mark.parametrize("kind", ["fetch", "verify"])
def test_a_worker_that_is_root_refuses_to_read_anything(kind: str) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        assert run_entry(kind, stdin=theirs.fileno()).returncode == 0
    channel = Channel(ours, 5.0)
    with pytest.raises(DeviceError, match="started as root"):
        channel.receive(Kind.HEAD, Kind.VERDICT)
    channel.close()


@pytest.mark.skipif(os.geteuid() == 0, reason="root's workers are tried by their privileges below")
def test_without_root_a_worker_runs_as_whoever_started_it() -> None:
    assert launch.without_privileges("verify") == []


# What a worker cannot do


@pytest.fixture
def in_the_disk_group() -> Iterator[None]:
    """Whoever starts the worker is in the group that owns block devices; the worker must not stay in it."""
    before = os.getgroups()
    os.setgroups([DISK])
    yield
    os.setgroups(before)


def status_of(worker: Worker) -> dict[str, list[str]]:
    """/proc/PID/status of a worker that has taken everything from itself."""
    text = Path(f"/proc/{process_of(worker).pid}/status").read_text()
    return {name: value.split() for name, value in re.findall(r"^(\w+):\t(.*)$", text, re.MULTILINE)}


@pytest.mark.root
@pytest.mark.usefixtures("in_the_disk_group")
def test_a_fetching_worker_has_no_rights_and_can_get_none() -> None:
    reader, writer = os.pipe()
    with reading(reader) as (_, worker):
        worker.receive(Kind.FETCHED)
        status = status_of(worker)
        limits = Path(f"/proc/{process_of(worker).pid}/limits").read_text()
        names = sorted(str(link.readlink()) for link in Path(f"/proc/{process_of(worker).pid}/fd").iterdir())
    user, group = launch.user_of("fetch")
    assert status["Uid"] == [str(user)] * 4
    assert status["Gid"] == [str(group)] * 4
    assert user != 0
    assert status["Groups"] == []
    assert status["NoNewPrivs"] == ["1"]
    for capabilities in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert status[capabilities] == ["0" * 16], capabilities
    for name, value in {"core file size": 0, "file size": 0, "processes": 0, "open files": 32}.items():
        assert re.search(rf"^Max {name} +{value} +{value} ", limits, re.MULTILINE), name
    kinds = [re.sub(r":.*", "", name) for name in names]
    assert kinds == ["/dev/null", "pipe", "pipe", "socket", "socket"], "the image, its last words, and the engine"
    os.close(reader)
    os.close(writer)


@pytest.mark.verifies("S22")
def test_workers_share_a_user_neither_with_each_other_nor_with_anybody() -> None:
    users = [launch.user_of(kind)[0] for kind in launch.KINDS]
    others = {each.pw_uid for each in pwd.getpwall() if not each.pw_name.startswith("twinslot-")}
    assert len(set(users)) == len(users)
    assert not {0, 65534, *others} & set(users)


@pytest.mark.verifies("S2", "CVE-2024-3094")
@pytest.mark.root
@pytest.mark.usefixtures("in_the_disk_group")
@pytest.mark.parametrize("kind", ["fetch", "verify"])
@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDWR])
def test_with_a_workers_privileges_no_block_device_opens(kind: str, flags: int) -> None:
    node = Path(f"/dev/twinslot-test-{os.getpid()}")  # where device nodes work and anybody may look
    os.mknod(node, 0o660 | stat.S_IFBLK, os.makedev(BLOCK_MAJOR, BLOCK_MINOR))
    os.chown(node, 0, DISK)
    try:
        code = f"import os; os.open('{node}', {flags})"
        command = [*launch.without_privileges(kind), sys.executable, "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "PermissionError" in done.stderr
        as_root = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert "PermissionError" not in as_root.stderr, "else the refusal above would prove nothing"
    finally:
        node.unlink()


CONNECT = "import socket, sys; socket.create_connection(('127.0.0.1', int(sys.argv[1])), 5).close()"


@pytest.mark.verifies("S22")
@pytest.mark.root
def test_no_worker_reaches_the_network_but_the_relay() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        results = {}
        for kind in ("verify", "fetch", "read", "relay"):
            command = [*launch.without_privileges(kind), sys.executable, "-c", CONNECT, str(server.getsockname()[1])]
            results[kind] = subprocess.run(command, capture_output=True, text=True, check=False)
    assert results.pop("relay").returncode == 0
    assert all("Network is unreachable" in each.stderr for each in results.values())
    worker = launch.start("verify")
    ours, theirs = Path("/proc/self/ns/net"), Path(f"/proc/{process_of(worker).pid}/ns/net")
    waits.until(lambda: theirs.readlink() != ours.readlink())  # unshare ran
    worker.close()


@pytest.mark.root
def test_without_the_right_to_a_network_namespace_the_verifying_worker_still_is_another_user(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(launch, "CAP_SYS_ADMIN", 0)
    assert launch.without_privileges("verify")[0] == launch.without_privileges("relay")[0] == "setpriv"


def test_a_worker_can_neither_write_a_file_nor_start_a_child_nor_take_all_memory(tmp_path: Path) -> None:
    target = tmp_path / "out"
    attempts = {
        "File too large": "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); os.write(1, b'x')",
        "Resource temporarily unavailable": "os.fork()",
        "MemoryError": "bytearray(600 * 1024 * 1024)",
    }
    for complaint, attempt in attempts.items():
        code = f"import os, signal; from twinslot.worker.__main__ import drop; drop(); {attempt}"
        command = [*launch.without_privileges("fetch"), sys.executable, "-s", "-P", "-c", code]
        with target.open("wb") as out:
            done = subprocess.run(
                command, stdout=out, stderr=subprocess.PIPE, text=True, env=launch._environment(), check=False
            )
        assert complaint in done.stderr
    assert target.read_bytes() == b""


def test_a_worker_takes_from_itself_what_its_starter_left() -> None:
    code = "from twinslot.worker.__main__ import drop; drop(); print(open('/proc/self/status').read())"
    command = [sys.executable, "-s", "-P", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=launch._environment(), check=True)
    assert re.search(r"^NoNewPrivs:\t1$", done.stdout, re.MULTILINE)


# Memory


def peak_of(tmp_path: Path, mebibytes: int) -> int:
    """KiB that a fetching worker needs at most for an image of that size with the largest groups."""
    noise = os.urandom(1 << 20)
    data = b"".join(bytes([number]) + noise[1:] for number in range(mebibytes))
    sample = make_sample({"rootfs": data}, group_size=1 << 20)
    path = tmp_path / f"{mebibytes}.twin"
    path.write_bytes(sample.data)
    with reading(path) as (taken, worker):
        manifest = sample.manifest
        taken.head()
        peak = 0
        for part in everything(taken, sample):
            if isinstance(part, GroupPart) and part.index == manifest.payloads[0].groups - 1:
                peak = int(status_of(worker)["VmHWM"][0])
    assert peak
    return peak


@pytest.mark.verifies("S9")
@pytest.mark.slow
def test_the_memory_of_a_fetching_worker_does_not_grow_with_the_image(tmp_path: Path) -> None:
    small, large = peak_of(tmp_path, 4), peak_of(tmp_path, 48)
    print(f"\npeak of a fetching worker: {small} KiB for 4 MiB, {large} KiB for 48 MiB")
    assert large < small + 2048
    assert large < 48 * 1024


# The verifying worker


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("keys"))


def verifier() -> Worker:
    return launch.start("verify")


def never(fit: int, why: object) -> None:
    pytest.fail(f"kept roots were dropped from {fit} on: {why}")


def test_kept_roots_that_do_not_follow_are_told_before_the_verdict_and_before_a_refusal(authority: Authority) -> None:
    foreign, told = authority.root().replace(b'"root"', b'"rood"'), []

    def note(fit: int, why: TwinslotError) -> None:
        told.append((fit, why.code))

    verify_in_worker(verifier, authority.request(kept_roots=(foreign,)), note)
    unsigned = authority.signed_manifest(roles=())
    with pytest.raises(RefusedError):
        verify_in_worker(verifier, authority.request(manifest=unsigned, kept_roots=(authority.root(), b"")), note)
    assert told == [(0, "image.trust"), (1, "image.json")]


def test_trust_is_decided_in_another_process(authority: Authority) -> None:
    verdict = verify_in_worker(verifier, authority.request(), never)
    assert [role.role for role in verdict.roles] == ["engineering", "clinical"]


def test_a_refusal_arrives_with_its_reasons(authority: Authority) -> None:
    unsigned = authority.signed_manifest(roles=())
    with pytest.raises(RefusedError) as error:
        verify_in_worker(verifier, authority.request(manifest=unsigned), never)
    assert len(error.value.reasons) == 2
    assert "clinical" in str(error.value)


def test_what_is_no_question_is_answered_with_an_error() -> None:
    for payload in (b"", b"{}", b"\xff", b"[" * 100_000):
        worker = verifier()
        worker.send(Kind.REQUEST, payload)
        with pytest.raises(LifecycleError):
            worker.receive(Kind.VERDICT)
        worker.close()


def test_a_verifying_worker_that_dies_decides_nothing(authority: Authority) -> None:
    def killed() -> Worker:
        worker = verifier()
        process_of(worker).kill()
        return worker

    with pytest.raises(TransportError, match="process is gone"):
        verify_in_worker(killed, authority.request(), never)


def test_a_verifying_worker_that_hangs_decides_nothing(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "START", 0.2)

    def stopped() -> Worker:
        worker = verifier()
        process_of(worker).send_signal(signal.SIGSTOP)
        return worker

    with pytest.raises(TransportError, match="sent nothing in time"):
        verify_in_worker(stopped, authority.request(), never)


# Workers from systemd's sockets


@contextlib.contextmanager
def accepting(directory: Path, kind: str) -> Iterator[None]:
    """A socket unit with Accept=yes: each connection becomes the standard input of a worker."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(directory / f"{kind}.sock"))
    listener.listen()

    def accept() -> None:
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            command = [*launch.without_privileges(kind), sys.executable, "-s", "-P", "-m", "twinslot.worker", kind]
            with connection:
                process = subprocess.Popen(command, stdin=connection.fileno(), env=launch._environment())
            process.wait(waits.HANG)

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def test_a_worker_behind_a_socket_is_used_like_a_child(
    image: Path, tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "SOCKETS", tmp_path)
    with accepting(tmp_path, "fetch"), image.open("rb") as file:
        taken = WorkerStream(launch.connect("fetch"), {"limits": {}}, file.fileno())
        assert contents(taken) == SAMPLE.payloads
        taken.close()
    with accepting(tmp_path, "verify"):
        assert verify_in_worker(lambda: launch.connect("verify"), authority.request(), never).root_version >= 1


def test_without_socket_units_it_is_said_what_to_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "SOCKETS", tmp_path)
    with pytest.raises(DeviceError) as error:
        launch.connect("fetch")
    assert str(error.value) == (
        f"no worker answers at '{tmp_path}/fetch.sock': found 'No such file or directory'"
        " (hint: systemctl start twinslot-fetch.socket)"
    )


def test_a_stream_whose_worker_is_dead_at_once_closes_it(image: Path) -> None:
    worker = launch.start("fetch")
    process_of(worker).kill()
    process_of(worker).wait()
    with image.open("rb") as file, pytest.raises(TransportError, match="process is gone"):
        WorkerStream(worker, {"limits": {}}, file.fileno()).head()
    worker.close()


def test_the_environment_of_a_worker_holds_nothing_of_ours() -> None:
    os.environ["TWINSLOT_TEST_SECRET"] = "geheim"
    try:
        reader, writer = os.pipe()
        with reading(reader) as (_, worker):
            worker.receive(Kind.FETCHED)
            environment = Path(f"/proc/{process_of(worker).pid}/environ").read_bytes()
            folder = Path(f"/proc/{process_of(worker).pid}/cwd").readlink()
    finally:
        del os.environ["TWINSLOT_TEST_SECRET"]
    assert b"geheim" not in environment
    assert folder == Path("/")
    assert str(Path(twinslot.__file__).parents[1]).encode() in environment
    os.close(reader)
    os.close(writer)
