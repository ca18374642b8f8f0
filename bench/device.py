"""The client's own command line on two loop devices: only the root mount is not real.

`python -m bench.device SLOT-A ARGUMENTS...` is `twinslot ARGUMENTS...` on a machine whose root mount is SLOT-A.
"""

from __future__ import annotations

import sys
from pathlib import Path

from twinslot import cli
from twinslot.core.model import SlotName
from twinslot.storage import mounts


def main(argv: list[str]) -> int:
    """Say which slot runs, then be the client."""
    from twinslot.engine import assemble
    from twinslot.storage.slots import RunningSlot

    device = mounts.device_of(Path(argv[0]))
    assert device is not None, f"{argv[0]} is no block device"
    running = RunningSlot(SlotName.A, frozenset({device}), ("said by the bench",))
    vars(assemble)["find_running_slot"] = lambda *_, **__: running
    return cli.main(argv[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
