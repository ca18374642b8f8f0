"""Up to where the audit was reported, for each destination: `reported.json` beside the record. Replaced whole.

Damaged or lost, it is begun anew: then everything is told again, with the ids that it had.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from twinslot.config.options import Config
from twinslot.core.backoff import Pause
from twinslot.core.errors import DeviceError
from twinslot.core.stored import Kept
from twinslot.repository.state import place_of_images
from twinslot.repository.state import read_state as read_poll_state
from twinslot.storage.kept import read_kept, write_kept

FILE_NAME: Final = "reported.json"
BESIDE: Final = "reports"  # folder beside the repository's own, on a stick
_PLACES_MAX: Final = 16  # destinations that are remembered


@dataclass(frozen=True, slots=True)
class ReportPlace(Kept):
    """Up to where one destination has the audit.

    Attributes:
        number: Of the last row that it took; 0: none.
        link: Hash of that row.
        at: When it last took a report, by this device's clock; empty: never.
        last: Id of that report.
    """

    number: int = 0
    link: str = ""
    at: str = ""
    last: str = ""


@dataclass(frozen=True, slots=True)
class ReportState(Kept):
    """What is known of the destinations.

    Attributes:
        places: By address or directory.
        failures: Runs in a row that the server did not take.
        error: Why the last one was not taken; empty: it was.
        pause: Until when the server is left alone.
    """

    places: Mapping[str, ReportPlace] = field(default_factory=dict)
    failures: int = 0
    error: Mapping[str, Any] = field(default_factory=dict)
    pause: Pause = field(default_factory=Pause)


def read_state(directory: Path) -> ReportState:
    """What is known; new when nothing is, or it cannot be read.

    Args:
        directory: Of the record.
    """
    return read_kept(directory / FILE_NAME, ReportState) or ReportState()


def write_state(directory: Path, state: ReportState) -> None:
    """Replace the file, whole, also through a power cut.

    Raises:
        DeviceError: `device.repository`: the medium does not take it.
    """
    path = directory / FILE_NAME
    newest = sorted(state.places.items(), key=lambda each: each[1].at)[-_PLACES_MAX:]
    try:
        write_kept(path, ReportState(dict(newest), state.failures, state.error, state.pause))
    except OSError as e:
        hint = "is the data partition mounted, and is there room?"
        raise DeviceError(f"'{path}' cannot be written", code="repository", found=e.strerror, hint=hint) from e


def place_beside(config: Config) -> Path | None:
    """The folder for reports beside the repository that the last trusted answer came from, there or not.

    Args:
        config: Of this device.

    Returns:
        None: reports go to no such folder, or the answer came from a server.
    """
    source = place_of_images(read_poll_state(config.record.directory, config.repository.url.rstrip("/")))
    return Path(source) / BESIDE if config.reports.beside_repository and source.startswith("/") else None
