"""`twinslot-image patch`. NumPy is loaded by this command alone."""

from __future__ import annotations

import argparse
from pathlib import Path

from twinslot.cli.output import Output
from twinslot.core.errors import DeviceError
from twinslot.core.manifest import parse_manifest
from twinslot.image.patch_head import patch_name
from twinslot_image import INSTALL, replaceable
from twinslot_image.cli_commands import say
from twinslot_image.compose import read_front
from twinslot_image.file_kind import require_base, require_image, require_lasting
from twinslot_image.outputs import Target
from twinslot_image.patch_inspect import describe_patch, render_patch
from twinslot_image.patch_sources import is_image
from twinslot_image.progress import Steps, size_text
from twinslot_image.recipients import unlock_with
from twinslot_image.stop import undisturbed


def patch(arguments: argparse.Namespace, output: Output) -> None:
    """`patch`."""
    try:
        with undisturbed():
            from twinslot_image.patch import make_patch
    except ImportError as e:
        raise DeviceError("'patch' needs NumPy", code="program", hint=INSTALL) from e
    old, new = arguments.old, arguments.new
    for path in (old, new):
        require_lasting(path)
    require_base(old)
    require_image(new)
    unlock = unlock_with(arguments)
    name = patch_name(new.name, "0" * 64)  # until the base's digest is known
    target = Target(arguments.output, replaceable.patch, inputs=(old, new), force=arguments.force, name=name)
    with target, Steps() as steps:
        head = make_patch(old, new, target, steps.report, _stored(new), unlock, arguments.newest)
    data, path = describe_patch(head), target.path
    base, release, size = _name(old), _name(new), new.stat().st_size
    lines = [f"{path}: {base} -> {release}: {size_text(head.total)} instead of {size_text(size)}"]
    lines += render_patch(data)[1:]
    names = {"file": str(path), "base": base, "release": release, "image_size": size}
    say(arguments, output, names | {"patch": data}, lines, target)


def _stored(image: Path) -> int:
    """Bytes of an image's groups, which a patch spares a device; it fetches what stands before them anyway."""
    with image.open("rb") as file:
        return sum(payload.stored_size for payload in parse_manifest(read_front(file).manifest).payloads)


def _name(path: Path) -> str:
    """The release of an image; of the content of a partition the file's name."""
    if not is_image(path):
        return f"'{path.name}'"
    with path.open("rb") as file:
        return parse_manifest(read_front(file).manifest).release.name
