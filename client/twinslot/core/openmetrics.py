"""Text in the OpenMetrics form (github.com/prometheus/OpenMetrics, specification 1.0). Pure.

A family is written with its type, unit and help, then its samples; the text ends with `# EOF`. Names are checked,
labels are escaped, and a value that is not known has no sample.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

_NAME: Final = re.compile(r"[a-z][a-z0-9_]*")
# Not `info`: the node exporter reads files in the older form, which does not know it.
_KINDS: Final = {"counter": "_total", "gauge": ""}
Labels = Mapping[str, str]


@dataclass
class Family:
    """One metric.

    Attributes:
        name: Without the ending that its kind brings.
        kind: `counter` or `gauge`.
        help: What it says, in a sentence without a full stop.
        unit: The end of its name where it has one: `bytes`, `seconds`, `ratio`.
        samples: Labels and value, in their order.
    """

    name: str
    kind: str
    help: str
    unit: str = ""
    samples: list[tuple[Labels, float]] = field(default_factory=list)

    def add(self, value: float | None, **labels: str | None) -> Family:
        """One more sample; None: it is not known, and there is none. A label that is None is empty."""
        if value is not None:
            self.samples.append(({key: text or "" for key, text in labels.items()}, float(value)))
        return self


def render(families: Iterable[Family]) -> str:
    """The text, in the order given; a family without samples is left out.

    Raises:
        ValueError: A name that the form does not have.
    """
    lines: list[str] = []
    for family in families:
        if family.samples:
            lines += _family(family)
    return "\n".join([*lines, "# EOF", ""])


def _family(family: Family) -> Iterable[str]:
    ending = _KINDS[family.kind]
    if not _NAME.fullmatch(family.name) or (family.unit and not family.name.endswith(f"_{family.unit}")):
        raise ValueError(f"no name of a metric: {family.name}")
    yield f"# TYPE {family.name} {family.kind}"
    if family.unit:
        yield f"# UNIT {family.name} {family.unit}"
    yield f"# HELP {family.name} {_escaped(family.help)}"
    for labels, value in family.samples:
        inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        yield f"{family.name}{ending}{'{' + inside + '}' if inside else ''} {_number(value)}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
