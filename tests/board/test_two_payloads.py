"""A slot of two partitions on a real system: both are installed, tried, kept and read back together."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path

import pytest

from twinslot_lab.command import run
from twinslot_lab.demo import FACTORY, GOOD
from twinslot_lab.fileserver import FileServer
from twinslot_lab.plugin import BoardFactory
from twinslot_lab.product import Product
from twinslot_lab.release import ReleaseTeam

pytestmark = [pytest.mark.board, pytest.mark.long]

MIB = 1 << 20
CONTENT = random.Random(2).randbytes(3 * MIB // 2 + 1000)
ROOT = "/run/two-payloads"  # of a configuration that knows both partitions of a slot
DROP_IN = """
[slots.a]
voices = "/dev/disk/by-partlabel/voices_a"
[slots.b]
voices = "/dev/disk/by-partlabel/voices_b"
"""


def add_partitions(disk: Path) -> None:
    """Two more behind the others, of two MiB each; a GPT keeps its second copy at the end of the disk."""
    with disk.open("r+b") as file:
        file.truncate(disk.stat().st_size + 4 * MIB)
    sfdisk = ("sfdisk", "--quiet", "--no-reread", "--no-tell-kernel")
    run(*sfdisk, "--relocate", "gpt-bak-std", disk)
    lines = [f"size={2 * MIB // 512}, name={name}\n" for name in ("voices_a", "voices_b")]
    run(*sfdisk, "--append", disk, stdin="".join(lines).encode())


def test_both_payloads_are_installed_tried_and_kept(team: ReleaseTeam, board_factory: BoardFactory) -> None:
    image = team.with_payload(GOOD, "voices", CONTENT)
    board = board_factory(files=team.factory(FACTORY))
    assert board.disk.stat().st_size == board.files.board.disk.size()
    add_partitions(board.disk)
    board.power_on()
    board.wait_up(slot="a")
    board.check("mkdir", "-p", f"{ROOT}/etc", f"{ROOT}/usr/lib")
    for folder in ("etc", "usr/lib"):
        board.check("cp", "-a", f"/{folder}/twinslot", f"{ROOT}/{folder}/")
    board.check("sh", "-c", f"printf '%s' '{DROP_IN}' > {ROOT}/etc/twinslot/config.d/90-voices.toml")
    with FileServer(image.path.parent) as server:
        words = ("--json", "--no-service", "--config-root", ROOT, "install", "--no-reboot")
        said = board.check("twinslot", *words, server.url(image.path.name), timeout=600)
    assert json.loads(said.splitlines()[-1])["transaction"]["state"] == "armed"
    board.reboot()
    board.wait_up(slot="b")
    product = Product(board)
    assert product.wait_idle()["slots"]["b"]["state"] == "good"
    last = product.history()[0]
    assert last["outcome"] == "committed"
    assert last["payloads"]["voices"]["digest"] == hashlib.sha256(CONTENT).hexdigest()
    assert last["payloads"]["rootfs"]["digest"] == image.digest
    assert product.digest_of_root(image.slot.stat().st_size) == image.digest
    held = board.check("sha256sum", "/dev/disk/by-partlabel/voices_b").split()[0]
    assert held == hashlib.sha256(CONTENT.ljust(2 * MIB, b"\0")).hexdigest(), "the tail is defined too"
