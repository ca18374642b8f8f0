"""Tells the product that the running system is on trial, and when it is kept: files and targets of systemd."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from twinslot.core.transaction import Transaction
from twinslot.system.power import start_unit

ON_TRIAL: Final = Path("/run/twinslot/trial")
COMMITTED: Final = "twinslot-committed.target"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TrialFile:
    """Implements `engine.edges.TrialEdge`.

    Attributes:
        path: There while the running system is on trial.
        start: Starts a unit.
    """

    path: Path = ON_TRIAL
    start: Callable[[str], None] = start_unit

    # keeps: S20
    def begins(self, transaction: Transaction) -> None:
        """The running system is on trial: its release, so that the product can show it."""
        release = transaction.release
        told = {"release": release.name, "sequence": release.sequence, "transaction": transaction.id}
        self._change(json.dumps(told) + "\n")

    def is_none(self) -> None:
        """Nothing is on trial."""
        self._change(None)

    def committed(self) -> None:
        """The system that was on trial is kept: what waited for that is started."""
        self._change(None)
        self.start(COMMITTED)

    def _change(self, text: str | None) -> None:
        try:
            if text is None:
                self.path.unlink(missing_ok=True)
            else:
                fresh = self.path.with_name(f"{self.path.name}~new")
                fresh.write_text(text)
                fresh.chmod(0o644)
                fresh.rename(self.path)
        except OSError as e:
            log.warning("'%s' cannot be changed: %s", self.path, e.strerror)
