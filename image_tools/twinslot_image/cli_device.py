"""`twinslot-image audit verify`, `verify-attestation`, `inventory`: what devices say of themselves, in the office."""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
from typing import Final

from twinslot.cli.output import Output, error_lines
from twinslot.cli.render import account_lines, audit_lines, table
from twinslot.core.attestation import COLUMNS, anomalies, inventory_row
from twinslot.core.audit_explain import account_of
from twinslot.core.errors import Refusal, RefusedError, TwinslotError
from twinslot.core.manifest import parse_manifest
from twinslot.core.replay import image_differences
from twinslot.core.text import printable
from twinslot.trust.attestation_file import verify_attestation_file
from twinslot.trust.audit_file import verified_rows, verify_audit_file
from twinslot_image import PROGRAM
from twinslot_image.file_kind import read_image_front

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would calculate (OWASP, CSV injection)
_SHOWN: Final = ("device", "at", "release", "sequence", "state", "fallback_proven", "faults", "warnings")


def verify_audit(arguments: argparse.Namespace, output: Output) -> None:
    """`audit verify`: the same answer as that of `twinslot audit verify`."""
    verdict = verify_audit_file(arguments.file, arguments.key, arguments.anchor or []).as_dict()
    if output.as_json:
        output.line({"type": "audit", "file": str(arguments.file)} | verdict)
    else:
        output.text(map(printable, audit_lines(verdict)))


def verify_attestation(arguments: argparse.Namespace, output: Output) -> None:
    """`verify-attestation`: all of it as JSON, or what an inventory lists."""
    found = verify_attestation_file(arguments.file, arguments.key, arguments.nonce)
    if output.as_json:
        output.line({"type": "attestation", "file": str(arguments.file), "device": found.device, "said": found.said})
        return
    lines = [f"device {found.device} said this" + (", to this question" if arguments.nonce else "")]
    lines += [f"  {name:<16} {value}" for name, value in inventory_row(found).items() if value is not None]
    lines += [f"  {severity}: {text}" for severity, text in anomalies(found)]
    output.text(map(printable, lines))


def inventory(arguments: argparse.Namespace, output: Output) -> None:
    """`inventory`: one line for each device.

    Raises:
        RefusedError: `refused.inventory`: a file was none of these devices'; the others were listed.
    """
    rows, bad = [], []
    for file in arguments.files:
        try:
            rows.append(inventory_row(verify_attestation_file(file, arguments.key)))
        except TwinslotError as e:
            bad.append(str(file))
            output.aside("".join(f"{printable(str(file))}: {line}\n" for line in error_lines(e, PROGRAM)))
    if output.as_json:
        for row in rows:
            output.line({"type": "device", **row})
    elif arguments.csv:
        output.data(_as_csv(rows).encode())
    else:
        shown = [[_cell(row[name])[:20] for name in _SHOWN] for row in rows]
        output.text(map(printable, table(_SHOWN, shown)))
    if bad:
        what = "not every file is a statement of one of these devices"
        raise RefusedError(
            Refusal("inventory", what, found=", ".join(bad)[:500], hint="each is named above with its fault")
        )


def _as_csv(rows: list[dict[str, str | int | None]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    writer.writerows([_inert(_cell(row[name])) for name in COLUMNS] for row in rows)
    return text.getvalue()


def _cell(value: str | int | None) -> str:
    return "" if value is None else str(value)


def _inert(cell: str) -> str:
    """What was written by others is text for a spreadsheet, never a formula."""
    return f"'{cell}" if cell.startswith(_FORMULA) else cell


def explain(arguments: argparse.Namespace, output: Output) -> None:
    """`explain`: as that of the device, from an export, and beside an image.

    Raises:
        RefusedError: `refused.replay`: rows and table, or rows and image, differ.
    """
    account = account_of(verified_rows(arguments.file, arguments.key), arguments.transaction)
    differences = list(account.differences)
    if arguments.image is not None:
        manifest = read_image_front(arguments.image).manifest
        release = parse_manifest(manifest).release
        digest = hashlib.sha256(manifest).hexdigest()
        differences += image_differences(account, digest, release.name, release.sequence)
    if output.as_json:
        output.line({"type": "account"} | account.as_dict() | {"differences": differences})
    else:
        same = ["the image is the one that was accepted"] if arguments.image and not differences else []
        output.text(map(printable, [*account_lines(account), *same]))
    if differences:
        what = "the update is not what the table, or the image, says"
        raise RefusedError(Refusal("replay", what, found="; ".join(differences)[:1000]))
