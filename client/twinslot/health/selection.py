"""Which checks the configuration asks for."""

from __future__ import annotations

from twinslot.config import Health
from twinslot.health.base import Check, Terms
from twinslot.health.command import CommandCheck, discover
from twinslot.health.systemd import NoFailedUnits, UnitCheck


def configured_checks(health: Health) -> tuple[Check, ...]:
    """All checks in the order in which they are asked: units, directories, commands, HTTP, and last the failed units.

    Raises:
        DeviceError: `device.config-value`: a URL that leaves the device.
    """
    terms = Terms(timeout=health.timeout)
    checks: list[Check] = [UnitCheck(unit, terms) for unit in health.units]
    checks += discover(health.directories, terms)
    checks += [
        CommandCheck(entry.name, entry.argv, Terms(entry.timeout, entry.retries, entry.delay, entry.required))
        for entry in health.command
    ]
    checks += _http_checks(health)
    return (*checks, NoFailedUnits(terms)) if health.no_failed_units else tuple(checks)


def _http_checks(health: Health) -> list[Check]:
    if not health.http:
        return []
    from twinslot.health.http import HttpCheck  # three megabytes of http.client and ssl that most devices need not

    return [
        HttpCheck(entry.name, entry.url, entry.status, Terms(entry.timeout, entry.retries, entry.delay, entry.required))
        for entry in health.http
    ]
