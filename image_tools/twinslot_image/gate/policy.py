"""The table `[policy]`: what a release must come with."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from twinslot.core.attachments import MEDIA_TYPES
from twinslot.core.canonical import encode
from twinslot.core.manifest import NAME
from twinslot_image.gate.severity import Severity
from twinslot_image.toml_table import Table

POLICY_KEYS: Final = (
    *("attachments", "roles", "tests", "subject", "coverage", "coverage_before", "vulnerabilities", "severity", "vex"),
)
FILES_MAX: Final = 256  # files or directories of one kind
_DIGEST: Final = re.compile(r"[0-9a-f]{32,128}")
_TYPE: Final = re.compile("|".join(re.escape(word) for word in MEDIA_TYPES))


@dataclass(frozen=True, slots=True)
class ReleasePolicy:
    """What a release must come with; empty: nothing of that kind is asked.

    Attributes:
        attachments: Types of attachments that the image must have.
        roles: Whose signatures are refused until all is there; none: the image is not even built.
        tests: Results of tests, all of which must have passed: matrix.json or JUnit.
        subject: Digest of the code that the tests must have tested.
        coverage: The coverage of this release, as coverage.py writes it in JSON.
        coverage_before: That of the release before, which it must not be below.
        vulnerabilities: Known vulnerabilities in OSV, or directories of such files.
        severity: From which severity on a vulnerability stops a release.
        vex: Statements about vulnerabilities, beside those that are attached.
        digest: SHA-256 of the table as it stands, which binds an image to it.
    """

    attachments: tuple[str, ...]
    roles: tuple[str, ...]
    tests: tuple[Path, ...]
    subject: str
    coverage: Path | None
    coverage_before: Path | None
    vulnerabilities: tuple[Path, ...]
    severity: Severity
    vex: tuple[Path, ...]
    digest: str

    @property
    def files(self) -> tuple[Path, ...]:
        """Everything that is read for it."""
        both = [path for path in (self.coverage, self.coverage_before) if path]
        return (*self.tests, *both, *self.vulnerabilities, *self.vex)


def policy_of(table: Table, data: dict[str, Any]) -> ReleasePolicy:
    """The policy that a table is.

    Args:
        table: The table, its keys checked.
        data: The same as the parser found it.

    Raises:
        ImageError: `image.description`.
    """
    kinds = " or ".join(MEDIA_TYPES)
    severity = table.choice("severity", tuple(Severity), Severity.CRITICAL)
    policy = ReleasePolicy(
        attachments=table.names("attachments", _TYPE, f"types of attachments: {kinds}", len(MEDIA_TYPES), ()),
        roles=table.names("roles", NAME, "names of roles", 32, ()),
        tests=_paths(table, "tests"),
        subject=table.text("subject", _DIGEST, "a digest of 32 to 128 hex digits", "") if table.has("subject") else "",
        coverage=table.path("coverage") if table.has("coverage") else None,
        coverage_before=table.path("coverage_before") if table.has("coverage_before") else None,
        vulnerabilities=_paths(table, "vulnerabilities"),
        severity=Severity(severity),
        vex=_paths(table, "vex"),
        digest=hashlib.sha256(encode(data)).hexdigest(),
    )
    _check_together(table, policy)
    return policy


def _paths(table: Table, key: str) -> tuple[Path, ...]:
    return table.paths(key, FILES_MAX) if table.has(key) else ()


def _check_together(table: Table, policy: ReleasePolicy) -> None:
    """A key that changes nothing without another one is a mistake."""
    needs = (
        ("coverage_before", policy.coverage_before, "coverage", policy.coverage),
        ("coverage", policy.coverage, "coverage_before", policy.coverage_before),
        ("subject", policy.subject, "tests", policy.tests),
        ("severity", table.has("severity"), "vulnerabilities", policy.vulnerabilities),
        ("vex", policy.vex, "vulnerabilities", policy.vulnerabilities),
    )
    for key, given, other, there in needs:
        if given and not there:
            raise table.bad(key, f"'{other}' beside it", "nothing")
    if not (policy.attachments or policy.tests or policy.coverage or policy.vulnerabilities):
        raise table.bad("", "'attachments', 'tests', 'coverage' or 'vulnerabilities'", "a policy that asks for nothing")
