"""What a caller may choose with each verb: the same options on the command line, on the bus and for the engine.

A field is an option. Its type says how it travels on the bus (`bus.options`), and its line under "Attributes" what it
does: the page of the bus is printed from it. Each has a default; what is as by default is not sent.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Final

from twinslot.core.rights import Right

_OVERRIDES: Final = {"right": Right.OVERRIDE}  # an option that lets through what a check would stop (S21)


@dataclass(frozen=True, slots=True)
class InstallOptions:
    """Of an install.

    Attributes:
        activate: Arm the slot once it is written.
        reboot: Reboot once it is armed; None: as `install.reboot` of the configuration.
        retry: Accept a release that rolled back here (S13); audited.
        reinstall: Accept the release that is running; audited.
        ignore_expiry: Accept an expired manifest (S16); audited.
        outside_window: Do not wait for a window of the device's policy; all else is heeded; audited.
        action: Name of an update server's own request, for the audit; empty: no server is behind this.
    """

    activate: bool = True
    reboot: bool | None = None
    retry: bool = field(default=False, metadata=_OVERRIDES)
    reinstall: bool = False
    ignore_expiry: bool = field(default=False, metadata=_OVERRIDES)
    outside_window: bool = field(default=False, metadata=_OVERRIDES)
    action: str = ""


@dataclass(frozen=True, slots=True)
class ActivateOptions:
    """Of arming a slot that was written before.

    Attributes:
        reboot: Reboot once it is armed; None: as `install.reboot` of the configuration.
        outside_window: Do not wait for a window of the device's policy; all else is heeded; audited.
    """

    reboot: bool | None = None
    outside_window: bool = field(default=False, metadata=_OVERRIDES)


@dataclass(frozen=True, slots=True)
class CommitOptions:
    """Of keeping the system on trial.

    Attributes:
        force: A reason to commit without the health checks; audited. Empty: they must have passed.
        if_trial: No trial is fine; there is no transaction then.
    """

    force: str = field(default="", metadata=_OVERRIDES)
    if_trial: bool = False


@dataclass(frozen=True, slots=True)
class RollbackOptions:
    """Of leaving a trial, or of trying the other slot again.

    Attributes:
        reason: Why, for the audit.
        reboot: Reboot at the end.
    """

    reason: str = ""
    reboot: bool = True


# keeps: S21 (in the service's process)
def overriding(options: Any) -> tuple[str, ...]:
    """Names of the options that override a check, of those that are given."""
    marked = (each for each in fields(options) if each.metadata.get("right") is Right.OVERRIDE)
    return tuple(each.name for each in marked if getattr(options, each.name) != each.default)
