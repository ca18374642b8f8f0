"""The relay: the key is out of reach of the process that parses, and a download works all the same."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from http_bench import Asked, give, say, serving
from range_bench import parts
from tls_bench import Certificates

import waits
from image_samples import make_sample
from twinslot.core.address import parse_address
from twinslot.core.errors import DeviceError, TwinslotError
from twinslot.transport.http.options import HttpSettings
from twinslot.transport.http.ranges import RangeSource
from twinslot.transport.http.retry import Broken
from twinslot.worker import launch
from twinslot.worker.protocol import Channel, Kind
from twinslot.worker.relayed import RelayClient
from twinslot.worker.stream import open_remote

SAMPLE = make_sample()
DATA = bytes(range(256)) * 8192  # 2 MiB: more than all buffers between server and worker hold
QUICK = HttpSettings(connect_timeout=waits.HANG, read_timeout=waits.HANG, retries=1, retry_wait=0.01)
USERS = """twinslot-fetch:x:64001:64001::/:/usr/sbin/nologin
twinslot-relay:x:64002:64002::/:/usr/sbin/nologin
"""
GROUPS = "twinslot-fetch:x:64001:\ntwinslot-relay:x:64002:\n"


@contextlib.contextmanager
def relay(url: str, settings: HttpSettings = QUICK) -> Iterator[socket.socket]:
    """The worker's end of the way to a real relay."""
    worker = launch.start("relay")
    ours, theirs = socket.socketpair()
    try:
        with theirs:
            request = json.dumps({"url": url, "http": asdict(settings)}).encode()
            worker.send(Kind.OPEN, request, descriptor=theirs.fileno())
        with ours:
            yield ours
    finally:
        worker.close()


def source(way: socket.socket, url: str, **more: Any) -> RangeSource:
    """A download by that way."""
    return RangeSource(url, QUICK, dialing=RelayClient(way).dialer, **more)


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that every user may enter; those of tests are for one user alone."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def certificates(place: Path) -> Certificates:
    """Readable by whichever user the relay has here."""
    made = Certificates(place)
    for path in place.iterdir():
        path.chmod(0o644)
    return made


def with_files(**files: Path) -> HttpSettings:
    """Settings with these files."""
    return HttpSettings(**(asdict(QUICK) | {name: str(path) for name, path in files.items()}))


def test_a_download_through_the_relay_is_what_the_server_has() -> None:
    with serving(parts(DATA)) as web, relay(web.url) as way:
        with contextlib.closing(source(way, f"{web.url}/x.twin")) as download:
            assert download.read(5, len(DATA) - 5) == DATA[5:]


def test_our_certificate_is_shown_although_the_worker_has_neither_it_nor_its_key(certificates: Certificates) -> None:
    shown: list[str] = []

    def look(asked: Asked) -> None:
        assert isinstance(asked.connection, ssl.SSLSocket)
        shown.append(str((asked.connection.getpeercert() or {})["subject"]))
        parts(DATA)(asked)

    ours = {"client_cert": certificates.device, "client_key": certificates.directory / "device.key"}
    settings = with_files(ca_file=certificates.authority, **ours)
    with serving(look, tls=certificates.context(asks=True)) as web, relay(web.url, settings) as way:
        with contextlib.closing(source(way, f"{web.url}/x.twin")) as download:
            assert download.read(0, len(DATA)) == DATA
    assert "'device'" in shown[0]


def test_a_renewed_certificate_is_shown_by_a_relay_that_goes_on(certificates: Certificates) -> None:
    shown: list[str] = []

    def look(asked: Asked) -> None:
        assert isinstance(asked.connection, ssl.SSLSocket)
        shown.append(str((asked.connection.getpeercert() or {})["serialNumber"]))
        parts(DATA)(asked)

    ours = {"client_cert": certificates.device, "client_key": certificates.directory / "device.key"}
    settings = with_files(ca_file=certificates.authority, **ours)
    with serving(look, tls=certificates.context(asks=True)) as web, relay(web.url, settings) as way:
        for _ in range(2):  # two connections of one download; nothing is started anew
            with contextlib.closing(source(way, f"{web.url}/x.twin")) as download:
                assert download.read(0, 100) == DATA[:100]
            certificates.renew()
            for path in certificates.directory.iterdir():
                path.chmod(0o644)
    first, second = shown
    assert first != second


@pytest.mark.verifies("S22")
def test_what_the_engine_tells_the_fetching_worker_has_neither_key_nor_its_name() -> None:
    kept: list[socket.socket] = []

    def get(_kind: str) -> launch.Worker:
        ours, theirs = socket.socketpair()
        kept.append(theirs)
        return launch.Worker(Channel(ours), None)

    http = asdict(HttpSettings(client_cert="/secret.pem", client_key="/secret.key", ca_file="/ca.pem"))
    stream = open_remote(get, {"limits": {}, "url": "https://x/y.twin?token=1", "http": http})
    frames = [Channel(theirs, waits.HANG).receive(Kind.OPEN) for theirs in kept]
    to_relay, to_fetch = (frame.payload for frame in frames)
    assert b"/secret.key" in to_relay
    assert b"secret" not in to_fetch
    assert b"ca.pem" not in to_fetch
    stream.close()
    for theirs, frame in zip(kept, frames, strict=True):
        theirs.close()
        os.close(frame.descriptor)


def test_a_reset_is_told_in_the_words_of_the_connection() -> None:
    with serving(Asked.reset) as web, relay(web.url) as way:
        with contextlib.closing(source(way, f"{web.url}/x.twin")) as download, pytest.raises(TwinslotError) as error:
            download.read(0, len(DATA))
    assert error.value.code == "transport.network"
    assert error.value.found is not None
    assert "reset" in error.value.found


def test_a_server_that_wants_a_certificate_and_gets_none_ends_the_encrypted_connection(
    certificates: Certificates,
) -> None:
    settings = with_files(ca_file=certificates.authority)
    with serving(parts(DATA), tls=certificates.context(asks=True)) as web, relay(web.url, settings) as way:
        with contextlib.closing(source(way, f"{web.url}/x.twin")) as download, pytest.raises(TwinslotError) as error:
            download.read(0, 10)
    assert error.value.found is not None  # by TLS 1.3 the server may be gone before its alert is read
    assert error.value.found.startswith(("the encrypted connection failed", "broken pipe", "connection reset"))


def test_a_server_of_another_authority_is_refused_by_the_relay(certificates: Certificates) -> None:
    with serving(parts(DATA), tls=certificates.context()) as web, relay(web.url) as way:
        with contextlib.closing(source(way, f"{web.url}/x.twin")) as download, pytest.raises(TwinslotError) as error:
            download.read(0, 10)
        assert not web.asked
    assert error.value.code == "transport.tls"


def dial(way: socket.socket, url: str) -> None:
    """Ask for a connection as a worker that was taken over would."""
    fields, descriptor = RelayClient(way).dial(parse_address(url), waits.HANG, 1e9, lambda: None)
    os.close(descriptor)
    assert fields["number"] > 0


@pytest.mark.verifies("S22")
def test_a_worker_that_was_taken_over_is_not_led_to_this_device_nor_to_plain_http() -> None:
    settings = replace(QUICK, schemes=("https",))
    with serving(parts(DATA)) as web, relay("https://192.0.2.1/x.twin", settings) as way:
        for url, code in ((web.url, "transport.redirect"), ("http://192.0.2.2/", "transport.scheme")):
            with pytest.raises(TwinslotError) as error:
                dial(way, url)
            assert error.value.code == code
        assert not web.asked


def test_a_worker_may_not_have_connections_without_end() -> None:
    with serving(parts(DATA)) as web, relay(web.url) as way:
        client = RelayClient(way)
        held = [client.dial(parse_address(web.url), waits.HANG, 1e9, lambda: None)[1] for _ in range(8)]
        with pytest.raises(DeviceError, match="too many connections"):
            client.dial(parse_address(web.url), waits.HANG, 1e9, lambda: None)
        for descriptor in held:
            os.close(descriptor)


@pytest.mark.parametrize("data", [b"{", b"[]", b"{}", b'{"url": 5, "seconds": 1, "left": 1}', b'{"url": "https://x/"}'])
def test_nonsense_from_the_worker_ends_the_relay_or_is_refused_and_never_a_traceback(
    data: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    with relay("https://192.0.2.1/x.twin") as way:
        channel = Channel(way, waits.HANG)
        channel.send(Kind.DIAL, data)
        with pytest.raises(TwinslotError):
            channel.receive(Kind.LINE)
    assert "Traceback" not in capfd.readouterr().err


def test_a_server_that_does_not_listen_is_told_as_absent() -> None:
    with relay("http://127.0.0.1:9/") as way, pytest.raises(Broken) as broken:
        dial(way, "http://127.0.0.1:9/")
    assert broken.value.absent


def test_a_redirect_is_followed_by_the_worker_and_dialed_by_the_relay() -> None:
    with serving(parts(DATA)) as other, serving(say(302, Location=f"{other.url}/y.twin")) as web:
        with relay(web.url) as way, contextlib.closing(source(way, f"{web.url}/x.twin")) as download:
            assert download.read(0, 1000) == DATA[:1000]


def test_what_the_worker_does_not_read_waits_at_the_server() -> None:
    with serving(give(DATA)) as web, relay(web.url) as way:
        _, descriptor = RelayClient(way).dial(parse_address(web.url), waits.HANG, 1e9, lambda: None)
        with socket.socket(fileno=descriptor) as line:
            line.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert select.select([line], [], [], waits.HANG)[0]
            got = 0
            while data := line.recv(1000):
                got += len(data)
    assert got > len(DATA)


SEPARATE = """
import json, os, subprocess, sys
from dataclasses import asdict, replace
from pathlib import Path
sys.path[:0] = json.loads(os.environ["PLACES"])
from http_bench import serving
from range_bench import parts
from tls_bench import Certificates
from image_samples import make_sample
from twinslot.core.errors import TwinslotError
from twinslot.transport.http.options import HttpSettings
from twinslot.worker import launch
from twinslot.worker.stream import open_remote

directory = Path(sys.argv[1])
certificates = Certificates(directory)
certificates.authority.chmod(0o644), certificates.device.chmod(0o644)
key = directory / "device.key"
os.chown(key, 64002, 64002)
key.chmod(0o400)
ours = {"ca_file": str(certificates.authority), "client_cert": str(certificates.device), "client_key": str(key)}
said = {}
with serving(parts(make_sample().data), tls=certificates.context(asks=True)) as web:
    http = asdict(HttpSettings(**ours))
    stream = open_remote(launch.start, {"limits": {}, "url": web.url + "/x.twin", "http": http})
    said["head"] = stream.head().manifest == make_sample().manifest_bytes
    for name, worker in (("fetch", stream._worker), ("relay", stream._relay)):
        process = Path("/proc") / str(worker._process.pid)
        words = (process / "status").read_text().split()
        said[name + " uid"] = int(words[words.index("Uid:") + 1])
        said[name + " network"] = os.readlink(process / "ns/net") == os.readlink("/proc/self/ns/net")
    stream.close()
look = "import sys; open(sys.argv[1]).read()"
for kind in ("fetch", "relay"):
    argv = [*launch.without_privileges(kind), "/usr/bin/python3", "-I", "-c", look, str(key)]
    done = subprocess.run(argv, capture_output=True, text=True)
    said[kind] = "PermissionError" if "PermissionError" in done.stderr else done.returncode
print(json.dumps(said))
"""


@pytest.mark.verifies("S22")
@pytest.mark.root
def test_with_users_of_their_own_only_the_relay_reads_the_key_and_has_a_network(tmp_path: Path, place: Path) -> None:
    """In a mount namespace in which this machine has the users of a device."""
    (tmp_path / "passwd").write_text(Path("/etc/passwd").read_text() + USERS)
    (tmp_path / "group").write_text(Path("/etc/group").read_text() + GROUPS)
    script = f"mount --bind {tmp_path}/passwd /etc/passwd && mount --bind {tmp_path}/group /etc/group && exec "
    argv = ["unshare", "--mount", "sh", "-c", f'{script} "$@"', "sh", sys.executable, "-c", SEPARATE, str(place)]
    said = subprocess.run(argv, capture_output=True, text=True, env=os.environ | {"PLACES": json.dumps(sys.path)})
    assert said.returncode == 0, said.stderr
    assert json.loads(said.stdout) == {
        "head": True,
        "fetch uid": 64001,
        "relay uid": 64002,
        "fetch network": False,
        "relay network": True,
        "fetch": "PermissionError",
        "relay": 0,
    }
