"""`twinslot-image sbom`: what is in a root file system."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from twinslot.cli.output import Output
from twinslot_image import replaceable
from twinslot_image.build import build_time
from twinslot_image.cli_commands import counted, say
from twinslot_image.file_digest import file_digest
from twinslot_image.outputs import Target
from twinslot_image.progress import ProgressLine
from twinslot_image.sbom.document import BillSubject, make_sbom
from twinslot_image.sbom.files import open_root
from twinslot_image.sbom.inventory import Inventory, take_inventory
from twinslot_image.sbom.spdx import read_spdx


def sbom(arguments: argparse.Namespace, output: Output) -> None:
    """`sbom`."""
    rootfs: Path = arguments.rootfs
    inputs = [path for path in (rootfs, arguments.spdx) if path is not None]
    with Target(arguments.output or "-", replaceable.sbom, inputs=inputs, force=arguments.force) as target:
        others = read_spdx(arguments.spdx) if arguments.spdx else []
        with open_root(rootfs) as root, ProgressLine("reading the root file system", 0, "files") as progress:
            inventory = take_inventory(root, arguments.foreign or (), progress.update)
        data = make_sbom(inventory, _subject(arguments, inventory), others)
        with target.writing() as sink:
            sink.write(data)
    counts = {"packages": len(inventory.packages), "programs": len(inventory.programs), "others": len(others)}
    said = f"{counted(counts['packages'], 'package')}, {counted(counts['programs'], 'program')} and libraries"
    say(arguments, output, {"file": str(target.path), "size": len(data)} | counts, [f"{target.path}: {said}"], target)


def _subject(arguments: argparse.Namespace, inventory: Inventory) -> BillSubject:
    """Named on the command line, or as the system calls itself; a directory has no digest."""
    name = arguments.name or inventory.os.get("NAME") or arguments.rootfs.resolve().name
    release = arguments.release or inventory.os.get("VERSION_ID") or ""
    moment = build_time(os.environ) if "SOURCE_DATE_EPOCH" in os.environ else None
    return BillSubject(name, release, _digests(arguments.rootfs), moment)


def _digests(rootfs: Path) -> dict[str, str]:
    if rootfs.is_dir():
        return {}
    return {rootfs.name: file_digest(rootfs)}
