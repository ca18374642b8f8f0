"""`twinslot-image blocks`."""

from __future__ import annotations

import argparse
import json

from twinslot_image.blocks import make_blocks
from twinslot_image.blocks_inspect import describe_blocks, render_blocks
from twinslot_image.progress import Steps


def blocks(arguments: argparse.Namespace) -> None:
    """`blocks`."""
    with Steps() as steps:
        path, head = make_blocks(arguments.image, arguments.output, steps.report)
    data = describe_blocks(head)
    print(json.dumps(data | {"file": str(path)}, indent=2) if arguments.json else f"{path}: {render_blocks(data)}")
