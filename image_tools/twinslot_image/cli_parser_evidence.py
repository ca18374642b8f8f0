"""The command line of what comes with a release: `approve`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from twinslot.cli.arguments import Parser
from twinslot_image import cli_approve

if TYPE_CHECKING:
    _Verbs: TypeAlias = argparse._SubParsersAction[Parser]  # argparse has no public name for it


def add_evidence(verbs: _Verbs, anywhere: Parser) -> None:
    """What is said and gathered of a release."""
    _add_approve(verbs, anywhere)


def _add_approve(verbs: _Verbs, anywhere: Parser) -> None:
    approve = verbs.add_parser(
        "approve",
        parents=[anywhere],
        help="sign, as a person, what is said of a release",
        description="Sign an approval of an image: who, when, in which capacity, with which meaning, having looked at "
        "what. It is written beside the image, whose own signatures stay as they are.",
        examples=(
            'twinslot-image approve pump.twin --role clinical --as "A. Weber" --meaning approval --key clinical.pem',
            'twinslot-image approve pump.twin --role clinical --as "A. Weber" --meaning review --detached-payload say',
            "twinslot-image approve pump.twin --attach signature.bin --statement say",
        ),
    )
    approve.add_argument("image", type=Path, metavar="NAME.twin", help="the image")
    approve.add_argument("--role", metavar="ROLE", help="in which capacity; the key must be one of this role's")
    approve.add_argument("--as", metavar="NAME", help="the printed name of who signs")
    approve.add_argument("--meaning", metavar="TEXT", help="of the signature: review, approval, responsibility, ...")
    approve.add_argument(
        "--looked-at",
        action="append",
        metavar="ATTACHMENT|FILE",
        help="what was looked at: an attachment by its name, or a file; may be given again",
    )
    ways = approve.add_mutually_exclusive_group(required=True)
    key = "private key: in PEM, or where it is in a token (RFC 7512)"
    ways.add_argument("--key", metavar="FILE|env:VARIABLE|pkcs11:URI", help=key)
    ways.add_argument("--detached-payload", metavar="FILE", help="write the bytes to be signed elsewhere")
    ways.add_argument("--attach", type=Path, metavar="FILE", help="a signature made elsewhere, raw or hex")
    what = "what '--detached-payload' wrote; with '--attach'"
    approve.add_argument("--statement", type=Path, metavar="FILE", help=what)
    approve.add_argument("--sign", action="store_true", help="add the image's own signature, too, by the same key")
    where = "where it goes (default: NAME.twin.ROLE.KEY.approval.json beside the image)"
    approve.add_argument("-o", "--output", metavar="FILE|DIR/", help=where)
    approve.add_argument("--force", action="store_true", help="replace whatever stands where the output goes")
    approve.set_defaults(run=cli_approve.approve)
