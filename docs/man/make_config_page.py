"""Prints docs/man/twinslot-config.5 from the manual of the configuration, so that both say the same.

`python3 docs/man/make_config_page.py > docs/man/twinslot-config.5`; a test holds the page to the code.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

from twinslot.config.reference import reference

HEAD = r""".\" Printed by docs/man/make_config_page.py from the code; do not edit.
.Dd November 20, 2026
.Dt TWINSLOT-CONFIG 5
.Os
.Sh NAME
.Nm twinslot-config
.Nd what a device is, and what it accepts
.Sh DESCRIPTION
The configuration of
.Xr twinslot 1
is written in TOML.
The main file is the first that exists of
.Pa /etc/twinslot/config.toml ,
.Pa /run/twinslot/config.toml
and
.Pa /usr/lib/twinslot/config.toml .
Then every
.Pa config.d/*.toml
beside these three, sorted by name, adds to it; a name in
.Pa /etc
hides the same name elsewhere.
Tables merge key by key, lists are replaced.
An unknown key is refused."""

FOOT = r""".Sh EXAMPLES
.Bd -literal -offset indent
[device]
compatible = "acme,pump-3"

[slots]
a = { rootfs = "/dev/disk/by-partlabel/slot_a" }
b = { rootfs = "/dev/disk/by-partlabel/slot_b" }

[trust]
roles = ["engineering", "clinical"]

[health]
units = ["pump.service"]
.Ed
.Sh SEE ALSO
.Xr twinslot 1"""


def page() -> str:
    """The whole page in mdoc."""
    body = reference().split("\n## ")[1:]
    return "\n".join([HEAD, *(line for section in body for line in _section(section)), FOOT]) + "\n"


def _section(text: str) -> Iterator[str]:
    """One table of the configuration."""
    title, *lines = text.splitlines()
    rows = [line for line in lines if line.startswith("| `")]
    prose = next(line for line in lines if line and not line.startswith("|"))
    yield f".Ss {escape(title)}"
    yield from sentences(prose)
    yield ".Bl -tag -width Ds"
    for row in rows:
        yield from _key(row)
    yield ".El"


def _key(row: str) -> Iterator[str]:
    """One key: its meaning, then type, bounds and default."""
    key, kind, default, allowed, meaning = (cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1])
    yield f".It Sy {escape(key)}"
    yield from sentences(meaning)
    facts = [kind] + ([allowed.replace("\\|", "or")] if allowed else [])
    facts.append("required" if default.startswith("**") else f"default {default}")
    yield f"({escape('; '.join(facts))})"


def sentences(text: str) -> Iterator[str]:
    """Each on a line of its own, as mdoc(7) wants it."""
    yield from map(escape, re.split(r"(?<=\.) (?=[A-Z])", text))


def escape(text: str) -> str:
    """Markdown's marks away, roff's escaped; a line never begins with a control character (groff(7))."""
    plain = text.replace("`", "").replace("\\", r"\e").replace('"', r"\(dq").replace("-", r"\-")
    return rf"\&{plain}" if plain.startswith((".", "'")) else plain


if __name__ == "__main__":
    sys.stdout.write(page())
