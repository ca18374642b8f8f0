"""Host programs: run, logged, and stopped with their first error."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from twinslot_lab.errors import BuildError

# The checkout that boards are built from: this file stands in one, unless the lab was installed as a wheel.
ROOT = Path(os.environ.get("TWINSLOT_CHECKOUT") or Path(__file__).parents[2]).resolve()
BUILD = (ROOT if (ROOT / "qemu" / "boards").is_dir() else Path.cwd()) / "build"
_MEMORY, _ROOM = Path("/dev/shm"), 1 << 30  # bytes; a tree has 0.2 GiB, and several may be built at once
_LOG_TAIL = 2000  # bytes of a failed program's output that go into the error
_SPEAKS_OF_ERROR = re.compile(r"\berror\b|^E: |\bfatal\b|\bfailed\b|\bcannot\b|No such file|not found", re.IGNORECASE)


def run(
    *argv: str | Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
) -> str:
    """Run a program to its end and return what it wrote to stdout.

    Raises:
        BuildError: It is missing, or ended with another status than 0; its last output is in the message.
    """
    words = [str(word) for word in argv]
    if shutil.which(words[0]) is None:
        raise BuildError(f"program '{words[0]}' is not installed", hint="apt install the list in qemu/apt-packages.txt")
    done = subprocess.run(
        words,
        cwd=cwd,
        env={**os.environ, **(env or {})},
        input=stdin or b"",
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        raise _failed(" ".join(words), done.returncode, done.stdout + done.stderr)
    return done.stdout.decode(errors="replace")


def run_logged(log: Path, *argv: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> None:
    """Run a long job with its output in a file.

    Raises:
        BuildError: As for `run`; the end of the file is in the message.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    words = [str(word) for word in argv]
    if shutil.which(words[0]) is None:
        raise BuildError(f"program '{words[0]}' is not installed", hint="apt install the list in qemu/apt-packages.txt")
    with log.open("ab") as out:
        done = subprocess.run(
            words,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            check=False,
        )
    if done.returncode != 0:
        raise _failed(words[0], done.returncode, log.read_bytes()[-_LOG_TAIL:], hint=f"see {log}")


@contextmanager
def scratch(otherwise: Path) -> Iterator[Path]:
    """A directory for thousands of small files, removed in the end; in memory if there is room, else in `otherwise`."""
    usable = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free >= _ROOM
    with tempfile.TemporaryDirectory(dir=_MEMORY if usable else otherwise, prefix="twinslot-") as place:
        yield Path(place)


def _failed(what: str, status: int, said: bytes, hint: str | None = None) -> BuildError:
    output = said[-_LOG_TAIL:].decode(errors="replace")
    return BuildError(f"'{what}' ended with status {status}: {cause(output)}", hint=hint, output=output)


def cause(output: str) -> str:
    """The line of a failed program's output that says why: the first that speaks of an error, else the last one."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return next((line for line in lines if _SPEAKS_OF_ERROR.search(line)), lines[-1] if lines else "it said nothing")
