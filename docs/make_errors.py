"""Prints docs/errors.md: every error code, from the code that raises it (error_codes.py) and from errors.toml."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from error_codes import Codes, Raised

from twinslot.bus.names import ERROR
from twinslot.core import errors

DOCS = Path(__file__).parent
PREFACE = """\
# Errors

Printed from the code and from `docs/errors.toml` by `make docs`; tests hold this page to both.

An error has a code, `family.detail`, that never changes its meaning, a sentence, and where they are known what was
expected, what was found, and a hint. The family says who must act, and is the exit status. On every surface it is the
same error with the same keys ([compatibility.md](compatibility.md#the-shape-of-an-error)): `--json` prints it as an
object, D-Bus carries it under the name of its family ([dbus.md](dbus.md#errors)).

| family | exit status | D-Bus name | who must act |
|---|---|---|---|
{families}

`...` in a sentence is what is put in at run time. A sentence may change; the code does not.

## Exit statuses

| status | `twinslot` | `twinslot-image` |
|---|---|---|
{statuses}
"""


def entries() -> dict[str, dict[str, object]]:
    """Code -> `meaning`, `do` and perhaps `both`."""
    return tomllib.loads((DOCS / "errors.toml").read_text())


def page(codes: Codes) -> str:
    """The page as Markdown."""
    known, found = entries(), codes.by_code()
    kinds = sorted(errors.TwinslotError.__subclasses__(), key=lambda kind: kind.family)
    rows = "\n".join(
        f"| `{k.family}` | {k.exit_status} | `{ERROR}{k.family.capitalize()}` | {_first(k)} |" for k in kinds
    )
    lines = [PREFACE.format(families=rows, statuses="\n".join(_statuses()))]
    for kind in kinds:
        codes = [code for code in found if code.partition(".")[0] == kind.family]
        lines += [f"## `{kind.family}`: {_first(kind)}", ""]
        for code in codes:
            lines += _section(code, known.get(code, {}), found[code])
    return "\n".join(lines).rstrip() + "\n"


def statuses(manual: str) -> dict[int, str]:
    """The exit statuses that a manual page lists, with its words."""
    text = (DOCS / "man" / manual).read_text().split(".Sh EXIT STATUS")[1].split(".El")[0]
    found = {}
    for number, words in re.findall(r"^\.It (\d+)\n(.*?)(?=^\.It |\Z)", text, flags=re.MULTILINE | re.DOTALL):
        plain = " ".join(re.sub(r"^\.(?:Cm|Fl|Ar|Nm|Xr) ?", "", line) for line in words.splitlines())
        plain = plain.replace("Fl -", "--")
        found[int(number)] = re.sub(r" ([.,;])( |$)", r"\1\2", plain).strip()
    return found


def _statuses() -> Iterator[str]:
    client, image = statuses("twinslot.1"), statuses("twinslot-image.1")
    for number in sorted(client.keys() | image.keys()):
        yield f"| {number} | {client.get(number, '-')} | {image.get(number, '-')} |"


def _section(code: str, entry: dict[str, object], places: list[Raised]) -> Iterator[str]:
    said = sorted({(place.message, place.hint) for place in places if place.message.strip(".")})
    only = " Of `twinslot-image` only." if {place.tool for place in places} == {"twinslot-image"} else ""
    yield f"### `{code}`"
    yield ""
    yield f"{_sentence(entry.get('meaning', '?'))} **What to do:** {entry.get('do', '?')}.{only}"
    yield ""
    for message, hint in said:
        yield f"- `{message}`" + (f", hint `{hint}`" if hint.strip(".") else "")
    if said:
        yield ""


def _sentence(text: object) -> str:
    words = str(text)
    return words[:1].upper() + words[1:] + "."


def _first(kind: type) -> str:
    return (kind.__doc__ or "").split("\n")[0].rstrip(".")


if __name__ == "__main__":
    print(page(Codes()), end="")
