"""What `doctor` says: findings, how bad each is, and the forecast. Plain data."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from twinslot.config.options import Config
from twinslot.engine.facts import View
from twinslot.system import process


class Severity(enum.StrEnum):
    """How bad a finding is, worst first."""

    FAULT = "fault"
    WARNING = "warning"
    UNKNOWN = "unknown"  # it could not be looked at
    FINE = "fine"


@dataclass(frozen=True, slots=True)
class Finding:
    """One piece of evidence.

    Attributes:
        area: What it is about, for people.
        severity: How bad it is.
        text: One sentence.
        hint: What to do; empty when nothing is to be done.
        name: Of the look that made it (docs/doctor.md); for programs.
    """

    area: str
    severity: Severity
    text: str
    hint: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All findings, the worst first, and what the next start will do; an empty forecast: it cannot be told."""

    findings: tuple[Finding, ...]
    decision: str

    @property
    def healthy(self) -> bool:
        """No finding is a fault."""
        return all(finding.severity is not Severity.FAULT for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        findings = [asdict(finding) for finding in self.findings]
        return {"healthy": self.healthy, "decision": self.decision or None, "findings": findings}


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything that is looked at.

    Attributes:
        config: Of this device.
        view: Running slot, environment and record, as `status` sees them.
        root: Below this stand the files of the system: sysfs, /run, /etc.
        is_root: Whether this process may read everything.
        now: The device's clock.
        ask: Runs a program, for systemctl.
    """

    config: Config
    view: View
    root: Path
    is_root: bool
    now: datetime
    ask: Callable[[list[str]], process.ProgramResult]

    def below(self, path: Path | str) -> Path:
        """A file of the system."""
        return self.root / str(path).lstrip("/")


Looked = Iterator[tuple[Severity, str, str]]  # severity, sentence, hint


@dataclass(frozen=True, slots=True)
class Look:
    """One row of the table of looks.

    Attributes:
        name: Stable word.
        area: What it is about, for people.
        worst: The worst severity that it can find.
        looks_at: What is read.
        finds: What it warns of, for the manual.
        look: Does it; every sentence with its severity and a hint.
    """

    name: str
    area: str
    worst: Severity
    looks_at: str
    finds: str
    look: Callable[[Scene], Looked]

    def findings(self, scene: Scene) -> Iterator[Finding]:
        """Look."""
        for severity, text, hint in self.look(scene):
            yield replace(Finding(self.area, severity, text, hint), name=self.name)
