"""Encrypted images on a device: real tool, real workers; the key stays where nothing is parsed (S22)."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from host_device import SLOT_SIZE, HostDevice
from release_bench import ReleaseBench

from twinslot.config.options import DecryptionConfig
from twinslot.core.errors import DeviceError, ImageError, RefusedError
from twinslot.core.manifest import parse_manifest
from twinslot.core.model import SlotName
from twinslot.core.stream import GroupPart, ListPart
from twinslot.crypto.keys import load_private
from twinslot.crypto.recipients import unwrap
from twinslot.engine import streams
from twinslot.worker import launch
from twinslot.worker.stream import WorkerStream
from twinslot.worker.unlock import Decryption
from twinslot_image.encryption import read_envelope

CONTENT = b"superblock".ljust(4096, b"\1") + random.Random(1).randbytes(300_000) + bytes(100_000) + b"text\n" * 30_000


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> ReleaseBench:
    directory = tmp_path_factory.mktemp("bench")
    bench = ReleaseBench.make(directory)
    public = [public_of(bench.recipient(name, kind)) for name, kind in (("fleet", "x25519"), ("device", "p256"))]
    bench.recipient("stranger")
    bench.image("2.0", 20, CONTENT, recipients=tuple(public))
    bench.image("2.1", 21, CONTENT, recipients=tuple(public), cipher="aes-256-gcm")
    return bench


def public_of(private: Path) -> Path:
    return private.with_suffix(".pub.pem")


@pytest.fixture
def device(tmp_path: Path, bench: ReleaseBench) -> HostDevice:
    return with_key(HostDevice(tmp_path, bench), bench.directory / "fleet.pem")


def with_key(device: HostDevice, key: Path | None) -> HostDevice:
    device.config = replace(device.config, decryption=DecryptionConfig(key=str(key or "")))
    return device


def assert_untouched(device: HostDevice) -> None:
    """Neither the slot nor the decision changed: what was there can still be gone back to."""
    assert device.content(SlotName.B) == b"b" * SLOT_SIZE
    assert device.environment()["ts_generation"] == "1"


@pytest.mark.parametrize("release", ["2.0", "2.1"])
@pytest.mark.parametrize("key", ["fleet", "device"])
def test_each_recipient_installs_it_from_a_file(
    device: HostDevice, bench: ReleaseBench, release: str, key: str
) -> None:
    with_key(device, bench.directory / f"{key}.pem")
    device.install(bench.directory / f"{release}.twin")
    assert device.content(SlotName.B) == CONTENT.ljust(SLOT_SIZE, b"\0")
    assert device.environment()["slot"] == "b"


def test_nothing_of_the_content_stands_in_the_file(bench: ReleaseBench) -> None:
    data = (bench.directory / "2.0.twin").read_bytes()
    plain = bench.image("2.0-plain", 20, CONTENT).read_bytes()
    incompressible = CONTENT[70_000:70_032]
    assert incompressible in plain
    assert incompressible not in data


def test_a_device_that_is_no_recipient_changes_nothing_and_says_whose_key_it_needs(
    device: HostDevice, bench: ReleaseBench
) -> None:
    with_key(device, bench.directory / "stranger.pem")
    with pytest.raises(RefusedError) as error:
        device.install(bench.directory / "2.0.twin")
    assert error.value.code == "refused.recipient"
    assert_untouched(device)


def test_a_device_without_a_key_changes_nothing(device: HostDevice, bench: ReleaseBench) -> None:
    with_key(device, None)
    with pytest.raises(DeviceError) as error:
        device.install(bench.directory / "2.0.twin")
    assert error.value.code == "device.decryption-key"
    assert "[decryption] key" in str(error.value)
    assert_untouched(device)


@pytest.mark.verifies("S22")
@pytest.mark.parametrize("found", ["missing", "open to others", "a directory", "another key", "no key"])
def test_a_key_that_cannot_be_used_is_said_before_anything_changes(
    device: HostDevice, bench: ReleaseBench, tmp_path: Path, found: str
) -> None:
    key = tmp_path / "key.pem"
    match found:
        case "open to others":
            key.write_bytes((bench.directory / "fleet.pem").read_bytes())
            key.chmod(0o640)
        case "a directory":
            key.mkdir()
        case "another key":
            (signing,) = (bench.directory / "keys/private").glob("engineering.*.pem")
            key.write_bytes(signing.read_bytes())
            key.chmod(0o600)
        case "no key":
            key.write_text("hello\n")
            key.chmod(0o600)
        case _:
            assert not key.exists()
    with_key(device, key)
    with pytest.raises(DeviceError) as error:
        device.install(bench.directory / "2.0.twin")
    assert error.value.code == "device.decryption-key"
    assert_untouched(device)


@pytest.mark.slow
def test_an_envelope_that_was_damaged_changes_nothing(device: HostDevice, bench: ReleaseBench, tmp_path: Path) -> None:
    data = (bench.directory / "2.0.twin").read_bytes()
    envelope = 64 + int.from_bytes(data[16:24], "little") + int.from_bytes(data[24:32], "little")
    ids = [public_of(bench.directory / f"{name}.pem") for name in ("fleet", "device")]
    mine = 20 + 152 * sorted(key_id(path) for path in ids).index(key_id(ids[0]))
    codes = {}
    for at in (0, 1, 4, mine, mine + 4, mine + 36, mine + 101, mine + 149):
        damaged = bytearray(data)
        damaged[envelope + at] ^= 0x40
        path = tmp_path / "damaged.twin"
        path.write_bytes(damaged)
        with pytest.raises((ImageError, RefusedError)) as error:
            device.install(path)
        codes[at] = error.value.code
        assert_untouched(device)
    assert set(codes.values()) <= {"image.envelope", "image.recipient", "refused.recipient"}
    assert codes[4] == codes[mine + 36] == codes[mine + 101] == "image.recipient"
    assert codes[0] == codes[mine] == codes[mine + 149] == "image.envelope"


def key_id(public: Path) -> str:
    argv = ["openssl", "pkey", "-pubin", "-in", str(public), "-outform", "DER"]
    return hashlib.sha256(subprocess.run(argv, check=True, capture_output=True).stdout).hexdigest()


@pytest.mark.verifies("S22")
@pytest.mark.root
def test_the_process_that_reads_the_image_never_has_a_key(device: HostDevice, bench: ReleaseBench) -> None:
    """Looked for in all of its memory while it opens units; the process that has the content key shows how it looks."""
    image = bench.directory / "2.0.twin"
    private = load_private((bench.directory / "fleet.pem").read_bytes())
    with image.open("rb") as file:
        content = unwrap(read_envelope(file)[1], private).key
    assert isinstance(private._key, X25519PrivateKey)
    secret = private._key.private_bytes_raw()
    with image.open("rb") as file:
        stream = streams.open_stream(device.config, file.fileno(), service_workers=False)
        assert isinstance(stream, WorkerStream)
        try:
            manifest = parse_manifest(stream.head().manifest)
            stream.unlock(manifest)
            parts = stream.parts(manifest)
            assert isinstance(next(parts), ListPart)
            stream.want("rootfs", b"\xff")
            assert isinstance(next(parts), GroupPart)
            reads, opens = memory_of(stream._worker), memory_of(stream._opening)
        finally:
            stream.close()
    assert hashlib.sha256(CONTENT[:65536]).digest() in reads, "it has the list that was opened for it"
    assert content not in reads
    assert content in opens
    assert secret not in reads
    assert secret not in opens, "the process that had the private key is gone"


def memory_of(worker: launch.Worker | None) -> bytes:
    """All that a worker may read of its own memory."""
    assert worker is not None
    assert worker._process is not None
    found, process = [], Path(f"/proc/{worker._process.pid}")
    with (process / "maps").open() as maps, (process / "mem").open("rb", 0) as memory:
        for line in maps:
            span, rights = line.split()[:2]
            first, last = (int(each, 16) for each in span.split("-"))
            if rights.startswith("r"):
                with contextlib.suppress(OSError, OverflowError, ValueError):  # the kernel's own pages
                    memory.seek(first)
                    found.append(memory.read(last - first))
    return b"".join(found)


def test_a_piped_image_is_opened_on_its_way(device: HostDevice, bench: ReleaseBench) -> None:
    reader, writer = os.pipe()
    data = (bench.directory / "2.0.twin").read_bytes()

    def pour() -> None:
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(data)

    thread = threading.Thread(target=pour)
    thread.start()
    try:
        device.install(reader)
    finally:
        thread.join()
        os.close(reader)
    assert device.content(SlotName.B) == CONTENT.ljust(SLOT_SIZE, b"\0")


@pytest.mark.parametrize(("encrypted", "key", "ahead"), [(True, True, 2), (True, False, 0), (False, True, 0)])
def test_what_opens_an_image_starts_while_its_head_is_judged_and_ends_with_the_stream(
    bench: ReleaseBench, encrypted: bool, key: bool, ahead: int
) -> None:
    started: list[tuple[str, launch.Worker]] = []

    def get(kind: str) -> launch.Worker:
        started.append((kind, launch.start(kind)))
        return started[-1][1]

    image = bench.directory / "2.0.twin" if encrypted else bench.image("2.2", 22, CONTENT)
    decryption = Decryption(get, str(bench.directory / "fleet.pem") if key else "")
    with image.open("rb") as file:
        limits = {"limits": {"group_size": 1 << 20, "image_size": 1 << 30}}
        stream = WorkerStream(get("read"), limits, file.fileno(), decryption=decryption)
        head = stream.head()
        stream.foresee()
        assert [kind for kind, _ in started] == ["read", *["decrypt"] * ahead]
        processes = [worker._process for _, worker in started]
        if ahead:
            stream.unlock(parse_manifest(head.manifest))
            assert len(started) == 1 + ahead, "those that were started are used"
        stream.close()
    assert all(process is not None and process.returncode is not None for process in processes)
