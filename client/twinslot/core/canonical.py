"""JSON with exactly one form (docs/image-format.md section 3).

Every JSON document in an image must be byte for byte what `encode` makes of it: keys sorted by code point, no spaces,
UTF-8, whole numbers only. So a document says one thing to every reader, and its digest is its identity.
"""

from __future__ import annotations

import json
from typing import NoReturn

from twinslot.core.errors import ImageError

DEPTH_MAX = 16  # levels; a TUF document needs 7
DIGITS_MAX = 16  # decimal digits; 2^53 - 1, the largest number in our documents, has 16


def parse_document(data: bytes, section: str) -> dict[str, object]:
    """The document, if its bytes are its canonical form.

    Args:
        data: The whole document; the caller has bounded its length.
        section: Where it stands, for the error.

    Raises:
        ImageError: `image.json` (not JSON, duplicate key, float, too deep) or `image.not-canonical`.
    """
    try:
        document = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_no_duplicates,
            parse_float=_refuse_number,
            parse_constant=_refuse_number,
            parse_int=_parse_int,
        )
        _check_depth(document)
        again = encode(document)
    except (ValueError, RecursionError) as e:
        raise ImageError(f"the '{section}' section holds no strict JSON", code="json", found=why_no_json(e)) from e
    if not isinstance(document, dict):
        found = type(document).__name__
        raise ImageError(f"the '{section}' section is not a JSON object", code="json", expected="object", found=found)
    if again != data:
        raise _not_canonical(data, again, section)
    return document


def encode(document: object) -> bytes:
    """The one form of a document.

    Raises:
        ValueError: It holds a float that is no number, or a string that UTF-8 cannot say.
    """
    text = json.dumps(document, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8")


def _not_canonical(data: bytes, again: bytes, section: str) -> ImageError:
    at = next((i for i, (a, b) in enumerate(zip(data, again, strict=False)) if a != b), min(len(data), len(again)))
    return ImageError(
        f"the '{section}' section is not in canonical form at byte {at}",
        code="not-canonical",
        expected=again[at : at + 16].decode(errors="replace"),
        found=data[at : at + 16].decode(errors="replace"),
    )


def _no_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    document: dict[str, object] = {}
    for key, value in pairs:
        if key in document:
            raise ValueError(f"key '{key[:64]}' twice in one object")
        document[key] = value
    return document


def _refuse_number(text: str) -> NoReturn:
    raise ValueError(f"'{text[:32]}' is not a whole number")


def _parse_int(text: str) -> int:
    if (digits := len(text.lstrip("-"))) > DIGITS_MAX:
        raise ValueError(f"number of {digits} digits, more than {DIGITS_MAX}")
    return int(text)


def _check_depth(document: object) -> None:
    level = [document]
    for _ in range(DEPTH_MAX):
        level = [inner for outer in level for inner in _children(outer)]
        if not level:
            return
    raise ValueError(f"nested deeper than {DEPTH_MAX} levels")


def _children(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def why_no_json(error: Exception) -> str:
    """What stands where JSON was expected, as far as the parser's error says."""
    match error:
        case RecursionError():
            return "nested too deep"
        case UnicodeDecodeError():
            return f"no UTF-8 at byte {error.start}"
        case json.JSONDecodeError():
            return f"something else at line {error.lineno}, column {error.colno}"
        case _:
            return str(error)[:200]
