"""The command line of the verbs that make what comes with a release."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from twinslot.cli.arguments import Parser
from twinslot_image import cli_sbom

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
