"""Certificates made for one test run."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path


class Certificates:
    """An authority, and certificates for the server and for a device."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        # Python 3.13 checks certificates strictly (ssl.VERIFY_X509_STRICT): each says what it may be used for.
        may_sign = ("-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
        self.authority = self._make("ca", "-x509", *may_sign)
        may_not = ("-addext", "basicConstraints=critical,CA:FALSE", "-addext", "keyUsage=critical,digitalSignature")
        ca = ("-CA", str(directory / "ca.pem"), "-CAkey", str(directory / "ca.key"), "-x509", *may_not)
        self.server = self._make("server", *ca, "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost")
        self._ca = ca
        self.device = self._make("device", *ca)

    def renew(self) -> None:
        """Another certificate and key for the device, in the place of the old ones."""
        self._make("device", *self._ca)

    def of_public(self, name: str, public: bytes) -> Path:
        """A certificate over a public key (SubjectPublicKeyInfo in DER) whose private half is somewhere else."""
        (self.directory / f"{name}.der").write_bytes(public)
        key, certificate = self.directory / f"{name}.pub", self.directory / f"{name}.pem"
        openssl = ["openssl", "pkey", "-pubin", "-inform", "der", "-in", str(self.directory / f"{name}.der")]
        subprocess.run([*openssl, "-out", str(key)], check=True, capture_output=True)
        command = ["openssl", "x509", "-new", "-force_pubkey", str(key), "-subj", f"/CN={name}", "-days", "2"]
        (self.directory / "leaf.cnf").write_text(
            "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n"
        )
        signing = ["-CA", str(self.authority), "-CAkey", str(self.directory / "ca.key")]
        command += [*signing, "-extfile", str(self.directory / "leaf.cnf"), "-out", str(certificate)]
        subprocess.run(command, check=True, capture_output=True)
        return certificate

    def pin(self) -> str:
        """SHA-256 of the server's public key."""
        shell = f"openssl x509 -in {self.server} -noout -pubkey | openssl pkey -pubin -outform der | sha256sum"
        return subprocess.run(shell, shell=True, check=True, capture_output=True, text=True).stdout.split()[0]

    def _make(self, name: str, *options: str) -> Path:
        key, certificate = self.directory / f"{name}.key", self.directory / f"{name}.pem"
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
        command = [
            "openssl",
            "req",
            *curve,
            "-subj",
            f"/CN={name}",
            *options,
            "-keyout",
            str(key),
            "-out",
            str(certificate),
        ]
        subprocess.run(command, check=True, capture_output=True)
        return certificate

    def context(self, *, asks: bool = False) -> ssl.SSLContext:
        """The server's side."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.server, self.directory / "server.key")
        if asks:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.authority)
        return context
