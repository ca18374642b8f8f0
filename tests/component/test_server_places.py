"""Where the client goes and what it shows there: kinds of addresses, redirects, proxies, certificates, TLS."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from http_bench import Asked, Web, give, say, serving
from tls_bench import Certificates

import waits
from fakes.rigs import REPOSITORY
from twinslot.core.errors import DeviceError, RefusedError, TransportError, TwinslotError
from twinslot.engine import streams
from twinslot.transport.http import lookup
from twinslot.transport.http.download import HttpSource
from twinslot.transport.http.options import HttpSettings
from twinslot.transport.http.places import Near, is_direct, nearness
from twinslot.transport.http.ranges import RangeSource
from twinslot.transport.http.tls import context

DATA = bytes(range(256)) * 100
QUICK = HttpSettings(connect_timeout=waits.HANG, read_timeout=waits.HANG, retries=2, retry_wait=0.01)


def download(url: str, **settings: Any) -> bytes:
    return b"".join(HttpSource(url, replace(QUICK, **settings)).chunks())


def failure(url: str, **settings: Any) -> TwinslotError:
    with pytest.raises(TwinslotError) as error:
        download(url, **settings)
    return error.value


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("tls"))


# Kinds of addresses


def test_a_kind_of_address_that_policy_leaves_out_is_not_asked() -> None:
    with serving(give(DATA)) as proxy:  # through which it would be asked
        error = failure("http://updates.example/x.twin", schemes=("https",), proxy=proxy.url)
        assert not proxy.asked
    assert (error.code, error.expected) == ("transport.scheme", "https")


def test_a_server_on_this_device_needs_no_tls() -> None:
    with serving(give(DATA)) as web:
        assert download(web.url, schemes=("https",)) == DATA


def test_an_install_from_such_an_address_is_refused_before_a_worker_starts(host_config: Any) -> None:
    assert host_config.http.schemes == ("https",), "unless configured otherwise"
    with pytest.raises(RefusedError, match="no address of this kind") as error:
        streams.open_stream(host_config, "http://updates.example/x.twin", service_workers=True)
    assert error.value.code == "refused.scheme"


@pytest.fixture
def host_config() -> Any:
    from twinslot.config.options import Config, DeviceConfig, SlotsConfig, TrustConfig

    slots = {"rootfs": Path("/dev/null")}
    return Config(
        device=DeviceConfig(compatible=("x",)), slots=SlotsConfig(a=slots, b=slots), trust=TrustConfig(roles=("one",))
    )


# Near and far


@pytest.mark.parametrize(
    ("place", "near"),
    [
        ("127.0.0.1", Near.DEVICE),
        ("127.8.9.10", Near.DEVICE),
        ("::1", Near.DEVICE),
        ("::ffff:127.0.0.1", Near.DEVICE),
        ("0.0.0.0", Near.DEVICE),
        ("::", Near.DEVICE),
        ("localhost", Near.DEVICE),
        ("a.localhost.", Near.DEVICE),
        ("169.254.169.254", Near.LINK),
        ("::ffff:169.254.1.1", Near.LINK),
        ("fe80::1%eth0", Near.LINK),
        ("192.0.2.1", Near.ELSEWHERE),
        ("10.0.0.1", Near.ELSEWHERE),
        ("updates.example", Near.ELSEWHERE),
    ],
)
def test_what_is_near_is_known(place: str, near: Near) -> None:
    assert nearness(place) is near


IN_A_NAMESPACE = """
import sys
sys.path[:0] = {paths!r}
from http_bench import give, say, serving, Server, Web
import threading
from twinslot.core.errors import TransportError
from twinslot.transport.http.download import HttpSource
from twinslot.transport.http.options import HttpSettings

def listen(place, *answers):
    server = Server(list(answers), place)
    threading.Thread(target=server.serve_forever, kwargs={{"poll_interval": 0.02}}, daemon=True).start()
    return server

near = listen("127.0.0.1", give(b"secret"))
link = listen("169.254.7.7", give(b"secret"))
other = listen("192.0.2.2", give(b"image"))
port = lambda server: server.server_address[1]
targets = [f"http://{{place}}:{{port(near)}}/" for place in ("127.0.0.1", "localhost", "0.0.0.0", "[::ffff:127.0.0.1]")]
targets.append(f"http://169.254.7.7:{{port(link)}}/")
targets.append(f"http://192.0.2.2:{{port(other)}}/")
for target in targets:
    far = listen("192.0.2.1", say(302, Location=target))
    try:
        got = b"".join(HttpSource(f"http://192.0.2.1:{{port(far)}}/x", HttpSettings(retries=0)).chunks()).decode()
    except TransportError as e:
        got = e.code
    print(got)
print(len(near.asked) + len(link.asked))
for server, place in ((near, "127.0.0.1"), (link, "169.254.7.7")):
    print(b"".join(HttpSource(f"http://{{place}}:{{port(server)}}/x", HttpSettings(retries=0)).chunks()).decode())
"""


@pytest.mark.verifies("REQ-NET-04")
def test_a_server_elsewhere_leads_neither_to_this_device_nor_to_its_link() -> None:
    paths = [str(REPOSITORY / "tests" / "component"), str(REPOSITORY / "client")]
    code = IN_A_NAMESPACE.format(paths=paths)
    places = " && ".join(f"ip address add {place}/32 dev lo" for place in ("192.0.2.1", "192.0.2.2", "169.254.7.7"))
    command = ["unshare", "--net", "--", "sh", "-c", f'ip link set lo up && {places} && exec "$0" -c "$1"']
    done = subprocess.run(
        [*command, sys.executable, code], capture_output=True, text=True, timeout=waits.HANG, check=False
    )
    assert done.stderr == ""
    refused = ["transport.redirect"] * 5
    assert done.stdout.split() == [*refused, "image", "0", "secret", "secret"]


def test_a_name_that_does_not_exist_is_tried_three_times_more(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[str] = []

    def look(host: str, port: int, flags: int = 0) -> lookup.Places:
        if not flags:
            tries.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(lookup, "_look", look)
    error = failure("http://updates.example/x.twin", retries=10)
    assert len(tries) == 4
    assert error.found == "the server's name was not found: Name or service not known"


def test_a_server_that_was_there_and_refuses_now_is_waited_for() -> None:
    with serving(give(DATA, breaks=1000)) as web:
        source = HttpSource(web.url, replace(QUICK, retries=6))
        chunks = source.chunks()
        assert next(chunks)
    with pytest.raises(TransportError, match="failed 7 times"):
        list(chunks)


# Proxies


@dataclass
class Proxy:
    """A proxy on loopback: takes plain requests as a server does, and opens tunnels to one place."""

    to: int
    status: str = "200 OK"
    heads: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def running(self) -> Iterator[str]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            thread = threading.Thread(target=self._accept, args=(listener,))
            thread.start()
            try:
                yield f"http://127.0.0.1:{listener.getsockname()[1]}"
            finally:
                listener.shutdown(socket.SHUT_RDWR)
                thread.join()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=(listener.accept()[0],)).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                head += client.recv(4096)
            self.heads.append(head.decode())
            client.sendall(f"HTTP/1.1 {self.status}\r\nContent-Length: 0\r\n\r\n".encode())
            if not self.status.startswith("200"):
                return
            with socket.create_connection(("127.0.0.1", self.to)) as server:
                back = threading.Thread(target=_pour, args=(server, client))
                back.start()
                _pour(client, server)
                back.join()


def _pour(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


def port_of(web: Web) -> int:
    return int(web.url.rpartition(":")[2])


def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """127.0.0.1 counts as elsewhere, so that a proxy is used for it."""
    monkeypatch.setattr("twinslot.transport.http.dial.is_direct", lambda host, entries: host in entries)


def test_a_plain_request_through_a_proxy_names_the_whole_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with serving(give(DATA)) as web:
        assert download("http://updates.example:8080/x.twin?a=1", proxy=web.url) == DATA
        assert web.asked[0]["path"] == "http://updates.example:8080/x.twin?a=1"
        assert web.asked[0]["host"] == "updates.example:8080"


def test_an_encrypted_one_goes_through_a_tunnel_and_the_proxy_learns_the_host_only(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere(monkeypatch)
    with serving(give(DATA), tls=certificates.context()) as web:
        proxy = Proxy(port_of(web))
        with proxy.running() as url:
            assert download(f"{web.url}/x.twin", proxy=url, ca_file=str(certificates.authority)) == DATA
    assert proxy.heads == [f"CONNECT 127.0.0.1:{proxy.to} HTTP/1.1\r\nHost: 127.0.0.1:{proxy.to}\r\n\r\n"]


def test_a_tunnel_does_not_replace_the_servers_certificate(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere(monkeypatch)
    with serving(give(DATA), tls=certificates.context()) as web, Proxy(port_of(web)).running() as url:
        assert failure(f"{web.url}/x.twin", proxy=url).code == "transport.tls"


@pytest.mark.parametrize(("status", "code", "tries"), [
    ("403 Forbidden", "transport.proxy", 1),
    ("407 Proxy Authentication Required", "transport.proxy", 1),
    ("503 Service Unavailable", "transport.network", 3),
])  # fmt: skip
def test_a_proxy_that_gives_no_tunnel_is_told(status: str, code: str, tries: int) -> None:
    proxy = Proxy(9, status)
    with proxy.running() as url:
        assert failure("https://updates.example/x.twin", proxy=url).code == code
    assert len(proxy.heads) == tries


@pytest.mark.parametrize(
    ("host", "entries", "direct"),
    [
        ("127.0.0.1", (), True),
        ("updates.example", (), False),
        ("updates.example", ("updates.example",), True),
        ("Updates.Example.", ("updates.EXAMPLE",), True),
        ("a.updates.example", (".updates.example",), True),
        ("a.updates.example", ("updates.example",), True),
        ("notupdates.example", ("updates.example",), False),
        ("10.1.2.3", ("10.0.0.0/8",), True),
        ("11.1.2.3", ("10.0.0.0/8", "10.1.2.3"), False),
        ("fd00::1", ("fd00::/8",), True),
        ("updates.example", ("", "."), False),
    ],
)
def test_who_is_asked_without_the_proxy(host: str, entries: tuple[str, ...], direct: bool) -> None:
    assert is_direct(host, entries) is direct


def test_a_host_that_no_proxy_names_is_asked_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere(monkeypatch)
    with serving(give(DATA)) as web:
        assert download(web.url, proxy="http://127.0.0.1:9", no_proxy=("127.0.0.1",)) == DATA


@pytest.mark.parametrize("proxy", ["proxy:8080", "https://proxy:8080", "socks5://proxy", "http://u:geheim@proxy:80"])
def test_a_proxy_that_cannot_be_used_is_the_devices_fault_and_its_password_is_not_shown(proxy: str) -> None:
    error = failure("http://updates.example/x.twin", proxy=proxy)
    assert isinstance(error, DeviceError)
    assert error.code == "device.proxy"
    assert "geheim" not in str(error)


def test_a_redirect_through_a_proxy_does_not_lead_to_this_device() -> None:
    with serving(say(302, Location="http://127.0.0.1:9/")) as web:
        error = failure("http://updates.example/x.twin", proxy=web.url)
    assert error.code == "transport.redirect"


# TLS


@pytest.mark.verifies("REQ-NET-06")
def test_our_certificate_is_shown_to_the_first_host_alone(certificates: Certificates) -> None:
    shown: list[bool] = []

    def look(asked: Asked) -> None:
        assert isinstance(asked.connection, ssl.SSLSocket)
        shown.append(bool(asked.connection.getpeercert()))
        give(DATA)(asked)

    asks = certificates.context(asks=True)
    asks.verify_mode = ssl.CERT_OPTIONAL
    ours = {"client_cert": str(certificates.device), "client_key": str(certificates.directory / "device.key")}
    ours["ca_file"] = str(certificates.authority)
    with serving(look, tls=asks) as other:
        away = f"https://localhost:{port_of(other)}/x.twin"
        with serving(say(302, Location=away), tls=asks) as first:
            assert download(f"{first.url}/x.twin", **ours) == DATA
        with serving(say(302, Location=f"{other.url}/x.twin"), tls=asks) as first:
            assert download(f"{first.url}/x.twin", **ours) == DATA
    assert shown == [False, True]


def test_a_renewed_certificate_is_shown_at_the_next_connection(tmp_path: Path) -> None:
    shown: list[str] = []

    def look(asked: Asked) -> None:
        assert isinstance(asked.connection, ssl.SSLSocket)
        shown.append(str((asked.connection.getpeercert() or {})["serialNumber"]))
        give(DATA)(asked)

    certificates = Certificates(tmp_path)
    ours = {"client_cert": str(certificates.device), "client_key": str(tmp_path / "device.key")}
    ours["ca_file"] = str(certificates.authority)
    with serving(look, tls=certificates.context(asks=True)) as web:
        assert download(f"{web.url}/x.twin", **ours) == DATA
        certificates.renew()
        assert download(f"{web.url}/x.twin", **ours) == DATA
    first, second = shown
    assert first != second


def test_a_server_must_have_one_of_the_pinned_keys(certificates: Certificates) -> None:
    pin, ours = certificates.pin(), str(certificates.authority)
    with serving(give(DATA), tls=certificates.context()) as web:
        assert download(f"{web.url}/x.twin", ca_file=ours, pins=("0" * 64, pin)) == DATA
        web.asked.clear()
        error = failure(f"{web.url}/x.twin", ca_file=ours, pins=("0" * 64,), retry_wait=60.0)
        assert not web.asked
        unknown = failure(f"{web.url}/x.twin", pins=(pin,))
    assert (error.code, error.expected, error.found) == ("transport.tls", "0" * 64, pin)
    assert unknown.code == "transport.tls", "a pin does not make an unknown authority a known one"
    assert unknown.message.endswith("is not who it says")


@pytest.mark.verifies("REQ-NET-06")
def test_the_client_itself_asks_for_tls_1_2_and_authenticated_encryption() -> None:
    made = context(HttpSettings(), ours=True)
    assert made.minimum_version is ssl.TLSVersion.TLSv1_2
    names = [cipher["name"] for cipher in made.get_ciphers()]
    assert names
    assert [name for name in names if not any(word in name for word in ("GCM", "CHACHA20", "CCM"))] == []


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize("weak", ["TLS 1.1", "CBC"])
def test_a_server_with_old_encryption_only_is_refused(certificates: Certificates, weak: str) -> None:
    old = certificates.context()
    old.set_ciphers("ALL:@SECLEVEL=0" if weak == "TLS 1.1" else "ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0")
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.maximum_version = ssl.TLSVersion.TLSv1_1 if weak == "TLS 1.1" else ssl.TLSVersion.TLSv1_2
    with serving(give(DATA), tls=old) as web:
        error = failure(f"{web.url}/x.twin", ca_file=str(certificates.authority))
        assert not web.asked
    assert error.found is not None
    assert error.found.startswith("the encrypted connection failed")


def a_certificate(directory: Path, begins: timedelta, ends: timedelta) -> ssl.SSLContext:
    """A server that vouches for itself from then to then, counted from now; its authority is `ca.pem`."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(7)
    made = made.not_valid_before(now + begins).not_valid_after(now + ends).add_extension(names, critical=False)
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    made = made.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    (directory / "ca.pem").write_bytes(made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    form, bare = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (directory / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, form, bare))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(directory / "ca.pem", directory / "key.pem")
    return server


@pytest.mark.parametrize("days", [(10, 400), (-400, -10)])
def test_dates_that_do_not_fit_lead_to_the_clock(tmp_path: Path, days: tuple[int, int]) -> None:
    server = a_certificate(tmp_path, *(timedelta(days=day) for day in days))
    built = time.time() + 20 * 86_400
    with serving(give(DATA), tls=server) as web:
        unknown = failure(f"{web.url}/x", ca_file=str(tmp_path / "ca.pem"))
        known = failure(f"{web.url}/x", ca_file=str(tmp_path / "ca.pem"), earliest=built)
    assert unknown.hint is not None, unknown.found
    assert unknown.hint.startswith("the clock of this device says 2")
    assert known.hint is not None
    assert "before its build time" in known.hint


def test_ranges_are_asked_with_the_same_rules(certificates: Certificates) -> None:
    with serving(say(302, Location="http://127.0.0.1:9/"), tls=certificates.context()) as web:
        source = RangeSource(f"{web.url}/x", replace(QUICK, ca_file=str(certificates.authority)))
        with contextlib.closing(source), pytest.raises(TransportError) as error:
            source.read(0, 10)
    assert error.value.code == "transport.redirect"
