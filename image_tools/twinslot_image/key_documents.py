"""Root and targets documents as people keep and carry them: read by the very rules of a device, signatures aside.

A document that a device would not read is refused here, before anything is made of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from tuf.api.metadata import Metadata, Root, Targets  # type: ignore[attr-defined]  # marked as export nowhere
from tuf.api.serialization import DeserializationError

from twinslot.core.errors import ImageError
from twinslot.trust.documents import read_root, read_targets
from twinslot_image.named_file import read_small

_HINT: Final = "take it from another copy, or ask whoever made it for it again"
_FORM: Final = "signed metadata of TUF, in JSON"
_FOUND_MAX: Final = 120  # characters that are shown of what was found


def read_document(path: Path, kind: type[Root | Targets]) -> Any:
    """The signed part of a root or targets document.

    Raises:
        ImageError: `image.trust`: it is none.
        RefusedError: `refused.threshold`: one of its thresholds is below one.
    """
    return parse_signed(read_small(path), str(path), kind)


def parse_signed(data: bytes, where: str, kind: type[Root | Targets]) -> Any:
    """The signed part of a root document, or of a targets document that only delegates.

    Args:
        data: The document.
        where: Its name, for people.
        kind: Which it is.

    Raises:
        ImageError: `image.trust`: it is none, or one that no device reads.
        RefusedError: `refused.threshold`: one of its thresholds is below one.
    """
    signed = parse_metadata(data, where).signed
    if not isinstance(signed, kind):
        what = f"'{where}' is no {kind.type} document"
        raise ImageError(what, code="trust", expected=kind.type, found=signed.type, hint=_HINT)
    try:
        read_root(data) if kind is Root else read_targets(data)
    except ImageError as e:
        found = ": ".join(filter(None, (e.message, e.found)))
        what = f"no device reads the {kind.type} document '{where}'"
        raise ImageError(what, code="trust", expected=e.expected or _FORM, found=found, hint=_HINT) from e
    return signed


def parse_metadata(data: bytes, where: str) -> Metadata[Any]:
    """A document as tuf reads it, unverified.

    Raises:
        ImageError: `image.trust`: it holds none.
    """
    try:
        metadata: Metadata[Any] = Metadata.from_bytes(data)
    except DeserializationError as e:
        what = f"'{where}' is no root or targets document"
        found = str(e.__cause__ or e)[:_FOUND_MAX]
        raise ImageError(what, code="trust", expected=_FORM, found=found, hint=_HINT) from e
    return metadata
