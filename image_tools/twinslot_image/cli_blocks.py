"""`twinslot-image blocks`."""

from __future__ import annotations

import argparse

from twinslot.cli.output import Output
from twinslot.image.wire_blocks import BLOCKS_SUFFIX
from twinslot_image import replaceable
from twinslot_image.blocks import make_blocks
from twinslot_image.blocks_inspect import describe_blocks, render_blocks
from twinslot_image.cli_commands import say
from twinslot_image.file_kind import require_image, require_lasting
from twinslot_image.outputs import Target
from twinslot_image.progress import Steps
from twinslot_image.recipients import unlock_with


def blocks(arguments: argparse.Namespace, output: Output) -> None:
    """`blocks`."""
    image = arguments.image
    require_lasting(image)
    require_image(image)
    beside = image.with_suffix(BLOCKS_SUFFIX)
    target = Target(
        arguments.output or beside, replaceable.block_list, inputs=(image,), force=arguments.force, name=beside.name
    )
    unlock = unlock_with(arguments)
    with target, Steps() as steps:
        head = make_blocks(image, target, steps.report, unlock)
    data, path = describe_blocks(head), target.path
    lines = render_blocks(data)
    lines[0] = f"{path}: {lines[0]}"
    say(arguments, output, {"file": str(path), "blocks": data}, lines, target)
