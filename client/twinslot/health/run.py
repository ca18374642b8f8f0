"""The configured checks of a trial, run within its deadline."""

from __future__ import annotations

import logging
import time

from twinslot.config.options import Config
from twinslot.core.model import CheckResult
from twinslot.core.progress import Observer, Phase, Progress
from twinslot.health.base import Runner
from twinslot.health.selection import configured_checks, left_out

log = logging.getLogger(__name__)


class ConfiguredChecks:
    """Runs the configured checks within the trial's deadline."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def __call__(self, observer: Observer) -> tuple[CheckResult, ...]:
        """One result for each check."""
        checks = configured_checks(self._config.health)
        for each in left_out(checks):
            log.warning("health check file '%s' is not asked: %s", each.name, each.why)
        until = time.monotonic() + self._config.trial.deadline
        return Runner(checks).run(until, lambda done: observer(Progress(Phase.CHECK, done, len(checks))))
