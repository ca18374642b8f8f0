"""Files of evidence: JSON that other programs wrote. Bounded, and whatever is wrong with one is one sentence."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from twinslot.core.errors import ImageError
from twinslot_image.named_file import naming

EVIDENCE_MAX: Final = 64 * 1024 * 1024  # bytes; the matrix of 10,000 tests has 10 million
_DEPTH_HINT: Final = "make it anew with the program that wrote it"


def read_evidence(path: Path) -> bytes:
    """A file, whole.

    Raises:
        ImageError: `image.evidence`: it is larger than `EVIDENCE_MAX`.
        OSError: It cannot be read.
    """
    with naming(path), path.open("rb") as file:
        data = file.read(EVIDENCE_MAX + 1)
    if len(data) > EVIDENCE_MAX:
        what = f"'{path}' is larger than evidence may be"
        raise ImageError(what, code="evidence", expected=f"at most {EVIDENCE_MAX} bytes")
    return data


def parse_json(data: bytes, path: Path, what: str) -> Any:
    """JSON of any form.

    Args:
        data: The file.
        path: Its name, for errors.
        what: What it is to be, such as `a matrix`.

    Raises:
        ImageError: `image.evidence`.
    """
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as e:
        raise ImageError(f"'{path}' is not JSON", code="evidence", expected=what, hint=_DEPTH_HINT) from e


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """A key that is missing or of another type is an error of the file.

    Raises:
        ImageError: `image.evidence`.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as e:
        found = f"nothing at {e}" if isinstance(e, KeyError) else str(e)[:120]
        raise ImageError(f"'{path}' is not as it must be", code="evidence", expected=what, found=found) from e


def text(value: object) -> str:
    """A text, as a file has it.

    Raises:
        TypeError: It is something else.
        ValueError: UTF-8 cannot say it, as half of a surrogate pair.
    """
    if not isinstance(value, str):
        raise TypeError(f"{json.dumps(value, default=str)[:60]} where a text belongs")
    value.encode()
    return value


def count(value: object) -> int:
    """A whole number from 0 on.

    Raises:
        ValueError: It is something else.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{json.dumps(value, default=str)[:60]} where a count belongs")
    return value
