"""An install over a link that loses packets: `lossy_story.py DIRECTORY LOSS SEED`, as root, in a process of its own.

The image is `DIRECTORY/image.twin`, the bench `DIRECTORY/bench`. Prints what happened as one line of JSON.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

from file_web import FileWeb
from host_device import HostDevice
from release_bench import ReleaseBench

from twinslot.core.model import SlotName
from twinslot_lab.network_faults import FAR, lossy_link


def main() -> None:
    directory, loss, seed = Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    image = next((directory / "bench").glob("*.twin"))
    device = HostDevice(directory, ReleaseBench(directory / "bench"))
    with lossy_link(loss, seed) as (listener, wire):
        server = FileWeb(directory / "bench")
        server.socket.close()
        server.socket = listener
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            url = f"http://{FAR}:{listener.getsockname()[1]}/{image.name}"
            began = time.monotonic()
            transaction = device.install(
                url, schemes=("http",), connect_timeout=20.0, read_timeout=10.0, retries=20, retry_wait=1.0
            )
            seconds = time.monotonic() - began
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
    told = {"seconds": round(seconds, 1), "sent": wire.sent, "lost": wire.lost, "served": server.sent[image.name]}
    ended = {"fetched": transaction.bytes_fetched, "size": image.stat().st_size, "env": device.environment()["slot_b"]}
    print(json.dumps(told | ended | {"content": device.content(SlotName.B)[:16].hex()}))


main()
