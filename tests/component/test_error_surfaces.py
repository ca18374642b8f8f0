"""An error has one shape: in the line of a verb, on the bus, in a row of the audit, in an entry of the journal."""

from __future__ import annotations

import functools
import json
import logging
import multiprocessing
import os
import random
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from bus_bench import Answered, Caller, private_bus
from host_device import CONFIG, HostDevice, HostUpdater
from release_bench import ReleaseBench

import waits
from twinslot.bus.library import Variant
from twinslot.bus.server.server import serve
from twinslot.core.errors import FIELDS
from twinslot.system import logs
from twinslot_image.cli import main as twinslot_image

CONTENT = b"superblock".ljust(4096, b"\1") + random.Random(3).randbytes(200_000)
LINE = {"type", "exit_status"}  # of each last line of a verb that failed
ROW = {"origin", "verb", "manifest", "release", "sequence", "source", "claimed"}  # what a request was about

JOURNAL = {
    "family": "TWINSLOT_FAMILY",
    "code": "TWINSLOT_CODE",
    "message": "TWINSLOT_MESSAGE",
    "expected": "TWINSLOT_EXPECTED",
    "found": "TWINSLOT_FOUND",
    "hint": "TWINSLOT_HINT",
    "reasons": "TWINSLOT_REASONS",
}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> ReleaseBench:
    bench = ReleaseBench.make(tmp_path_factory.mktemp("bench"))
    bench.image("good", 20, CONTENT)
    bench.image("foreign", 20, CONTENT, compatible=("acme,toaster",))
    bench.image("foreign-and-checked", 20, CONTENT, compatible=("acme,toaster",), checks=("toast",))
    cut = (bench.directory / "good.twin").read_bytes()
    (bench.directory / "cut.twin").write_bytes(cut[:-1])
    return bench


@dataclass
class Served:
    """A device whose service is on a bus, and the socket that is its journal."""

    address: str
    directory: Path
    journal: socket.socket

    def twinslot(self, *argv: str) -> dict[str, Any]:
        """The last line of a verb, as a program reads it."""
        command = [sys.executable, "-m", "twinslot", "--config-root", str(self.directory), *argv, "--json"]
        environment = os.environ | {"DBUS_SYSTEM_BUS_ADDRESS": self.address}
        told = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=waits.HANG, check=False)
        last: dict[str, Any] = json.loads(told.stdout.splitlines()[-1])
        return last

    def entry(self, code: str) -> dict[str, str]:
        """The entry of the journal about an error."""
        while True:
            lines = self.journal.recv(1 << 18).decode().splitlines()
            entry = dict(line.split("=", 1) for line in lines)
            if entry.get("TWINSLOT_CODE") == code:
                return entry


@pytest.fixture
def served(tmp_path: Path, bench: ReleaseBench) -> Iterator[Served]:
    (tmp_path / "etc/twinslot").mkdir(parents=True)
    (tmp_path / "etc/twinslot/config.toml").write_text(CONFIG.format(directory=tmp_path, root=bench.root))
    updater_of = functools.partial(HostUpdater, HostDevice(tmp_path, bench))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal, private_bus() as address:
        journal.bind(str(tmp_path / "journal"))
        journal.settimeout(waits.HANG)

        def service() -> None:
            logging.getLogger("twinslot").setLevel(logging.INFO)
            logging.getLogger("twinslot").addHandler(logs.JournalHandler(tmp_path / "journal"))
            serve(updater_of, address=address)

        process = multiprocessing.get_context("fork").Process(target=service)
        process.start()
        try:
            waits.until(lambda: Caller(address).owned())
            yield Served(address, tmp_path, journal)
        finally:
            process.kill()
            process.join(waits.HANG)


def without(data: dict[str, Any], *beside: set[str]) -> dict[str, Any]:
    """The error in what a surface shows: all but what belongs to the surface."""
    return {key: value for key, value in data.items() if key not in set().union(*beside)}


def of_journal(entry: dict[str, str]) -> dict[str, Any]:
    """The error in an entry, by the rule of docs/compatibility.md."""
    found: dict[str, Any] = {key: entry[name] for key, name in JOURNAL.items() if name in entry}
    return found | ({"reasons": json.loads(found["reasons"])} if "reasons" in found else {})


@pytest.mark.parametrize(
    ("image", "code", "keys"),
    [
        ("cut", "image.truncated", {"expected", "found", "hint"}),
        ("foreign", "refused.compatible", {"expected", "found", "reasons"}),
        ("foreign-and-checked", "refused.compatible", {"reasons"}),
    ],
)
def test_an_install_that_ends_with_an_error_tells_the_same_on_every_surface(
    served: Served, bench: ReleaseBench, image: str, code: str, keys: set[str]
) -> None:
    line = without(served.twinslot("install", str(bench.directory / f"{image}.twin")), LINE)
    assert line.keys() == {"family", "code", "message"} | keys, "no key for what is not known"
    assert (line["family"], line["code"]) == (code.partition(".")[0], code)
    for reason in line.get("reasons", ()):
        assert {"family", "code", "message"} <= reason.keys() <= FIELDS.keys()
        assert None not in reason.values()
    caller = Caller(served.address)
    ended = json.loads(caller.get("LastResult"))
    row = served.twinslot("log")
    assert ended["error"] == line
    assert without(row["fields"], ROW) == line
    assert of_journal(served.entry(code)) == line


def test_a_call_that_is_refused_tells_the_same_to_its_caller_and_to_the_journal(served: Served) -> None:
    with pytest.raises(Answered) as caught:
        Caller(served.address).call("Activate", "a{sv}", {"retri": Variant("b", True)})
    told = json.loads(caught.value.words.splitlines()[1])
    assert (told["family"], told["code"]) == ("refused", "refused.option-unknown")
    assert told.keys() <= FIELDS.keys()
    assert of_journal(served.entry(told["code"])) == told


def test_the_tool_of_the_build_host_tells_an_error_as_a_device_does(
    bench: ReleaseBench, capsys: pytest.CaptureFixture[str]
) -> None:
    cut, root = str(bench.directory / "cut.twin"), str(bench.root)
    assert twinslot_image(["verify", cut, "--root", root, "--roles", "engineering", "--json"]) == 3
    told = json.loads(capsys.readouterr().out)
    assert told.keys() == {"family", "code", "message", "expected", "found", "hint"} | LINE
    assert (told["family"], told["code"]) == ("image", "image.truncated")
