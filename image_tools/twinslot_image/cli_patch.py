"""`twinslot-image patch`. NumPy is loaded by this command alone."""

from __future__ import annotations

import argparse

from twinslot.bundle.patch_head import patch_name
from twinslot.cli_output import Output
from twinslot.core.errors import DeviceError
from twinslot_image import replaceable
from twinslot_image.cli_commands import say
from twinslot_image.file_kind import require_image
from twinslot_image.outputs import Target
from twinslot_image.patch_inspect import describe_patch, render_patch
from twinslot_image.progress import Steps


def patch(arguments: argparse.Namespace, output: Output) -> None:
    """`patch`."""
    try:
        from twinslot_image.patch import make_patch
    except ImportError as e:
        raise DeviceError("'patch' needs NumPy", code="program", hint="install '.[image-tools]'") from e
    old, new = arguments.old, arguments.new
    require_image(new)
    name = patch_name(new.name, "0" * 64)  # until the base's digest is known
    target = Target(arguments.output, replaceable.patch, inputs=(old, new), force=arguments.force, name=name)
    with target, Steps() as steps:
        head = make_patch(old, new, target, steps.report)
    data, path = describe_patch(head), target.path
    lines = f"{path}: {render_patch(data)}".split("\n")
    say(arguments, output, {"file": str(path), "patch": data}, lines, target)
