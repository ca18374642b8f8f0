"""The client's own command line on two loop devices: only the root mount and the reboot are not real.

`python -m bench.device SLOT DEVICE BOOT-ID-FILE ARGUMENTS...` is `twinslot ARGUMENTS...` on a machine whose root mount
is DEVICE, which is slot a or b, and whose boot has the id in that file.
"""

from __future__ import annotations

import sys
from pathlib import Path

from twinslot.cli import main as cli
from twinslot.core.model import SlotName
from twinslot.storage import lock, mounts, running_slot


def main(argv: list[str]) -> int:
    """Say which slot runs, then be the client.

    Said to the modules that look for it and not to the engine, which the client loads when it comes to that.
    """
    slot, path, boot_id, *arguments = argv
    device = mounts.device_of(Path(path))
    assert device is not None, f"{path} is no block device"
    running = running_slot.RunningSlot(SlotName(slot), frozenset({device}), ("said by the bench",))
    vars(running_slot)["find_running_slot"] = lambda *_, **__: running
    vars(lock)["BOOT_ID"] = Path(boot_id)
    return cli.main(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
