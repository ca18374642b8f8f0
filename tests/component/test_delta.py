"""Only what is needed: over real HTTP, into real files, through real workers."""

from __future__ import annotations

import hashlib
import random
import subprocess
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
from twinslot.image.wire import parse_header
from twinslot.queries.forecast import Forecast, forecast
from twinslot.storage.known_lists import ListStore
from twinslot_image.cli import main

pytestmark = pytest.mark.slow

GROUP = 65536
GROUPS = 12
QUICK: dict[str, Any] = {"connect_timeout": 5.0, "read_timeout": 5.0, "retries": 1, "retry_wait": 0.01}
NOISE = [random.Random(f"group {n}").randbytes(GROUP) for n in range(40)]

OLD = b"".join(NOISE[:GROUPS])
NEW = b"".join([*NOISE[:5], NOISE[20], bytes(GROUP), NOISE[2], *NOISE[8:11], NOISE[21][:5000]])  # 5 and the last new
NEXT = b"".join([*NOISE[:4], NOISE[22], NOISE[20], bytes(GROUP), NOISE[2], *NOISE[8:11], NOISE[21][:5000]])


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> ReleaseBench:
    bench = ReleaseBench.make(tmp_path_factory.mktemp("bench"))
    for number, content in enumerate((OLD, NEW, NEXT), 1):
        bench.image(f"{number}.0", number * 10, content)
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


def install(device: HostDevice, url: str) -> Transaction:
    return device.install(url, **QUICK)


def with_policy(device: HostDevice, **policy: Any) -> None:
    device.config = replace(device.config, delta=replace(device.config.delta, **policy))


def lists(device: HostDevice) -> ListStore:
    return ListStore(device.directory / "data/lists")


def head_size(image: Path) -> int:
    """All but groups: header, trust, manifest, lists, tables."""
    header = parse_header(image.read_bytes()[:64])
    return header.total - header.groups


def test_groups_that_the_running_slot_holds_are_not_fetched(
    device: HostDevice, bench: ReleaseBench, web: FileWeb
) -> None:
    done = install(device, web.url("2.0.twin"))
    assert device.content(SlotName.B) == NEW.ljust(SLOT_SIZE, b"\0")
    assert done.bytes_copied == 9 * GROUP, "also the one that moved"
    assert done.bytes_zeroed == GROUP
    assert done.bytes_fetched == web.sent["2.0.twin"]
    assert done.bytes_fetched <= head_size(bench.directory / "2.0.twin") + GROUP + 5000
    assert device.content(SlotName.A) == OLD.ljust(SLOT_SIZE, b"\0")


def test_groups_that_the_target_holds_in_their_place_are_not_written(device: HostDevice, web: FileWeb) -> None:
    install(device, web.url("2.0.twin"))
    done = install(device, web.url("3.0.twin"))
    assert device.content(SlotName.B) == NEXT.ljust(SLOT_SIZE, b"\0")
    assert done.bytes_written == 2 * GROUP, "the one that changed, and the first, which is wiped and written last"
    assert done.bytes_skipped + done.bytes_written + done.bytes_zeroed == len(NEXT)
    assert web.sent["3.0.twin"] < 2 * GROUP


def test_a_file_and_a_pipe_spare_the_same_writes(device: HostDevice, bench: ReleaseBench) -> None:
    device.install(bench.directory / "2.0.twin")
    done = device.install(bench.directory / "3.0.twin")
    assert done.bytes_written == 2 * GROUP
    pipe = subprocess.Popen(["cat", bench.directory / "2.0.twin"], stdout=subprocess.PIPE)
    assert pipe.stdout is not None
    done = device.install(pipe.stdout.fileno())
    pipe.stdout.close()
    assert pipe.wait() == 0
    assert done.bytes_written == 2 * GROUP
    assert device.content(SlotName.B) == NEW.ljust(SLOT_SIZE, b"\0")


def test_lists_that_are_missing_are_made_anew(device: HostDevice, web: FileWeb) -> None:
    install(device, web.url("2.0.twin"))
    for path in (device.directory / "data/lists").iterdir():
        path.unlink()
    done = install(device, web.url("3.0.twin"))
    assert device.content(SlotName.B) == NEXT.ljust(SLOT_SIZE, b"\0")
    assert web.sent["3.0.twin"] < 2 * GROUP
    assert done.bytes_written == 2 * GROUP
    known = lists(device).load(SlotName.B, "rootfs")
    assert known is not None
    assert known.size == len(NEXT)


def damage(device: HostDevice, slot: SlotName, group: int) -> None:
    """Change a byte of a slot behind the back of its list."""
    with device.slots[slot].open("r+b") as file:
        file.seek(group * GROUP + 77)
        file.write(b"\0\xff\0")


@pytest.mark.verifies("S2")
@pytest.mark.parametrize("slot", list(SlotName))
def test_what_a_list_promises_and_a_slot_does_not_hold_is_fetched(
    device: HostDevice, web: FileWeb, slot: SlotName
) -> None:
    install(device, web.url("2.0.twin"))  # leaves a list of each slot
    damage(device, slot, 2)
    install(device, web.url("3.0.twin"))
    assert device.content(SlotName.B) == NEXT.ljust(SLOT_SIZE, b"\0")


def test_policy_may_refuse_to_fetch_what_should_have_been_here(device: HostDevice, web: FileWeb) -> None:
    install(device, web.url("2.0.twin"))
    damage(device, SlotName.B, 3)
    with_policy(device, on_failure="fail")
    with pytest.raises(RefusedError, match="cannot be made from what this device holds"):
        install(device, web.url("3.0.twin"))
    assert device.environment()["slot_b"] == "bad"
    web.ranges = False
    with pytest.raises(RefusedError, match="sends only the whole file"):
        install(device, web.url("3.0.twin"))


def test_a_server_without_ranges_still_serves_and_writes_are_spared(device: HostDevice, web: FileWeb) -> None:
    web.ranges = False
    install(device, web.url("2.0.twin"))
    done = install(device, web.url("3.0.twin"))
    assert device.content(SlotName.B) == NEXT.ljust(SLOT_SIZE, b"\0")
    assert done.bytes_written == 2 * GROUP


@pytest.mark.verifies("REQ-NET-01")
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_after_a_cut_of_the_network_only_the_rest_is_fetched(
    device: HostDevice, bench: ReleaseBench, web: FileWeb, share: float
) -> None:
    device.slots[SlotName.A].write_bytes(b"a" * SLOT_SIZE)  # nothing of use
    image = bench.directory / "2.0.twin"
    web.left = int(image.stat().st_size * share)
    with pytest.raises(TransportError):
        install(device, web.url("2.0.twin"))
    cut = web.sent["2.0.twin"]
    web.left = None
    done = install(device, web.url("2.0.twin"))
    assert device.content(SlotName.B) == NEW.ljust(SLOT_SIZE, b"\0")
    again = cut + done.bytes_fetched - image.stat().st_size
    assert again <= head_size(image) + 2 * GROUP, "at most one group, and what the server had on its way"


@pytest.mark.verifies("REQ-NET-05")
def test_a_budget_bounds_what_is_fetched(device: HostDevice, web: FileWeb) -> None:
    with_policy(device, budget=50_000)
    with pytest.raises(TransportError, match="budget") as error:
        install(device, web.url("2.0.twin"))
    assert error.value.code == "transport.budget"
    assert web.sent["2.0.twin"] < 20_000, "before anything of it was fetched"
    with_policy(device, budget=100_000)
    install(device, web.url("2.0.twin"))
    assert device.content(SlotName.B) == NEW.ljust(SLOT_SIZE, b"\0")


def test_a_budget_holds_when_a_server_gives_no_parts_any_more(device: HostDevice, web: FileWeb) -> None:
    with_policy(device, budget=100_000)
    web.parts["2.0.twin"] = 4  # header, head, list and table: the groups come as the whole image
    with pytest.raises(TransportError, match="budget") as error:
        install(device, web.url("2.0.twin"))
    assert int(str(error.value.found).split()[0]) < 400_000, "one read of the network too many, not all of the image"


@pytest.fixture
def runs_two(device: HostDevice, bench: ReleaseBench) -> HostDevice:
    """A device that was updated to 2.0 and runs it from slot b."""
    device.install(bench.directory / "2.0.twin")
    device.running, device.boots = SlotName.B, 2
    device.engine().boot()
    device.engine().check()
    device.engine().commit(if_trial=True)
    return device


@pytest.fixture
def patch(bench: ReleaseBench) -> Iterator[Path]:
    """The sidecar from 2.0 to 3.0, beside the image."""
    name = f"3.0.from-{hashlib.sha256(NEW).hexdigest()[:16]}.twinpatch"
    path = bench.directory / name
    old, new = bench.directory / "2.0.twin", bench.directory / "3.0.twin"
    assert main(["patch", str(old), str(new), "-o", str(path)]) == 0
    yield path
    path.unlink()


def test_with_a_patch_neither_list_nor_table_nor_group_of_the_image_is_fetched(
    runs_two: HostDevice, web: FileWeb, patch: Path
) -> None:
    done = install(runs_two, web.url("3.0.twin"))
    assert runs_two.content(SlotName.A) == NEXT.ljust(SLOT_SIZE, b"\0")
    head = parse_header((web.folder / "3.0.twin").read_bytes()[:64])
    assert web.sent["3.0.twin"] == 64 + head.trust + head.manifest
    assert web.sent[patch.name] <= patch.stat().st_size + 4096
    assert done.bytes_fetched == web.sent["3.0.twin"] + web.sent[patch.name]


@pytest.mark.verifies("REQ-NET-03")
@pytest.mark.parametrize("at", [0.0, 0.3, 0.99])
def test_a_damaged_patch_costs_bytes_and_never_content(
    runs_two: HostDevice, web: FileWeb, patch: Path, at: float
) -> None:
    data = bytearray(patch.read_bytes())
    data[int(len(data) * at)] ^= 0xFF
    patch.write_bytes(data)
    install(runs_two, web.url("3.0.twin"))
    assert runs_two.content(SlotName.A) == NEXT.ljust(SLOT_SIZE, b"\0")


def test_a_patch_of_a_newer_format_is_told_in_one_sentence_and_the_groups_come_from_the_image(
    runs_two: HostDevice, web: FileWeb, patch: Path
) -> None:
    data = bytearray(patch.read_bytes())
    data[8:12] = (4).to_bytes(4, "little")
    patch.write_bytes(data)
    done = install(runs_two, web.url("3.0.twin"))
    assert runs_two.content(SlotName.A) == NEXT.ljust(SLOT_SIZE, b"\0")
    assert done.unused["patch"] == "this is not a patch that this client knows: version: 4"
    assert 0 < web.sent["3.0.twin"] < (web.folder / "3.0.twin").stat().st_size, "ranges of it, not the whole"
    assert web.sent[patch.name] <= 8192, "its head, and no more"


@pytest.mark.parametrize("size", [0, 10, 40, 1000])
def test_a_patch_that_was_cut_off_on_the_server_leaves_the_image(
    runs_two: HostDevice, web: FileWeb, patch: Path, size: int
) -> None:
    patch.write_bytes(patch.read_bytes()[:size])
    install(runs_two, web.url("3.0.twin"))
    assert runs_two.content(SlotName.A) == NEXT.ljust(SLOT_SIZE, b"\0")


def test_a_patch_that_the_server_compresses_leaves_the_image(runs_two: HostDevice, web: FileWeb, patch: Path) -> None:
    web.headers[patch.name] = {"Content-Encoding": "gzip"}
    install(runs_two, web.url("3.0.twin"))
    assert runs_two.content(SlotName.A) == NEXT.ljust(SLOT_SIZE, b"\0")


def test_a_patch_of_which_the_server_gives_only_one_part_is_not_taken_for_an_image(
    device: HostDevice, bench: ReleaseBench, web: FileWeb
) -> None:
    new = b"".join(bytes([OLD[at] ^ 1]) + OLD[at + 1 : at + 4096] for at in range(0, len(OLD), 4096))
    paths = [bench.image(f"small-{n}", 40 + n, data, group_size=4096) for n, data in enumerate((OLD, new))]
    name = f"small-1.from-{hashlib.sha256(OLD).hexdigest()[:16]}.twinpatch"
    assert main(["patch", *map(str, paths), "-o", str(bench.directory / name)]) == 0
    device.slots[SlotName.A].write_bytes(OLD)  # nothing behind it: the list that is made of it is the base's
    web.parts[name] = 1  # too short for all digests
    install(device, web.url("small-1.twin"))
    assert web.sent[name] > 4096
    assert device.content(SlotName.B) == new.ljust(SLOT_SIZE, b"\0")


def test_a_base_that_is_damaged_under_its_list_falls_back_to_the_image(
    runs_two: HostDevice, web: FileWeb, patch: Path
) -> None:
    for group in range(len(NEW) // GROUP):
        damage(runs_two, SlotName.B, group)
    install(runs_two, web.url("3.0.twin"))
    assert runs_two.content(SlotName.A) == NEXT.ljust(SLOT_SIZE, b"\0")


def test_policy_may_do_without_patches(runs_two: HostDevice, web: FileWeb, patch: Path) -> None:
    with_policy(runs_two, patches=False)
    install(runs_two, web.url("3.0.twin"))
    assert patch.name not in web.sent
    assert runs_two.content(SlotName.A) == NEXT.ljust(SLOT_SIZE, b"\0")


def forecasted(device: HostDevice, url: str) -> Forecast:
    """What a dry run says."""
    stream = streams.open_stream(device.config, url, service_workers=False)
    try:
        manifest = parse_manifest(stream.head().manifest)
        with device.record() as record:
            known = record.slot(device.running)
        payloads = known.payloads if known else {}
        return forecast(device.config, device.places(), stream, manifest, device.running, payloads)
    finally:
        stream.close()


@pytest.mark.verifies("REQ-CLI-05")
def test_a_dry_run_says_what_the_install_then_does_and_changes_nothing(device: HostDevice, web: FileWeb) -> None:
    install(device, web.url("2.0.twin"))
    before = device.content(SlotName.B), lists(device).load(SlotName.B, "rootfs")
    web.sent.clear()
    told = forecasted(device, web.url("3.0.twin"))
    assert told.head == web.sent.pop("3.0.twin")
    assert (device.content(SlotName.B), lists(device).load(SlotName.B, "rootfs")) == before
    done = install(device, web.url("3.0.twin"))
    assert told.fetch == done.bytes_fetched
    assert told.running + told.target + told.zero + GROUP == len(NEXT), "one group is new"
    assert told.image >= GROUP


def test_a_dry_run_knows_of_a_patch(runs_two: HostDevice, web: FileWeb, patch: Path) -> None:
    told = forecasted(runs_two, web.url("3.0.twin"))
    done = install(runs_two, web.url("3.0.twin"))
    assert told.image == 0
    assert 0 < told.patch < patch.stat().st_size
    assert told.fetch == done.bytes_fetched


def test_without_reuse_everything_is_fetched(device: HostDevice, bench: ReleaseBench, web: FileWeb) -> None:
    with_policy(device, reuse=False)
    install(device, web.url("2.0.twin"))
    assert web.sent["2.0.twin"] == (bench.directory / "2.0.twin").stat().st_size
