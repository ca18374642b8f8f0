"""Errors on their way through the socket. What comes out of a worker may be anything: it is cut, cleaned and judged."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from twinslot.core.errors import DeviceError, TwinslotError

TEXT_MAX: Final = 1000  # characters of one field; a journal line and a terminal show no more
REASONS_MAX: Final = 32  # the longest list of refusals has one for each rule and role
_CODE = re.compile(r"[a-z]+(?:\.[a-z0-9-]{1,64})?")
_FAMILIES: Final = ("image", "refused", "transport", "device", "lifecycle")  # `cancelled` is never a worker's to say
_TEXTS: Final = ("message", "expected", "found", "hint")


def write_error(error: TwinslotError, limit: int) -> bytes:
    """The error as JSON of at most `limit` bytes; long texts are cut, so that the reader always gets a sentence."""
    fields = _clean(error.as_dict())
    while len(data := json.dumps(fields).encode()) > limit and fields.get("reasons"):
        fields["reasons"] = fields["reasons"][: len(fields["reasons"]) // 2]
    return data


def read_error(data: bytes) -> TwinslotError:
    """The error that a worker sent: printable, short, and of a family that a worker may use; never an exception.

    What is not one becomes a `DeviceError`, `device.worker`.
    """
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError) as e:  # RecursionError: 64 KiB of brackets
        return _unreadable(type(e).__name__)
    if not isinstance(fields, dict):
        return _unreadable(type(fields).__name__)
    cleaned = _clean(fields)
    family = cleaned["code"].partition(".")[0]
    if family not in _FAMILIES or (family == "refused" and not cleaned.get("reasons")):
        return _unreadable(cleaned["code"] or "no code")
    return TwinslotError.from_dict(cleaned)


def printable(text: object, limit: int = TEXT_MAX) -> str:
    """One short line for people: no control characters, which could steer a terminal."""
    return "".join(char if char.isprintable() else "?" for char in str(text)[:limit])


def _clean(fields: dict[str, Any], *, nested: bool = False) -> dict[str, Any]:
    code = fields.get("code")
    good = isinstance(code, str) and _CODE.fullmatch(code)
    cleaned: dict[str, Any] = {"code": code if good else ""}
    cleaned |= {key: printable(fields[key]) for key in _TEXTS if isinstance(fields.get(key), str)}
    reasons = fields.get("reasons")
    if isinstance(reasons, list) and not nested:
        whole = [_clean(reason, nested=True) for reason in reasons[:REASONS_MAX] if isinstance(reason, dict)]
        cleaned["reasons"] = [reason for reason in whole if reason["code"]]
    return cleaned


def _unreadable(found: str) -> DeviceError:
    return DeviceError("the worker's error cannot be read", code="worker", found=found, hint="see the journal")
