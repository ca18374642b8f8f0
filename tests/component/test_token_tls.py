"""`http.client_key` in a token: the relay gets signatures from it, and the key is in no process and no file of ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_relay import GROUPS, USERS
from tls_bench import Certificates

from device_token import PROVIDER, DeviceToken, needs_provider
from twinslot.core.errors import DeviceError, TwinslotError
from twinslot.transport.http.token_key import as_file

RELAY = 64002
HERE = "pkcs11:object=tls?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/pin"
STORY = """
import json, os, ssl, subprocess, sys
sys.path[:0] = json.loads(os.environ["PLACES"])
from dataclasses import asdict
from pathlib import Path
from http_bench import serving
from range_bench import parts
from tls_bench import Certificates
from image_samples import make_sample
from twinslot.core.errors import TwinslotError
from twinslot.transport.http.options import HttpSettings
from twinslot.worker import launch
from twinslot.worker.stream import open_remote

request, shown, said = json.loads(sys.argv[1]), [], {}
answers = parts(make_sample().data)

def look(asked):
    shown.append(dict(each[0] for each in asked.connection.getpeercert()["subject"])["commonName"])
    answers(asked)

server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
server.load_cert_chain(request["server"], request["server"].replace(".pem", ".key"))
server.verify_mode = ssl.CERT_REQUIRED
server.load_verify_locations(request["http"]["ca_file"])
with serving(look, tls=server) as web:
    http = asdict(HttpSettings(**request["http"], retries=0))
    try:
        stream = open_remote(launch.start, {"limits": {}, "url": web.url + "/x.twin", "http": http})
        said["head"] = stream.head().manifest == make_sample().manifest_bytes
        process = Path("/proc") / str(stream._relay._process.pid)
        said["module"] = "libsofthsm2" in (process / "maps").read_text()
        said["fetch module"] = "pkcs11" in (Path("/proc") / str(stream._worker._process.pid) / "maps").read_text()
        stream.close()
    except TwinslotError as e:
        said["error"] = str(e)
said["shown"] = sorted(set(shown))
look = "import os, sys; [open(each).read() if os.path.isfile(each) else os.listdir(each) for each in sys.argv[1:]]"
for kind in ("fetch", "relay"):
    argv = [*launch.without_privileges(kind), "/usr/bin/python3", "-I", "-c", look, request["pin"]]
    done = subprocess.run(argv, capture_output=True, text=True)
    argv = [*argv[:-1], request["store"]]
    done_store = subprocess.run(argv, capture_output=True, text=True)
    said[kind] = ["PermissionError" in each.stderr or each.returncode for each in (done, done_store)]
print(json.dumps(said))
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that every user may enter; those of tests are for one user alone."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def token(place: Path, monkeypatch: pytest.MonkeyPatch) -> DeviceToken:
    folder = place / "token"
    folder.mkdir()
    return DeviceToken.make(folder, monkeypatch)


@pytest.fixture
def certificates(place: Path) -> Certificates:
    folder = place / "tls"
    folder.mkdir()
    return Certificates(folder)


def told(place: Path, token: DeviceToken, certificates: Certificates, **http: str) -> dict[str, Any]:
    """What happened in a mount namespace in which this machine has the users of a device, and SoftHSM this token."""
    for path in [token.folder, *token.folder.rglob("*")]:
        os.chown(path, RELAY, RELAY)
    (token.folder / "store").chmod(0o700)
    for path in certificates.directory.glob("*.pem"):
        path.chmod(0o644)
    (place / "passwd").write_text(Path("/etc/passwd").read_text() + USERS)
    (place / "group").write_text(Path("/etc/group").read_text() + GROUPS)
    (place / "softhsm").mkdir(exist_ok=True)
    configuration = place / "softhsm/softhsm2.conf"
    configuration.write_text((token.folder / "softhsm2.conf").read_text())
    configuration.chmod(0o644)
    binds = {"passwd": "/etc/passwd", "group": "/etc/group", "softhsm": "/etc/softhsm"}
    script = " && ".join(f"mount --bind {place}/{ours} {theirs}" for ours, theirs in binds.items())
    request = {
        "http": {"ca_file": str(certificates.authority)} | http,
        "server": str(certificates.server),
        "pin": str(token.folder / "pin"),
        "store": str(token.folder / "store"),
    }
    argv = ["unshare", "--mount", "sh", "-c", f'{script} && exec "$@"', "sh", sys.executable, "-c", STORY]
    environment = os.environ | {"PLACES": json.dumps(sys.path)}
    done = subprocess.run([*argv, json.dumps(request)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@needs_provider
@pytest.mark.root
@pytest.mark.verifies("S22")
@pytest.mark.parametrize("kind", ["EC:prime256v1", "EC:edwards25519", "rsa:3072"])
def test_a_server_that_asks_gets_our_certificate_though_the_key_never_leaves_a_token_of_the_relays_user(
    place: Path, token: DeviceToken, certificates: Certificates, kind: str
) -> None:
    uri = token.key("tls", kind)
    certificate = certificates.of_public("pump-7", token.public("tls"))
    assert told(place, token, certificates, client_cert=str(certificate), client_key=uri) == {
        "head": True,
        "module": True,
        "fetch module": False,
        "shown": ["pump-7"],
        "fetch": [True, True],
        "relay": [0, 0],
    }


@needs_provider
@pytest.mark.root
def test_a_wrong_pin_and_a_key_that_is_not_there_are_told_as_what_they_can_be(
    place: Path, token: DeviceToken, certificates: Certificates
) -> None:
    uri = token.key("tls")
    certificate = certificates.of_public("pump-7", token.public("tls"))
    said = told(place, token, certificates, client_cert=str(certificate), client_key=uri.replace("=tls", "=other"))
    assert "no such key in the token, or another PIN" in said["error"]
    (token.folder / "pin").chmod(0o600)
    (token.folder / "pin").write_text("111111")
    said = told(place, token, certificates, client_cert=str(certificate), client_key=uri)
    assert "no such key in the token, or another PIN" in said["error"]
    assert "111111" not in said["error"]


@pytest.mark.parametrize(
    ("uri", "code"),
    [
        ("pkcs11:object=tls?pin-source=file:/pin", "device.pkcs11-module"),
        ("pkcs11:object=tls?module-path=/lib/a.so%0a[x]&pin-source=file:/pin", "device.pkcs11-module"),
        ("pkcs11:object=tls?module-path=/lib/a.so", "device.pkcs11-pin"),
        ("pkcs11:token=device?module-path=/lib/a.so&pin-source=file:/pin", "device.pkcs11-uri"),
        ("pkcs11:object=tls?module-path=/lib/a.so&pin-value=1234", "refused.pin-in-uri"),
    ],
)
def test_a_uri_with_which_no_device_reaches_a_key_is_refused_before_anything_is_loaded(uri: str, code: str) -> None:
    with pytest.raises(TwinslotError) as error, as_file(uri):
        pass
    assert error.value.code == code


@pytest.mark.skipif(PROVIDER, reason="the provider is installed here")
def test_without_openssls_provider_the_package_that_is_missing_is_named() -> None:
    with pytest.raises(DeviceError, match="install 'openssl' and 'pkcs11-provider'") as error, as_file(HERE):
        pass
    assert error.value.code == "device.pkcs11-provider"
