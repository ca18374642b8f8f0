"""What `doctor` looks at of the way to boot: running slot, boot environment, deadline, watchdog. See `doctor`."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import Final

from twinslot.bootloader.base import CopyState, EnvironmentCopy, Place
from twinslot.core.errors import DeviceError
from twinslot.core.lifecycle import State
from twinslot.core.model import SECTOR, SlotName
from twinslot.queries.diagnosis import Looked, Scene, Severity
from twinslot.storage import mounts
from twinslot.storage.running_slot import ENVIRONMENT

DEADLINE_FILES: Final = tuple(f"/{place}/twinslot/deadline.env" for place in ("usr/lib", "run", "etc"))  # last wins
DEADLINE: Final = "300"  # as in systemd/deadline
APART: Final = 4 << 20  # bytes: erase blocks of SD cards go up to this size, and a cut may spoil a whole one
NOT_READABLE: Final = "not readable without root"
_DENIED: Final = tuple(os.strerror(number) for number in (errno.EACCES, errno.EPERM))


def denied(scene: Scene, problem: str) -> bool:
    """Whether it could not be read for want of rights alone."""
    return not scene.is_root and any(words in problem for words in _DENIED)


def running_slot(scene: Scene) -> Looked:
    """The root mount (S1). What speaks for it is only fine when it leads to a slot."""
    running = scene.view.where
    if running.slot is None:
        what = "; ".join(running.evidence)
        text = f"no configured slot holds the root file system: {what}"
        yield Severity.FAULT, text, "compare '[slots]' in the configuration with 'findmnt /'"
        return
    for sentence in running.evidence:
        yield Severity.FINE, sentence, ""


def claims(scene: Scene) -> Looked:
    """Kernel command line and environment, beside the root mount."""
    if scene.view.where.slot is None:
        return
    armed = scene.view.facts.under_way is State.ARMED  # then the environment names the slot that starts next
    for sentence in scene.view.where.disagreements:
        if armed and sentence.startswith(ENVIRONMENT):
            continue
        yield Severity.WARNING, sentence, "the root mount decides; look at the boot script and the environment"


def environment(scene: Scene) -> Looked:
    """Both copies, and what they say."""
    view, facts = scene.view, scene.view.facts
    if facts.environment is None:
        if denied(scene, view.environment_problem):
            yield Severity.UNKNOWN, NOT_READABLE, "'sudo twinslot doctor' reads it"
        else:
            problem, _, hint = view.environment_problem.partition(" (hint: ")
            yield Severity.FAULT, problem, hint.removesuffix(")") or "see 'boot' in twinslot-config(5)"
        return
    for copy in facts.environment.copies:
        good = copy.state in (CopyState.CURRENT, CopyState.OLDER)
        text = _copy_text(copy, copies=facts.traits.copies)
        severity = Severity.FINE if good else Severity.FAULT if facts.environment.lost else Severity.WARNING
        yield severity, text, "" if good else "'twinslot boot' repairs it"
    if facts.state is None:
        return
    for name in SlotName:
        yield Severity.FINE, f"slot {name} is {facts.state.states[name]}", ""
    if facts.state.reason:
        yield Severity.FINE, f"the last slot was left because of '{facts.state.reason}'", ""


def _copy_text(copy: EnvironmentCopy, *, copies: int) -> str:
    what = "copy" if copies > 1 else "environment"
    return f"{what} at {copy.place} is {copy.state}" + (f", serial {copy.flags}" if copy.flags is not None else "")


def reconciled(scene: Scene) -> Looked:
    """Whether root mount, environment and record tell one story."""
    facts = scene.view.facts
    if facts.state is None:  # `environment` tells
        return
    for sentence in facts.disagreements:
        yield Severity.WARNING, sentence, "'twinslot boot' reconciles it"


def distance(scene: Scene) -> Looked:
    """How far apart the copies stand on a card, where the boot loader keeps them on one."""
    try:
        places = scene.view.bootloader.places()
    except DeviceError:  # `environment` tells
        return
    on_cards = [found for place in places if (found := _on_card(scene, place)) is not None]
    if len(on_cards) == len(places) == 2 and on_cards[0][0] == on_cards[1][0]:
        apart = abs(on_cards[0][1] - on_cards[1][1])
        if apart < APART:
            text = f"both copies stand within {apart >> 10} KiB of '{on_cards[0][0]}'"
            yield Severity.WARNING, text, "put them at least 4 MiB apart: a card may lose a whole erase block at a cut"
        else:
            yield Severity.FINE, f"the copies stand {apart >> 20} MiB apart on '{on_cards[0][0]}'", ""


def _on_card(scene: Scene, place: Place) -> tuple[str, int] | None:
    """Name of the card and offset from its start in bytes; None when it is no SD card or eMMC."""
    device = mounts.device_of(Path(place.device))
    if device is None:
        return None
    directory = scene.below(mounts.SYS_BLOCK / mounts.name(device))
    try:
        real, start = directory.resolve(strict=True), 0
        if (real / "partition").exists():
            real, start = real.parent, int((real / "start").read_text()) * SECTOR  # sysfs-block: in 512-byte sectors
    except (OSError, ValueError):
        return None
    return (real.name, start + place.offset) if real.name.startswith("mmcblk") else None


def default_environment(scene: Scene) -> Looked:
    """Without the default, a lost environment cannot be rebuilt."""
    path = scene.config.boot.default_env
    hint = "set 'boot.default_env' (/usr/share/doc/twinslot/guide-device.md)"
    if path is None:
        yield Severity.WARNING, "no default environment is configured", hint
    elif not path.is_file():
        yield Severity.WARNING, f"there is no default environment at '{path}'", hint
    else:
        what = "both copies are" if scene.view.facts.traits.copies > 1 else "the environment is"
        yield Severity.FINE, f"'{path}' stands by for when {what} lost", ""


def deadline_settings(scene: Scene) -> dict[str, str]:
    """What the files of the deadline unit set, the last one wins (systemd.exec(5), EnvironmentFile=)."""
    found: dict[str, str] = {}
    for path in DEADLINE_FILES:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            for line in scene.below(path).read_text().splitlines():
                name, equals, value = line.partition("=")
                if equals and not name.lstrip().startswith(("#", ";")):
                    found[name.strip()] = value.strip().strip("\"'")
    return found


def deadline(scene: Scene) -> Looked:
    """The deadline unit needs no Python, so it cannot read the configuration: two places must say the same."""
    seconds = deadline_settings(scene).get("TWINSLOT_DEADLINE", DEADLINE)
    ours = scene.config.trial.deadline
    text = f"the deadline unit waits {seconds} seconds, 'trial.deadline' says {ours}"
    if seconds == str(ours):
        yield Severity.FINE, text, ""
    else:
        yield Severity.WARNING, text, f"write TWINSLOT_DEADLINE={ours} to {DEADLINE_FILES[-1]}"


def hook(scene: Scene) -> Looked:
    """So must the hook of another boot loader."""
    boot = scene.config.boot
    ours = str(boot.executable or "")
    theirs = deadline_settings(scene).get("TWINSLOT_HOOK", "")
    if ours != theirs:
        text = f"the deadline unit uses {_hook_text(theirs)}, the configuration {_hook_text(ours)}"
        yield Severity.FAULT, text, f"write TWINSLOT_HOOK={ours} to {DEADLINE_FILES[-1]}"
    elif ours:
        yield Severity.FINE, f"configuration and deadline unit use the hook '{ours}'", ""
    if ours and not os.access(ours, os.X_OK):
        yield Severity.FAULT, f"the hook '{ours}' is not an executable file", "see bootloader_hooks/README.md"


# Trait -> what a boot loader without it means for whoever reads the history. In the order of `LoaderTraits`.
_CANNOT: Final = {
    "counts": "the boot loader starts a slot on trial once: any reset before the commit is a rollback",
    "hands_over": "the boot loader changes no variable when it leaves a trial: the client finds out after the reset",
    "tells_reason": "the boot loader does not say why it left a slot: the reason is 'not-booted' or 'resets'",
}


def loader(scene: Scene) -> Looked:
    """What the boot loader cannot do by itself."""
    traits, problem = scene.view.facts.traits, scene.view.loader_problem
    if problem:
        if not denied(scene, problem):
            yield Severity.UNKNOWN, "the hook does not tell what the boot loader can do", "run it with 'describe'"
        return
    for name, text in _CANNOT.items():
        if not getattr(traits, name):
            yield Severity.FINE, text, ""
    if traits.copies < 2:
        hint = "the hook should keep two copies: what damages one must not lose the environment"
        yield Severity.WARNING, "the boot loader's hook keeps the environment once", hint


def _hook_text(path: str) -> str:
    return f"the hook '{path}'" if path else "U-Boot's tools"


def watchdog(scene: Scene) -> Looked:
    """Whether systemd feeds one: it resets a device whose kernel or systemd stands still (S6)."""
    try:
        ended = scene.ask(["systemctl", "show", "--property=RuntimeWatchdogUSec"])
    except OSError:
        ended = None
    value = ended.stdout.decode(errors="replace").strip().partition("=")[2] if ended and ended.status == 0 else ""
    if not value:
        yield Severity.UNKNOWN, "systemd does not tell whether it feeds the watchdog", ""
    elif value in ("0", "infinity"):
        hint = "set 'RuntimeWatchdogSec=30s' in a drop-in of system.conf, as the package does"
        yield Severity.WARNING, "systemd feeds no watchdog ('RuntimeWatchdogSec' is off)", hint
    elif not any(scene.below("/dev").glob("watchdog*")):
        hint = "enable the driver of the hardware's watchdog in the kernel"
        yield Severity.WARNING, "there is no watchdog device (/dev/watchdog)", hint
    else:
        yield Severity.FINE, f"systemd feeds the watchdog, which resets after {value}", ""


def tool_lock(scene: Scene) -> Looked:
    """The lock of the boot loader's tools, fw_setenv for one, which others must not be able to take."""
    for path, why in scene.view.bootloader.exposed(scene.below):
        if scene.is_root or why != "belongs to user 0":
            yield Severity.WARNING, f"the lock '{path}' {why}", "'twinslot boot' makes it anew; see twinslot.tmpfiles"
