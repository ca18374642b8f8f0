"""For machines that cannot reset themselves (quirk `reset = "harness"`): somebody else presses the button for them.

They say on the console that they reset, and then hang.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from twinslot_lab.console import Console
from twinslot_lab.errors import BoardError

# Linux kernel/reboot.c and kernel/panic.c; U-Boot's reset command.
WANTED = re.compile(r"reboot: Restarting system|Rebooting in \d+ seconds\.\.|resetting \.\.\.")
_SETTLE = 1.5  # seconds from the words to the button: `panic=1` waits one of the guest's


class HarnessReset:
    """Watches a console, in a thread, and resets the board each time when it says that it does so itself.

    Args:
        console: The watch ends with it.
        reset: Presses the button. An error that the board is gone ends the watch.
    """

    def __init__(self, console: Console, reset: Callable[[], object]) -> None:
        self.count = 0
        self._console, self._reset = console, reset
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="reset", daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        mark = 0
        with suppress(BoardError):
            while not (self._closing.is_set() or self._console.ended):
                if self._console.search(WANTED, 1.0, since=mark) is None:
                    continue
                time.sleep(_SETTLE)
                mark = self._console.mark  # what was said in between belongs to the same end
                self.count += 1
                self._reset()

    def close(self) -> None:
        """Stop watching; waits until a reset that is under way is done."""
        self._closing.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()
