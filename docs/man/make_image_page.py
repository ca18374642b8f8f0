"""Prints docs/man/twinslot-image-toml.5 from docs/image-toml.md, so that both say the same.

`python3 docs/man/make_image_page.py > docs/man/twinslot-image-toml.5`; a test holds the page to the other one.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from make_config_page import escape, sentences

SOURCE: Final = Path(__file__).parents[1] / "image-toml.md"
HEAD: Final = r""".\" Printed by docs/man/make_image_page.py from docs/image-toml.md; do not edit.
.Dd November 29, 2026
.Dt TWINSLOT-IMAGE-TOML 5
.Os
.Sh NAME
.Nm twinslot-image-toml
.Nd what an image is made of
.Sh DESCRIPTION"""
FOOT: Final = r""".Sh SEE ALSO
.Xr twinslot-image 1"""


def page() -> str:
    """The whole page in mdoc: the page's blocks, its example at the end."""
    text = SOURCE.read_text().partition("\n\n")[2]
    example = re.search(r"^```toml\n(.*?)^```\n", text, re.MULTILINE | re.DOTALL)
    assert example
    blocks = re.split(r"\n{2,}", text.replace(example[0], "").strip())
    before = ["## ", *blocks]  # a paragraph is marked unless it follows a heading
    lines = [line for one, block in zip(before, blocks, strict=False) for line in _block(block, one.startswith("## "))]
    sample = f".Sh EXAMPLES\n.Bd -literal -offset indent\n{example[1]}.Ed"
    return "\n".join([HEAD, *lines, sample, FOOT]) + "\n"


def _block(block: str, first: bool) -> Iterator[str]:
    """A heading, a table of keys, a list or a paragraph."""
    if block.startswith("## "):
        yield f".Ss {escape(block[3:])}"
    elif block.startswith("| "):
        yield ".Bl -tag -width Ds"
        for row in block.splitlines()[2:]:
            key, default, meaning = (cell.strip() for cell in row.split("|")[1:-1])
            yield f".It Sy {escape(key)}"
            yield from sentences(_plain(meaning))
            yield f"({escape(default if default.startswith('required') else f'default {default}')})"
        yield ".El"
    elif block.startswith("- "):
        yield ".Bl -bullet"
        for item in re.split(r"^- ", block, flags=re.MULTILINE)[1:]:
            yield ".It"
            yield from sentences(_plain(item))
        yield ".El"
    else:
        if not first:
            yield ".Pp"
        yield from sentences(_plain(block))


def _plain(text: str) -> str:
    """On one line, links by their words; a decision is nothing that a manual page can name."""
    text = re.sub(r" \(\[decision \d+\]\([^)]*\)\)", "", text)
    return re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", " ".join(text.split()))


if __name__ == "__main__":
    sys.stdout.write(page())
