"""An encrypted image on a device whose key is in a token: the token opens one envelope, and no process has its key."""

from __future__ import annotations

import os
import random
import socket
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from host_device import SLOT_SIZE, HostDevice
from release_bench import ReleaseBench

import waits
from device_token import DeviceToken, needs_provider
from twinslot.config.options import DecryptionConfig
from twinslot.core.device_key import pem_of
from twinslot.core.errors import DeviceError, RefusedError
from twinslot.core.model import SlotName
from twinslot.core.pkcs11_provider import point_pem
from twinslot.crypto.keys import load_public, make_private
from twinslot.image.envelope import Kem
from twinslot.worker import launch
from twinslot.worker.protocol import Channel, Kind
from twinslot.worker.unlock import Decryption

CONTENT = b"superblock".ljust(4096, b"\1") + random.Random(1).randbytes(300_000) + bytes(100_000)


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DeviceToken:
    (tmp_path / "token").mkdir()
    return DeviceToken.make(tmp_path / "token", monkeypatch)


@pytest.fixture
def bench(tmp_path: Path) -> ReleaseBench:
    return ReleaseBench.make(tmp_path / "team")


def recipient(token: DeviceToken, bench: ReleaseBench, label: str) -> Path:
    """The file of a public half, as whoever encrypts gets it."""
    path = bench.directory / f"{label}.pub.pem"
    path.write_text(pem_of(token.public(label)))
    return path


def device_with(tmp_path: Path, bench: ReleaseBench, uri: str) -> HostDevice:
    (tmp_path / "device").mkdir()
    device = HostDevice(tmp_path / "device", bench)
    device.config = replace(device.config, decryption=DecryptionConfig(key=uri))
    return device


@needs_provider
@pytest.mark.verifies("S22")
def test_a_device_installs_an_image_whose_key_is_in_its_token(
    token: DeviceToken, bench: ReleaseBench, tmp_path: Path
) -> None:
    uri = token.key("images", "EC:prime256v1", "--usage-derive")
    image = bench.image("2.0", 20, CONTENT, recipients=(recipient(token, bench, "images"),))
    device = device_with(tmp_path, bench, uri)
    device.install(image)
    assert device.environment()["slot_b"] == "trial"
    assert device.content(SlotName.B).startswith(CONTENT)


@needs_provider
def test_an_image_for_another_key_of_the_token_and_a_wrong_pin_are_refused_before_anything_changes(
    token: DeviceToken, bench: ReleaseBench, tmp_path: Path
) -> None:
    uri, other = token.key("images"), token.key("other")
    image = bench.image("2.0", 20, CONTENT, recipients=(recipient(token, bench, "images"),))
    device = device_with(tmp_path, bench, other)
    with pytest.raises(RefusedError) as refused:
        device.install(image)
    assert refused.value.code == "refused.recipient"
    device.config = replace(device.config, decryption=DecryptionConfig(key=uri))
    (token.folder / "pin").chmod(0o600)
    (token.folder / "pin").write_text("111111")
    with pytest.raises(DeviceError, match="another PIN") as error:
        device.install(image)
    assert error.value.code == "device.pkcs11-key"
    assert device.content(SlotName.B) == b"b" * SLOT_SIZE
    assert device.environment()["ts_generation"] == "1"


def hostile(*frames: tuple[Kind, bytes]) -> tuple[Decryption, threading.Thread, list[Kind]]:
    """A decrypting worker that was taken over, and says this; and what it got."""
    ours, theirs = socket.socketpair()
    got: list[Kind] = []

    def say() -> None:
        channel = Channel(theirs, waits.HANG)
        try:
            frame = channel.receive(Kind.UNWRAP)
            os.close(frame.descriptor)
            for kind, payload in frames:
                channel.send(kind, payload)
                got.append(channel.receive(Kind.SHARED).kind)
        except Exception:  # noqa: BLE001 - the engine hung up
            pass
        finally:
            channel.close()

    thread = threading.Thread(target=say)
    thread.start()
    return Decryption(lambda _: launch.Worker(Channel(ours), None)), thread, got


def test_with_a_key_in_a_file_no_worker_is_answered_what_a_token_would_say(tmp_path: Path) -> None:
    key = make_private(Kem.P256)
    (tmp_path / "key.pem").write_bytes(key.pem())
    (tmp_path / "key.pem").chmod(0o400)
    decryption, thread, got = hostile((Kind.EXCHANGE, key.public))
    with pytest.raises(DeviceError) as error:
        replace(decryption, key=str(tmp_path / "key.pem")).unlock(b"envelope")
    thread.join()
    assert (error.value.code, got) == ("device.worker", [])


@needs_provider
@pytest.mark.verifies("S22")
def test_a_worker_that_was_taken_over_gets_one_answer_of_the_token_and_no_second(
    token: DeviceToken, tmp_path: Path
) -> None:
    uri, share = token.key("images"), make_private(Kem.P256)
    decryption, thread, got = hostile((Kind.EXCHANGE, share.public), (Kind.EXCHANGE, share.public))
    with pytest.raises(DeviceError) as error:
        replace(decryption, key=uri).unlock(b"envelope")
    thread.join()
    assert (error.value.code, got) == ("device.worker", [Kind.SHARED])


@needs_provider
@pytest.mark.parametrize("point", [b"\4" + bytes(64), b"\4" + b"\xff" * 64, b"\2" + bytes(64), b"\4" * 64])
def test_what_is_no_point_of_the_curve_gets_no_answer(token: DeviceToken, point: bytes) -> None:
    uri = token.key("images")
    decryption, thread, got = hostile((Kind.EXCHANGE, point))
    with pytest.raises(DeviceError):
        replace(decryption, key=uri).unlock(b"envelope")
    thread.join()
    assert got == []


def test_a_point_is_written_as_the_libraries_read_it() -> None:
    key = make_private(Kem.P256)
    assert load_public(point_pem(key.public)) == key.public_key
