"""`doctor`: every piece of evidence, held against what this device should be. Changes nothing, takes no lock.

Each finding comes from one row of `LOOKS`; docs/doctor.md is printed from it. For a user who is not root, what cannot
be read is said to be so, and is no fault.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from twinslot.config.options import Config
from twinslot.core.lifecycle import Event
from twinslot.core.model import SlotState
from twinslot.engine.facts import look
from twinslot.queries import decryption_key as looks_decryption
from twinslot.queries import device_key as looks_key
from twinslot.queries import doctor_boot as looks_boot
from twinslot.queries import doctor_device as looks_device
from twinslot.queries import doctor_use as looks_use
from twinslot.queries.diagnosis import Diagnosis, Look, Scene, Severity
from twinslot.storage.running_slot import RunningSlot
from twinslot.system import process

_FAULT, _WARNING = Severity.FAULT, Severity.WARNING
ASK: Final = 10.0  # seconds for systemctl; it answers in milliseconds unless systemd hangs

LOOKS: Final = (
    Look(
        "running-slot",
        "running slot",
        _FAULT,
        "the root mount and '[slots]'",
        "no configured slot, or both, hold the root file system",
        looks_boot.running_slot,
    ),
    Look(
        "claims",
        "running slot",
        _WARNING,
        "the kernel command line and the variable 'slot', beside the root mount",
        "one of them names another slot than the one that runs",
        looks_boot.claims,
    ),
    Look(
        "environment",
        "environment",
        _FAULT,
        "both copies of the boot environment, past the page cache",
        "a copy is damaged (warning), both are or neither can be read (fault)",
        looks_boot.environment,
    ),
    Look(
        "reconciled",
        "environment",
        _WARNING,
        "root mount, environment and record",
        "they tell different stories, or the environment went back to an older one",
        looks_boot.reconciled,
    ),
    Look(
        "distance",
        "environment",
        _WARNING,
        "'boot.fw_env_config' and the partition table",
        "both copies stand less than 4 MiB apart on one SD card or eMMC",
        looks_boot.distance,
    ),
    Look(
        "default-environment",
        "environment",
        _WARNING,
        "'boot.default_env'",
        "there is none, so an environment that is lost cannot be rebuilt",
        looks_boot.default_environment,
    ),
    Look(
        "deadline",
        "deadline",
        _WARNING,
        "'trial.deadline' and TWINSLOT_DEADLINE in the files deadline.env",
        "they differ",
        looks_boot.deadline,
    ),
    Look(
        "hook",
        "boot loader",
        _FAULT,
        "'boot.hook' and TWINSLOT_HOOK in the files deadline.env",
        "they differ, so the deadline cannot end a trial; or the hook is not executable",
        looks_boot.hook,
    ),
    Look(
        "loader",
        "boot loader",
        _WARNING,
        "what the hook's verb 'describe' says (bootloader_hooks/README.md)",
        "it keeps the environment once; told as well: whether it does not count, hand over or give a reason",
        looks_boot.loader,
    ),
    Look(
        "watchdog",
        "watchdog",
        _WARNING,
        "systemd's RuntimeWatchdogSec and /dev/watchdog",
        "no watchdog is fed, or there is none",
        looks_boot.watchdog,
    ),
    Look(
        "tool-lock",
        "environment",
        _WARNING,
        "the lock files of fw_setenv in /run/lock and /var/lock",
        "another user may open one, and so hold up every decision",
        looks_boot.tool_lock,
    ),
    Look(
        "record",
        "record",
        _FAULT,
        "the record, its audit chain, and the end of it that the boot environment has",
        "the chain is broken, or is not the one that the environment knows (fault); there is no record yet (warning)",
        looks_device.record,
    ),
    Look(
        "partitions",
        "slots",
        _FAULT,
        "the devices of '[slots]', and the types of payloads",
        "one does not exist, or is of a type that this client does not know",
        looks_device.partitions,
    ),
    Look(
        "other-slot",
        "slots",
        _FAULT,
        "the slot that does not run: its state, the record, its first group",
        "its content is not what was installed (fault), or the record does not know it (warning)",
        looks_device.other_slot,
    ),
    Look(
        "fallback",
        "slots",
        _FAULT,
        "when the slot to go back to was last read whole, and when it last started",
        "it was never read, or never started (warning); its last reading found something else than what was installed",
        looks_device.fallback,
    ),
    Look(
        "health-checks",
        "health checks",
        _FAULT,
        "'[health]' and the directories health.d",
        "no check is required, a file is not asked, two share a name; one that was meant cannot be asked (fault)",
        looks_device.health_checks,
    ),
    Look(
        "drop-ins",
        "configuration",
        _WARNING,
        "the directories config.d",
        "a file is not read: hidden, without .toml at the end, or a link to nowhere",
        looks_device.drop_ins,
    ),
    Look(
        "trust",
        "trust",
        _FAULT,
        "the root of trust, and the dates of the documents of the running release",
        "a document has expired or expires within 60 days; the root cannot be read (fault)",
        looks_device.trust,
    ),
    Look(
        "clock",
        "clock",
        _WARNING,
        "the clock, 'trust.build_time', and the date that was verified last",
        "the clock is before one of them, 'trust.build_time' is not set, or no window of '[policy]' ever opens again",
        looks_device.clock,
    ),
    Look(
        "space",
        "data partition",
        _WARNING,
        "the file system of 'record.directory'",
        "less than 32 MiB are free, or it is read-only",
        looks_device.space,
    ),
    Look(
        "addresses",
        "network",
        _WARNING,
        "'http.schemes'",
        "servers may be asked without TLS",
        looks_device.addresses,
    ),
    Look(
        "device-key",
        "device key",
        _FAULT,
        "the device's own key, by a signature, and its public part",
        "there is none yet, or the device was taken out of service (both warnings); it cannot be used, or the public "
        "part is another key's",
        looks_key.device_key_works,
    ),
    Look(
        "decryption-key",
        "decryption key",
        _FAULT,
        "'decryption.key'",
        "encrypted images cannot be opened: the key cannot be read, is open to others, or is of another kind",
        looks_decryption.decryption_key,
    ),
    Look(
        "wear",
        "storage",
        _WARNING,
        "the life-time registers of each eMMC below /sys/class/mmc_host",
        "nine tenths of its life are used, or its spare blocks run short",
        looks_device.wear,
    ),
    Look(
        "in-use",
        "in use",
        _WARNING,
        "files in /run/twinslot/inhibit.d, holders of `Inhibit`, logind; since when, by file or pipe",
        "one has been there for longer than 'policy.consent.limit' ('limit_security' while a security update waits)",
        looks_use.in_use,
    ),
    Look(
        "reports",
        "network",
        _WARNING,
        "'[reports]' and what the last runs came to",
        "the server did not take what was to be told",
        looks_device.reports,
    ),
    Look(
        "repository",
        "network",
        _FAULT,
        "'[repository]' and what the last polls found",
        "it was never asked, failed, is frozen, silent or not trusted; its root of trust is not there (fault)",
        looks_device.repository,
    ),
)


def _ask(argv: list[str]) -> process.ProgramResult:
    """Run a program that answers a question.

    Raises:
        OSError: It cannot be started; the look that asks says what it does not know.
    """
    return process.run(argv, timeout=ASK)


def doctor(
    config: Config,
    *,
    root: Path = Path("/"),
    running: Callable[..., RunningSlot] | None = None,
    now: datetime | None = None,
    is_root: bool | None = None,
) -> Diagnosis:
    """Look at everything. Root is needed for the copies of the environment.

    Args:
        config: Of this device.
        root: Below this stand the files of the system.
        running: Finds the running slot; None: asks this machine.
        now: The device's clock.
        is_root: Whether this process may read everything.
    """
    with look(config, running) as view:
        scene = Scene(
            config, view, root, os.geteuid() == 0 if is_root is None else is_root, now or datetime.now(UTC), _ask
        )
        findings = [finding for each in LOOKS for finding in each.findings(scene)]
        worst_first = sorted(findings, key=lambda finding: list(Severity).index(finding.severity))
        return Diagnosis(tuple(worst_first), _decision(scene))


_EVENTS: Final = {
    Event.BOOTED_OLD: "",
    Event.BOOTED_COMMITTED: "",
    Event.BOOTED_NEW: ", on trial",
    Event.STILL_ARMED: ", and an update is armed",
    Event.ROLLED_BACK: ", after an update was left",
    Event.GIVEN_UP: ", although it was given up",
}


def _decision(scene: Scene) -> str:
    """In words, what the client would do at its next start, and what would boot; empty when it cannot be told."""
    view, facts = scene.view, scene.view.facts
    if facts.environment is None and looks_boot.denied(scene, view.environment_problem):
        return ""
    if facts.running is None or facts.event is None:
        return "nothing is changed: it is not known which slot runs"
    runs = f"slot {facts.running} runs{_EVENTS[facts.event]}"
    if facts.environment is None:
        return f"{runs}; the next boot is not known, since the environment cannot be read"
    if facts.decided is None:
        return f"{runs}; the environment will be rebuilt from the record"
    chosen = facts.running if facts.event is Event.ROLLED_BACK else facts.decided.slot  # which the client then writes
    boots = chosen if facts.decided.states[chosen] is not SlotState.BAD else facts.decided.way_back(chosen)
    return f"{runs}; the next boot starts slot {boots}"


def page() -> str:
    """docs/doctor.md."""
    lines = [
        "# What `twinslot doctor` looks at",
        "",
        "Printed by `python docs/make_doctor.py`; a test holds this page to the code, and another makes every finding.",
        "",
        "A look says `ok`, `WARN`, `FAULT`, or `?` where it cannot tell; the worst come first. The command ends with",
        "6 when there is a fault, with 0 otherwise, warnings included. It changes nothing. With `--json` a finding has",
        "`name`, `area`, `severity` (`fault`, `warning`, `unknown`, `fine`), `text` and `hint`. Without root the boot",
        "environment cannot be read: this is said, it is no fault, and there is no forecast of the next boot.",
        "",
        "| name | at worst | looks at | finds |",
        "|---|---|---|---|",
    ]
    return (
        "\n".join([*lines, *(f"| `{each.name}` | {each.worst} | {each.looks_at} | {each.finds} |" for each in LOOKS)])
        + "\n"
    )
