"""Runs commands for the test host: JSON over a virtio-serial port. Lab only, never part of the product.

Where there is no such port, the same JSON goes in frames over the serial console (twinslot_lab/console_server.py).

Host to guest:  {"id": 1, "run": ["cmd", "arg"], "timeout": 30, "input": "text"}
                {"id": 2, "put": "/path", "data": "<base64>", "append": false, "mode": 420}
                {"id": 3, "get": "/path", "offset": 0, "size": 65536}
Guest to host:  {"hello": "<boot id>", "slot": "a"} once at start, then for each request
                {"id": 1, "exit": 0, "stdout": "...", "stderr": "..."}, {"id": 2, "ok": true},
                {"id": 3, "data": "<base64>"}, or {"id": 1, "error": "..."}
"""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any, BinaryIO

PORT = "org.twinslot.lab"
SERIAL = "virtio:d00000003v"  # modalias of a virtio console (linux/virtio_ids.h: VIRTIO_ID_CONSOLE is 3)
TIMED_OUT = 124  # as timeout(1)


def find_port() -> Path | None:
    """The character device whose virtio-serial port has our name; None if the machine has none."""
    for name in Path("/sys/class/virtio-ports").glob("*/name"):
        if name.read_text().strip() == PORT:
            return Path("/dev") / name.parent.name
    if any(SERIAL in file.read_text() for file in Path("/sys/bus/virtio/devices").glob("*/modalias")):
        raise SystemExit(f"virtio-serial has no port {PORT} yet")
    return None


def hello() -> dict[str, Any]:
    """Which boot this is, and of which slot."""
    words = Path("/proc/cmdline").read_text().split()
    slots = [word.partition("=")[2] for word in words if word.startswith("twinslot.slot=")]
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return {"hello": boot, "slot": slots[0] if slots else ""}


def run(request: dict[str, Any]) -> dict[str, Any]:
    """Run a command in its own process group; a late one is killed with its children."""
    process = subprocess.Popen(
        request["run"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        cwd="/",
    )
    late = False
    try:
        out, err = process.communicate(request.get("input", "").encode(), timeout=request["timeout"])
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        late = True
    text = {"stdout": out.decode(errors="replace"), "stderr": err.decode(errors="replace")}
    return {"exit": TIMED_OUT if late else process.returncode} | text


def put(request: dict[str, Any]) -> dict[str, Any]:
    """Write or append bytes to a file; its directory is made."""
    path = Path(request["put"])
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab" if request.get("append") else "wb") as file:
        file.write(base64.b64decode(request["data"]))
    path.chmod(request.get("mode", 0o644))
    return {"ok": True}


def get(request: dict[str, Any]) -> dict[str, Any]:
    """Read bytes of a file; fewer than asked for means its end."""
    with Path(request["get"]).open("rb") as file:
        file.seek(request["offset"])
        return {"data": base64.b64encode(file.read(request["size"])).decode()}


def answer(line: bytes) -> dict[str, Any]:
    """Do what one line asks."""
    request: dict[str, Any] = {}
    try:
        request = json.loads(line)
        verb = next(verb for name, verb in (("run", run), ("put", put), ("get", get)) if name in request)
        return {"id": request["id"]} | verb(request)
    except Exception as e:  # noqa: BLE001 - whatever it was, the host must hear of it
        return {"id": request.get("id"), "error": f"{type(e).__name__}: {e}"}


def serve(port: BinaryIO) -> None:
    """Say hello, then answer line by line until the port closes."""
    port.write(b"\n" + json.dumps(hello()).encode() + b"\n")
    pending = b""
    while data := port.read(65536):
        *lines, pending = (pending + data).split(b"\n")
        for line in filter(None, lines):
            reply = json.dumps(answer(line)).encode() + b"\n"
            while reply:
                reply = reply[port.write(reply) or 0 :]


def main() -> None:
    """On the port if there is one, else on the console."""
    if port := find_port():
        with port.open("r+b", buffering=0) as lab:
            serve(lab)
    else:
        from twinslot_lab.console_server import serve_console

        serve_console(answer, hello())


if __name__ == "__main__":
    main()
