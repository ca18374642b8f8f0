"""JSON and XML files that a policy names: bounded, and refused by name where they are not what they should be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from twinslot.core.errors import ImageError
from twinslot_image.evidence_file import read_evidence

DEPTH_MAX: Final = 64  # objects and lists within each other


def read_named(path: Path) -> bytes:
    """A file that a policy names.

    Raises:
        ImageError: `image.evidence`: it is not there, cannot be read, or is larger than evidence may be.
    """
    try:
        return read_evidence(path)
    except OSError as e:
        what = f"the file '{path}' that the policy names cannot be read"
        raise ImageError(what, code="evidence", found=e.strerror or "an error") from e


def read_json(data: bytes, name: object) -> dict[str, Any]:
    """An object in JSON.

    Args:
        data: As read.
        name: Of the file, for errors.

    Raises:
        ImageError: `image.evidence`.
    """
    try:
        whole = json.loads(data)
    except (ValueError, RecursionError) as e:
        raise no_document(name, "a document in JSON", str(e).partition(":")[0]) from e
    if not isinstance(whole, dict):
        raise no_document(name, "an object in JSON", "a list" if isinstance(whole, list) else "a value")
    return whole


def no_document(name: object, expected: str, found: object) -> ImageError:
    """The error for a file that is not what is read there."""
    what = f"'{name}' is no document that is read here"
    return ImageError(what, code="evidence", expected=expected, found=str(found)[:120])


def objects(value: object, name: object, what: str) -> list[dict[str, Any]]:
    """A list of objects; none at all is an empty one.

    Raises:
        ImageError: `image.evidence`.
    """
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise no_document(name, f"'{what}' as a list of objects", type(value).__name__ if value else value)
    return value


def texts(value: object) -> list[str]:
    """The texts of a list; of anything else none."""
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []
