"""`twinslot-image blocks`."""

from __future__ import annotations

import argparse
import json
import sys

from twinslot.bundle.wire_blocks import BLOCKS_SUFFIX
from twinslot_image import replaceable
from twinslot_image.blocks import make_blocks
from twinslot_image.blocks_inspect import describe_blocks, render_blocks
from twinslot_image.outputs import Target
from twinslot_image.progress import Steps


def blocks(arguments: argparse.Namespace) -> None:
    """`blocks`."""
    image = arguments.image
    beside = image.with_suffix(BLOCKS_SUFFIX)
    output = arguments.output or beside
    target = Target(output, replaceable.block_list, inputs=(image,), force=arguments.force, name=beside.name)
    with target, Steps() as steps:
        head = make_blocks(image, target, steps.report)
    data, path = describe_blocks(head), target.path
    text = json.dumps(data | {"file": str(path)}, indent=2) if arguments.json else f"{path}: {render_blocks(data)}"
    print(text, file=sys.stderr if target.on_standard_output else sys.stdout)
