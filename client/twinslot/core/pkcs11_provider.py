"""What OpenSSL's pkcs11-provider needs to be told to find a key in a token: a configuration, and a file of the key.

Source: provider-pkcs11(7) of pkcs11-provider 1.0, which is Debian 13's, and config(5ssl).
"""

from __future__ import annotations

import base64
import re
import textwrap
from typing import Final

from twinslot.core.der import der
from twinslot.core.device_key import pem_of
from twinslot.core.errors import DeviceError
from twinslot.core.pkcs11_uri import Pkcs11Uri, parse_uri

NAME: Final = "pkcs11"  # of the provider, and of its shared library
_PLAIN: Final = re.compile(r"/[A-Za-z0-9/_.,:@+~-]{1,1000}")  # nothing that config(5ssl) gives a meaning to
_DESCRIPTION: Final = b"PKCS#11 Provider URI v1.0"
_SEQUENCE, _UTF8, _VISIBLE = 0x30, 0x0C, 0x1A  # X.690 tags
_POINT, _UNCOMPRESSED = 65, 4  # bytes, and their first (SEC 1, section 2.3.3)
_P256: Final = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200")  # what stands before it (RFC 5480)
# Some modules, SoftHSM among them, crash when they are ended while OpenSSL ends, or give states that they cannot take
# back; nothing here ends a module before its process ends, or copies an operation.
_QUIRKS: Final = "no-deinit no-operation-state"


def configuration(uri: Pkcs11Uri) -> bytes:
    """OpenSSL's configuration, by which it knows its own algorithms and then those of the token's module.

    Raises:
        DeviceError: `device.pkcs11-module`: the URI names no module, or not by a plain path.
    """
    module = uri.module or ""
    if not _PLAIN.fullmatch(module):
        hint = "add '?module-path=/...' to the URI, a path of letters, digits and /_.,:@+~-"
        what = "it is not said which PKCS #11 module the token needs"
        raise DeviceError(what, code="pkcs11-module", expected="module-path=/PATH", found=module or None, hint=hint)
    lines = (
        "openssl_conf = twinslot",
        "[twinslot]",
        "providers = providers",
        "[providers]",
        "default = own",  # first, so that only what needs the token goes there
        f"{NAME} = token",
        "[own]",
        "activate = 1",
        "[token]",
        f"pkcs11-module-path = {module}",
        f"pkcs11-module-quirks = {_QUIRKS}",
        "activate = 1",
    )
    return "\n".join((*lines, "")).encode()


def key_pem(uri: Pkcs11Uri) -> bytes:
    """A key file that holds the name of the key alone, as the provider reads it wherever OpenSSL loads a file."""
    body = der(_SEQUENCE, der(_VISIBLE, _DESCRIPTION) + der(_UTF8, uri.text.encode()))
    lines = textwrap.wrap(base64.b64encode(body).decode(), 64)
    return "\n".join(
        ("-----BEGIN PKCS#11 PROVIDER URI-----", *lines, "-----END PKCS#11 PROVIDER URI-----", "")
    ).encode()


def device_uri(text: str) -> Pkcs11Uri:
    """The key that a device's configuration names; on a device there is nobody to ask for a PIN or a module.

    Raises:
        DeviceError: `device.pkcs11-uri`, `device.pkcs11-module`, `device.pkcs11-pin`: something is not said.
        RefusedError: `refused.pin-in-uri`.
    """
    uri = parse_uri(text)
    configuration(uri)
    if uri.pin_file is None:
        what, hint = "the PIN of the token is not known", "add '&pin-source=file:/...' to the URI"
        raise DeviceError(what, code="pkcs11-pin", expected="pin-source=file:/PATH", found=uri.token_name, hint=hint)
    return uri


def point_pem(point: bytes) -> bytes:
    """A public key on P-256 as OpenSSL reads it, from its point as RFC 9180 serializes it.

    Raises:
        DeviceError: `device.worker`: it has another length. Whether the point is one of the curve is OpenSSL's to say.
    """
    if len(point) != _POINT or point[0] != _UNCOMPRESSED:
        found = f"{len(point)} bytes"
        raise DeviceError("the decrypting worker sent no point", code="worker", expected=f"{_POINT} bytes", found=found)
    return pem_of(_P256 + point).encode()
