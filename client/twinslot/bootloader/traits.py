"""What a hook's verb `describe` says (bootloader_hooks/README.md), as `LoaderTraits`."""

from __future__ import annotations

from dataclasses import fields
from typing import Final

from twinslot.core.model import LoaderTraits

_WORDS: Final = {"yes": True, "no": False}


def parse_traits(text: str) -> LoaderTraits:
    """One `name=value` per line: `counts`, `hands_over`, `tells_reason` are `yes` or `no`, `copies` is 1 or 2.

    What is not said is as with U-Boot. A name that this client does not know may be a later one's, and is passed over.

    Raises:
        ValueError: A line has another form; the line.
    """
    said: dict[str, bool | int] = {}
    known = {each.name for each in fields(LoaderTraits)}
    for line in filter(None, text.split("\n")):
        name, separator, value = line.partition("=")
        fits = value in ("1", "2") if name == "copies" else value in _WORDS
        if not separator or (name in known and not fits):
            raise ValueError(line)
        if name in known:
            said[name] = int(value) if name == "copies" else _WORDS[value]
    return LoaderTraits(**said)  # type: ignore[arg-type]
