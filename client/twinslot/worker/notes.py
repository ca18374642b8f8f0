"""Notes on their way through the socket; see core/notes.py. What comes out of a worker is cut and cleaned."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any, Final

from twinslot.core.errors import DeviceError
from twinslot.core.notes import Note, Retry, Unused
from twinslot.worker.error_codec import printable

TEXT_MAX: Final = 200  # characters of one text


def write_note(note: Note) -> bytes:
    """The note as JSON."""
    fields = {
        key: printable(value, TEXT_MAX) if isinstance(value, str) else value for key, value in asdict(note).items()
    }
    return json.dumps({"kind": type(note).__name__.lower()} | fields).encode()


def read_note(data: bytes) -> Note:
    """The note that a worker sent: printable and short.

    Raises:
        DeviceError: `device.worker`: it is none.
    """
    try:
        fields: dict[str, Any] = json.loads(data)
        kind = fields.pop("kind")
        if kind == "unused":
            return Unused(_text(fields["what"]), _text(fields["why"]))
        if kind == "retry":
            wait = float(fields["wait"])
            if math.isfinite(wait):
                return Retry(_text(fields["found"]), int(fields["number"]), int(fields["most"]), wait)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        pass
    raise DeviceError("the worker sent a note that cannot be read", code="worker")


def _text(value: object) -> str:
    return printable(value, TEXT_MAX)
