"""The public half of the key that opens encrypted images (`decryption-key`), and whether it opens them (`doctor`)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

from twinslot.config.options import Config
from twinslot.core.device_key import pem_of
from twinslot.core.errors import DeviceError
from twinslot.core.pkcs11_uri import is_pkcs11
from twinslot.crypto.keys import KeyFormError, RecipientKey, load_private, load_public
from twinslot.queries.device_key import RETIRED
from twinslot.queries.diagnosis import Looked, Scene, Severity
from twinslot.queries.doctor_boot import NOT_READABLE
from twinslot.system.token import Token
from twinslot.worker.protocol import KEY_MAX
from twinslot.worker.unlock import open_private

_SHOWN: Final = 16  # digits of a key id, as the image tool shows them
_FORM: Final = "an X25519 or P-256 key in PEM without a passphrase; in a token, on P-256"
_MAKE: Final = "'twinslot decryption-key init' makes one where there is none"


def public_key(config: Config) -> dict[str, Any]:
    """The public half of `decryption.key`, JSON-ready; root's to ask for.

    Raises:
        DeviceError: `device.decryption-key`, `device.pkcs11-...`: there is none, or it cannot be used.
    """
    key = recipient(config.decryption.key)
    return {"kind": key.kind, "key": key.key_id.hex(), "public": key.pem().decode()}


def recipient(where: str) -> RecipientKey:
    """The public half of the key at this place.

    Raises:
        DeviceError: As `public_key`.
    """
    if not where:
        what, hint = "this device has no decryption key", "set '[decryption] key'"
        raise DeviceError(what, code="decryption-key", hint=hint)
    try:
        return _in_token(Token.of(where)) if is_pkcs11(where) else _in_file(Path(where))
    except KeyFormError as e:
        what = "the decryption key cannot be used"
        raise DeviceError(what, code="decryption-key", expected=_FORM, found=e.what, hint=_MAKE) from e


def decryption_key(scene: Scene) -> Looked:
    """Whether an image that is encrypted for this device could be opened."""
    where = scene.config.decryption.key
    if not where:
        yield Severity.FINE, "'decryption.key' is not set: encrypted images are refused", ""
        return
    if scene.view.retired:
        yield Severity.FINE, RETIRED, ""
        return
    if not scene.is_root:
        yield Severity.UNKNOWN, NOT_READABLE, ""
        return
    try:
        key = recipient(where)
        if is_pkcs11(where):
            Token.of(where).exchange(key.pem())  # with itself, which says nothing
    except DeviceError as e:
        yield Severity.FAULT, str(e).partition(" (hint: ")[0], e.hint or ""
        return
    yield Severity.FINE, f"images that are encrypted for key {key.key_id.hex()[:_SHOWN]} can be opened", ""


def _in_file(path: Path) -> RecipientKey:
    descriptor = open_private(path)
    try:
        return load_private(os.read(descriptor, KEY_MAX)).public_key
    except OSError as e:
        what = f"the decryption key '{path}' cannot be read"
        raise DeviceError(what, code="decryption-key", found=e.strerror, hint=_MAKE) from e
    finally:
        os.close(descriptor)


def _in_token(token: Token) -> RecipientKey:
    key = load_public(pem_of(token.public()).encode())
    if key.kind != "p256":
        raise KeyFormError("a key of another kind")
    return key
