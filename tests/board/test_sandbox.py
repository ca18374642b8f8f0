"""A worker that was taken over, under its unit as systemd sets it up: what a program in its place reaches."""

from __future__ import annotations

import json
from typing import Any

import pytest

from twinslot_lab.demo import FACTORY
from twinslot_lab.plugin import BoardFactory
from twinslot_lab.qemu_board import QemuBoard
from twinslot_lab.release import ReleaseTeam

pytestmark = pytest.mark.board

KEY = "/var/lib/pump/client.key"
PROBE = """
import ctypes, errno, json, mmap, os, socket, sys

def told(attempt):
    try:
        attempt()
    except OSError as e:
        return errno.errorcode.get(e.errno, str(e.errno))
    return "reached"

def reads(path):
    return lambda: os.close(os.open(path, os.O_RDONLY))

def connects(path):
    return lambda: socket.socket(socket.AF_UNIX).connect(path)

def executable_memory():
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)

def namespace():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(0x10000000):
        raise OSError(ctypes.get_errno(), "unshare")

def writes():
    name = "/tmp/left"
    with open(name, "wb", buffering=0) as file:
        file.write(b"x")

found = {
    "key": told(reads("KEY")),
    "device key": told(reads("/var/lib/twinslot/device-key.pem")),
    "decryption key": told(reads("/var/lib/pump/images.pem")),
    "record": told(reads("/var/lib/twinslot/record.sqlite")),
    "published": told(reads("/var/lib/twinslot/status.json")),
    "bus": told(connects("/run/dbus/system_bus_socket")),
    "network": told(lambda: socket.socket(socket.AF_INET).connect(("10.0.2.2", 9))),
    "raw": told(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)),
    "root": told(lambda: os.setuid(0)),
    "memory": told(executable_memory),
    "namespace": told(namespace),
    "file": told(writes),
    "process 1": told(reads("/proc/1/environ")),
}
for kind in ("fetch", "read", "relay", "verify", "decrypt"):
    found["socket of " + kind] = told(connects(f"/run/twinslot/{kind}.sock"))
nodes = ["/dev/" + name for name in os.listdir("/sys/class/block")] if os.path.isdir("/sys/class/block") else []
nodes += ["/dev/vda", "/dev/mmcblk0", "/dev/mem", "/dev/kmsg"]
found["device nodes"] = sorted({told(reads(node)) for node in nodes})
found["user"] = os.getuid()
os.write(0, json.dumps(found).encode())
"""
ASK = """
import socket, sys
with socket.socket(socket.AF_UNIX) as sock:
    sock.connect(f"/run/twinslot/{sys.argv[1]}.sock")
    while data := sock.recv(65536):
        sys.stdout.write(data.decode())
"""


def taken_over(board: QemuBoard, kind: str) -> dict[str, Any]:
    """What a program in the place of this worker finds."""
    drop_in = f"/run/systemd/system/twinslot-{kind}@.service.d"
    board.check("mkdir", "-p", drop_in)
    board.put(f"{drop_in}/probe.conf", b"[Service]\nExecStart=\nExecStart=/usr/bin/python3 -I /run/probe.py\n")
    board.check("systemctl", "daemon-reload")
    said = board.check("/usr/bin/python3", "-I", "-c", ASK, kind)
    found: dict[str, Any] = json.loads(said)
    return found


@pytest.mark.verifies("S22")
def test_a_worker_that_was_taken_over_reaches_neither_key_nor_device_nor_bus_nor_record(
    team: ReleaseTeam, board_factory: BoardFactory
) -> None:
    board = board_factory(files=team.factory(FACTORY))
    board.power_on()
    board.wait_up(slot="a")
    board.check("mkdir", "-p", "/var/lib/pump")
    board.put(KEY, b"secret\n", 0o400)
    board.check("chown", "twinslot-relay:", KEY)
    board.put("/var/lib/pump/images.pem", b"secret\n", 0o400)
    board.check("twinslot", "device-key", "init")
    assert board.check("stat", "-c", "%a %U", "/var/lib/twinslot/device-key.pem").split() == ["400", "root"]
    board.put("/run/probe.py", PROBE.replace("KEY", KEY).encode())
    found = {kind: taken_over(board, kind) for kind in ("fetch", "read", "relay", "verify", "decrypt")}
    users = {each.pop("user") for each in found.values()}
    assert len(users) == len(found), "a user each"
    assert 0 not in users
    assert {kind for kind, each in found.items() if each["key"] == "reached"} == {"relay"}
    assert {kind for kind, each in found.items() if each["network"] in ("reached", "ECONNREFUSED")} == {"relay"}
    for kind, each in found.items():
        mine = {name for name, what in each.items() if "reached" in what} - {"key", "network"}
        assert mine == set(), f"{kind} reaches {mine}: {each}"
