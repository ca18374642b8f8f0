"""`twinslot-image diff`."""

from __future__ import annotations

import argparse
from pathlib import Path

from twinslot.cli.output import Output
from twinslot.core.errors import Refusal, RefusedError
from twinslot.core.text import printable
from twinslot_image import replaceable
from twinslot_image.diff.compare import compare
from twinslot_image.diff.side import DiffSide, read_side
from twinslot_image.diff.tables import as_page, as_text
from twinslot_image.diff.vulnerabilities import VulnerabilityStatement, parse_vulnerabilities
from twinslot_image.evidence_file import read_evidence
from twinslot_image.matrix_file import parse_matrix
from twinslot_image.outputs import Target
from twinslot_image.recipients import unlock_with


def diff(arguments: argparse.Namespace, output: Output) -> None:
    """`diff`."""
    unlock = unlock_with(arguments)
    bills = arguments.sbom or (None, None)
    matrices = [parse_matrix(read_evidence(path), path) for path in arguments.matrix or ()]
    old, new = (read_side(path, bill, unlock) for path, bill in zip((arguments.old, arguments.new), bills, strict=True))
    statements = _statements(arguments.vulnerabilities, old, new) if arguments.vulnerabilities else None
    data = compare(old, new, (matrices[0], matrices[1]) if matrices else None, statements)
    if arguments.html:
        given = [arguments.old, arguments.new, *(bill for bill in bills if bill), *(arguments.matrix or ())]
        inputs = [path for path in given if path.is_file()]
        target = Target(arguments.html, replaceable.page, inputs=inputs, force=arguments.force)
        with target, target.writing() as sink:
            sink.write(as_page(data))
    if output.as_json:
        output.line({"type": "diff"} | data)
    else:
        output.text(map(printable, as_text(data)))


def _statements(paths: list[Path], old: DiffSide, new: DiffSide) -> list[VulnerabilityStatement]:
    """What all the files say; one that speaks of no package of either release is of another product."""
    found: list[VulnerabilityStatement] = []
    for path in paths:
        here = parse_vulnerabilities(read_evidence(path), path)
        assessed = [each for each in here if each.assessed]
        parts, products = (*old.parts, *new.parts), (old.product, new.product)
        ours = any(each.concerns(part) for each in assessed for part in parts)
        if assessed and not (ours or any(each.concerns_product(name) for each in assessed for name in products)):
            what, hint = f"'{path}' is of another product", "name the document of this one"
            known = ", ".join(dict.fromkeys(name for each in assessed for name in each.packages))[:200]
            expected = "a package of one of the two releases"
            raise RefusedError(Refusal("other-image", what, expected, known or "no product", hint))
        found += here
    return found
