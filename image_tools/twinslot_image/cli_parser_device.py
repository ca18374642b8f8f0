"""The command line of what the office asks about devices: `audit verify`, `verify-attestation`, `inventory`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from twinslot.cli.arguments import Parser, anchored, nonce_of
from twinslot_image import cli_device

if TYPE_CHECKING:
    _Verbs: TypeAlias = argparse._SubParsersAction[Parser]  # argparse has no public name for it


_KEYS: Final = "public part of the device's key, or a directory of such files (.pem, .pub); may be given again"


def add_device(verbs: _Verbs, anywhere: Parser) -> None:
    """What devices give away about themselves."""
    _add_audit(verbs, anywhere)
    _add_attestation(verbs, anywhere)
    _add_inventory(verbs, anywhere)
    _add_explain(verbs, anywhere)


def _add_explain(verbs: _Verbs, anywhere: Parser) -> None:
    explain = verbs.add_parser(
        "explain",
        parents=[anywhere],
        help="replay an update from the audit that a device exported",
        description="Verify what a device exported by 'twinslot audit export', and replay one update from its rows by "
        "the table of the life cycle. Ends with 4 where rows and table, or rows and image, differ.",
        examples=("twinslot-image explain pump-7.audit last --key pump-7.pem --image pump-2026.11.twin",),
    )
    explain.add_argument("file", type=Path, metavar="FILE", help="what the device exported")
    explain.add_argument("transaction", metavar="ID", help="of the update, its first digits, or 'last'")
    key = "public part of the device's key; again for a key before it"
    explain.add_argument("--key", type=Path, action="append", required=True, metavar="PEM", help=key)
    explain.add_argument("--image", type=Path, metavar="NAME.twin", help="the image that the update is said to be of")
    explain.set_defaults(run=cli_device.explain)


def _add_attestation(verbs: _Verbs, anywhere: Parser) -> None:
    verify = verbs.add_parser(
        "verify-attestation",
        parents=[anywhere],
        help="say whether a device said this of itself, and show it",
        description="Say whether a file of 'twinslot attest' was signed by this device, and show what it says. Ends "
        "with 4 when it was not, or answers another question than the one with this nonce.",
        examples=("twinslot-image verify-attestation pump-7.attestation --key pump-7.pem --nonce 6f1e22ab90",),
    )
    verify.add_argument("file", type=Path, metavar="FILE", help="what the device printed")
    verify.add_argument("--key", type=Path, action="append", required=True, metavar="PEM|DIR", help=_KEYS)
    verify.add_argument("--nonce", type=nonce_of, metavar="HEX", help="what the device was given")
    verify.set_defaults(run=cli_device.verify_attestation)


def _add_inventory(verbs: _Verbs, anywhere: Parser) -> None:
    inventory = verbs.add_parser(
        "inventory",
        parents=[anywhere],
        help="list devices by what they say of themselves",
        description="List devices for asset management: one line for each file of 'twinslot attest' that is signed by "
        "one of the keys. Ends with 4 when another file was among them; the others are listed all the same.",
        examples=(
            "twinslot-image inventory attestations/*.json --key keys-of-devices/ --csv > fleet.csv",
            "twinslot-image inventory attestations/*.json --key keys-of-devices/ --json",
        ),
    )
    inventory.add_argument("files", type=Path, nargs="+", metavar="FILE", help="what devices printed")
    inventory.add_argument("--key", type=Path, action="append", required=True, metavar="PEM|DIR", help=_KEYS)
    inventory.add_argument("--csv", action="store_true", help="print comma-separated values (RFC 4180) with a head")
    inventory.set_defaults(run=cli_device.inventory)


def _add_audit(verbs: _Verbs, anywhere: Parser) -> None:
    audit = verbs.add_parser(
        "audit",
        help="verify the audit that a device exported",
        description="Verify what 'twinslot audit export' wrote on a device.",
        examples=("twinslot-image audit verify pump-7.audit --key pump-7.pem",),
    )
    actions = audit.add_subparsers(dest="action", required=True, metavar="ACTION")
    verify = actions.add_parser(
        "verify",
        parents=[anywhere],
        help="say whether it is what the device wrote",
        description="Say whether a file of 'twinslot audit export' is what the device wrote: whole, in order and "
        "unchanged. Ends with 4 when it is not; the code says what was done to it.",
        examples=("twinslot-image audit verify pump-7.audit --key pump-7.pem",),
    )
    verify.add_argument("file", type=Path, metavar="FILE", help="what the device exported")
    key = "public part of the device's key, as 'twinslot device-key show' prints it; again for a key before it"
    verify.add_argument("--key", type=Path, action="append", required=True, metavar="PEM", help=key)
    anchor = "an end of the audit that is known from before; may be given again"
    verify.add_argument("--anchor", type=anchored, action="append", metavar="NUMBER-HASH", help=anchor)
    verify.set_defaults(run=cli_device.verify_audit)
