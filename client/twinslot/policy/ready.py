"""Programs of the product that say whether it may be restarted: exit status 0 says so, all else means in use.

Found and run as health checks are: every executable in the directories is asked, whatever its name is, and one that
does not end in its time is killed with its children. What looks like a program and cannot be asked means in use, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from twinslot.core.errors import TwinslotError
from twinslot.core.inhibitors import Inhibitor, shown
from twinslot.health.base import Check, CheckOptions, NotAskedError
from twinslot.health.directory import discover


# keeps: S20
def programs(directories: Sequence[Path], timeout: float) -> tuple[Check, ...]:
    """What is to be asked, sorted by name.

    Args:
        directories: None of them need exist; an earlier one hides names of a later one.
        timeout: Seconds for each.

    Raises:
        DeviceError: `device.resources`: this process lacks what it needs to look.
    """
    found = discover(directories, CheckOptions(timeout=timeout), optional=directories)
    return tuple(each for each in found if each.terms.required)  # the others are leftovers of editors and packages


# keeps: S20
def busy(directories: Sequence[Path], timeout: float) -> Iterator[Inhibitor]:
    """Ask all, one after the other; those that do not say that they are ready."""
    try:
        asked = programs(directories, timeout)
    except TwinslotError as e:
        yield Inhibitor("ready.d", shown(f"the programs cannot be looked for: {e}"), source="program")
        return
    for each in asked:
        try:
            verdict = each.probe(timeout)
        except NotAskedError as e:
            yield Inhibitor(each.name, shown(f"it cannot be asked: {e}"), source="program")
            continue
        if not verdict.passed:
            yield Inhibitor(each.name, shown(verdict.detail or "it is not ready"), source="program")
