"""Files beside an image that cannot be had, however: the update goes on, quickly, and says what it did without."""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, cast

import pytest
from file_web import FileWeb, serving_files
from host_device import SLOT_SIZE, HostDevice
from release_bench import ReleaseBench

import waits
from twinslot.core.errors import TransportError
from twinslot.core.manifest import parse_manifest
from twinslot.core.model import SlotName
from twinslot.core.progress import Progress
from twinslot.engine import streams
from twinslot.queries.forecast import forecast
from twinslot.transport.http.options import HttpSettings, for_sidecar

pytestmark = pytest.mark.slow

GROUP = 65536
NOISE = [random.Random(f"beside {n}").randbytes(GROUP) for n in range(14)]
OLD, NEW = b"".join(NOISE[:8]), b"".join([*NOISE[:2], *NOISE[8:14]])
PATIENT: dict[str, Any] = {"connect_timeout": 5.0, "read_timeout": 0.4, "retries": 10, "retry_wait": 0.02}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> ReleaseBench:
    bench = ReleaseBench.make(tmp_path_factory.mktemp("bench"))
    bench.image("1.0", 10, OLD)
    bench.image("2.0", 20, NEW)
    return bench


@pytest.fixture
def web(bench: ReleaseBench) -> Iterator[FileWeb]:
    with serving_files(bench.directory) as web:
        yield web


@pytest.fixture
def device(tmp_path: Path, bench: ReleaseBench) -> HostDevice:
    device = HostDevice(tmp_path, bench)
    device.slots[SlotName.A].write_bytes(OLD.ljust(SLOT_SIZE, b"\0"))
    return device


def status(code: int, **headers: str) -> Any:
    def answer(asked: BaseHTTPRequestHandler) -> None:
        asked.send_response(code)
        for name, value in headers.items():
            asked.send_header(name.replace("_", "-"), value)
        asked.send_header("Content-Length", "4")
        asked.end_headers()
        asked.wfile.write(b"oops")

    return answer


def page(asked: BaseHTTPRequestHandler) -> None:
    status(200, Content_Type="text/html")(asked)


def garbage(asked: BaseHTTPRequestHandler) -> None:
    asked.send_response(206)
    asked.send_header("Content-Range", "bytes 0-3999/4000")
    asked.send_header("Content-Length", "4000")
    asked.end_headers()
    asked.wfile.write(b"<html>log in".ljust(4000))


def resets(asked: BaseHTTPRequestHandler) -> None:
    asked.close_connection = True
    asked.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    asked.connection.close()


def silent(asked: BaseHTTPRequestHandler) -> None:
    cast(FileWeb, asked.server).ended.wait(waits.HANG)
    asked.close_connection = True


def drips(asked: BaseHTTPRequestHandler) -> None:
    asked.close_connection = True
    asked.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
    while not cast(FileWeb, asked.server).ended.wait(0.05):
        asked.wfile.write(b"x")


def truncated(asked: BaseHTTPRequestHandler) -> None:
    asked.close_connection = True
    asked.send_response(206)
    asked.send_header("Content-Range", "bytes 0-3999/4000")
    asked.send_header("Content-Length", "4000")
    asked.end_headers()
    asked.wfile.write(b"x" * 100)


TROUBLES = {
    **{str(code): status(code) for code in (401, 429, 500)},
    "asks for an hour": status(503, Retry_After="3600"),
    "escape sequences": status(206, Content_Range="bytes \x1b[31m0-1/2"),
    "compressed": status(200, Content_Encoding="gzip"),
    "a loop": status(302, Location="/again.twinpatch"),
    "a redirect to nowhere": status(302, Location="http://127.0.0.1:9/"),
    "a redirect to a name that is none": status(302, Location="http://a..b/"),
    "a page to log in": page,
    "a page in parts": garbage,
    "reset": resets,
    "silent": silent,
    "dripping": drips,
    "truncated": truncated,
}


@pytest.mark.verifies("S28", "REQ-NET-03")
@pytest.mark.parametrize("trouble", TROUBLES)
def test_an_update_goes_on_without_what_cannot_be_had_beside_the_image(
    device: HostDevice, web: FileWeb, trouble: str
) -> None:
    web.answers = dict.fromkeys((".twinpatch", ".twinblocks"), TROUBLES[trouble])
    if trouble in ("silent", "dripping", "truncated"):  # each takes a few read timeouts; one of the two tells
        web.answers.pop(".twinblocks")
    transaction = device.install(web.url("2.0.twin"), **PATIENT)
    assert device.content(SlotName.B)[: len(NEW)] == NEW
    assert transaction.unused.keys() == {"patch", "block list"}
    assert all(why.isprintable() for why in transaction.unused.values())
    assert sum(path.endswith(".twinpatch") for path in web.asked) <= 12, "the target of a loop of redirects too"


def test_that_there_is_nothing_beside_the_image_is_told(device: HostDevice, web: FileWeb) -> None:
    assert device.install(web.url("2.0.twin"), **PATIENT).unused == {
        "patch": "there is none beside the image",
        "block list": "there is none beside the image",
    }


@pytest.mark.verifies("S28")
def test_a_dry_run_goes_on_as_well_and_says_what_is_not_used(device: HostDevice, web: FileWeb) -> None:
    web.answers = dict.fromkeys((".twinpatch", ".twinblocks"), status(503))
    config = replace(device.config, http=replace(device.config.http, **PATIENT))
    stream = streams.open_stream(config, web.url("2.0.twin"), service_workers=False)
    try:
        found = forecast(config, device.places(), stream, parse_manifest(stream.head().manifest), SlotName.A, {})
    finally:
        stream.close()
    assert found.as_dict()["unused"]["patch"].endswith("HTTP status 503 Service Unavailable")


def test_a_server_without_ranges_is_told_in_the_result(device: HostDevice, web: FileWeb) -> None:
    web.ranges = False
    unused = device.install(web.url("2.0.twin"), **PATIENT).unused
    assert unused == {"ranges": "the server gives the image only as a whole, so all of it is fetched"}


def test_the_deadline_of_the_whole_update_holds_for_what_is_beside_the_image_too(
    device: HostDevice, web: FileWeb
) -> None:
    web.answers = {".twinpatch": silent}
    with pytest.raises(TransportError) as error:
        device.install(web.url("2.0.twin"), **PATIENT | {"read_timeout": 30.0, "deadline": 1.0})
    assert error.value.code == "transport.deadline"


def test_a_wait_for_the_server_is_progress(device: HostDevice, web: FileWeb) -> None:
    calls: list[int] = []

    def fails_first(asked: BaseHTTPRequestHandler) -> None:
        calls.append(1)
        web.answers.clear()
        status(503)(asked)

    web.answers = {".twin": fails_first}
    seen: list[Progress] = []
    device.install(web.url("2.0.twin"), observer=seen.append, **PATIENT)
    notes = [progress.note for progress in seen if progress.note]
    assert notes[0].startswith("HTTP status 503 Service Unavailable; try 2 of 11 in ")


def test_what_an_update_can_do_without_is_tried_for_seconds_and_never_longer_than_the_image() -> None:
    usual, hasty = HttpSettings(), HttpSettings(connect_timeout=1.0, read_timeout=1.0, retries=0, retry_wait=0.0)
    found = for_sidecar(usual)
    assert (found.retries + 1) * (found.read_timeout + found.retry_wait) <= 60
    assert for_sidecar(hasty) == hasty


def test_machines_behind_one_name_with_etags_of_their_own_are_one_server(device: HostDevice, web: FileWeb) -> None:
    web.machines = 2
    device.install(web.url("2.0.twin"), **PATIENT)
    assert device.content(SlotName.B)[: len(NEW)] == NEW


def test_machines_behind_one_name_with_other_images_are_not_mixed(
    device: HostDevice, web: FileWeb, bench: ReleaseBench
) -> None:
    web.machines, web.other = 2, bench.directory / "1.0.twin"
    with pytest.raises(TransportError) as error:
        device.install(web.url("2.0.twin"), **PATIENT)
    assert error.value.code == "transport.changed"
