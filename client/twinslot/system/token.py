"""Keys in tokens that root's processes use: OpenSSL's program asks the token, by its pkcs11-provider.

A token's module is a library of somebody else's. It is loaded by a program that does one thing and ends, never by a
process of ours: when it crashes or hangs, one request fails. The PIN stands in a file that the program reads, and in no
argument. Signing, or agreeing on a secret, is all that a token does here; the key stays in it.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from twinslot.core.circumstance import is_shortage, shortage
from twinslot.core.errors import DeviceError
from twinslot.core.pkcs11_provider import configuration, device_uri
from twinslot.core.pkcs11_uri import Pkcs11Uri
from twinslot.system.process import ProgramResult, run

LONGEST: Final = 120.0  # seconds for one request: a TPM takes some for an RSA key, a slow board some for OpenSSL
_HINT: Final = "see 'openssl pkey -in URI -pubout', and provider-pkcs11(7)"


@dataclass(frozen=True, slots=True)
class Token:
    """One key in a token.

    Attributes:
        uri: Which key; it names the module, and the file of the PIN.
    """

    uri: Pkcs11Uri

    @classmethod
    def of(cls, text: str) -> Token:
        """The key that a configuration names.

        Raises:
            TwinslotError: `device.pkcs11-...` or `refused.pin-in-uri`: no device can use this URI.
        """
        return cls(device_uri(text))

    def public(self) -> bytes:
        """The public half, SubjectPublicKeyInfo in DER.

        Raises:
            DeviceError: `device.pkcs11-...`: the token does not give it.
        """
        return self._asked(["pkey", "-in", self.uri.text, "-pubout", "-outform", "DER"])

    def sign(self, data: bytes) -> bytes:
        """A signature: of Ed25519 over the data, else over its SHA-256, ECDSA's in DER.

        Raises:
            DeviceError: `device.pkcs11-...`: the token does not sign.
        """
        return self._asked(["pkeyutl", "-sign", "-rawin", "-inkey", self.uri.text], ("-in", data))

    def exchange(self, other: bytes) -> bytes:
        """The shared secret of Diffie-Hellman with a public key (SubjectPublicKeyInfo in PEM).

        Raises:
            DeviceError: `device.pkcs11-...`: the token does not agree on one.
        """
        return self._asked(["pkeyutl", "-derive", "-inkey", self.uri.text], ("-peerkey", other))

    # keeps: S22 (in a program of its own)
    def _asked(self, words: list[str], file: tuple[str, bytes] | None = None) -> bytes:
        """What the program answers; a file with the word before it (nothing of no size is signed)."""
        try:
            with ExitStack() as stack:
                configured = _memory_file(stack, configuration(self.uri))
                files = [configured]
                if file is not None:
                    files.append(_memory_file(stack, file[1]))
                    words = [*words, file[0], _name(files[-1])]
                environment = {"OPENSSL_CONF": _name(configured)}
                done = run(["openssl", *words], timeout=LONGEST, environment=environment, descriptors=files)
        except OSError as e:
            if is_shortage(e):
                raise shortage("the token cannot be asked now", e) from e
            raise _no_provider(e.strerror or str(e)) from e
        if done.status == 0 and done.stdout:
            return done.stdout
        raise _refused(self.uri, done)


def _memory_file(stack: ExitStack, data: bytes) -> int:
    """A descriptor of a file without a name; closed with the stack.

    Raises:
        OSError: As the system says it; the caller names what was meant.
    """
    descriptor = os.memfd_create("twinslot", os.MFD_CLOEXEC)
    stack.callback(os.close, descriptor)
    os.write(descriptor, data)
    return descriptor


def _name(descriptor: int) -> str:
    return f"/proc/self/fd/{descriptor}"


def _refused(uri: Pkcs11Uri, done: ProgramResult) -> DeviceError:
    """What the program's words mean; it tells neither a wrong PIN nor a missing token from a missing key."""
    said = done.stderr
    if b"unregistered scheme" in said and b"scheme=pkcs11" in said:
        return _no_provider("OpenSSL without it")
    if done.status is None or done.status < 0 or b"Module initialization failed" in said:
        what = f"the PKCS #11 module '{uri.module}' cannot be used"
        return DeviceError(what, code="pkcs11-module", found=done.complaint(), hint=_HINT)
    what = "the token does not give what was asked of its key: no such token or key, another PIN, or not allowed"
    expected = f"{uri.key_name} in the token with {uri.token_name}"
    return DeviceError(what, code="pkcs11-key", expected=expected, found=done.complaint(), hint=_HINT)


def _no_provider(found: str) -> DeviceError:
    what, hint = "keys in tokens need OpenSSL's pkcs11-provider", "install 'openssl' and 'pkcs11-provider' (Debian 13)"
    return DeviceError(what, code="pkcs11-provider", found=found, hint=hint)
