"""`twinslot-image patch`. NumPy is loaded by this command alone."""

from __future__ import annotations

import argparse
import json

from twinslot.core.errors import DeviceError
from twinslot_image.patch_inspect import describe_patch, render_patch
from twinslot_image.progress import Steps


def patch(arguments: argparse.Namespace) -> None:
    """`patch`."""
    try:
        from twinslot_image.patch import make_patch
    except ImportError as e:
        raise DeviceError("'patch' needs NumPy", code="program", found=e, hint="install '.[image-tools]'") from e
    with Steps() as steps:
        path, head = make_patch(arguments.old, arguments.new, arguments.output, steps.report)
    data = describe_patch(head)
    print(json.dumps(data | {"file": str(path)}, indent=2) if arguments.json else f"{path}: {render_patch(data)}")
