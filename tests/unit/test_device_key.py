"""The device's own key: made once, whole or not at all, for root alone, and what it signs."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinslot.core.device_key import PublicPart, signed_bytes
from twinslot.core.errors import DeviceError
from twinslot.storage.device_key import DeviceKeyFiles
from twinslot.trust.device_key import make_device_key, open_device_key, verifies

REPORT = "application/vnd.twinslot.report+json"
CALLS = ("fsync", "link", "rename", "unlink", "open", "fchmod")


class PowerCutError(BaseException):
    """Power is gone: nothing that the process does from here on happens."""


class Medium:
    """The calls that change a directory, counted; before one of them power goes, and what was not flushed is lost."""

    def __init__(self, directory: Path, patch: pytest.MonkeyPatch, cut: int) -> None:
        self._directory, self._left, self.flushed = directory, cut, set[int]()
        for name in CALLS:
            patch.setattr(os, name, self._counted(getattr(os, name)))
        self.truncate = os.truncate

    def _counted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **more: Any) -> Any:
            if self._left <= 0:
                raise PowerCutError
            self._left -= 1
            if call.__name__ == "fsync":
                self.flushed.add(os.fstat(args[0]).st_ino)
            return call(*args, **more)

        return counted

    @property
    def is_off(self) -> bool:
        return self._left <= 0

    def lose(self) -> None:
        """What a file holds that was never flushed may be gone, and its name be there (ext4, delayed allocation)."""
        for path in self._directory.iterdir():
            if path.stat().st_ino not in self.flushed:
                self.truncate(path, 0)


def cut_at(directory: Path, number: int) -> bool:
    """Make a key and lose power before this call; False: it was made before that."""
    with pytest.MonkeyPatch.context() as patch:
        medium = Medium(directory, patch, number)
        with contextlib.suppress(PowerCutError):
            make_device_key(DeviceKeyFiles(directory, ""))
        off = medium.is_off
    if off:
        medium.lose()
    return off


@pytest.mark.verifies("S22")
def test_a_power_cut_at_any_call_leaves_a_whole_key_or_none_and_the_next_init_ends_it(tmp_path: Path) -> None:
    number, kept = 0, 0
    while True:
        directory = tmp_path / str(number)
        directory.mkdir()
        if not cut_at(directory, number):
            break
        left = DeviceKeyFiles(directory, "")
        before = open_device_key(left).public if left.key.exists() else None
        key, made = make_device_key(left)
        assert made is (before is None)
        assert before in (None, key.public), "a key that was there is never replaced"
        assert left.public() == key.public
        assert sorted(path.name for path in directory.iterdir()) == ["device-key.pem", "device-key.pub"], (
            "what the cut left is removed"
        )
        number, kept = number + 1, kept + (before is not None)
    assert number > 8
    assert kept > 2, "some cuts fell between the key and its public part"


def test_a_second_init_shows_the_key_that_is_there(tmp_path: Path) -> None:
    files = DeviceKeyFiles(tmp_path, "")
    first, made = make_device_key(files)
    second, again = make_device_key(files)
    assert (made, again) == (True, False)
    assert first.public == second.public


@pytest.mark.verifies("S22")
def test_the_key_is_its_users_alone_and_the_public_part_everybodys(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        make_device_key(DeviceKeyFiles(tmp_path, ""))
    finally:
        os.umask(before)
    assert (tmp_path / "device-key.pem").stat().st_mode & 0o7777 == 0o400
    assert (tmp_path / "device-key.pub").stat().st_mode & 0o7777 == 0o444


@pytest.mark.parametrize("mode", [0o440, 0o404, 0o604, 0o666, 0o420])
def test_a_key_that_others_may_read_or_write_signs_nothing(tmp_path: Path, mode: int) -> None:
    files = DeviceKeyFiles(tmp_path, "")
    make_device_key(files)
    files.key.chmod(mode)
    for ask in (open_device_key, make_device_key):
        with pytest.raises(DeviceError) as caught:
            ask(files)
        assert caught.value.code == "device.device-key-rights"
        assert "0400" in str(caught.value.expected)


def test_neither_a_link_nor_a_pipe_counts_as_the_key(tmp_path: Path) -> None:
    files = DeviceKeyFiles(tmp_path, "")
    elsewhere = DeviceKeyFiles(tmp_path / "elsewhere", "")
    make_device_key(elsewhere)
    files.key.symlink_to(elsewhere.key)
    with pytest.raises(DeviceError, match="cannot be opened"):
        open_device_key(files)
    files.key.unlink()
    os.mkfifo(files.key, 0o400)
    with pytest.raises(DeviceError) as caught:
        open_device_key(files)
    assert caught.value.code == "device.device-key-rights"


@pytest.mark.parametrize("damage", [b"", b"-----BEGIN PRIVATE KEY-----\n", b"\0" * 119, b"x" * 100_000])
def test_a_damaged_key_is_named_and_never_replaced_by_itself(tmp_path: Path, damage: bytes) -> None:
    files = DeviceKeyFiles(tmp_path, "")
    files.key.write_bytes(damage)
    files.key.chmod(0o400)
    with pytest.raises(DeviceError, match="damaged or of another kind") as caught:
        make_device_key(files)
    assert caught.value.code == "device.device-key"
    assert files.key.read_bytes() == damage


def test_a_key_of_another_kind_is_no_device_key(tmp_path: Path) -> None:
    argv = ["openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]
    files = DeviceKeyFiles(tmp_path, "")
    files.key.write_bytes(subprocess.run(argv, check=True, capture_output=True).stdout)
    files.key.chmod(0o400)
    with pytest.raises(DeviceError, match="Ed25519"):
        open_device_key(files)


def test_without_a_key_nothing_is_signed_and_the_hint_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="device-key init") as caught:
        open_device_key(DeviceKeyFiles(tmp_path, ""))
    assert caught.value.code == "device.device-key-missing"


def test_what_was_signed_as_one_thing_counts_as_no_other(tmp_path: Path) -> None:
    key, _ = make_device_key(DeviceKeyFiles(tmp_path, ""))
    signature = key.sign(REPORT, b"{}")
    assert verifies(key.public, REPORT, b"{}", signature)
    assert not verifies(key.public, "application/vnd.twinslot.audit+json", b"{}", signature)
    assert not verifies(key.public, REPORT, b"{} ", signature)
    assert not verifies(key.public, REPORT, b"{}", signature[:-1])
    other, _ = make_device_key(DeviceKeyFiles(tmp_path / "other", ""))
    assert not verifies(other.public, REPORT, b"{}", signature)


def test_openssl_verifies_what_the_key_signed_and_finds_the_same_fingerprint(tmp_path: Path) -> None:
    files = DeviceKeyFiles(tmp_path, "")
    key, _ = make_device_key(files)
    for name, data in {"signed": signed_bytes(REPORT, b"{}"), "signature": key.sign(REPORT, b"{}")}.items():
        (tmp_path / name).write_bytes(data)
    argv = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", str(files.public_path), "-rawin"]
    said = subprocess.run([*argv, "-in", "signed", "-sigfile", "signature"], cwd=tmp_path, capture_output=True)
    assert said.returncode == 0, said.stdout + said.stderr
    shell = f"openssl pkey -pubin -in {files.public_path} -outform der | sha256sum"
    printed = subprocess.run(shell, shell=True, check=True, capture_output=True, text=True).stdout
    assert printed.split()[0] == key.public.fingerprint


def test_the_signed_bytes_are_those_of_the_published_example() -> None:
    """DSSE, protocol.md, test vectors: the pre-authentication encoding of `hello world`."""
    assert signed_bytes("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


@given(st.text(min_size=1), st.binary(), st.text(min_size=1), st.binary())
def test_no_two_payloads_have_the_same_signed_bytes(kind: str, payload: bytes, other: str, another: bytes) -> None:
    same = (kind, payload) == (other, another)
    assert (signed_bytes(kind, payload) == signed_bytes(other, another)) is same


@given(st.binary(max_size=300) | st.binary(max_size=60).map(lambda der: b"-----BEGIN PUBLIC KEY-----\n" + der))
def test_any_bytes_as_a_public_part_are_an_error_of_the_device(data: bytes) -> None:
    with pytest.raises(DeviceError) as caught:
        PublicPart.from_pem(data)
    assert caught.value.code == "device.device-key"


def test_a_public_part_is_read_as_it_was_written() -> None:
    with tempfile.TemporaryDirectory() as directory:
        key, _ = make_device_key(DeviceKeyFiles(Path(directory), ""))
    assert PublicPart.from_pem(key.public.pem.encode()) == key.public


def test_many_who_make_the_key_at_once_all_get_the_one_that_counts(tmp_path: Path) -> None:
    found: list[str] = []

    def make() -> None:
        found.append(make_device_key(DeviceKeyFiles(tmp_path, ""))[0].public.fingerprint)

    threads = [threading.Thread(target=make) for _ in range(16)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(found) == len(threads), "none failed"
    assert len(set(found)) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["device-key.pem", "device-key.pub"]
