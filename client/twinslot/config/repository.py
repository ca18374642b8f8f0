"""`[repository]`: where this device learns of new releases."""

# ruff: noqa: RUF009 - `option` makes dataclass fields, it does not make values
from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Final

from twinslot.config.fields import option

DAY: Final = 86_400


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryConfig:
    """Where this device learns of new releases, if anywhere: plain files that 'twinslot-image repository' makes."""

    url: str = option(
        "Address of the repository, https://HOST/PATH, or the absolute path of a directory that has it, e.g. on a "
        "stick while it is there; absent: none is asked.",
        default="",
    )
    root: Path = option(
        "First trusted root of the repository; images have their own.",
        default=Path("/usr/lib/twinslot/repository-root.json"),
    )
    silence: float = option(
        "Without a fresh answer for so long, the repository counts as silent.",
        default=14.0 * DAY,
        unit="seconds",
        low=3600,
        high=366 * DAY,
    )
    device_id: Path = option(
        "File whose first line, alike on no two devices, draws this device's place in a wave.",
        default=Path("/etc/machine-id"),
    )
    ring: str = option(
        'Pins this device: "canary" begins with the first wave of each release, "last" ends the last one, another name '
        "begins with the wave that names it; empty: as its place says.",
        default="",
    )
    network_class: Path = option(
        'File whose first line is the class of the network in use, e.g. "wifi": a wave may be for some classes only. '
        "The product keeps it; absent: not known.",
        default=Path("/run/twinslot/network-class"),
    )
    approved_by: tuple[str, ...] = option(
        "Roles of the repository that must have approved what this device is offered, beside those that a wave names.",
        default=(),
    )
    on_recall: str = option(
        "What the device does by itself when the maker recalls the release that runs: only say so; go back to the "
        "other slot's release; or install the successor that the recall names.",
        default="tell",
        choices=("tell", "back", "successor"),
    )
