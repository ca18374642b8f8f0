"""`twinslot-image diff`."""

from __future__ import annotations

import argparse

from twinslot.cli.output import Output
from twinslot.core.text import printable
from twinslot_image import replaceable
from twinslot_image.diff.compare import compare
from twinslot_image.diff.packages import read_known
from twinslot_image.diff.side import read_side
from twinslot_image.diff.tables import as_page, as_text
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
    files = arguments.vulnerabilities
    known = read_known(files, (*old.bills, *new.bills)) if files else None
    data = compare(old, new, (matrices[0], matrices[1]) if matrices else None, known)
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
