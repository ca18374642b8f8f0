"""What the update waits for, in a file below /run that any user may read. Where it stands, the timer asks again."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Final

from twinslot.core import stored
from twinslot.core.waiting import Waiting
from twinslot.storage.kept import read_kept

FILE: Final = Path("/run/twinslot/waits.json")

log = logging.getLogger(__name__)


class WaitsFile:
    """Implements `engine.edges.WaitStore`. It only tells: lost, it is written anew at the next question.

    Args:
        path: Of it.
    """

    def __init__(self, path: Path = FILE) -> None:
        self._path = path

    def tell(self, waiting: Waiting | None) -> None:
        """Replace it; None: nothing waits."""
        try:
            if waiting is None:
                self._path.unlink(missing_ok=True)
                return
            fresh = self._path.with_name(f"{self._path.name}~new")
            fresh.write_text(json.dumps(stored.write(waiting), indent=1) + "\n")
            fresh.chmod(0o644)
            fresh.rename(self._path)
        except OSError as e:
            log.warning("'%s' cannot be changed: %s", self._path, e.strerror)

    def told(self) -> Waiting | None:
        """What was told last; None: nothing waits, or it cannot be read."""
        return read_kept(self._path, Waiting)
