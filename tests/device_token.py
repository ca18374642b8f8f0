"""A token of a device: SoftHSM stands for the module, as any maker's PKCS #11 module or a TPM's would."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

MODULE = "/usr/lib/softhsm/libsofthsm2.so"
PIN = "864209"
_ED25519 = bytes.fromhex("302a300506032b6570032100")  # what stands before the point (RFC 8410, section 4)
PROVIDER = any(Path("/usr/lib").glob("*/ossl-modules/pkcs11.so"))
needs_provider = pytest.mark.skipif(not PROVIDER, reason="no pkcs11-provider, which Debian 13 has and 12 has not")


@dataclass(frozen=True)
class DeviceToken:
    """One token named `device`, in a directory of its own; `SOFTHSM2_CONF` names it."""

    folder: Path

    @classmethod
    def make(cls, folder: Path, patch: pytest.MonkeyPatch) -> DeviceToken:
        """A new one, empty."""
        (folder / "store").mkdir()
        (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder}/store\nobjectstore.backend = file\n")
        (folder / "pin").write_text(PIN)
        (folder / "pin").chmod(0o400)
        patch.setenv("SOFTHSM2_CONF", str(folder / "softhsm2.conf"))
        made = cls(folder)
        made.run("softhsm2-util", "--init-token", "--free", "--label", "device", "--pin", PIN, "--so-pin", "13579")
        return made

    def key(self, label: str, kind: str = "EC:prime256v1", *options: str) -> str:
        """The URI of a key that is born in it."""
        key_id = label.encode().hex()  # by which OpenSSL's provider finds the public half
        self.tool("--keypairgen", "--key-type", kind, "--label", label, "--id", key_id, *options)
        return self.uri(label)

    def uri(self, label: str) -> str:
        """How a device's configuration names a key."""
        return f"pkcs11:token=device;object={label}?module-path={MODULE}&pin-source=file:{self.folder}/pin"

    def public(self, label: str) -> bytes:
        """The public half, SubjectPublicKeyInfo in DER."""
        shown = self.tool("--list-objects", "--type", "pubkey", "--label", label)
        if found := re.search(r"EC_POINT:\s+0420([0-9a-f]{64})\b", shown):
            return _ED25519 + bytes.fromhex(found[1])
        file = self.folder / "public.der"
        self.tool("--read-object", "--type", "pubkey", "--label", label, "--output-file", str(file))
        return file.read_bytes()

    def tool(self, *arguments: str) -> str:
        """OpenSC's tool."""
        return self.run(
            "pkcs11-tool", "--module", MODULE, "--login", "--pin", PIN, "--token-label", "device", *arguments
        )

    def run(self, *command: str) -> str:
        """A program that must succeed."""
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout
