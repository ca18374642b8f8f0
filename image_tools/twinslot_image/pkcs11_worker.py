"""Asks one PKCS #11 module for one thing: the door to the library, in a process of its own.

A module is a library of somebody else's that is loaded into the process. It may crash, hang, start threads or write to
standard output; none of that shall reach the tool. One request comes as JSON on standard input, the PIN in it, so that
neither an argument nor a variable holds it; one answer goes to the descriptor that was standard output.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final

import pkcs11
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, Hash
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pkcs11 import KDF, MGF, Attribute, KeyType, Mechanism, ObjectClass, TokenFlag, exceptions

from twinslot.core.errors import DeviceError, TwinslotError
from twinslot_image.pkcs11_public import PublicKey, ec_public, rsa_public

_SALT: Final = 32  # bytes; as long as the digest (RFC 8017, section 9.1), and what securesystemslib's signers take
_LOCKS: Final = "a token locks itself after a few wrong PINs: see which one it is before you try again"


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """The key's public half in PEM, and in hex what `do` asks for.

    That is a signature over `data` as documents have it (`sign`), the secret that Diffie-Hellman makes with the point
    `data` (`exchange`), or nothing more (`public`).

    Raises:
        DeviceError: `device.pkcs11-module`, `device.pkcs11-token`, `device.pkcs11-key` or `device.pkcs11-pin`.
    """
    token, data = _find_token(_load(request["module"]), request), bytes.fromhex(request["data"])
    said: dict[str, Any] = {}
    with _open(token, request) as session:
        if request["do"] == "public":  # for which no PIN is asked, so that private halves are not seen
            public = _public_half(session, None, request)
        else:
            private = _find_key(session, request, token)
            public = _public_half(session, private, request)
            if request["do"] == "sign":
                said["signature"] = _sign(private, data, request).hex()
            else:
                said["secret"] = _exchange(private, data, request).hex()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return said | {"public": pem.decode()}


def _load(module: str) -> Any:
    try:
        return pkcs11.lib(module)
    except (exceptions.PKCS11Error, RuntimeError, OSError) as e:
        hint = "name the module of the token's maker with 'module-path=' in the URI"
        what = f"the PKCS #11 module '{module}' cannot be used"
        raise DeviceError(what, code="pkcs11-module", found=_words(e), hint=hint) from e


def _find_token(module: Any, request: Mapping[str, Any]) -> Any:
    here = list(_tokens(module))
    found = [token for slot, token in here if _is_meant(token, slot, request)]
    if len(found) == 1:
        return found[0]
    name = request["token_name"]
    if not found:
        labels = ", ".join(_trimmed(token.label) for _, token in here) or "no token"
        hint = "plug it in, and see 'pkcs11-tool --list-token-slots'"
        raise DeviceError("the token is not there", code="pkcs11-token", expected=name, found=labels, hint=hint)
    serials = ", ".join(_trimmed(token.serial) for token in found)
    hint = "add 'serial=' to the URI"
    raise DeviceError("several tokens are meant", code="pkcs11-token", expected=name, found=serials, hint=hint)


def _tokens(module: Any) -> Iterator[tuple[Any, Any]]:
    """Slot and token of each that can hold a key: SoftHSM always shows one more, which nobody has initialized."""
    for slot in module.get_slots(token_present=True):
        try:
            token = slot.get_token()
        except (exceptions.TokenNotPresent, exceptions.TokenNotRecognised, exceptions.DeviceRemoved):
            continue
        if token.flags & TokenFlag.TOKEN_INITIALIZED:
            yield slot, token


def _is_meant(token: Any, slot: Any, request: Mapping[str, Any]) -> bool:
    if request["slot"] not in (None, slot.slot_id):
        return False
    says = {
        "label": token.label,
        "manufacturer": token.manufacturer_id,
        "model": token.model,
        "serial": token.serial,
    }
    return all(_trimmed(says[what]) == value for what, value in request["token"].items())


def _trimmed(value: str | bytes) -> str:
    """As in a URI: without the blanks that fill the field up (RFC 7512, section 2.3)."""
    text = value.decode(errors="replace") if isinstance(value, bytes) else value
    return text.rstrip(" \0")


def _open(token: Any, request: Mapping[str, Any]) -> Any:
    name = request["token_name"]
    try:
        return token.open(user_pin=request["pin"]) if request["do"] != "public" else token.open()
    except (exceptions.PinIncorrect, exceptions.PinInvalid, exceptions.PinLenRange) as e:
        what = f"the PIN is not that of the token with {name}"
        raise DeviceError(what, code="pkcs11-pin", found=_words(e), hint=_LOCKS) from e
    except (exceptions.PinLocked, exceptions.PinExpired, exceptions.UserPinNotInitialized) as e:
        hint = "its security officer sets a new PIN"
        what = f"the token with {name} takes no PIN any more"
        raise DeviceError(what, code="pkcs11-pin", found=_words(e), hint=hint) from e


def _find_key(session: Any, request: Mapping[str, Any], token: Any) -> Any:
    found = list(session.get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY} | _named(request)))
    where = f"in the token '{_trimmed(token.label)}'"
    if len(found) != 1:
        what = f"there is no such private key {where}" if not found else f"several private keys are meant {where}"
        hint = "see 'pkcs11-tool --login --list-objects'" if not found else "add 'id=' to the URI"
        ids = ", ".join(_get(key, Attribute.ID, otherwise=b"").hex() for key in found) or None
        raise DeviceError(what, code="pkcs11-key", expected=request["key_name"], found=ids, hint=hint)
    may, verb = (Attribute.SIGN, "sign") if request["do"] == "sign" else (Attribute.DERIVE, "derive")
    if not _get(found[0], may, otherwise=True):
        what, hint = f"the key may not {verb} {where}", f"make a key whose attribute CKA_{verb.upper()} is true"
        raise DeviceError(what, code="pkcs11-key", found=request["key_name"], hint=hint)
    return found[0]


def _named(request: Mapping[str, Any]) -> dict[Any, Any]:
    named: dict[Any, Any] = {}
    if request["label"] is not None:
        named[Attribute.LABEL] = request["label"]
    if request["key_id"] is not None:
        named[Attribute.ID] = bytes.fromhex(request["key_id"])
    return named


def _public_half(session: Any, private: Any, request: Mapping[str, Any]) -> PublicKey:
    """From the private key's own attributes, or from the public key of the same id, or of the same name."""
    key_id = _get(private, Attribute.ID, otherwise=b"") if private is not None else b""
    same = _named({"label": None, "key_id": key_id.hex()} if key_id else request)
    publics = list(session.get_objects({Attribute.CLASS: ObjectClass.PUBLIC_KEY} | same))
    if private is None and len(publics) > 1:
        what, hint = "several public keys are meant", "add 'id=' to the URI"
        raise DeviceError(what, code="pkcs11-key", expected=request["key_name"], found=len(publics), hint=hint)
    for key in filter(None, (private, *publics)):
        try:
            if key.key_type is KeyType.RSA:
                return rsa_public(key[Attribute.MODULUS], key[Attribute.PUBLIC_EXPONENT])
            return ec_public(key[Attribute.EC_PARAMS], key[Attribute.EC_POINT])
        except exceptions.PKCS11Error:
            continue
        except ValueError as e:
            what, expected = "no device takes this key", "Ed25519, P-256 or P-384, or RSA from 3072 bits"
            raise DeviceError(what, code="pkcs11-key", expected=expected, found=_words(e)) from e
    what, hint = "the token keeps no public half of this key", "import it beside the private one, with the same id"
    raise DeviceError(what, code="pkcs11-key", found=request["key_name"], hint=hint)


def _get(key: Any, attribute: Attribute, *, otherwise: Any) -> Any:
    try:
        return key[attribute]
    except exceptions.PKCS11Error:
        return otherwise


def _sign(private: Any, data: bytes, request: Mapping[str, Any]) -> bytes:
    """What it signs of ECDSA and RSA is a digest, which every module takes; how it is made is the key's scheme.

    A key may want the PIN again for each signature (`CKA_ALWAYS_AUTHENTICATE`, the signature slot of PIV cards).
    """
    pin = request["pin"] if _get(private, Attribute.ALWAYS_AUTHENTICATE, otherwise=False) else None
    try:
        if private.key_type is KeyType.RSA:
            parameter = (Mechanism.SHA256, MGF.SHA256, _SALT)
            digest = _digest(SHA256(), data)
            return bytes(private.sign(digest, mechanism=Mechanism.RSA_PKCS_PSS, mechanism_param=parameter, pin=pin))
        if private.key_type is KeyType.EC_EDWARDS:
            return bytes(private.sign(data, mechanism=Mechanism.EDDSA, pin=pin))
        wide = private[Attribute.EC_PARAMS] == bytes.fromhex("06052b81040022")
        digest = _digest(SHA384() if wide else SHA256(), data)
        raw = bytes(private.sign(digest, mechanism=Mechanism.ECDSA, pin=pin))
    except exceptions.PKCS11Error as e:
        what, hint = "the token did not sign", "see what the key may be used for: 'pkcs11-tool --login --list-objects'"
        found = f"{_words(e)}, {request['key_name']}"
        raise DeviceError(what, code="pkcs11-key", found=found, hint=hint) from e
    half = len(raw) // 2
    return encode_dss_signature(int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big"))


def _exchange(private: Any, point: bytes, request: Mapping[str, Any]) -> bytes:
    """CKM_ECDH1_DERIVE (PKCS #11 3.0, section 2.3.11) without a derivation of its own: the x coordinate, 32 bytes."""
    template = {Attribute.SENSITIVE: False, Attribute.EXTRACTABLE: True, Attribute.TOKEN: False}
    try:
        secret = private.derive_key(
            KeyType.GENERIC_SECRET,
            256,
            mechanism=Mechanism.ECDH1_DERIVE,
            mechanism_param=(KDF.NULL, None, point),
            template=template,
        )
        return bytes(secret[Attribute.VALUE])
    except (exceptions.PKCS11Error, AttributeError) as e:  # a kind of key that the library knows no derivation for
        what, hint = "the token does not open it", "it takes a key on P-256 that may derive (CKA_DERIVE)"
        found = f"{_words(e)}, {request['key_name']}"
        raise DeviceError(what, code="pkcs11-key", found=found, hint=hint) from e


def _digest(algorithm: Any, data: bytes) -> bytes:
    made = Hash(algorithm)
    made.update(data)
    return made.finalize()


def _words(error: Exception) -> str:
    """The library's errors often have no text; their names are those of the standard."""
    return str(error) or type(error).__name__


def main() -> int:
    """One request, one answer."""
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)  # a module that prints does not print into the answer
        try:
            said = answer(json.load(sys.stdin))
        except TwinslotError as e:
            said = {"error": e.as_dict()}
        except exceptions.PKCS11Error as e:
            what = "the PKCS #11 module failed"
            said = {"error": DeviceError(what, code="pkcs11-module", found=_words(e)).as_dict()}
        except Exception as e:  # noqa: BLE001 - what a module says may be anything, such as a label that is no text
            what = "the PKCS #11 module says what nobody understands"
            said = {"error": DeviceError(what, code="pkcs11-module", found=_words(e)).as_dict()}
        json.dump(said, out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
