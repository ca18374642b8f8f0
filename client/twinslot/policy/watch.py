"""Watching a release after its commit: the product's signals, and what was seen, in a small file beside the record."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from twinslot.config.watch import WatchConfig
from twinslot.core.backoff import Moment
from twinslot.core.model import CheckResult
from twinslot.core.watch import WatchSetting, WatchState, WatchStep, is_over, looked
from twinslot.health.base import Check, CheckOptions, Runner
from twinslot.health.systemd import UnitCheck
from twinslot.health.value import ValueCheck
from twinslot.storage.kept import read_kept, write_kept

FILE_NAME: Final = "watch.json"
MARK: Final = Path("/run/twinslot/watch")  # without it the unit does not start
LONGEST: Final = 600.0  # seconds for all signals of one look together

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LocalWatch:
    """Implements `engine.edges.WatchEdge`.

    Attributes:
        config: `[watch]`.
        directory: Of the record.
        moment: What time it is, in three ways.
        marked: The file that has the unit start.
    """

    config: WatchConfig
    directory: Path
    moment: Callable[[], Moment]
    marked: Path = MARK

    def mark(self, *, on: bool) -> None:
        """Whether there may be something to watch from now on."""
        try:
            if on and self.config.time:
                self.marked.touch()
            else:
                self.marked.unlink(missing_ok=True)
        except OSError as e:
            log.warning("'%s' cannot be changed: %s", self.marked, e.strerror)

    def is_over(self, transaction: str) -> bool:
        """This update's release was watched for as long as is configured."""
        return is_over(self._kept(), transaction, self._setting)

    def signals(self) -> tuple[CheckResult, ...]:
        """Ask the product."""
        checks: list[Check] = [
            UnitCheck(unit, CheckOptions(required=True)) for unit in dict.fromkeys(self.config.units)
        ]
        for each in self.config.program:
            name, number = each.name, 1
            while name in {check.name for check in checks}:
                number += 1
                name = f"{each.name} ({number})"
            terms = CheckOptions(timeout=each.timeout)
            checks.append(ValueCheck(name, each.argv, each.low, each.high, terms))
        return Runner(checks).run(time.monotonic() + LONGEST)

    def judge(self, transaction: str, *, failed: bool) -> tuple[WatchStep, bool]:
        """What follows from a look, and whether it is the first time; what was seen is kept."""
        before = self._kept()
        state, step = looked(before, transaction, self.moment(), self._setting, failed=failed)
        try:
            write_kept(self.directory / FILE_NAME, state)
        except OSError as e:  # watched for longer than is configured
            log.warning("what was seen of the release cannot be kept: %s", e.strerror)
        first = not (before.transaction == transaction and before.told)
        return step, first

    def _kept(self) -> WatchState:
        return read_kept(self.directory / FILE_NAME, WatchState) or WatchState()

    @property
    def _setting(self) -> WatchSetting:
        return WatchSetting(self.config.time, self.config.failures, self.config.action == "rollback")
