"""What encryption costs: the same content installed from a plain and from an encrypted image, in turn.

`python -m bench.encryption [--mib N] [--rounds N]` needs root. It prints the median seconds of whole installs, from a
file and from a server on loopback, and each one's ratio to the plain install. `build/bench/encryption.json` has each.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from bench.devices import LoopDevice
from bench.pairs import HOME
from bench.peers.base import Bench, prepare
from bench.peers.twinslot import ROLES, Twinslot, python_path
from bench.server import CountingServer

CIPHERS: Final = ("chacha20-poly1305", "aes-256-gcm")
GOAL: Final = 1.15  # times the plain install's wall
_MIB: Final = 1 << 20
_WAYS: Final = ("file", "http")


def main(argv: list[str] | None = None) -> int:
    """Measure and tell."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.encryption", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mib", type=int, default=256, help="size of the content (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="installs of each kind (default: %(default)s)")
    arguments = parser.parse_args(argv)
    if os.geteuid() != 0:
        sys.stderr.write("bench: loop devices need root\n")
        return 1
    directory = HOME / "encryption"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    seconds: dict[str, list[float]] = {}
    with ExitStack() as stack:
        one, other = (
            stack.enter_context(LoopDevice(directory / f"slot-{name}", arguments.mib * _MIB)) for name in "ab"
        )
        server = stack.enter_context(CountingServer(directory / "public"))
        peer = Twinslot(bench := Bench(directory, {}, one, other, server, quick=True))
        images = make_images(bench, peer, make_content(directory / "content", arguments.mib * _MIB))
        for _ in range(arguments.rounds):
            for kind, image in images.items():
                for way in _WAYS:
                    where = str(image) if way == "file" else server.url(image.name)
                    took = install(bench, peer, where, "full" if kind == "plain" else "encrypted")
                    seconds.setdefault(f"{way} {kind}", []).append(took)
    (HOME / "encryption.json").write_text(json.dumps(seconds, indent=1) + "\n")
    return tell(seconds)


def tell(seconds: dict[str, list[float]]) -> int:
    """Print medians and ratios; 1 if the goal is missed."""
    missed = False
    for name, runs in seconds.items():
        median = statistics.median(runs)
        ratio = median / statistics.median(seconds[f"{name.split()[0]} plain"])
        missed |= ratio > GOAL
        spread = f"{min(runs):.2f} to {max(runs):.2f}, {len(runs)} runs"
        print(f"{name:<24} {median:7.2f} s   {ratio:5.2f} x   ({spread})")
    print(f"goal: at most {GOAL} x: {'missed' if missed else 'met'}")
    return int(missed)


def make_content(path: Path, size: int) -> Path:
    """Programs and libraries of this machine, one after another: they pack as a root file system does."""
    with path.open("wb") as out:
        for file in _programs():
            if out.tell() >= size:
                break
            out.write(file.read_bytes())
    os.truncate(path, size)
    return path


def _programs() -> Iterator[Path]:
    while True:
        for root in ("/usr/bin", "/usr/lib/x86_64-linux-gnu", "/usr/lib/python3", "/usr/share/doc"):
            yield from (path for path in sorted(Path(root).rglob("*")) if path.is_file() and not path.is_symlink())


def make_images(bench: Bench, peer: Twinslot, content: Path) -> dict[str, Path]:
    """The plain image, and one for each cipher, for a device whose key stands in its configuration."""
    home, tool = bench.home("twinslot"), [sys.executable, "-m", "twinslot_image"]
    images = {"plain": peer.image("plain", content, 2)}
    prepare(*tool, "recipients", "new", home / "device.pem")
    description = (home / "plain.toml").read_text()
    for cipher in CIPHERS:
        table = f'[encryption]\ncipher = "{cipher}"\nrecipients = ["device.pub.pem"]\n'
        (home / f"{cipher}.toml").write_text(description + table)
        images[cipher] = bench.public / f"{cipher}.twin"
        prepare(*tool, "build", home / f"{cipher}.toml", "-o", images[cipher])
        for role in ROLES:
            (key,) = (home / "keys/private").glob(f"{role}.*.pem")
            prepare(*tool, "sign", images[cipher], "--role", role, "--key", key)
    configuration = home / "encrypted/etc/twinslot"
    configuration.mkdir(parents=True)
    plain = (home / "full/etc/twinslot/config.toml").read_text()
    (configuration / "config.toml").write_text(f'{plain}[decryption]\nkey = "{home}/device.pem"\n')
    return images


def install(bench: Bench, peer: Twinslot, where: str, root: str) -> float:
    """Seconds of one whole install into a slot that holds nothing of it."""
    peer.reset()
    bench.slot_b.fill_with_noise()
    command = peer.command("install", "--no-activate", where, root=root)
    start = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": python_path()})
    took = time.monotonic() - start
    if done.returncode:
        raise RuntimeError(done.stderr)
    return took


if __name__ == "__main__":
    sys.exit(main())
