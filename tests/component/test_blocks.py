"""An update of a base that nobody knows, whose content has shifted: by blocks, over real HTTP, through real workers."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from file_web import FileWeb, serving_files
from host_device import SLOT_SIZE, HostDevice
from release_bench import ReleaseBench

from twinslot.core.errors import RefusedError, TransportError
from twinslot.core.manifest import parse_manifest
from twinslot.core.model import SlotName
from twinslot.core.transaction import Transaction
from twinslot.engine import streams
from twinslot.image.wire_blocks import BLOCK_SIZE
from twinslot.queries.forecast import Forecast, forecast
from twinslot_image.cli import main

pytestmark = pytest.mark.slow

GROUP = 65536
QUICK: dict[str, Any] = {"connect_timeout": 5.0, "read_timeout": 5.0, "retries": 1, "retry_wait": 0.01}
OLD = random.Random(1).randbytes(13 * GROUP)
NOVEL = random.Random(2).randbytes(3 * BLOCK_SIZE)
# Three blocks in front, so that no group is where or what it was; a hole; the last block is cut off.
NEW = NOVEL + OLD[: 5 * GROUP] + bytes(2 * BLOCK_SIZE) + OLD[6 * GROUP : -1000]
SLOT_B = NEW.ljust(SLOT_SIZE, b"\0")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> ReleaseBench:
    bench = ReleaseBench.make(tmp_path_factory.mktemp("bench"))
    bench.image("2.0", 20, NEW)
    bench.image("alone", 20, NEW)
    assert main(["blocks", str(bench.directory / "2.0.twin")]) == 0
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


@pytest.fixture
def listed(bench: ReleaseBench) -> Iterator[Path]:
    """The block list, as it was again after the test."""
    path = bench.directory / "2.0.twinblocks"
    before = path.read_bytes()
    yield path
    path.write_bytes(before)


def install(device: HostDevice, url: str) -> Transaction:
    return device.install(url, **QUICK)


def with_policy(device: HostDevice, **policy: Any) -> None:
    device.config = replace(device.config, delta=replace(device.config.delta, **policy))


def forecasted(device: HostDevice, url: str) -> Forecast:
    stream = streams.open_stream(device.config, url, service_workers=False)
    try:
        manifest = parse_manifest(stream.head().manifest)
        return forecast(device.config, device.places(), stream, manifest, device.running, {})
    finally:
        stream.close()


def test_groups_are_put_together_from_blocks_that_stand_elsewhere(device: HostDevice, web: FileWeb) -> None:
    done = install(device, web.url("2.0.twin"))
    assert device.content(SlotName.B) == SLOT_B
    assert web.sent["2.0.twinblocks"] < 3 * GROUP, "two groups with new blocks, sums, lengths"
    assert done.bytes_fetched == web.sent["2.0.twin"] + web.sent["2.0.twinblocks"]
    assert done.bytes_fetched < len(NEW) / 3


def test_without_a_block_list_the_same_update_fetches_everything(device: HostDevice, web: FileWeb) -> None:
    done = install(device, web.url("alone.twin"))
    assert device.content(SlotName.B) == SLOT_B
    assert done.bytes_fetched > len(NEW) * 0.95


@pytest.mark.parametrize("at", [0, 8, 20, 48, 60, 70, 130, 400, 2000, -5, -70_000])
def test_a_damaged_block_list_costs_bytes_and_never_content(
    device: HostDevice, web: FileWeb, listed: Path, at: int
) -> None:
    data = bytearray(listed.read_bytes())
    data[at] ^= 0xFF
    listed.write_bytes(data)
    install(device, web.url("2.0.twin"))
    assert device.content(SlotName.B) == SLOT_B


@pytest.mark.parametrize("size", [0, 10, 50, 300, 5000, -1])
def test_a_block_list_that_was_cut_off_on_the_server_leaves_the_image(
    device: HostDevice, web: FileWeb, listed: Path, size: int
) -> None:
    listed.write_bytes(listed.read_bytes()[:size])
    install(device, web.url("2.0.twin"))
    assert device.content(SlotName.B) == SLOT_B


@pytest.mark.parametrize("parts", [0, 1, 2, 3])
def test_a_server_that_gives_no_parts_of_it_any_more_leaves_the_image(
    device: HostDevice, web: FileWeb, parts: int
) -> None:
    web.parts["2.0.twinblocks"] = parts
    install(device, web.url("2.0.twin"))
    assert device.content(SlotName.B) == SLOT_B


def test_another_images_block_list_is_not_used(
    device: HostDevice, bench: ReleaseBench, web: FileWeb, listed: Path
) -> None:
    other = bench.image("other", 30, NEW[::-1])
    assert main(["blocks", str(other), "-o", str(listed)]) == 0
    install(device, web.url("2.0.twin"))
    assert device.content(SlotName.B) == SLOT_B
    assert web.sent["2.0.twinblocks"] <= 4096, "its head"


@pytest.mark.verifies("S2")
def test_sums_that_lie_are_found_out_by_the_digest_and_the_packed_group_comes_instead(
    device: HostDevice, web: FileWeb, listed: Path
) -> None:
    data = bytearray(listed.read_bytes())
    sums = 48 + 16 + 4 * -(-len(NEW) // GROUP)
    one, other = (slice(sums + 4 * at, sums + 4 * at + 4) for at in (20, 40))
    data[one], data[other] = data[other], data[one]
    listed.write_bytes(data)
    with_policy(device, on_failure="fail")
    done = install(device, web.url("2.0.twin"))
    assert device.content(SlotName.B) == SLOT_B
    assert done.bytes_fetched < len(NEW) / 2


def test_a_base_that_is_damaged_falls_back_to_packed_groups(device: HostDevice, web: FileWeb) -> None:
    with device.slots[SlotName.A].open("r+b") as file:
        for at in range(0, 13 * GROUP, GROUP):
            file.seek(at + 77)
            file.write(b"\0\xff\0")
    install(device, web.url("2.0.twin"))
    assert device.content(SlotName.B) == SLOT_B


@pytest.mark.verifies("REQ-NET-05")
def test_a_block_list_counts_towards_the_budget(device: HostDevice, web: FileWeb) -> None:
    needed = forecasted(device, web.url("2.0.twin")).fetch
    with_policy(device, budget=needed - 1)
    with pytest.raises(TransportError, match="budget"):
        install(device, web.url("2.0.twin"))
    with_policy(device, budget=needed)
    install(device, web.url("2.0.twin"))
    assert device.content(SlotName.B) == SLOT_B


def test_policy_may_do_without(device: HostDevice, web: FileWeb) -> None:
    with_policy(device, patches=False)
    install(device, web.url("2.0.twin"))
    assert "2.0.twinblocks" not in web.sent
    assert device.content(SlotName.B) == SLOT_B


def test_policy_that_insists_refuses_when_a_packed_group_is_damaged(
    device: HostDevice, web: FileWeb, listed: Path
) -> None:
    data = bytearray(listed.read_bytes())
    data[-100] ^= 0xFF
    listed.write_bytes(data)
    with_policy(device, on_failure="fail")
    with pytest.raises(RefusedError, match="cannot be made from what this device holds"):
        install(device, web.url("2.0.twin"))


def test_a_dry_run_says_what_the_install_then_fetches(device: HostDevice, web: FileWeb) -> None:
    told = forecasted(device, web.url("2.0.twin"))
    done = install(device, web.url("2.0.twin"))
    assert told.fetch == done.bytes_fetched
    assert told.image == 0
    assert GROUP < told.patch < 3 * GROUP


@pytest.mark.verifies("REQ-IMG-07")
def test_the_tool_gives_the_same_bytes_for_the_same_content_and_inspect_reads_them(
    bench: ReleaseBench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "again"
    assert main(["blocks", "--json", str(bench.directory / "alone.twin"), "-o", str(out)]) == 0
    result = json.loads(capsys.readouterr().out)
    told = result["blocks"]
    assert (result["type"], result["command"], result["file"]) == ("result", "blocks", str(out))
    assert out.read_bytes() == (bench.directory / "2.0.twinblocks").read_bytes(), "whoever signed it, and when"
    assert main(["inspect", "--json", str(out)]) == 0
    assert json.loads(capsys.readouterr().out) == {"type": "inspect", "blocks": told}
    assert told["size"] == out.stat().st_size
    assert main(["inspect", str(out)]) == 0
    assert "A block list is not signed" in capsys.readouterr().out


def test_groups_of_one_block_have_no_use_for_a_block_list(
    bench: ReleaseBench, capsys: pytest.CaptureFixture[str]
) -> None:
    image = bench.image("tiny", 50, NEW[:GROUP], group_size=BLOCK_SIZE)
    assert main(["blocks", str(image)]) != 0
    assert "groups too small for a block list" in capsys.readouterr().err
