"""Pages for people, from templates: one file without scripts, and nothing in it comes from elsewhere.

The only importer of jinja2. Everything that is put into a template is escaped, whoever it is from.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from twinslot.core.text import printable

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

_TEMPLATES: Final = Path(__file__).parent / "templates"
_CODE: Final = re.compile(r"[0-9a-f]{16}|[0-9a-f]{40}|[0-9a-f]{64}|pkg:\S+|\S+/\S+\.\w+(?:::\S+)?")


def render(template: str, **values: Any) -> bytes:
    """A page; the same values are always the same bytes."""
    return _environment().get_template(template).render(**values).encode(errors="replace")


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters |= {"cell": _cell, "lines": _lines, "slug": _slug}
    return made


def _cell(value: object) -> Markup:
    """One line of text; a digest, a package or a path as code."""
    from markupsafe import Markup

    text = printable(str(value))
    return Markup("<code>{}</code>").format(text) if _CODE.fullmatch(text) else Markup("{}").format(text)


def _lines(value: str) -> str:
    """A document line by line, without characters that would turn the order of the text around."""
    return "\n".join(printable(line.replace("\t", "    ")) for line in value.splitlines())


def _slug(value: str) -> str:
    """A word for a class of the style."""
    return re.sub(r"[^a-z0-9]+", "-", value.lower())
