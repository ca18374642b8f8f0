"""A real hawkBit, started from the modules that Maven Central has: management and device API, with H2 in memory.

The server as a program is in no registry; its modules of version 0.3.0M7 are, and some lines of Java make a server of
them.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import waits

SOURCES: Final = Path(__file__).parents[1] / "data/hawkbit-server"
CACHE: Final = Path(__file__).parents[2] / "build/cache/hawkbit-0.3.0M7"
OPENED: Final = ("java.lang", "java.util", "java.lang.reflect")  # what Spring 5.2 looks into, with Java 17
NO_RABBIT: Final = "org.springframework.boot.autoconfigure.amqp.RabbitAutoConfiguration"


def prepare() -> None:
    """Fetch the modules, fifty megabytes, and compile; nothing is done twice."""
    if (CACHE / "classes/server/Start.class").exists():
        return
    CACHE.mkdir(parents=True, exist_ok=True)
    maven = ["mvn", "-q", "-B", "-f", str(SOURCES / "pom.xml"), f"-DoutputDirectory={CACHE / 'lib'}"]
    subprocess.run([*maven, "dependency:copy-dependencies"], check=True)
    compile_ = ["javac", "--release", "11", "-cp", f"{CACHE}/lib/*", "-d", str(CACHE / "classes")]
    subprocess.run([*compile_, str(SOURCES / "Start.java")], check=True)


@contextlib.contextmanager
def started(directory: Path) -> Iterator[str]:
    """Its address, once it answers.

    Args:
        directory: Where it keeps artifacts and its log.
    """
    prepare()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    argv = ["java", "-Xmx768m", "-XX:TieredStopAtLevel=1"]
    argv += [f"--add-opens=java.base/{each}=ALL-UNNAMED" for each in OPENED]
    argv += ["-cp", f"{CACHE}/classes:{CACHE}/lib/*", "server.Start", "--server.address=127.0.0.1"]
    argv += [f"--server.port={port}", "--spring.main.allow-bean-definition-overriding=true"]
    argv += ["--spring.security.user.name=admin", "--spring.security.user.password={noop}admin"]
    argv += [f"--spring.autoconfigure.exclude={NO_RABBIT}"]
    argv += [f"--org.eclipse.hawkbit.repository.file.path={directory}/artifacts"]
    with (
        (directory / "log").open("wb") as log,
        subprocess.Popen(argv, stdout=log, stderr=log, cwd=directory) as process,
    ):
        try:
            url = f"http://127.0.0.1:{port}"
            waits.until(lambda: _answers(url) or process.poll() is not None)
            assert process.poll() is None, (directory / "log").read_text()[-3000:]
            yield url
        finally:
            process.terminate()


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(f"{url}/rest/v1/targets", timeout=waits.HANG)
    except urllib.error.HTTPError:  # it asks who we are
        return True
    except OSError:
        return False
    return True
