"""A real gooseBit: another server that speaks hawkBit's interface to devices, with manners of its own.

It is on PyPI, and wants other versions of libraries than our tools, so that it has a virtual environment of its own,
which is kept as the lab keeps what it builds. As a program this file makes that ready.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import waits
from twinslot_lab.cache import cached, fingerprint

REQUIREMENTS: Final = Path(__file__).parents[1] / "requirements-goosebit.txt"
FETCH: Final = 1200.0  # seconds; only a hang takes longer
START: Final = 300.0  # seconds; beside other programs on two cores it took 12
_VERSION: Final = "0.2.12"
# What its handbook does with a program of another package (aerich), in its own words: tables, then the server.
_SERVE: Final = """
import asyncio, sys
import uvicorn
from tortoise import Tortoise
from goosebit.db.config import TORTOISE_CONF

async def tables():
    await Tortoise.init(config=TORTOISE_CONF)
    await Tortoise.generate_schemas()
    await Tortoise.close_connections()

asyncio.run(tables())
from goosebit import app
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]))
"""


class GoosebitError(Exception):
    """There is no gooseBit to test with; says which step failed, and what that step said last."""


def prepared(base: Path | None = None, python: str = sys.executable) -> Path:
    """Its Python, made unless it is there: 60 packages are fetched.

    Args:
        base: Where it goes, if not into the lab's cache.
        python: Makes the environment.

    Raises:
        GoosebitError: They could not be fetched.
    """

    def make(directory: Path) -> None:
        _step([python, "-m", "venv", str(directory)])
        pip = [str(directory / "bin/python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        _step([*pip, "-r", str(REQUIREMENTS)])

    return cached(f"goosebit-{_VERSION}", fingerprint(REQUIREMENTS), make, base=base) / "bin/python"


def _step(argv: list[str]) -> None:
    what = "cannot fetch gooseBit's packages; is there a network, and does it let pip through?"
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=FETCH)
    except (OSError, subprocess.TimeoutExpired) as e:
        raise GoosebitError(f"{what}\n{e}") from e
    if done.returncode:
        raise GoosebitError(f"{what}\n{(done.stderr or done.stdout)[-2000:]}")


@contextlib.contextmanager
def started(directory: Path) -> Iterator[str]:
    """The address of a server of our own, once it answers; it lets devices in by token alone.

    Args:
        directory: Where it keeps its database, artifacts and log.

    Raises:
        GoosebitError: It could not be made, or ended instead of answering.
    """
    python = prepared()
    settings = {
        "db_uri": f"sqlite:///{directory}/db.sqlite3",
        "artifacts_dir": str(directory / "artifacts"),
        "device_auth": {"enable": True, "mode": "strict"},
    }
    (directory / "goosebit.yaml").write_text(json.dumps(settings))  # JSON is YAML
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with (
        (directory / "log").open("wb") as log,
        subprocess.Popen([str(python), "-c", _SERVE, str(port)], stdout=log, stderr=log, cwd=directory) as process,
    ):
        try:
            url = f"http://127.0.0.1:{port}"
            waits.until(lambda: _answers(url) or process.poll() is not None, START)
            if process.poll() is not None:
                raise GoosebitError(f"gooseBit ended while it started\n{(directory / 'log').read_text()[-3000:]}")
            yield url
        finally:
            process.terminate()
            try:
                process.wait(waits.HANG)
            except subprocess.TimeoutExpired:
                process.kill()


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(f"{url}/api/v1/devices", timeout=waits.HANG)
    except urllib.error.HTTPError:  # it asks who we are
        return True
    except OSError:
        return False
    return True


if __name__ == "__main__":
    try:
        prepared()
    except GoosebitError as error:
        sys.exit(str(error))
