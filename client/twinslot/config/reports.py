"""`[reports]`: to whom this device tells what became of its updates."""

# ruff: noqa: RUF009 - `option` makes dataclass fields, it does not make values
from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Final

from twinslot.config.fields import option

DAY: Final = 86_400


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ReportConfig:
    """To whom this device tells what became of its updates, if to anybody: signed reports ('twinslot report')."""

    url: str = option("Address that takes reports by HTTP POST, https://HOST/PATH; absent: none is told.", default="")
    directory: Path | None = option(
        "Directory in which reports are put as files while it is there, e.g. on the stick that brings updates.",
        default=None,
    )
    beside_repository: bool = option(
        "Put reports also into the folder `reports` of the directory, e.g. on a stick, that the last trusted answer of "
        "the repository came from, while that folder is there.",
        default=False,
    )
    every: float = option(
        "When nothing is new, an empty report leaves so often: who is silent is then known.",
        default=1.0 * DAY,
        unit="seconds",
        low=3600,
        high=366 * DAY,
    )
    backlog: int = option(
        "Rows of the audit that wait for a destination at most; of more, routine ones are left out first, and how many "
        "were is told.",
        default=5000,
        unit="rows",
        low=100,
        high=100_000,
    )
