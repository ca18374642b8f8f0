"""Which checks the configuration asks for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from twinslot.config.options import HEALTH_DIRECTORIES, HealthConfig
from twinslot.health.base import Check, CheckOptions
from twinslot.health.command import CommandCheck
from twinslot.health.directory import NotAsked, discover
from twinslot.health.systemd import NoFailedUnits, UnitCheck


# keeps: S11
def configured_checks(health: HealthConfig) -> tuple[Check, ...]:
    """All checks in the order in which they are asked: units, directories, commands, HTTP, and last the failed units.

    Each has a name of its own: a second check that is called `pump` is asked as `pump (2)`.

    Raises:
        DeviceError: `device.config-value`: a URL that leaves the device.
    """
    terms = CheckOptions(timeout=health.timeout)
    checks: list[Check] = [UnitCheck(unit, terms) for unit in dict.fromkeys(health.units)]
    checks += discover(health.directories, terms, HEALTH_DIRECTORIES)
    checks += [
        CommandCheck(entry.name, entry.argv, CheckOptions(entry.timeout, entry.retries, entry.delay, entry.required))
        for entry in health.command
    ]
    checks += _http_checks(health)
    checks += [NoFailedUnits(terms)] if health.no_failed_units else []
    return tuple(_distinct(checks))


def check_names(checks: Iterable[Check]) -> frozenset[str]:
    """Names that a manifest may require: those of checks that are asked."""
    return frozenset(check.name for check in checks if not isinstance(check, NotAsked))


def left_out(checks: Iterable[Check]) -> tuple[NotAsked, ...]:
    """What looks like a check and is not asked."""
    return tuple(check for check in checks if isinstance(check, NotAsked))


def _distinct(checks: Iterable[Check]) -> Iterator[Check]:
    """What is asked has the first claim on its name, whatever stands before it: a manifest names it (S11)."""
    checks = tuple(checks)
    taken, asked = set[str](), check_names(checks)
    for check in checks:
        name, number = check.name, 1
        while name in taken or (isinstance(check, NotAsked) and name in asked):
            number += 1
            name = f"{check.name} ({number})"
        taken.add(name)
        # Units have no name of their own, but they come first, each once.
        yield check if name == check.name else replace(check, name=name)  # type: ignore[type-var]


def _http_checks(health: HealthConfig) -> list[Check]:
    if not health.http:
        return []
    from twinslot.health.http import HttpCheck  # three megabytes of http.client and ssl that most devices need not

    return [
        HttpCheck(
            entry.name, entry.url, entry.status, CheckOptions(entry.timeout, entry.retries, entry.delay, entry.required)
        )
        for entry in health.http
    ]
