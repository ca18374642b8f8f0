"""What a device tells a server of itself (DDI's configData). Pure. hawkBit takes 128 characters of a value at most."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

from twinslot.core.text import printable

VALUE_MAX: Final = 128  # characters of a value, as hawkBit has it
KEY_MAX: Final = 32  # characters of a key, as the oldest hawkBit has it that serves this API


def attributes(status: Mapping[str, Any], compatible: tuple[str, ...], more: Mapping[str, str]) -> dict[str, str]:
    """Names and values, the product's own first to win.

    Args:
        status: The service's.
        compatible: Names of this type of device.
        more: The product's own.
    """
    told = {"twinslot.version": status.get("version"), "twinslot.running": status.get("running")}
    told["twinslot.compatible"] = " ".join(compatible)
    for name, slot in sorted((status.get("slots") or {}).items()):
        release = slot.get("release") or {}
        told[f"twinslot.slot_{name}"] = " ".join(map(str, filter(None, (slot.get("state"), release.get("name")))))
        if slot.get("running"):
            told |= {"twinslot.release": release.get("name"), "twinslot.sequence": release.get("sequence")}
    for name, value in sorted((status.get("floors") or {}).items()):
        told[f"twinslot.floor_{name}"] = value
    told["twinslot.failed"] = " ".join(sorted(status.get("failed") or {}, key=lambda each: (len(each), each)))
    known = {name[:KEY_MAX]: _value(value) for name, value in told.items() if value not in (None, "")}
    return known | {name[:KEY_MAX]: _value(value) for name, value in more.items()}


def fingerprint(told: Mapping[str, str]) -> str:
    """Tells whether they changed."""
    return hashlib.sha256(json.dumps(dict(told), sort_keys=True).encode()).hexdigest()


def _value(value: object) -> str:
    return printable(str(value))[:VALUE_MAX]
