"""Does a release come with what its policy asks for? Every reason at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from twinslot.core.attachments import SBOM, VEX
from twinslot.core.errors import Refusal
from twinslot_image.compose import AttachedFile
from twinslot_image.gate.documents import read_named
from twinslot_image.gate.osv import Vulnerability, read_vulnerabilities
from twinslot_image.gate.policy import ReleasePolicy
from twinslot_image.gate.product import other_product
from twinslot_image.gate.tests_run import read_coverage, read_tests
from twinslot_image.gate.vex import VexStatement, read_vex
from twinslot_image.sbom.read import Bill, Component, read_bill

NAMED: Final = 20  # vulnerabilities that are named; the count is always given


@dataclass(frozen=True, slots=True)
class Contents:
    """What an image is and holds: product and release for people, payloads by digest, attachments."""

    product: str
    release: str
    payloads: Mapping[str, str]
    attachments: tuple[AttachedFile, ...]

    def of_type(self, type_: str) -> list[AttachedFile]:
        """Attachments of a type."""
        return [each for each in self.attachments if each.type == type_]


# keeps: REQ-IMG-29
def judge(policy: ReleasePolicy, contents: Contents) -> tuple[Refusal, ...]:
    """Every reason against building or signing.

    Raises:
        ImageError: `image.evidence`, `image.sbom`: a file that is asked for cannot be read as what it should be.
    """
    bills = [read_bill(each.data, each.name) for each in contents.of_type(SBOM)]
    own = [bill for bill in bills if _is_own(bill, contents)]
    return (
        *_attachments(policy, contents),
        *(_other_bill(bill, contents) for bill in bills if bill not in own),
        *_tests(policy),
        *_coverage(policy),
        *_vulnerabilities(policy, contents, own),
    )


def _attachments(policy: ReleasePolicy, contents: Contents) -> Iterator[Refusal]:
    there = sorted({each.type for each in contents.attachments if each.type})
    for type_ in policy.attachments:
        if type_ not in there:
            what = "the policy asks for an attachment that the image does not have"
            hint = f'add one with type = "{type_}"'
            yield Refusal("policy-attachment", what, type_, ", ".join(there) or "none with a type", hint)


def _is_own(bill: Bill, contents: Contents) -> bool:
    """A bill that names digests is of these alone; one of another tool is of the release that it names."""
    if bill.digests:
        return bool(set(bill.digests) & set(contents.payloads.values()))
    return (bill.name, bill.version) == (contents.product, contents.release)


def _other_bill(bill: Bill, contents: Contents) -> Refusal:
    what = "the attached bill of materials is of another image"
    found = f"{bill.name} {bill.version}".strip() + (f", SHA-256 {bill.digests[0][:12]}" if bill.digests else "")
    digests = ", ".join(digest[:12] for digest in contents.payloads.values())
    expected = f"{contents.product} {contents.release}, SHA-256 {digests}"
    return Refusal("sbom-other", what, expected, found, 'make it anew: sbom = "auto"')


def _tests(policy: ReleasePolicy) -> Iterator[Refusal]:
    for path in policy.tests:
        run = read_tests(path)
        if run.wrong or not run.passed:
            yield Refusal("policy-tests", "the policy asks for tests that passed", run.name, run.summary)
        if policy.subject and run.subject != policy.subject:
            what, hint = "the tests were not of this release", "run them again, with what is released"
            yield Refusal("policy-subject", what, policy.subject, run.subject or f"'{run.name}' says none", hint)


def _coverage(policy: ReleasePolicy) -> Iterator[Refusal]:
    if policy.coverage is None or policy.coverage_before is None:
        return
    now, before = read_coverage(policy.coverage), read_coverage(policy.coverage_before)
    if now < before:
        what = "the policy asks for a coverage that is not lower than before"
        yield Refusal("policy-coverage", what, f"{before:.2f} %", f"{now:.2f} %", "test what is new")


def _vulnerabilities(policy: ReleasePolicy, contents: Contents, bills: list[Bill]) -> Iterator[Refusal]:
    known = read_vulnerabilities(policy.vulnerabilities)
    said: list[VexStatement] = []
    for name, data in _vex(policy, contents):
        statements = read_vex(data, name)
        reason = other_product(name, statements, bills, f"{contents.product} {contents.release}") if bills else None
        if reason:
            yield reason
        said += statements
    if not policy.vulnerabilities:
        return
    if not bills:
        what = "vulnerabilities are looked for in the bill of materials, and the image has none of its own"
        yield Refusal("policy-attachment", what, SBOM, "none", 'sbom = "auto"')
    found = sorted({open_one for bill in bills for open_one in _open(policy, known, bill, said)})
    for names, component, severity in found[:NAMED]:
        what = "a known vulnerability is open and no VEX statement closes it"
        count = f", one of {len(found)}" if len(found) > NAMED else ""
        hint = "another version, or a statement in VEX that says why it does not concern the product"
        yield Refusal("policy-vulnerability", what, f"'{names}' closed", f"{component}, {severity}{count}", hint)


def _vex(policy: ReleasePolicy, contents: Contents) -> Iterator[tuple[str, bytes]]:
    yield from ((each.name, each.data) for each in contents.of_type(VEX))
    yield from ((path.name, read_named(path)) for path in policy.vex)


def _open(
    policy: ReleasePolicy, known: Iterable[Vulnerability], bill: Bill, said: list[VexStatement]
) -> Iterator[tuple[str, str, str]]:
    """Names, component and severity of each that is bad enough, concerns the bill, and is not closed."""
    for vulnerability in known:
        if vulnerability.severity is not None and vulnerability.severity.order < policy.severity.order:
            continue
        for component in bill.components:
            if vulnerability.concerns(component) and not _is_closed(vulnerability, component, bill, said):
                severity = vulnerability.severity or "severity not known"
                yield ", ".join(vulnerability.names[:3]), f"{component.name} {component.version}", str(severity)


def _is_closed(vulnerability: Vulnerability, component: Component, bill: Bill, said: list[VexStatement]) -> bool:
    """The last statement of it counts: documents are read in order, and later ones say what is true now."""
    names = set(vulnerability.names)
    found = [each for each in said if each.names & names and each.covers(bill, component)]
    return bool(found) and found[-1].closes
