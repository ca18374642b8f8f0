"""Host programs: run, logged, and stopped with their first error."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from twinslot_lab.errors import BuildError

# The checkout that boards are built from: this file stands in one, unless the lab was installed as a wheel.
ROOT = Path(os.environ.get("TWINSLOT_CHECKOUT") or Path(__file__).parents[2]).resolve()
BUILD = (ROOT if (ROOT / "qemu" / "boards").is_dir() else Path.cwd()) / "build"
_LOG_TAIL = 2000  # bytes of a failed program's output that go into the error


def say(what: str) -> None:
    """One line of progress, on stderr."""
    sys.stderr.write(f"[lab] {what}\n")
    sys.stderr.flush()


@contextmanager
def step(what: str) -> Iterator[None]:
    """Say on stderr that something slow starts, and how many seconds it took."""
    start = time.monotonic()
    say(f"{what} ...")
    yield
    say(f"{what}: {time.monotonic() - start:.1f} s")


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
        said = (done.stdout + done.stderr)[-_LOG_TAIL:].decode(errors="replace")
        raise BuildError(f"'{' '.join(words)}' ended with status {done.returncode}:\n{said}")
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
        tail = log.read_bytes()[-_LOG_TAIL:].decode(errors="replace")
        raise BuildError(f"'{words[0]}' ended with status {done.returncode}, see {log}:\n{tail}")


def tidy(words: Sequence[str]) -> str:
    """A list of names as one argument: comma separated, each once, sorted."""
    return ",".join(sorted(set(words)))
