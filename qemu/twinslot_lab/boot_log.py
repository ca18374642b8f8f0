"""What a board said on its console in its last start, firmware included."""

from __future__ import annotations

import re
from pathlib import Path

from twinslot_lab.present_console import PresentConsole

# The banners of U-Boot and of its first stage (common/spl/spl.c, lib/display_options.c): "U-Boot SPL 2023.01+dfsg ...".
_FIRMWARE = re.compile(r"^U-Boot (?P<spl>SPL )?20\d\d\.\d\d", re.MULTILINE)


def last_start(text: str) -> str:
    """The end of a console's text, from the last banner of the firmware; all of it if there is none."""
    banners = list(_FIRMWARE.finditer(text.replace("\r", "\n")))
    if not banners:
        return text
    first_stages = [banner for banner in banners if banner["spl"]]
    start = first_stages[-1] if first_stages else banners[-1]
    return text[start.start() :]


class BootLog:
    """The console of one board as text; always that of the moment it is asked.

    Args:
        console: The board's.
        log: The file of all that it said; it knows more than the console if the board went on from a snapshot.
    """

    def __init__(self, console: PresentConsole, log: Path | None = None) -> None:
        self._console = console
        self._log = log

    @property
    def everything(self) -> str:
        """All starts."""
        if self._log is not None and self._log.exists():
            return self._log.read_bytes().decode(errors="replace")
        return self._console.text()

    @property
    def text(self) -> str:
        """This start, from the firmware's banner on."""
        return last_start(self.everything)

    def __str__(self) -> str:
        return self.text

    def __contains__(self, text: str) -> bool:
        return text in self.text
