"""Which release of each peer Debian has: `python -m bench.releases`.

The bench runs the peers of Debian 13; this says what this host, 13 and sid have, from package lists that apt verified.
One line of a table for each. What upstream has released beyond that no package list knows.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from bench.peers.base import debian_version
from twinslot_lab.apt import PrivateApt

PEERS: Final = ("rauc", "swupdate", "mender-client", "xdelta3", "casync", "ostree", "zchunk", "zstd")
SUITES: Final = {"trixie": True, "sid": False}  # whether it has a security archive


def table(found: Mapping[str, Mapping[str, str]]) -> str:
    """What to print: of each peer the installed version, and that of each suite."""
    lines = ["| peer | here | " + " | ".join(SUITES) + " |", "|---|---|" + "---|" * len(SUITES)]
    for peer in PEERS:
        here = debian_version(peer).removeprefix(f"{peer} ")
        lines.append(f"| {peer} | {here} | " + " | ".join(found[suite].get(peer, "none") for suite in SUITES) + " |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Print the table."""
    found = {}
    for suite, security in SUITES.items():
        with tempfile.TemporaryDirectory() as folder:
            found[suite] = PrivateApt(Path(folder), suite, "amd64", security=security).versions(PEERS)
    sys.stdout.write(table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
