"""U-Boot's environment: agreement with the real tools, and every way in which tool or medium may fail."""

from __future__ import annotations

import os
import subprocess
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import waits
from fakes import redundant, rigs
from fakes.rigs import FAKE_BIN, OFFSETS, SIZE, UBootRig
from twinslot.bootloader.base import CopyState
from twinslot.bootloader.uboot import rawenv
from twinslot.bootloader.uboot.backend import UBoot
from twinslot.core.errors import DeviceError, LifecycleError

BEFORE = {"slot": "a", "slot_a": "good", "ts_generation": "1"}
CHANGES = {"slot": "b", "slot_b": "trial", "ts_generation": "2"}


@pytest.fixture
def rig(tmp_path: Path) -> UBootRig:
    """The real tool on a file whose first copy is the current one."""
    return filled(UBootRig(tmp_path, rigs.blank_file(tmp_path)))


@pytest.fixture
def fake(tmp_path: Path) -> UBootRig:
    return filled(UBootRig(tmp_path, rigs.blank_file(tmp_path), f"{FAKE_BIN}/"))


def filled(rig: UBootRig) -> UBootRig:
    rig.put(0, rawenv.encode(BEFORE, SIZE, 5))
    rig.put(1, rawenv.encode(BEFORE | {"ts_generation": "0"}, SIZE, 4))
    return rig


def fails(boot: UBoot, code: str = "env-write") -> DeviceError:
    with pytest.raises(DeviceError) as caught:
        boot.write(CHANGES)
    assert caught.value.code == f"device.{code}"
    return caught.value


def boot_of(rig: UBootRig, timeout: float = waits.HANG, tool: str = f"{FAKE_BIN}/fw_setenv") -> UBoot:
    return UBoot(rig.config, fw_setenv=tool, default_env=rig.default, timeout=timeout)


# The real tools say the same.


@pytest.mark.parametrize("flags", [0, 1, 4, 127, 254, 255])
def test_fw_setenv_continues_our_copy_and_we_its(rig: UBootRig, flags: int) -> None:
    rig.put(0, rawenv.encode(BEFORE, SIZE, flags))
    rig.put(1, rawenv.encode({}, SIZE, (flags - 1) % 256))
    assert rig.seen() == BEFORE
    now = rig.boot.write(CHANGES)
    assert [copy.flags for copy in now.copies] == [flags, (flags + 1) % 256]
    assert [copy.state for copy in now.copies] == [CopyState.OLDER, CopyState.CURRENT]
    assert redundant.load(rig.config)[1] == ((flags + 1) % 256, BEFORE | CHANGES)  # a second opinion


def test_equal_flags_are_decided_as_the_tool_decides(rig: UBootRig) -> None:
    rig.put(1, rawenv.encode({"slot": "b"}, SIZE, 5))
    assert rig.boot.read().variables == BEFORE == rig.seen()


def test_what_mkenvimage_builds_is_read(rig: UBootRig, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("bootcmd=run x; run y\nslot=a\nempty=\nlong=" + "z" * 2000 + "\n")
    subprocess.run(["mkenvimage", "-r", "-s", str(SIZE), "-o", tmp_path / "image", text], check=True)
    image = (tmp_path / "image").read_bytes()
    decoded = rawenv.decode(image)
    assert decoded is not None
    assert decoded.flags == 1
    assert {name: decoded.variables[name] for name in ("bootcmd", "slot")} == {"bootcmd": "run x; run y", "slot": "a"}
    rig.put(0, image)
    rig.put(1, image)
    now = rig.boot.write(CHANGES)
    assert now.variables["long"] == "z" * 2000
    assert now.variables["slot"] == "b"


def test_a_whole_turn_of_the_serial_byte(rig: UBootRig) -> None:
    for number in range(260):
        assert rig.boot.write({"ts_generation": str(number)}).variables["ts_generation"] == str(number)
    assert rig.seen()["ts_generation"] == "259"


def test_attributes_that_the_tool_rewrites_do_not_disturb(rig: UBootRig) -> None:
    raw = bytearray(rawenv.encode(BEFORE | {"xflags": "slot_a:sa,ts_generation:sa"}, SIZE, 5))
    data = bytes(raw[5:]).replace(b"xflags=", b".flags=")
    rig.put(0, (zlib.crc32(data)).to_bytes(4, "little") + b"\x05" + data)
    assert rig.boot.write(CHANGES).variables == BEFORE | CHANGES
    assert rig.boot.settle().settled


def test_a_protected_variable_undoes_the_whole_decision(rig: UBootRig) -> None:
    data = rawenv.encode(BEFORE | {"xflags": "slot:sr"}, SIZE, 5)[5:].replace(b"xflags=", b".flags=")
    rig.put(0, (zlib.crc32(data)).to_bytes(4, "little") + b"\x05" + data)
    before = rig.raw()
    error = fails(rig.boot)  # type: ignore[arg-type]
    assert "undone" in error.message
    assert "slot" in str(error.found)
    assert rig.raw() == before


def test_the_real_tool_never_falls_back_to_a_default_by_itself(rig: UBootRig) -> None:
    """With one unreadable copy libubootenv would start from /etc/u-boot-initial-env; it must stop instead."""
    with rig.device.open("r+b") as stream:
        stream.truncate(OFFSETS[1] + 100)
    before = rig.device.read_bytes()
    argv = ["fw_setenv", "-c", str(rig.config), "-f", "/dev/null/none", "-s", "-"]
    ended = subprocess.run(argv, input=b"slot=b\n", capture_output=True)
    assert ended.returncode != 0
    assert rig.device.read_bytes() == before


# The tool fails, or lies.


@pytest.mark.verifies("S4")
@pytest.mark.parametrize("mode", ["nothing", "torn", "stale", "hang"])
def test_a_write_that_did_not_land_is_an_error_whatever_the_tool_says(
    fake: UBootRig, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setenv("FAKE_FW_SETENV", mode)
    fails(boot_of(fake, timeout=0.5 if mode == "hang" else waits.HANG))
    assert fake.boot.read().variables == BEFORE == fake.seen()


@pytest.mark.parametrize("mode", ["fail-after", "hang-after"])
def test_a_write_that_landed_counts_whatever_the_tool_says(
    fake: UBootRig, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setenv("FAKE_FW_SETENV", mode)
    if mode == "hang-after":  # however long it takes until then
        monkeypatch.setattr("twinslot.system.process.time", waits.Stopped(lambda: fake.seen() == BEFORE | CHANGES))
    assert (
        boot_of(fake, timeout=0.2 if mode == "hang-after" else waits.HANG).write(CHANGES).variables == BEFORE | CHANGES
    )
    assert fake.seen() == BEFORE | CHANGES


def test_a_hanging_tool_is_killed_in_time(fake: UBootRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_FW_SETENV", "hang")
    error = fails(boot_of(fake, timeout=0.5))
    assert "did not end in time" in str(error.found)


@pytest.mark.verifies("S4")
@pytest.mark.parametrize("mode", ["drop=slot", "drop=slot_b"])
def test_a_decision_written_in_part_is_undone(fake: UBootRig, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    before = fake.raw()
    monkeypatch.setenv("FAKE_FW_SETENV", mode)
    error = fails(boot_of(fake))
    assert "undone" in error.message
    assert fake.raw() == before


def test_what_another_process_wrote_meanwhile_is_reported_and_left(
    fake: UBootRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_FW_SETENV", "add=operator")
    error = fails(boot_of(fake))
    assert (error.message, error.found) == ("something else was written to the boot environment", "operator")
    assert fake.seen()["operator"] == "1"


@pytest.mark.verifies("S4")
def test_a_tool_that_overwrites_the_current_copy_is_caught(fake: UBootRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_FW_SETENV", "wrong-copy")
    assert "current copy" in fails(boot_of(fake)).message


def test_settling_that_writes_nothing_is_an_error(fake: UBootRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_FW_SETENV", "nothing")
    with pytest.raises(DeviceError):
        boot_of(fake).settle()


@pytest.mark.verifies("S4")
@pytest.mark.parametrize("mode", ["nothing", "torn", "stale", "wrong-copy", "drop=slot"])
def test_a_caller_who_knows_what_stood_before_does_not_answer_what_stands_after(
    fake: UBootRig, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    boot = boot_of(fake)
    known = boot.read()
    monkeypatch.setenv("FAKE_FW_SETENV", mode)
    with pytest.raises(DeviceError) as caught:
        boot.write(CHANGES, known)
    assert caught.value.code == "device.env-write"


def test_what_was_known_and_is_no_longer_true_lets_no_decision_pass_as_landed(fake: UBootRig) -> None:
    boot = boot_of(fake)
    known = boot.read()
    boot.write({"operator": "1"})
    with pytest.raises(DeviceError, match="overwritten"):
        boot.write(CHANGES, known)
    assert fake.seen()["operator"] == "1"


def test_what_was_known_of_other_places_is_not_what_stood_before(fake: UBootRig, tmp_path: Path) -> None:
    boot = boot_of(fake)
    known = boot.read()
    other = tmp_path / "other"
    other.write_bytes(fake.device.read_bytes())
    fake.config.write_text(fake.config.read_text().replace(str(fake.device), str(other)))
    assert boot.write({"operator": "1"}, known).variables == BEFORE | {"operator": "1"}
    assert boot.write(CHANGES).variables == BEFORE | CHANGES | {"operator": "1"}


def test_a_missing_tool_is_named_with_its_package(fake: UBootRig) -> None:
    before = fake.raw()
    error = fails(boot_of(fake, tool="/nonexistent/fw_setenv"), "env-tool")
    assert "libubootenv-tool" in str(error.hint)
    assert fake.raw() == before


# The medium fails, or is another one.


def test_a_missing_configuration_is_named(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"fw_env\.config") as caught:
        UBoot(tmp_path / "fw_env.config").read()
    assert caught.value.code == "device.env-config"


def test_a_missing_device_is_gone_not_lost(fake: UBootRig) -> None:
    fake.device.unlink()
    for call in (fake.boot.read, lambda: fake.boot.write(CHANGES), lambda: fake.boot.reset({})):
        with pytest.raises(DeviceError) as caught:
            call()
        assert caught.value.code == "device.env-gone"


def test_one_unreadable_copy_is_shown_and_stops_every_write(fake: UBootRig) -> None:
    with fake.device.open("r+b") as stream:
        stream.truncate(OFFSETS[1] + 100)
    found = fake.boot.read()
    assert [copy.state for copy in found.copies] == [CopyState.CURRENT, CopyState.UNREADABLE]
    assert not found.lost
    before = fake.device.read_bytes()
    fails(boot_of(fake), "env-unreadable")
    assert fake.device.read_bytes() == before


@pytest.mark.parametrize(("size", "flags"), [(0x1000, 5), (0x4000, 5), (SIZE, None), (0x3800, None)])
def test_a_size_that_u_boot_does_not_use_is_found_and_nothing_is_written(
    fake: UBootRig, size: int, flags: int | None
) -> None:
    for index in (0, 1):
        fake.put(index, rawenv.encode(BEFORE, size, flags))
    before = fake.device.read_bytes()
    for call in (fake.boot.read, lambda: fake.boot.write(CHANGES), lambda: fake.boot.reset(CHANGES)):
        with pytest.raises(DeviceError) as caught:
            call()
        assert caught.value.code == "device.env-size"
        assert caught.value.expected == hex(SIZE)
        assert caught.value.found == hex(size) + ("" if flags else ", not redundant")
    assert fake.device.read_bytes() == before


def test_one_copy_only_is_readable_but_takes_no_decision(fake: UBootRig) -> None:
    fake.config.write_text(f"{fake.device} {OFFSETS[0]:#x} {SIZE:#x}\n")
    fake.put(0, rawenv.encode(BEFORE, SIZE, None))
    assert fake.boot.read().variables == BEFORE
    fails(boot_of(fake), "env-redundant")


def test_raw_flash_is_refused(fake: UBootRig) -> None:
    fake.config.write_text("/dev/zero 0 0x1000\n/dev/zero 0x1000 0x1000\n")
    with pytest.raises(DeviceError) as caught:
        fake.boot.read()
    assert caught.value.code == "device.env-medium"


@pytest.fixture
def loop_rig(tmp_path: Path) -> Iterator[UBootRig]:
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        rig = rigs.libubootenv_on_loop(tmp_path, patch, stack)
        assert isinstance(rig, UBootRig)
        yield filled(rig)


@pytest.mark.root
def test_a_read_only_device_keeps_the_old_decision(loop_rig: UBootRig) -> None:
    subprocess.run(["blockdev", "--setro", loop_rig.device], check=True)
    try:
        error = fails(boot_of(loop_rig, tool="fw_setenv"))
    finally:  # the kernel keeps the mark when the loop is detached
        subprocess.run(["blockdev", "--setrw", loop_rig.device], check=True)
    assert error.message == "nothing was written to the boot environment"
    assert loop_rig.boot.read().variables == BEFORE


@pytest.mark.verifies("S4")
@pytest.mark.root
def test_what_only_the_page_cache_says_is_not_believed(loop_rig: UBootRig, tmp_path: Path) -> None:
    newer = rawenv.encode({"slot": "b"}, SIZE, 6)
    with loop_rig.device.open("rb"):  # while somebody holds the device, the kernel keeps its cache
        assert loop_rig.raw()[1] != newer
        with (tmp_path / "medium").open("r+b") as medium:  # what stands on the medium changes behind that cache
            medium.seek(OFFSETS[1])
            medium.write(newer)
            medium.flush()
            os.fsync(medium.fileno())
        assert loop_rig.raw()[1] != newer, "the cache is meant to be stale here"
        assert loop_rig.boot.read().variables == {"slot": "b"}


# The default environment.


@pytest.mark.parametrize("line", ["no equals sign", "=x", "a=" + "x" * 1021])
def test_a_default_that_the_tool_would_cut_or_skip_is_refused(fake: UBootRig, line: str) -> None:
    for copy in (0, 1):
        fake.damage(copy)
    before = fake.raw()
    fake.default.write_text(f"slot=a\n{line}\n")
    with pytest.raises(DeviceError, match="line 2") as caught:
        fake.boot.reset({})
    assert caught.value.code == "device.env-default"
    assert fake.raw() == before


def test_the_longest_line_of_a_default_is_carried_whole(rig: UBootRig) -> None:
    for copy in (0, 1):
        rig.damage(copy)
    rig.default.write_text("slot=a\r\nbootcmd=" + "x" * 1014 + "\n# comment\n\nlast=1")
    now = rig.boot.reset(CHANGES)
    assert now.settled
    assert now.variables == {"bootcmd": "x" * 1014, "last": "1"} | CHANGES


def test_without_a_default_a_lost_environment_stays_lost(fake: UBootRig) -> None:
    for copy in (0, 1):
        fake.damage(copy)
    with pytest.raises(DeviceError) as caught:
        UBoot(fake.config, fw_setenv=f"{FAKE_BIN}/fw_setenv").reset({})
    assert caught.value.code == "device.env-default"
    assert fake.boot.read().lost


def test_a_reset_that_the_power_cut_in_half_is_finished_by_settling(
    fake: UBootRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    for copy in (0, 1):
        fake.damage(copy)
    fake.put(1, rawenv.encode(rigs.DEFAULT, SIZE, 1))  # what one of the two writes leaves
    assert not fake.boot.read().lost
    assert fake.boot.settle().settled
    with pytest.raises(LifecycleError):
        fake.boot.reset({})
