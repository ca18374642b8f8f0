"""`twinslot-image factory`: the whole disk of a new device."""

from __future__ import annotations

import argparse
import os
from contextlib import ExitStack

from twinslot.cli.output import Output
from twinslot.core.errors import UsageError
from twinslot_image import replaceable
from twinslot_image.build import build_time
from twinslot_image.cli_commands import say
from twinslot_image.factory.board import read_board
from twinslot_image.factory.device import make_device
from twinslot_image.file_kind import require_image, require_lasting
from twinslot_image.outputs import Target
from twinslot_image.progress import size_text
from twinslot_image.recipients import unlock_with
from twinslot_image.replacement import workspace
from twinslot_image.verify import naming_root, read_root


def make_factory_disk(arguments: argparse.Namespace, output: Output) -> None:
    """`factory`."""
    image, given = arguments.image, arguments.card
    require_lasting(image)
    require_image(image)
    board, root = read_board(arguments.board), read_root(arguments.root)
    if bool(board.layout.environment.card_mib) != (given is not None):
        what = "'--card' goes with a board whose environment has a card of its own"
        found = f"environment.card_mib = {board.layout.environment.card_mib}"
        raise UsageError(what, code="missing", found=found)
    inputs = (image, arguments.board, arguments.root, *board.files)
    unlock = unlock_with(arguments)
    with ExitStack() as stack:
        paths = [path for path in (arguments.output, given) if path is not None]
        targets = [Target(path, replaceable.nothing, inputs=inputs, force=arguments.force) for path in paths]
        folder = stack.enter_context(workspace(targets[0].folder))
        files = [stack.enter_context(target.filling()) for target in targets]
        with naming_root(arguments.root):
            made = make_device(image, board, root, files[0], files[-1], folder, build_time(os.environ), unlock)
    release = made.manifest.release
    lines = [
        f"{targets[0].path}: {size_text(made.size)}, {made.manifest.product} {release.name} in slot a",
        f"  signed for {', '.join(made.roles)}; the record and both copies of the environment are written",
    ]
    files_made = {"file": str(targets[0].path), "card": str(given) if given else None, "size": made.size}
    said = {"release": release.name, "sequence": release.sequence, "roles": list(made.roles)}
    say(arguments, output, files_made | said | {"variables": made.variables}, lines)
