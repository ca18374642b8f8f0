"""PKCS #11 URIs (RFC 7512): which key in which token, by which module. Nothing here opens one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote_from_bytes, unquote_to_bytes

from twinslot.core.errors import DeviceError, Refusal, RefusedError

SCHEME: Final = "pkcs11:"
_PIN_HINT: Final = "arguments can be read by every user: give 'pin-source=file:/...', set the variable, or be asked"
# RFC 7512, section 2.3. An attribute of the path that is not known matches nothing, so it is refused (section 2.3, last
# paragraph); of the query it is ignored. Which library a token is of does not say which key is meant.
_TOKEN: Final = {"token": "label", "manufacturer": "manufacturer", "model": "model", "serial": "serial"}
_KEY: Final = ("object", "id", "type")
_SLOT: Final = ("slot-id", "slot-description", "slot-manufacturer")
_LIBRARY: Final = ("library-manufacturer", "library-description", "library-version")
_TEXT: Final = re.compile(r"(?:[A-Za-z0-9_.~:\[\]@!$'()*+,=&/?|-]|%[0-9A-Fa-f]{2})*")
_LENGTH_MAX: Final = 4096  # characters


@dataclass(frozen=True, slots=True)
class Pkcs11Uri:
    """One key, as a URI names it. What is None was not said.

    Attributes:
        token: What the token says of itself, of `label`, `manufacturer`, `model` and `serial`.
        slot: Number of the slot that the token is in.
        label: The key's `CKA_LABEL`.
        key_id: The key's `CKA_ID`.
        module: The PKCS #11 module, a shared library.
        pin_file: Where the PIN stands.
    """

    token: Mapping[str, str]
    slot: int | None
    label: str | None
    key_id: bytes | None
    module: str | None
    pin_file: str | None

    @property
    def token_name(self) -> str:
        """The token, for people."""
        named = [f"{what} '{value}'" for what, value in self.token.items()]
        return ", ".join([*named, *([f"slot {self.slot}"] if self.slot is not None else [])]) or "any"

    @property
    def text(self) -> str:
        """The URI again, as one string that names the same private key; without the module."""
        named = [(name, self.token[field].encode()) for name, field in _TOKEN.items() if field in self.token]
        named += [("slot-id", str(self.slot).encode())] if self.slot is not None else []
        named += [("object", self.label.encode())] if self.label is not None else []
        named += [("id", self.key_id)] if self.key_id is not None else []
        path = ";".join(f"{name}={quote_from_bytes(value, safe='')}" for name, value in [*named, ("type", b"private")])
        pin = f"?pin-source=file:{quote_from_bytes(self.pin_file.encode())}" if self.pin_file is not None else ""
        return f"{SCHEME}{path}{pin}"

    @property
    def key_name(self) -> str:
        """The key, for people."""
        named = [f"label '{self.label}'"] if self.label is not None else []
        return ", ".join([*named, *([f"id {self.key_id.hex()}"] if self.key_id is not None else [])])


def is_pkcs11(where: str) -> bool:
    """Whether this names a key in a token, and no file."""
    return where[: len(SCHEME)].lower() == SCHEME


def parse_uri(text: str) -> Pkcs11Uri:
    """Read a URI that names a key.

    Raises:
        RefusedError: `refused.pin-in-uri`: it holds a PIN. The message does not repeat it.
        DeviceError: `device.pkcs11-uri`: it is none, or names no key.
    """
    path, _, query = text[len(SCHEME) :].partition("?")
    asked = _attributes(query, "&")
    if "pin-value" in asked or "pin-value" in _attributes(path, ";"):
        raise RefusedError(Refusal("pin-in-uri", "a PKCS #11 URI must not hold a PIN", hint=_PIN_HINT))
    if not is_pkcs11(text) or len(text) > _LENGTH_MAX:
        raise _bad(f"'{SCHEME}...' of at most {_LENGTH_MAX} characters", text[:40])
    given = _attributes(path, ";", once=True)
    if unknown := given.keys() - {*_TOKEN, *_KEY, *_SLOT, *_LIBRARY}:
        raise _bad(f"attributes of {', '.join((*_TOKEN, *_KEY, 'slot-id'))}", ", ".join(sorted(unknown)))
    if given.get("type", "private") not in ("private", "public"):
        raise _bad("type=private", given["type"])
    if "object" not in given and "id" not in given:
        raise _bad("'object=' or 'id=' of the key", "neither")
    return Pkcs11Uri(
        token={field: _text(given[name]) for name, field in _TOKEN.items() if name in given},
        slot=_slot(given.get("slot-id")),
        label=_text(given["object"]) if "object" in given else None,
        key_id=unquote_to_bytes(given["id"]) if "id" in given else None,
        module=_text(asked["module-path"]) if "module-path" in asked else None,
        pin_file=_pin_file(asked.get("pin-source")),
    )


def _attributes(part: str, separator: str, *, once: bool = False) -> dict[str, str]:
    found: dict[str, str] = {}
    for each in part.split(separator) if part else ():
        name, sign, value = each.partition("=")
        if once and (not sign or not _TEXT.fullmatch(value)):
            raise _bad("attributes NAME=VALUE with what is special written as %XX", each[:40])
        if once and name in found:
            raise _bad("each attribute once", name)
        found[name] = value
    return found


def _text(value: str) -> str:
    try:
        return unquote_to_bytes(value).decode()
    except UnicodeDecodeError as e:
        raise _bad("text in UTF-8", value[:40]) from e


def _slot(value: str | None) -> int | None:
    if value is None:
        return None
    if not re.fullmatch(r"[0-9]{1,10}", value):
        raise _bad("a number after 'slot-id='", value[:40])
    return int(value)


def _pin_file(value: str | None) -> str | None:
    """`file:/path`, or a path alone; RFC 7512 leaves to the reader what else may stand there."""
    if value is None:
        return None
    text = _text(value)
    path = text.removeprefix("file:").removeprefix("//")
    if not path.startswith("/") or "\0" in text:
        raise _bad("pin-source=file:/PATH", text[:40])
    return path


def _bad(expected: str, found: str) -> DeviceError:
    hint = "for example 'pkcs11:token=release;object=clinical?module-path=/usr/lib/softhsm/libsofthsm2.so'"
    return DeviceError("this is no PKCS #11 URI of a key", code="pkcs11-uri", expected=expected, found=found, hint=hint)
