"""A device's keys in a TPM: swtpm is the TPM, tpm2-abrmd shares it, tpm2-pkcs11 is its module, all of them Debian's."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from bus_bench import private_bus
from test_token_device_key import Call, call, finding  # noqa: F401 (a fixture)
from tls_bench import Certificates

import waits
from device_token import PIN, PROVIDER
from twinslot.core.errors import DeviceError
from twinslot.storage.device_key import DeviceKeyFiles
from twinslot.system.token import Token
from twinslot.trust.device_key import open_device_key, verifies

MODULE = next(iter(Path("/usr/lib").glob("*/pkcs11/libtpm2_pkcs11.so*")), None)
PROGRAMS = all(map(shutil.which, ("swtpm", "tpm2-abrmd", "pkcs11-tool", "dbus-daemon", "dbus-send")))
SO_PIN = "135790"
NAMES = "org.freedesktop.DBus.ListNames"
TLS = """
import socket, ssl, sys
from twinslot.transport.http.token_key import as_file
port, authority, certificate, uri = sys.argv[1:]
context = ssl.create_default_context(cafile=authority)
with as_file(uri) as key:
    context.load_cert_chain(certificate, key)
with socket.create_connection(("127.0.0.1", int(port))) as plain:
    with context.wrap_socket(plain, server_hostname="127.0.0.1") as tls:
        print(tls.recv(99).decode())
"""
pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.skipif(not (PROVIDER and MODULE and PROGRAMS), reason="no TPM emulator or no pkcs11-provider"),
]


class Tpm:
    """A TPM with one token, `device`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "pin").write_text(PIN)
        (folder / "pin").chmod(0o400)
        self._tool("--slot-index", "0", "--init-token", "--label", "device", "--so-pin", SO_PIN)
        self._tool(
            "--token-label", "device", "--login", "--login-type", "so", "--so-pin", SO_PIN, "--init-pin", "--pin", PIN
        )

    def key(self, label: str) -> str:
        """The URI of a key on P-256 that is born in it."""
        birth = ("--keypairgen", "--key-type", "EC:prime256v1", "--label", label, "--id", label.encode().hex())
        self._tool("--token-label", "device", "--login", "--pin", PIN, *birth)
        return f"pkcs11:token=device;object={label}?module-path={MODULE}&pin-source=file:{self._folder}/pin"

    def _tool(self, *arguments: str) -> None:
        done = subprocess.run(["pkcs11-tool", "--module", str(MODULE), *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


@pytest.fixture
def tpm(monkeypatch: pytest.MonkeyPatch) -> Iterator[Tpm]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        address = stack.enter_context(private_bus())
        monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", address)
        monkeypatch.setenv("TPM2_PKCS11_STORE", str(folder))
        monkeypatch.setenv("TPM2_PKCS11_TCTI", "tabrmd:bus_type=session")
        port = two_ports()
        server, control = (f"type=tcp,bindaddr=127.0.0.1,port={each}" for each in (port, port + 1))
        started = ("--server", server, "--ctrl", control, "--flags", "not-need-init,startup-clear")
        run(stack, "swtpm", "socket", "--tpm2", "--tpmstate", f"dir={folder}", *started)
        waits.until(lambda: listens(port) and listens(port + 1))
        run(stack, "tpm2-abrmd", f"--tcti=swtpm:host=127.0.0.1,port={port}", "--session", "--allow-root")
        asked = ["dbus-send", f"--bus={address}", "--print-reply", "--dest=org.freedesktop.DBus", "/", NAMES]
        waits.until(lambda: b"Tabrmd" in subprocess.run(asked, capture_output=True).stdout)
        yield Tpm(folder)


def two_ports() -> int:
    """The lower of two free ones beside each other, as the library expects them."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as lower, ExitStack() as stack:
            port = int(lower.getsockname()[1])
            with contextlib.suppress(OSError):
                stack.enter_context(socket.create_server(("127.0.0.1", port + 1)))
                return port


def listens(port: int) -> bool:
    """Somebody does; asked of the kernel, since the emulator takes one caller."""
    return f":{port:04X} 00000000:0000 0A" in Path("/proc/net/tcp").read_text()


def run(stack: ExitStack, *argv: str) -> None:
    """A program, until the stack ends."""
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    stack.callback(process.wait)
    stack.callback(process.terminate)


@pytest.mark.verifies("S22")
def test_a_device_signs_with_a_key_that_was_born_in_its_tpm(tpm: Tpm, call: Call, tmp_path: Path) -> None:  # noqa: F811
    uri = tpm.key("me")
    made = call(uri, "device-key", "init", "--json")
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["algorithm"] == "ecdsa-p256"
    assert [path.name for path in (tmp_path / "data").iterdir() if "key" in path.name] == ["device-key.pub"]
    key = open_device_key(DeviceKeyFiles(tmp_path / "data", uri))
    for number in range(4):  # a TPM holds three objects at a time
        payload = b"%d" % number
        assert verifies(key.public, "text/plain", payload, key.sign("text/plain", payload))
    assert finding(call(uri, "doctor", "--json"))["severity"] == "fine"


@pytest.mark.verifies("S22")
def test_a_server_gets_our_certificate_by_a_key_in_the_tpm(tpm: Tpm, tmp_path: Path) -> None:
    uri, certificates = tpm.key("tls"), Certificates(tmp_path)
    certificate = certificates.of_public("pump-7", Token.of(uri).public())
    context = certificates.context(asks=True)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            with context.wrap_socket(listening.accept()[0], server_side=True) as tls:
                subject = tls.getpeercert()["subject"]  # type: ignore[index]
                tls.sendall(str(subject).encode())

        server = threading.Thread(target=answer)
        server.start()
        port = str(listening.getsockname()[1])
        argv = [sys.executable, "-c", TLS, port, str(certificates.authority), str(certificate), uri]
        done = subprocess.run(argv, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": ":".join(sys.path)})
        server.join()
    assert "pump-7" in done.stdout, done.stderr


def test_a_tpm_opens_no_encrypted_image_by_this_provider_and_it_is_said(tpm: Tpm) -> None:
    """With tpm2-pkcs11 1.9 and pkcs11-provider 1.0 OpenSSL says that the operation is not supported for this key."""
    uri = tpm.key("images")
    other = subprocess.run(
        ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
        capture_output=True,
        check=True,
    ).stdout
    public = subprocess.run(["openssl", "pkey", "-pubout"], input=other, capture_output=True, check=True).stdout
    with pytest.raises(DeviceError) as refused:
        Token.of(uri).exchange(public)
    assert refused.value.code == "device.pkcs11-key"
