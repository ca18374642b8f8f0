"""An install that the service carries out, watched from another thread, so that the server can be asked meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable

from twinslot.app.updater import Updater
from twinslot.core.errors import TwinslotError
from twinslot.core.progress import Progress
from twinslot.core.requests import InstallOptions
from twinslot.system.cancellation import Cancellation


class InstallJob:
    """Runs from its making to its end.

    Args:
        connect: Gives a connection of its own to the service.
        url: Of the image.
        options: See there.

    Attributes:
        progress: The last that the service told; None: nothing yet.
        error: How it ended badly; None: it did not, or it runs.
    """

    def __init__(self, connect: Callable[[], Updater], url: str, options: InstallOptions) -> None:
        self.progress: Progress | None = None
        self.error: TwinslotError | None = None
        self._connect, self._url, self._options = connect, url, options
        self._cancelled = Cancellation()
        self._thread = threading.Thread(target=self._run, name="install", daemon=True)
        self._thread.start()

    def ended(self, seconds: float) -> bool:
        """Wait for its end, at most so long."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def stop(self) -> None:
        """Ask the service to stop it."""
        self._cancelled.set()

    def _run(self) -> None:
        try:
            device = self._connect()
            try:
                device.install(self._url, self._options, self._see, self._cancelled)
            finally:
                device.close()
        except TwinslotError as e:
            self.error = e

    def _see(self, progress: Progress) -> None:
        self.progress = progress
