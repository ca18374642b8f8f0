"""A key in a token (PKCS #11): its public half, and its signatures. The module runs in a process of its own."""

from __future__ import annotations

import importlib.metadata
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, Final

from cryptography.hazmat.primitives.serialization import load_pem_public_key
from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import CryptoSigner, Signature, SSlibKey  # type: ignore[attr-defined]

from twinslot.core.errors import DeviceError, TwinslotError
from twinslot.core.pkcs11_uri import Pkcs11Uri, parse_uri
from twinslot_image.pkcs11_pin import Pins

MODULE: Final = "TWINSLOT_PKCS11_MODULE"
LONGEST: Final = 300.0  # seconds for one request: some tokens wait for a finger, and an RSA key takes some
_WORKER: Final = "twinslot_image.pkcs11_worker"
_PROOF: Final = b"twinslot: this key signs\n"  # signed once when a key is opened, and by nobody believed


class TokenSigner(CryptoSigner):
    """Signs with a key that stays in its token.

    Args:
        uri: Which key.
        pin: The token's.

    Raises:
        DeviceError: `device.pkcs11-...`: no such module, token or key, a wrong PIN, or the key did not sign a text of
            ours.
    """

    def __init__(self, uri: Pkcs11Uri, pin: str) -> None:
        self._uri, self._pin = uri, pin
        answer = _ask_worker(uri, pin, "sign", _PROOF)
        self._public = SSlibKey.from_crypto(load_pem_public_key(answer["public"].encode()))
        self._seen_to_verify(answer, _PROOF)

    @property
    def public_key(self) -> SSlibKey:
        """As it stands in documents."""
        return self._public

    def sign(self, payload: bytes) -> Signature:
        """A signature as documents have it, seen to verify.

        Raises:
            DeviceError: As the class; and `device.pkcs11-key`: what the token gave does not verify.
        """
        return self._seen_to_verify(_ask_worker(self._uri, self._pin, "sign", payload), payload)

    def _seen_to_verify(self, answer: Mapping[str, str], payload: bytes) -> Signature:
        signature = Signature(self._public.keyid, answer["signature"])
        try:
            self._public.verify_signature(signature, payload)
        except UnverifiedSignatureError as e:
            what, hint = "the token's signature does not verify", "its public key may be of another private key"
            raise DeviceError(what, code="pkcs11-key", found=self._uri.key_name, hint=hint) from e
        return signature


def open_token(where: str, pins: Pins) -> TokenSigner:
    """The key that a URI names, once it has shown that it signs.

    Raises:
        DeviceError: `device.pkcs11-...`, see `TokenSigner`.
        RefusedError: `refused.pin-in-uri`.
    """
    uri = _uri(where)
    return TokenSigner(uri, pins.of(uri))


def public_pem(where: str) -> bytes:
    """The public half of a key that a URI names, for which no PIN is needed.

    Raises:
        DeviceError: `device.pkcs11-...`: no such module, token or key.
        RefusedError: `refused.pin-in-uri`.
    """
    return str(_ask_worker(_uri(where), "", "public")["public"]).encode()


def exchanged(where: str, pins: Pins, point: bytes) -> bytes:
    """The secret that the key in a token makes with a point of its curve (Diffie-Hellman).

    Raises:
        DeviceError: `device.pkcs11-...`: no such module, token or key, or it does not do this.
        RefusedError: `refused.pin-in-uri`.
    """
    uri = _uri(where)
    return bytes.fromhex(_ask_worker(uri, pins.of(uri), "exchange", point)["secret"])


def _uri(where: str) -> Pkcs11Uri:
    uri = parse_uri(where)
    try:
        importlib.metadata.version("python-pkcs11")
    except importlib.metadata.PackageNotFoundError as e:
        what, hint = "keys in tokens need the library python-pkcs11", "install twinslot-image's extra 'pkcs11'"
        raise DeviceError(what, code="pkcs11-library", hint=hint) from e
    return uri


def _module_of(uri: Pkcs11Uri) -> str:
    module = str(uri.module or os.environ.get(MODULE, ""))
    if not module:
        hint = f"add '?module-path=/...' to the URI, or set {MODULE}"
        raise DeviceError("it is not said which PKCS #11 module the token needs", code="pkcs11-module", hint=hint)
    return module


def _ask_worker(uri: Pkcs11Uri, pin: str, do: str, data: bytes = b"") -> dict[str, Any]:
    """One thing done by a fresh process, and the public half of the key that did it.

    Raises:
        DeviceError: What the process says, or `device.pkcs11-module`: it crashed, or did not end.
    """
    module = _module_of(uri)
    request = {
        "module": module,
        "token": dict(uri.token),
        "token_name": uri.token_name,
        "slot": uri.slot,
        "label": uri.label,
        "key_id": None if uri.key_id is None else uri.key_id.hex(),
        "key_name": uri.key_name,
        "pin": pin,
        "do": do,
        "data": data.hex(),
    }
    answer = _answer_of(module, json.dumps(request).encode())
    if "error" in answer:
        raise TwinslotError.from_dict(answer["error"])
    return dict(answer)


def _answer_of(module: str, request: bytes) -> dict[str, Any]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-P", "-m", _WORKER]
    try:
        done = subprocess.run(
            command, input=request, capture_output=True, timeout=LONGEST, env=environment, check=False
        )
    except subprocess.TimeoutExpired as e:
        found = f"no answer within {LONGEST:.0f} s"
        raise DeviceError(f"the PKCS #11 module '{module}' hangs", code="pkcs11-module", found=found) from e
    try:
        return dict(json.loads(done.stdout))
    except (ValueError, TypeError) as e:
        what, found = f"the PKCS #11 module '{module}' crashed", _ending(done.returncode)
        hint = "try 'pkcs11-tool --module' with it; the maker of the module must mend it"
        raise DeviceError(what, code="pkcs11-module", found=found, hint=hint) from e


def _ending(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    return f"signal {signal.Signals(-status).name}"
