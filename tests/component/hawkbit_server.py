"""A real hawkBit, started from the modules that Maven Central has: management and device API, with H2 in memory.

The server as a program is in no registry; its modules of version 0.3.0M7 are, and some lines of Java make a server of
them. What was fetched and compiled is kept as the lab keeps what it builds. As a program this file makes that ready;
`serve DIRECTORY` starts it, too, and prints its address.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import waits
from twinslot_lab.cache import cached, fingerprint

SOURCES: Final = Path(__file__).parents[1] / "data/hawkbit-server"
VERSION: Final = "0.3.0M7"
FETCH: Final = 1200.0  # seconds for some two hundred files on a slow line; only a hang takes longer
START: Final = 900.0  # seconds; beside other programs on two cores it took 216
OPENED: Final = ("java.lang", "java.util", "java.lang.reflect")  # what Spring 5.2 looks into, with Java 17
NO_RABBIT: Final = "org.springframework.boot.autoconfigure.amqp.RabbitAutoConfiguration"


class HawkbitError(Exception):
    """There is no hawkBit to test with; says which step failed, and what that step said last."""


def prepared(base: Path | None = None, maven: tuple[str, ...] = ("mvn",)) -> Path:
    """A directory with `lib` and `classes`, made unless it is there: seventy megabytes are fetched.

    Args:
        base: Where it goes, if not into the lab's cache.
        maven: The program.

    Raises:
        HawkbitError: A file could not be fetched or compiled.
    """

    def make(directory: Path) -> None:
        # A repository of its own: neither does it need one of the user's, nor does it leave one behind.
        repository = directory / "repository"
        fetch = [*maven, "-B", "-ntp", "-f", str(SOURCES / "pom.xml"), f"-Dmaven.repo.local={repository}"]
        fetch += [f"-DoutputDirectory={directory / 'lib'}", "dependency:copy-dependencies"]
        _step("fetch hawkBit's modules with Maven; is there a network, and does it let Maven through?", fetch)
        shutil.rmtree(repository, ignore_errors=True)
        compile_ = ["javac", "--release", "11", "-cp", f"{directory}/lib/*", "-d", str(directory / "classes")]
        _step("compile the start of hawkBit", [*compile_, str(SOURCES / "Start.java")])

    return cached(f"hawkbit-{VERSION}", fingerprint(SOURCES), make, base=base)


def _step(what: str, argv: list[str]) -> None:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=FETCH)
    except (OSError, subprocess.TimeoutExpired) as e:
        raise HawkbitError(f"cannot {what}\n{e}") from e
    if done.returncode:
        errors = [line for line in (done.stdout + done.stderr).splitlines() if "ERROR" in line or "error:" in line]
        raise HawkbitError(f"cannot {what}\n" + "\n".join(errors[:10] or [done.stderr[-2000:]]))


@dataclass(frozen=True)
class RunningHawkbit:
    """A server that answers, and its process."""

    url: str
    pid: int


@contextlib.contextmanager
def running(directory: Path) -> Iterator[RunningHawkbit]:
    """A server of our own, once it answers.

    Args:
        directory: Where it keeps artifacts and its log.

    Raises:
        HawkbitError: It could not be made, or ended instead of answering.
    """
    made = prepared()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with (
        (directory / "log").open("wb") as log,
        subprocess.Popen(_argv(made, directory, port), stdout=log, stderr=log, cwd=directory) as process,
    ):
        try:
            url = f"http://127.0.0.1:{port}"
            waits.until(lambda: _answers(url) or process.poll() is not None, START)
            if process.poll() is not None:
                raise HawkbitError(f"hawkBit ended while it started\n{(directory / 'log').read_text()[-3000:]}")
            yield RunningHawkbit(url, process.pid)
        finally:
            process.terminate()
            try:
                process.wait(waits.HANG)
            except subprocess.TimeoutExpired:
                process.kill()


@contextlib.contextmanager
def started(directory: Path) -> Iterator[str]:
    """The address of one; see `running`."""
    with running(directory) as found:
        yield found.url


def _argv(made: Path, directory: Path, port: int) -> list[str]:
    argv = ["java", "-Xmx768m", "-XX:TieredStopAtLevel=1"]
    argv += [f"--add-opens=java.base/{each}=ALL-UNNAMED" for each in OPENED]
    argv += ["-cp", f"{made}/classes:{made}/lib/*", "server.Start", "--server.address=127.0.0.1"]
    argv += [f"--server.port={port}", "--spring.main.allow-bean-definition-overriding=true"]
    argv += ["--spring.security.user.name=admin", "--spring.security.user.password={noop}admin"]
    argv += [f"--spring.autoconfigure.exclude={NO_RABBIT}"]
    argv += [f"--org.eclipse.hawkbit.repository.file.path={directory}/artifacts"]
    argv += ["--hawkbit.rollout.scheduler.fixedDelay=2000"]  # milliseconds; a group begins so much later at most
    return argv


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(f"{url}/rest/v1/targets", timeout=waits.HANG)
    except urllib.error.HTTPError:  # it asks who we are
        return True
    except OSError:
        return False
    return True


def main(argv: list[str]) -> int:
    """Make it ready, or serve until SIGINT or SIGTERM."""
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell's background job ignores the first
        signal.signal(number, signal.default_int_handler)
    try:
        prepared()
        if argv[:1] == ["serve"]:
            with started(Path(argv[1])) as url, contextlib.suppress(KeyboardInterrupt):
                print(url, flush=True)
                signal.pause()
    except HawkbitError as e:
        print(e, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
