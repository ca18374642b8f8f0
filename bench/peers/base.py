"""What the bench asks of a peer: its version, what a server would hold for it, and the command of one round."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from bench.devices import LoopDevice
from bench.measure import run_measured
from bench.pairs import Pair
from bench.server import CountingServer


class Work(StrEnum):
    """What a client is asked to do."""

    FULL_FILE = "full-file"  # a whole image from a local file into a slot that holds nothing of it
    FULL_HTTP = "full-http"  # the same from a server
    SECURITY = "security"  # from the old image to the new one, whose layout shifted, both slots hold the old
    ONEFILE = "onefile"  # the same, where one file changed
    UNKNOWN_BASE = "unknown-base"  # as `security`, but the server holds nothing made for this base
    EROFS = "erofs"  # as `security`, with the trees in erofs images
    LARGE = "large"  # a sparse image of 8 GiB from a local file, into an empty slot

    @property
    def is_full(self) -> bool:
        """All of the image is installed, whatever the slot holds."""
        return self in (Work.FULL_FILE, Work.FULL_HTTP, Work.LARGE)

    @property
    def knows_base(self) -> bool:
        """The server holds what was made for the old image."""
        return self in (Work.SECURITY, Work.ONEFILE, Work.EROFS)

    @property
    def is_local(self) -> bool:
        """The image is a file on the device."""
        return self in (Work.FULL_FILE, Work.LARGE)


class UnableError(Exception):
    """A peer cannot do this work on this machine; says why, with the words of the program."""


@dataclass(frozen=True)
class UpdateJob:
    """One command, ready to run.

    Attributes:
        argv: The command; what a person would type.
        env: Added to the environment.
        before: Puts the peer's own state back to what it was before the update; not measured.
        after: Takes away what the command left, measured neither.
        published: Files that were made for this job and a server would hold; their sizes are told.
        local: Bytes that the command takes from a local file instead of the wire.
        verify: Says whether the update is there; None: the slot is compared with the image.
        note: One sentence for the row.
        sampled: Its memory is looked at.
        front: Bytes of what is fetched that only say what the update is and who signed it.
        made: What making the patch took: seconds of wall and CPU, peak of private memory in bytes.
    """

    argv: list[str]
    env: Mapping[str, str] = field(default_factory=dict)
    before: Callable[[], None] = lambda: None
    after: Callable[[], None] = lambda: None
    published: tuple[Path, ...] = ()
    local: tuple[Path, ...] = ()
    verify: Callable[[], bool] | None = None
    note: str = ""
    sampled: bool = True
    front: int = 0
    made: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Bench:
    """Where everything is.

    Attributes:
        directory: For the files of this run.
        pairs: The images.
        slot_a: The slot that runs: holds the old image, is never written.
        slot_b: The target.
        server: Serves `directory/public`.
        quick: Small images, and nothing that takes minutes to make.
    """

    directory: Path
    pairs: Mapping[str, Pair]
    slot_a: LoopDevice
    slot_b: LoopDevice
    server: CountingServer
    quick: bool = False

    @property
    def public(self) -> Path:
        """What the server serves."""
        return self.server.folder

    def pair(self, work: Work) -> Pair:
        """The images of this work."""
        return self.pairs[work if work in (Work.ONEFILE, Work.EROFS, Work.LARGE) else Work.SECURITY]

    def home(self, name: str) -> Path:
        """A directory of a peer's own."""
        path = self.directory / name
        path.mkdir(parents=True, exist_ok=True)
        return path


class Peer(Protocol):
    """A program that updates."""

    name: str

    def version(self) -> str:
        """The program's own words, or Debian's version."""
        ...

    def job(self, work: Work) -> UpdateJob:
        """The command for this work; makes what it needs at the first call.

        Raises:
            UnableError: It cannot do that here.
        """
        ...

    def close(self) -> None:
        """End what was started for it."""
        ...


def prepare(*argv: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """Run a program that makes what a peer needs.

    Raises:
        UnableError: It is missing or failed, with its last words.
    """
    words = [str(word) for word in argv]
    if shutil.which(words[0]) is None:
        raise UnableError(f"'{words[0]}' is not installed (bench/apt-packages.txt)")
    done = subprocess.run(
        words, cwd=cwd, env={**os.environ, **(env or {})}, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if done.returncode != 0:
        raise UnableError(f"{' '.join(words[:3])} ...: {(done.stderr or done.stdout).strip()[-600:]}")
    return done.stdout


def make_once(file: Path, *argv: str | Path) -> dict[str, float]:
    """Make a file unless it is there; what that took, in seconds and bytes of private memory.

    Raises:
        UnableError: The program is missing or failed, with its last words.
    """
    kept = file.with_name(file.name + ".made")
    if not kept.exists():
        words = [str(word) for word in argv]
        if shutil.which(words[0]) is None:
            raise UnableError(f"'{words[0]}' is not installed (bench/apt-packages.txt)")
        sample = run_measured(words, file.with_name(file.name + ".log"))
        if sample.status != 0:
            raise UnableError(f"{' '.join(words[:4])} ...: {sample.said.strip()[-600:]}")
        kept.write_text(json.dumps({"wall": sample.wall, "cpu": sample.cpu, "memory": sample.memory.peak}))
    made: dict[str, float] = json.loads(kept.read_text())
    return made


def debian_version(package: str) -> str:
    """The installed version of a Debian package."""
    done = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", package], capture_output=True, text=True)
    return f"{package} {done.stdout}" if done.returncode == 0 else "not installed"
