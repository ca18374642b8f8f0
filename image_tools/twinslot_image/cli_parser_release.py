"""The command line of the verbs that make what comes with a release."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from twinslot.cli.arguments import Parser
from twinslot_image import cli_provenance, cli_sbom

if TYPE_CHECKING:
    _Verbs: TypeAlias = argparse._SubParsersAction[Parser]  # argparse has no public name for it


def add_sbom(verbs: _Verbs, anywhere: Parser) -> None:
    """`sbom`."""
    sbom = verbs.add_parser(
        "sbom",
        parents=[anywhere],
        help="list what a root file system consists of, in CycloneDX",
        description="List the packages, Python distributions, programs and libraries of a root file system as a bill "
        "of materials in CycloneDX 1.6. The same tree gives the same bytes. A library that a program needs and the "
        "tree lacks is refused. 'build' does the same with 'sbom = \"auto\"'.",
        examples=(
            "twinslot-image sbom rootfs.ext4 -o sbom.cdx.json",
            "twinslot-image sbom tree/ --name Pump --release 2026.11 --spdx pump.spdx.tar.zst -o sbom.cdx.json",
        ),
    )
    sbom.add_argument(
        "rootfs", type=Path, metavar="ROOTFS", help="a directory, a tar archive, or an ext4 or erofs image"
    )
    sbom.add_argument("-o", "--output", metavar="FILE", help="where it goes (default: standard output)")
    sbom.add_argument("--force", action="store_true", help="replace whatever stands where the output goes")
    sbom.add_argument("--name", metavar="NAME", help="what the system is called (default: NAME of its os-release)")
    sbom.add_argument("--release", metavar="NAME", help="its release (default: VERSION_ID of its os-release)")
    sbom.add_argument(
        "--spdx", type=Path, metavar="FILE", help="an SPDX document, or an archive of such, that names more packages"
    )
    sbom.add_argument(
        "--foreign",
        action="append",
        metavar="PATTERN",
        help="files, from the root without a slash, whose libraries need not be there; may be given again",
    )
    sbom.set_defaults(run=cli_sbom.sbom)


def add_provenance(verbs: _Verbs, anywhere: Parser) -> None:
    """`provenance`."""
    provenance = verbs.add_parser(
        "provenance",
        parents=[anywhere],
        help="sign from which sources and inputs, and by whom, an image was built",
        description="Write provenance of an image beside it: an in-toto statement with the predicate SLSA provenance "
        "v1, signed in a DSSE envelope by a key of one of the image's roles. Commit, tag, build and builder are those "
        "of its [source].",
        examples=(
            "twinslot-image provenance pump.twin --role engineering --key engineering.pem",
            "twinslot-image provenance pump.twin --role engineering --key k.pem --input recipes=recipes.tar",
            "twinslot-image provenance pump.twin --detached-payload said",
        ),
    )
    provenance.add_argument("image", type=Path, metavar="NAME.twin", help="the image")
    provenance.add_argument("--role", metavar="ROLE", help="whose key signs; needed with --key and --attach")
    ways = provenance.add_mutually_exclusive_group(required=True)
    key = "private key: in PEM, or where it is in a token (RFC 7512)"
    ways.add_argument("--key", metavar="FILE|env:VARIABLE|pkcs11:URI", help=key)
    ways.add_argument("--detached-payload", metavar="FILE", help="write the bytes to be signed elsewhere")
    ways.add_argument("--attach", type=Path, metavar="FILE", help="a signature made elsewhere, raw or hex")
    what = "what '--detached-payload' wrote; with '--attach'"
    provenance.add_argument("--statement", type=Path, metavar="FILE", help=what)
    provenance.add_argument("--builder", metavar="URI", help="who or what built it (default: that of its [source])")
    provenance.add_argument("--repository", metavar="URI", help="where its sources are")
    provenance.add_argument(
        "--input",
        action="append",
        type=_name_and_file,
        metavar="NAME=FILE",
        help="a further input, which is named with its digest; may be given again",
    )
    where = "where it goes (default: NAME.twin.provenance.json beside the image)"
    provenance.add_argument("-o", "--output", metavar="FILE", help=where)
    provenance.add_argument("--force", action="store_true", help="replace whatever stands where the output goes")
    provenance.set_defaults(run=cli_provenance.provenance)


def _name_and_file(text: str) -> tuple[str, Path]:
    name, sign, path = text.partition("=")
    if not sign or not name or not path:
        raise argparse.ArgumentTypeError("NAME=FILE")
    return name, Path(path)
