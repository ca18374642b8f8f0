"""`python -m bench.board`: the same kinds of install on an emulated board, for build/bench/board.json.

Seconds there are those of an emulated processor, bytes are what a device would see. The pair is the lab's: two releases
of its Debian 13 system that differ in two small files.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any, Final

from bench.pairs import HOME
from twinslot.worker.sources.patch import patch_url
from twinslot_image.cli import main as image_tool
from twinslot_lab import snapshot
from twinslot_lab.demo import FACTORY, GOOD
from twinslot_lab.fileserver import FileServer
from twinslot_lab.product import Product
from twinslot_lab.progress import say
from twinslot_lab.release import Image, ReleaseTeam
from twinslot_lab.snapshot import Snapshot

BOARD: Final = "virt-arm64"
POLICIES: Final = {  # what is measured: what of [delta] is allowed (docs/config.md)
    "whole image": "reuse = false\npatches = false\n",
    "unknown base: what the slots hold is taken from there": "patches = false\n",
    "known base: with a patch": "",
}
_DROP_IN: Final = "/run/twinslot/config.d/90-bench.toml"


def main() -> int:
    """Measure; needs root and what the lab needs."""
    team = ReleaseTeam(BOARD)
    old, new = team.image(FACTORY), team.image(GOOD)
    place = HOME / "board"
    shutil.rmtree(place, ignore_errors=True)
    publish(old, new, place / "public")
    frozen = snapshot.booted(team.factory(FACTORY))
    installs = [measure(frozen, what, policy, place) for what, policy in POLICIES.items()]
    slot = new.slot.stat().st_size / 1e6
    told = {"board": BOARD, "note": f"QEMU without KVM; {slot:.0f} MB of content over HTTP", "installs": installs}
    (HOME / "board.json").write_text(json.dumps(told, indent=1) + "\n")
    say(f"report: {HOME / 'board.json'}")
    return 0


def publish(old: Image, new: Image, folder: Path) -> None:
    """The image, and beside it the patch where a device looks for it."""
    folder.mkdir(parents=True)
    image = folder / "update.twin"
    shutil.copyfile(new.path, image)
    patch = folder / Path(patch_url(image.name, old.digest)).name
    if image_tool(["patch", str(old.path), str(image), "-o", str(patch)]) != 0:
        raise RuntimeError("twinslot-image patch failed")


def measure(frozen: Snapshot, what: str, policy: str, place: Path) -> dict[str, Any]:
    """One install on a board of its own."""
    say(f"on the board: {what}")
    with frozen.start(place / "run") as board, FileServer(place / "public") as server:
        board.check("mkdir", "-p", str(Path(_DROP_IN).parent))
        board.check("sh", "-c", f"cat > {_DROP_IN}", text=f"[delta]\n{policy}")
        began = time.monotonic()
        done = Product(board).install(server.url("update.twin"))
        seconds = time.monotonic() - began
    shutil.rmtree(place / "run")
    counts = ("fetched", "written", "copied", "skipped", "zeroed")
    return {"what": what, "seconds": seconds, "phases": done["seconds"]} | {n: done[f"bytes_{n}"] for n in counts}


if __name__ == "__main__":
    sys.exit(main())
