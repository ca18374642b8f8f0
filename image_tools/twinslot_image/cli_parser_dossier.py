"""The command line of what comes with a release: `approve`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from twinslot.cli.arguments import Parser
from twinslot_image import cli_approve, cli_diff, cli_dossier
from twinslot_image.cli_parser_encryption import add_identity

if TYPE_CHECKING:
    _Verbs: TypeAlias = argparse._SubParsersAction[Parser]  # argparse has no public name for it


def add_evidence(verbs: _Verbs, anywhere: Parser) -> None:
    """What is said and gathered of a release."""
    _add_approve(verbs, anywhere)
    _add_diff(verbs, anywhere)
    _add_dossier(verbs, anywhere)


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


def _add_diff(verbs: _Verbs, anywhere: Parser) -> None:
    diff = verbs.add_parser(
        "diff",
        parents=[anywhere],
        help="show what differs between two releases",
        description="Show what differs between two releases: packages, files, sizes, what the manifests say; with the "
        "files for it also open vulnerabilities, requirements, risks and tests. Nothing is verified, and no network is "
        "used.",
        examples=(
            "twinslot-image diff pump-2026.10.twin pump.twin --html changes.html",
            "twinslot-image diff old.ext4 new.ext4 --vulnerabilities osv.json --vulnerabilities vex.json --json",
        ),
    )
    for name in ("old", "new"):
        what = "an image, a root file system (ext4, erofs, tar), or a directory"
        diff.add_argument(name, type=Path, metavar=name.upper(), help=what)
    pair, what = ("OLD.json", "NEW.json"), "bills of materials in CycloneDX, in place of those that are attached"
    diff.add_argument("--sbom", nargs=2, type=Path, metavar=pair, help=what)
    diff.add_argument("--matrix", nargs=2, type=Path, metavar=pair, help="matrices of 'twinslot_lab matrix'")
    what = "OSV, OpenVEX, CycloneDX or CSAF; may be given again"
    diff.add_argument("--vulnerabilities", type=Path, action="append", metavar="FILE", help=what)
    diff.add_argument("--html", metavar="FILE", help="write a page for people, too")
    diff.add_argument("--force", action="store_true", help="replace whatever stands where the page goes")
    add_identity(diff)
    diff.set_defaults(run=cli_diff.diff)


def _add_dossier(verbs: _Verbs, anywhere: Parser) -> None:
    dossier = verbs.add_parser(
        "dossier",
        help="gather the evidence of a release, or verify what was gathered",
        description="Gather the evidence of a release in one signed directory, with a page for people; or verify one.",
        examples=(
            "twinslot-image dossier make dossier.toml -o pump-2026.11 --role engineering --key engineering.pem",
            "twinslot-image dossier verify pump-2026.11 --root keys/1.root.json --roles engineering,clinical",
        ),
    )
    actions = dossier.add_subparsers(dest="action", required=True, metavar="ACTION")
    make = actions.add_parser(
        "make",
        parents=[anywhere],
        help="gather it",
        description="Gather what DOSSIER.toml names into one directory with a page for people, and sign each figure "
        "and the index. What the release lacks is said in it; what is of another client or image is refused.",
        examples=("twinslot-image dossier make dossier.toml -o pump-2026.11 --key quality.pem",),
    )
    make.add_argument("description", type=Path, metavar="DOSSIER.toml", help="which files are the evidence")
    make.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="where it goes")
    make.add_argument("--key", required=True, metavar="FILE|env:VARIABLE|pkcs11:URI", help="private key that signs it")
    make.add_argument("--role", metavar="ROLE", help="in which role of the image; the key must be one of its")
    make.add_argument("--force", action="store_true", help="replace a dossier that stands where the output goes")
    add_identity(make)
    make.set_defaults(run=cli_dossier.make)
    verify = actions.add_parser(
        "verify",
        parents=[anywhere],
        help="say what is missing, stale or forged",
        description="Say what of a dossier is missing, not passed, stale or forged. The reader shares no code with "
        "what makes dossiers, and runs alone, too: dossier_verify.py.",
        examples=("twinslot-image dossier verify pump-2026.11 --root keys/1.root.json --signer engineering",),
    )
    verify.add_argument("directory", type=Path, metavar="DIR", help="the dossier")
    verify.add_argument("--root", type=Path, metavar="ROOT.json", help="the root document that the devices trust")
    key = "public key that may sign dossiers; may be given again"
    verify.add_argument("--key", type=Path, action="append", metavar="PUBLIC.pem", help=key)
    verify.add_argument("--signer", metavar="ROLE", help="the role that must have signed it (default: any)")
    roles = "roles that must have signed the manifest; may be given again"
    verify.add_argument("--roles", action="append", metavar="ROLE,...", help=roles)
    verify.add_argument("--complete", action="store_true", help="refuse one in which something is missing, too")
    verify.set_defaults(run=cli_dossier.verify)
