"""Notes in a file below /run that the health checks passed in this boot, for twinslot-commit.service, which runs none.

The record has it, too. But a data partition that is full, read-only or lost must not cost a good release (S6), and the
unit that commits has no room in its sandbox to run the product's checks again.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final

DIRECTORY: Final = Path("/run/twinslot")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PassedFile:
    """Implements `engine.edges.PassedNote`: a file without content, since a full /run has still room for a name.

    Attributes:
        directory: Where it stands; root alone may write there.
    """

    directory: Path = DIRECTORY

    def note(self, boot_id: str, *, passed: bool) -> None:
        """They passed in this boot, or did not; a power cut takes the note with it."""
        path = self._path(boot_id)
        try:
            if passed:
                path.touch(mode=0o600)
            else:
                path.unlink(missing_ok=True)
        except OSError as e:
            log.warning("'%s' cannot be changed: %s", path, e.strerror)

    def noted(self, boot_id: str) -> bool:
        """Whether that was noted for this boot; what another boot left behind has another name."""
        return self._path(boot_id).is_file()

    def _path(self, boot_id: str) -> Path:
        return self.directory / f"checks-passed.{boot_id}"
