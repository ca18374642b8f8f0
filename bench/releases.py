"""Which release of each peer Debian has, and which is upstream's newest: `python -m bench.releases`.

The bench runs the peers of Debian 13; this says what this host, 13 and sid have, from package lists that apt verified.
One line of a table for each; a second table has the tools that come from the Python Package Index. What upstream has
released no package list knows: that was looked up by hand, on the day that the head of the table says.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from bench.peers.base import debian_version
from twinslot_lab.apt import PrivateApt

SUITES: Final = {"trixie": True, "sid": False}  # whether it has a security archive
LOOKED_UP: Final = "2026-11-30"


@dataclass(frozen=True, slots=True)
class Upstream:
    """The newest release that was found.

    Attributes:
        release: Without the letter that some tags begin with.
        day: When it was made, or the month.
        until: What was looked at ends at this day: the last commit of a copy of the repository, the last question to
            its authors, or the day itself where an index was asked. What came later is not known.
    """

    release: str
    day: str
    until: str

    def __str__(self) -> str:
        return f"{self.release} of {self.day}; seen until {self.until}"


PEERS: Final = {
    "rauc": Upstream("1.15.2", "2026-03-27", "2026-08-21"),
    "swupdate": Upstream("2026.05.1", "2026-06-22", "2026-07-22"),
    # The last release of the client in Go, which Debian packages, is 3.5.3 of 2024-06-12.
    "mender-client": Upstream("5.1.0", "2026-03-11", "2026-07-02"),
    "xdelta3": Upstream("3.2.0", "2026-06-20", "2026-06-21"),
    "casync": Upstream("2", "2017-07-26", "2023-12-21"),
    "ostree": Upstream("2026.4", "2026-08-19", "2026-08-21"),
    "zchunk": Upstream("1.5.3", "2025-11-22", "2025-11-22"),
    "zstd": Upstream("1.5.7", "2025-02", "2026-09-11"),
}
LIBRARIES: Final = {
    "bsdiff4": Upstream("1.3.2", "2026-10", LOOKED_UP),
    # The wrapper. HDiffPatch itself was at 5.1.1 on 2026-07-25; 4.12.0 is of 2025-09-19.
    "hdiffpatch": Upstream("2.6.0", "2026-10", LOOKED_UP),
    "detools": Upstream("0.53.0", "2023-03-10", LOOKED_UP),
}


def table(found: Mapping[str, Mapping[str, str]]) -> str:
    """What to print: of each peer the installed version, that of each suite, and upstream's."""
    lines = [f"| peer | here | {' | '.join(SUITES)} | upstream, looked up by hand on {LOOKED_UP} |"]
    lines.append("|---|---|" + "---|" * (len(SUITES) + 1))
    for peer, upstream in PEERS.items():
        here = debian_version(peer).removeprefix(f"{peer} ")
        suites = " | ".join(found[suite].get(peer, "none") for suite in SUITES)
        lines.append(f"| {peer} | {here} | {suites} | {upstream} |")
    lines += ["", f"| library | here | newest in the index, looked up by hand on {LOOKED_UP} |", "|---|---|---|"]
    lines += [f"| {name} | {_installed(name)} | {upstream} |" for name, upstream in LIBRARIES.items()]
    return "\n".join(lines) + "\n"


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def main() -> int:
    """Print the tables."""
    found = {}
    for suite, security in SUITES.items():
        with tempfile.TemporaryDirectory() as folder:
            found[suite] = PrivateApt(Path(folder), suite, "amd64", security=security).versions(list(PEERS))
    sys.stdout.write(table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
