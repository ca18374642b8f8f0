"""`twinslot-image patch`. NumPy is loaded by this command alone."""

from __future__ import annotations

import argparse
import json
from types import TracebackType
from typing import Self

from twinslot.core.errors import DeviceError
from twinslot_image.patch_inspect import describe_patch, render_patch
from twinslot_image.progress import Progress


def patch(arguments: argparse.Namespace) -> None:
    """`patch`."""
    try:
        from twinslot_image.patch import make_patch
    except ImportError as e:
        raise DeviceError("'patch' needs NumPy", code="program", found=e, hint="install '.[image-tools]'") from e
    with _Steps() as steps:
        path, head = make_patch(arguments.old, arguments.new, arguments.output, steps.report)
    data = describe_patch(head)
    print(json.dumps(data | {"file": str(path)}, indent=2) if arguments.json else f"{path}: {render_patch(data)}")


class _Steps:
    """A progress line for each step, the one after the other."""

    def __init__(self) -> None:
        self._what = ""
        self._progress: Progress | None = None

    def report(self, what: str, done: int, total: int) -> None:
        if what != self._what:
            self.__exit__(None, None, None)
            self._what, self._progress = what, Progress(what, total).__enter__()
        if self._progress:
            self._progress.update(done)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress:
            self._progress.__exit__(kind, error, trace)
        self._progress = None
