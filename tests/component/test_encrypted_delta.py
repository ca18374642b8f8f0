"""Encrypted images over HTTP: ranges, resuming, patches and block lists go on working."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from file_web import FileWeb, serving_files
from host_device import SLOT_SIZE, HostDevice
from release_bench import ReleaseBench

from twinslot.config.options import DecryptionConfig
from twinslot.core.errors import RefusedError, TransportError
from twinslot.core.manifest import parse_manifest
from twinslot.core.model import SlotName
from twinslot.core.transaction import Transaction
from twinslot.engine import streams
from twinslot.image.layout import layout
from twinslot.image.wire import parse_header
from twinslot.queries.forecast import forecast
from twinslot_image.cli import main

pytestmark = pytest.mark.slow

GROUP = 65536
QUICK: dict[str, Any] = {"connect_timeout": 5.0, "read_timeout": 5.0, "retries": 1, "retry_wait": 0.01}
NOISE = [random.Random(f"sealed {n}").randbytes(GROUP) for n in range(30)]
OLD = b"".join(NOISE[:12])
NEW = b"".join([*NOISE[:5], NOISE[20], bytes(GROUP), NOISE[2], *NOISE[8:11], NOISE[21][:5000]])
SHIFTED = b"".join([b"four KiB".ljust(4096), OLD[: 11 * GROUP]])  # every group differs, nearly every block is known


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> ReleaseBench:
    bench = ReleaseBench.make(tmp_path_factory.mktemp("bench"))
    fleet = bench.recipient("fleet").with_suffix(".pub.pem")
    bench.recipient("late")
    for number, content in enumerate((OLD, NEW, SHIFTED), 1):
        bench.image(f"{number}.0", number * 10, content, recipients=(fleet,))
    return bench


@pytest.fixture
def web(bench: ReleaseBench) -> Iterator[FileWeb]:
    with serving_files(bench.directory) as web:
        yield web


@pytest.fixture
def device(tmp_path: Path, bench: ReleaseBench) -> HostDevice:
    device = HostDevice(tmp_path, bench)
    device.config = replace(device.config, decryption=DecryptionConfig(key=str(bench.directory / "fleet.pem")))
    device.slots[SlotName.A].write_bytes(OLD.ljust(SLOT_SIZE, b"\0"))
    return device


def install(device: HostDevice, url: str) -> Transaction:
    return device.install(url, **QUICK)


def front_size(image: Path) -> int:
    """Header, trust, manifest and envelope: what a device needs of the image when a patch has the rest."""
    data = image.read_bytes()
    header = parse_header(data[:64])
    manifest = parse_manifest(data[64 + header.trust :][: header.manifest])
    return layout(header, manifest).envelope.end


def made(bench: ReleaseBench, *arguments: str) -> Path:
    assert main([*arguments, "--identity", str(bench.directory / "fleet.pem")]) == 0
    return Path(arguments[-1])


@pytest.fixture
def patch(bench: ReleaseBench) -> Iterator[Path]:
    """From 1.0 to 2.0, as it is served."""
    name = f"2.0.from-{hashlib.sha256(OLD).hexdigest()[:16]}.twinpatch"
    old, new = (str(bench.directory / f"{number}.0.twin") for number in (1, 2))
    yield (path := made(bench, "patch", old, new, "-o", str(bench.directory / name)))
    path.unlink()


@pytest.fixture
def blocks(bench: ReleaseBench) -> Iterator[Path]:
    """Of 3.0."""
    place = str(bench.directory / "3.0.twinblocks")
    yield (path := made(bench, "blocks", str(bench.directory / "3.0.twin"), "-o", place))
    path.unlink()


@pytest.fixture
def knows_its_base(device: HostDevice, bench: ReleaseBench) -> HostDevice:
    """A device that was updated to 1.0 and runs it from slot b, so that it knows what it has."""
    device.install(bench.directory / "1.0.twin")
    device.running, device.boots = SlotName.B, 2
    device.engine().boot()
    device.engine().check()
    device.engine().commit(if_trial=True)
    return device


def test_groups_that_the_running_slot_holds_are_not_fetched(device: HostDevice, web: FileWeb) -> None:
    done = install(device, web.url("2.0.twin"))
    assert device.content(SlotName.B) == NEW.ljust(SLOT_SIZE, b"\0")
    assert done.bytes_copied == 9 * GROUP
    assert done.bytes_fetched == web.sent["2.0.twin"] < 2 * GROUP


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_after_a_cut_of_the_network_only_the_rest_is_fetched(
    device: HostDevice, bench: ReleaseBench, web: FileWeb, share: float
) -> None:
    device.slots[SlotName.A].write_bytes(b"a" * SLOT_SIZE)  # nothing of use
    image = bench.directory / "2.0.twin"
    web.left = int(image.stat().st_size * share)
    with pytest.raises(TransportError):
        install(device, web.url("2.0.twin"))
    cut, web.left = web.sent["2.0.twin"], None
    done = install(device, web.url("2.0.twin"))
    assert device.content(SlotName.B) == NEW.ljust(SLOT_SIZE, b"\0")
    again = cut + done.bytes_fetched - image.stat().st_size
    assert again <= front_size(image) + 4 * GROUP, "the front, what was under way, and no more"


@pytest.mark.parametrize("parts", range(7))
def test_a_server_that_gives_parts_up_at_any_point_still_serves(device: HostDevice, web: FileWeb, parts: int) -> None:
    web.parts["2.0.twin"] = parts
    install(device, web.url("2.0.twin"))
    assert device.content(SlotName.B) == NEW.ljust(SLOT_SIZE, b"\0")


def test_with_a_sealed_patch_nothing_behind_the_envelope_of_the_image_is_fetched(
    knows_its_base: HostDevice, bench: ReleaseBench, web: FileWeb, patch: Path
) -> None:
    done = install(knows_its_base, web.url("2.0.twin"))
    assert knows_its_base.content(SlotName.A) == NEW.ljust(SLOT_SIZE, b"\0")
    assert web.sent["2.0.twin"] == front_size(bench.directory / "2.0.twin")
    assert web.sent[patch.name] <= patch.stat().st_size + 2 * 4112, "the first chunk comes with the head, and again"
    assert done.bytes_fetched == web.sent["2.0.twin"] + web.sent[patch.name]


def test_a_dry_run_of_an_encrypted_image_says_what_the_install_does(
    knows_its_base: HostDevice, web: FileWeb, patch: Path
) -> None:
    stream = streams.open_stream(knows_its_base.config, web.url("2.0.twin"), service_workers=False)
    try:
        manifest = parse_manifest(stream.head().manifest)
        with knows_its_base.record() as record:
            known = record.slot(SlotName.B)
        assert known is not None
        places = knows_its_base.places()
        told = forecast(knows_its_base.config, places, stream, manifest, SlotName.B, known.payloads)
    finally:
        stream.close()
    assert (told.image, told.patch > 0) == (0, True)
    assert told.head + told.patch <= install(knows_its_base, web.url("2.0.twin")).bytes_fetched


def test_nothing_of_the_new_content_stands_in_a_sealed_patch_or_block_list(patch: Path, blocks: Path) -> None:
    for path, content in ((patch, NOISE[20]), (blocks, OLD)):
        data = path.read_bytes()
        assert data.startswith(b"\x89TWSD\r\n\x1a")
        assert not any(content[at : at + 16] in data for at in range(0, len(content), 64))


@pytest.mark.parametrize("at", [0, 9, 20, 33, 60, 3000, 9000, -1])
def test_a_sealed_patch_that_was_damaged_costs_bytes_and_never_content(
    knows_its_base: HostDevice, web: FileWeb, patch: Path, at: int
) -> None:
    data = bytearray(patch.read_bytes())
    data[at] ^= 1
    patch.write_bytes(data)
    install(knows_its_base, web.url("2.0.twin"))
    assert knows_its_base.content(SlotName.A) == NEW.ljust(SLOT_SIZE, b"\0")


def test_a_patch_that_is_not_sealed_is_not_taken_beside_an_encrypted_image(
    knows_its_base: HostDevice, bench: ReleaseBench, web: FileWeb, tmp_path: Path
) -> None:
    """Whoever stands before the server could have made it."""
    plain = [bench.image(f"plain-{number}", number, content) for number, content in ((1, OLD), (2, NEW))]
    name = f"2.0.from-{hashlib.sha256(OLD).hexdigest()[:16]}.twinpatch"
    path = bench.directory / name
    assert main(["patch", *map(str, plain), "-o", str(path)]) == 0
    try:
        install(knows_its_base, web.url("2.0.twin"))
    finally:
        path.unlink()
    assert knows_its_base.content(SlotName.A) == NEW.ljust(SLOT_SIZE, b"\0")
    assert web.sent["2.0.twin"] > GROUP, "from the image, then"


def test_with_a_sealed_block_list_a_device_takes_what_it_has_at_other_places(
    knows_its_base: HostDevice, bench: ReleaseBench, web: FileWeb, blocks: Path
) -> None:
    install(knows_its_base, web.url("3.0.twin"))
    assert knows_its_base.content(SlotName.A) == SHIFTED.ljust(SLOT_SIZE, b"\0")
    assert web.sent["3.0.twin"] < front_size(bench.directory / "3.0.twin") + GROUP
    assert web.sent[blocks.name] < 3 * GROUP


def test_a_recipient_that_was_added_later_takes_image_and_patch(
    knows_its_base: HostDevice, bench: ReleaseBench, web: FileWeb, patch: Path
) -> None:
    image, late = bench.directory / "2.0.twin", bench.directory / "late.pem"
    before = image.read_bytes()
    knows_its_base.config = replace(knows_its_base.config, decryption=DecryptionConfig(key=str(late)))
    with pytest.raises(RefusedError, match="encrypted for other keys"):
        install(knows_its_base, web.url("2.0.twin"))
    made(bench, "recipients", "add", str(image), str(late.with_suffix(".pub.pem")))
    try:
        web.sent.clear()
        install(knows_its_base, web.url("2.0.twin"))
        assert knows_its_base.content(SlotName.A) == NEW.ljust(SLOT_SIZE, b"\0")
        assert web.sent["2.0.twin"] == front_size(image)
    finally:
        image.write_bytes(before)
