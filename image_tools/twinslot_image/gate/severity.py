"""How bad a vulnerability is: words, and the base score of CVSS 3 (FIRST, "CVSS v3.1 Specification", 5 and 7.1)."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Severity(StrEnum):
    """From the least on; `order` compares."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"

    @property
    def order(self) -> int:
        """0 for the least."""
        return list(Severity).index(self)


_BOUNDS: Final = ((9.0, Severity.CRITICAL), (7.0, Severity.HIGH), (4.0, Severity.MEDIUM), (0.0, Severity.LOW))
_WORDS: Final = {each.value: each for each in Severity} | {"moderate": Severity.MEDIUM, "important": Severity.HIGH}
_METRICS: Final = {
    "AV": {"N": 0.85, "A": 0.62, "L": 0.55, "P": 0.2},
    "AC": {"L": 0.77, "H": 0.44},
    "UI": {"N": 0.85, "R": 0.62},
    "C": {"H": 0.56, "L": 0.22, "N": 0.0},
    "I": {"H": 0.56, "L": 0.22, "N": 0.0},
    "A": {"H": 0.56, "L": 0.22, "N": 0.0},
}
_PRIVILEGES: Final = {"U": {"N": 0.85, "L": 0.62, "H": 0.27}, "C": {"N": 0.85, "L": 0.68, "H": 0.5}}


def severity_of(word: object) -> Severity | None:
    """By a word, such as those of GitHub and Red Hat; None: it is none."""
    return _WORDS.get(word.lower()) if isinstance(word, str) else None


def severity_of_score(score: float) -> Severity:
    """By a base score (CVSS v3.1, table 14); 0 counts as the least."""
    return next(severity for bound, severity in _BOUNDS if score >= bound)


def base_score(vector: str) -> float | None:
    """The base score of a CVSS 3.0 or 3.1 vector; None: it is none."""
    head, *parts = vector.split("/")
    metrics = dict(part.split(":", 1) for part in parts if ":" in part)
    try:
        if head not in ("CVSS:3.0", "CVSS:3.1"):
            return None
        values = {name: table[metrics[name]] for name, table in _METRICS.items()}
        changed, privileges = metrics["S"] == "C", _PRIVILEGES[metrics["S"]][metrics["PR"]]
    except KeyError:
        return None
    lost = 1 - (1 - values["C"]) * (1 - values["I"]) * (1 - values["A"])
    impact = 7.52 * (lost - 0.029) - 3.25 * (lost - 0.02) ** 15 if changed else 6.42 * lost
    if impact <= 0:
        return 0.0
    exploitability = 8.22 * values["AV"] * values["AC"] * privileges * values["UI"]
    return _round_up(min((1.08 if changed else 1.0) * (impact + exploitability), 10.0))


def _round_up(value: float) -> float:
    """To one decimal, without the errors of binary fractions (CVSS v3.1, appendix A)."""
    whole = round(value * 100_000)
    return whole / 100_000 if whole % 10_000 == 0 else (whole // 10_000 + 1) / 10.0
