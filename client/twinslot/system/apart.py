"""Asking a verb of the command line in a process of its own, and taking its answer."""

from __future__ import annotations

import json
import sys
from typing import Any, Final

from twinslot.core.errors import DeviceError, TwinslotError
from twinslot.system import process

PATIENCE: Final = 120.0  # seconds; a token that signs may take some
ANSWER_MAX: Final = 8 << 20  # bytes


# keeps: S22
def answer_of(*verb: str, config_root: str) -> dict[str, Any]:
    """The one JSON object that a verb prints.

    Raises:
        TwinslotError: As the verb said.
        DeviceError: `device.resources`: it could not be started, did not end, or said nothing that can be read.
    """
    argv = [sys.executable, "-m", "twinslot", *verb, "--json", "--no-service", "--config-root", config_root]
    try:
        ended = process.run(argv, timeout=PATIENCE, limit=ANSWER_MAX)
    except OSError as e:
        raise DeviceError(f"'twinslot {verb[0]}' cannot be started", code="resources", found=e.strerror) from e
    try:
        answer: dict[str, Any] = json.loads(ended.stdout)
    except (ValueError, RecursionError):
        raise DeviceError(f"'twinslot {verb[0]}' gave no answer", code="resources", found=ended.complaint()) from None
    if answer.pop("type", "") == "error":
        raise TwinslotError.from_dict(answer)
    return answer
