"""`twinslot-image provision`: the first record and the first environment of a new device."""

from __future__ import annotations

import argparse
import os
from contextlib import ExitStack

from twinslot.cli.output import Output
from twinslot.core.errors import UsageError
from twinslot.core.model import SlotName
from twinslot_image import replaceable
from twinslot_image.build import build_time
from twinslot_image.cli_commands import say
from twinslot_image.factory.environment import make_copies, opened_disk, read_places
from twinslot_image.factory.record import factory_variables, provision
from twinslot_image.file_kind import require_lasting
from twinslot_image.outputs import Target


def provision_device(arguments: argparse.Namespace, output: Output) -> None:
    """`provision`; without `--environment` the variables go to standard output, for mkenvimage."""
    disk, config, defaults = arguments.environment, arguments.fw_env_config, arguments.default_env
    if (disk is None) != (config is None) or (disk is None and defaults is not None):
        what = "'--environment' and '--fw-env-config' go together"
        raise UsageError(what, code="missing", hint="'--default-env' only goes with them")
    places = read_places(config) if config else None
    image, slot, force = arguments.image, SlotName(arguments.slot), arguments.force
    require_lasting(image)
    variables = factory_variables(image, slot)
    copies = make_copies(places, variables, defaults) if places else ()
    inputs = [path for path in (image, disk, config, defaults) if path]
    with Target(arguments.record, replaceable.nothing, inputs=inputs, force=force) as target, ExitStack() as stack:
        write = stack.enter_context(opened_disk(disk, places)) if places else None
        provision(image, slot, target, build_time(os.environ))
        if write:
            write(copies)
    lines = [f"{name}={value}" for name, value in sorted(variables.items())]
    if places:
        lines = [f"{disk}: both copies of the environment, at {places[0].offset:#x} and {places[1].offset:#x}"]
    files = {"file": str(target.path), "environment": str(disk) if disk else None}
    say(arguments, output, files | {"variables": variables}, lines, target)
