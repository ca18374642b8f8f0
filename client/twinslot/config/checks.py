"""What no single key of the configuration can say, a section at a time: a trial needs some of them only."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from twinslot.config.acceptance import check_acceptance
from twinslot.config.policy import check_policy
from twinslot.config.watch import check_watch
from twinslot.core.errors import DeviceError, TwinslotError

if TYPE_CHECKING:  # which asks for these checks
    from twinslot.config.options import Config

_PIN: Final = re.compile(r"[0-9a-f]{64}")  # SHA-256


def check_sections(config: Config) -> None:
    """Check every section.

    Raises:
        DeviceError: `device.config-value`, `device.config-missing`.
    """
    for name in _CHECKS:
        check_section(name, config)


def check_section(name: str, config: Config) -> None:
    """Check one section, by itself and against those of `[record]` and `[slots]`.

    Args:
        name: Of the field of `Config`.
        config: Where it stands.

    Raises:
        DeviceError: `device.config-value`, `device.config-missing`.
    """
    if name in _CHECKS:
        _CHECKS[name](config)


def _check_slots(config: Config) -> None:
    slots = config.slots
    if not slots.a or set(slots.a) != set(slots.b):
        raise DeviceError(
            "both slots must name the same payloads, at least one",
            code="config-value",
            expected=", ".join(sorted(slots.a)) or "rootfs",
            found=", ".join(sorted(slots.b)),
        )
    for name in sorted(set(slots.types) - set(slots.a)):
        raise DeviceError(
            f"'slots.types.{name}' is wrong",
            code="config-value",
            expected=" | ".join(sorted(slots.a)),
            found=name,
            hint="types are said of payloads that have a place in both slots",
        )
    devices = [*slots.a.values(), *slots.b.values()]
    for device in devices:
        if devices.count(device) > 1:
            raise DeviceError(f"the device '{device}' stands twice in '[slots]'", code="config-value")


def _check_boot(config: Config) -> None:
    _ = config.boot.executable


def _check_http(config: Config) -> None:
    for pin in config.http.pins:
        if not _PIN.fullmatch(pin):
            expected = "64 hex digits, lower case"
            raise DeviceError("'http.pins' is wrong", code="config-value", expected=expected, found=pin)
    _check_token("http.client_key", config.http.client_key)


def _check_retire(config: Config) -> None:
    """Nothing is erased that would take the record or the system with it."""
    record = config.record.directory
    for text in config.retire.erase:
        path = Path(text)
        safe = path.is_absolute() and ".." not in path.parts and len(path.parts) > 2  # below the root's own folders
        if not safe or path == record or path in record.parents or record in path.parents:
            expected = "an absolute path, two folders deep, that does not hold 'record.directory' and is not in it"
            raise DeviceError("'retire.erase' is wrong", code="config-value", expected=expected, found=text)


def _check_token(name: str, key: str, *, files: bool = True) -> None:
    """A key in a token is named by a URI with which a device can reach it."""
    if not key:
        return
    from twinslot.core.pkcs11_provider import device_uri
    from twinslot.core.pkcs11_uri import is_pkcs11

    if files and not is_pkcs11(key):
        return
    try:
        device_uri(key)
    except TwinslotError as e:
        what = f"'{name}' is wrong: {e.message}"
        raise DeviceError(what, code="config-value", expected=e.expected, found=e.found, hint=e.hint) from e


_CHECKS: Final[Mapping[str, Callable[[Config], None]]] = {
    "slots": _check_slots,
    "boot": _check_boot,
    "http": _check_http,
    "retire": _check_retire,
    "policy": lambda config: check_policy(config.policy),
    "watch": lambda config: check_watch(config.watch),
    "acceptance": lambda config: check_acceptance(config.acceptance),
    "device": lambda config: _check_token("device.key", config.device.key, files=False),
    "decryption": lambda config: _check_token("decryption.key", config.decryption.key),
}
