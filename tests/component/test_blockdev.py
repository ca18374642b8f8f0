"""Targets on real loop devices (root) and on files."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from twinslot.core.errors import DeviceError, LifecycleError, RefusedError
from twinslot.storage import mounts
from twinslot.storage.blockdev import BlockTarget, open_target

MIB = 1 << 20


def run(*argv: str | Path | int) -> str:
    return subprocess.run([*map(str, argv)], check=True, capture_output=True, text=True).stdout.strip()


@contextlib.contextmanager
def loop_device(backing: Path, *options: str) -> Iterator[Path]:
    device = Path(run("losetup", "--find", "--show", *options, backing))
    try:
        yield device
    finally:
        run("losetup", "--detach", device)


@pytest.fixture
def backing(tmp_path: Path) -> Path:
    path = tmp_path / "disk"
    path.write_bytes(b"\xee" * (4 * MIB))
    return path


@pytest.fixture
def loop(backing: Path) -> Iterator[Path]:
    with loop_device(backing) as device:
        yield device


@pytest.fixture(params=["file", pytest.param("loop", marks=pytest.mark.root)])
def target(request: pytest.FixtureRequest, backing: Path) -> Iterator[BlockTarget]:
    """The same behaviour is asked of a file and of a block device."""
    path = backing if request.param == "file" else request.getfixturevalue("loop")
    with open_target(path, [], allow_files=True) as opened:
        yield opened


def number(device: Path) -> mounts.Device:
    found = mounts.device_of(device)
    assert found is not None
    return found


def refused(path: Path, code: str, forbidden: frozenset[mounts.Device] = frozenset()) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        open_target(path, forbidden)
    assert caught.value.code == f"refused.{code}"
    return caught.value


def test_what_was_written_and_flushed_is_read_past_the_cache(target: BlockTarget, backing: Path) -> None:
    data = os.urandom(3 * MIB + 512)
    assert target.size == 4 * MIB
    target.write(512, memoryview(data))
    target.flush()
    assert target.read_direct(0, 4 * MIB) == b"\xee" * 512 + data + b"\xee" * (MIB - 1024)
    assert backing.read_bytes()[512 : 512 + len(data)] == data


def test_the_tail_of_the_device_can_be_written_and_read(target: BlockTarget) -> None:
    target.write(target.size - 700, b"t" * 700)
    target.flush()
    assert target.read_direct(target.size - 512, 512) == b"t" * 512


def test_reading_sees_a_write_that_was_not_flushed_yet(target: BlockTarget) -> None:
    target.write(0, b"n" * 512)
    assert target.read_direct(0, 512) == b"n" * 512


@pytest.mark.parametrize(
    ("offset", "length"), [(0, 4 * MIB), (512, 1024), (100, 3 * MIB + 7), (513, 100), (510, 4), (7, 0)]
)
def test_a_zeroed_range_reads_as_zeros_and_nothing_else_changes(target: BlockTarget, offset: int, length: int) -> None:
    target.write(0, b"\x11" * target.size)
    target.zero(offset, length)
    target.flush()
    whole = b"\x11" * offset + bytes(length) + b"\x11" * (target.size - offset - length)
    assert target.read_direct(0, target.size) == whole


@pytest.mark.parametrize(("offset", "length"), [(4 * MIB, 1), (4 * MIB - 1, 2), (-1, 1)])
def test_a_range_outside_is_our_own_mistake_and_nothing_is_written(
    target: BlockTarget, backing: Path, offset: int, length: int
) -> None:
    with pytest.raises(LifecycleError, match="does not fit"):
        target.write(offset, b"x" * length)
    with pytest.raises(LifecycleError, match="does not fit"):
        target.zero(offset, length)
    assert target.read_direct(0, target.size) == b"\xee" * target.size


@pytest.mark.parametrize(("offset", "length"), [(1, 512), (0, 511)])
def test_a_direct_read_must_be_in_whole_sectors(target: BlockTarget, offset: int, length: int) -> None:
    with pytest.raises(LifecycleError, match="whole sectors"):
        target.read_direct(offset, length)


def test_a_closed_target_says_so_and_closing_again_is_harmless(target: BlockTarget) -> None:
    target.close()
    target.close()
    with pytest.raises(LifecycleError, match="is closed"):
        target.write(0, b"x")


def test_a_device_that_ends_early_is_a_read_error_with_the_offset(backing: Path) -> None:
    with open_target(backing, [], allow_files=True) as target:
        os.truncate(backing, MIB)
        with pytest.raises(DeviceError, match=f"at byte {MIB}") as caught:
            target.read_direct(MIB, 512)
    assert caught.value.code == "device.read"


def test_a_file_is_no_target_unless_the_caller_says_so(backing: Path) -> None:
    with pytest.raises(DeviceError) as caught:
        open_target(backing, [])
    assert (caught.value.code, caught.value.found) == ("device.target-kind", "regular file")


def test_a_character_device_is_no_target_even_then() -> None:
    with pytest.raises(DeviceError) as caught:
        open_target("/dev/null", [], allow_files=True)
    assert caught.value.found == "character device"


def test_a_missing_device_is_named(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="absent") as caught:
        open_target(tmp_path / "absent", [])
    assert caught.value.code == "device.target-gone"


@pytest.mark.verifies("S1")
@pytest.mark.root
def test_the_running_device_is_refused_under_any_name(loop: Path, tmp_path: Path) -> None:
    link = tmp_path / "by-partlabel"
    link.symlink_to(loop)
    error = refused(link, "target-running", frozenset({number(loop)}))
    assert str(loop) in error.message
    assert error.reasons[0].found == mounts.name(number(loop))


@pytest.fixture
def disk(loop: Path) -> Iterator[Path]:
    """A disk with two partitions of 1 MiB, told to the kernel directly: not every kernel reads partition tables."""
    run("addpart", loop, 1, 2048, 2048)
    run("addpart", loop, 2, 4096, 2048)
    try:
        yield loop
    finally:
        run("delpart", loop, 1)
        run("delpart", loop, 2)


@pytest.mark.verifies("S1")
@pytest.mark.root
def test_a_disk_that_holds_the_running_partition_is_refused_and_its_other_partition_is_not(disk: Path) -> None:
    running = frozenset({number(Path(f"{disk}p1"))})
    refused(disk, "target-running", running)
    refused(Path(f"{disk}p1"), "target-running", running)
    with open_target(f"{disk}p2", running) as target:
        assert target.size == MIB


@pytest.mark.root
def test_a_mounted_device_is_refused_with_its_mount_point(loop: Path, tmp_path: Path) -> None:
    point = tmp_path / "mount point"  # the kernel writes the blank as \040
    point.mkdir()
    run("mkfs.ext4", "-q", loop)
    run("mount", loop, point)
    try:
        error = refused(loop, "target-mounted")
        assert error.reasons[0].found == f"{loop} on {point}"
        assert error.hint == f"umount {point}"
    finally:
        run("umount", point)
    open_target(loop, []).close()


@pytest.mark.root
def test_a_disk_with_a_mounted_partition_is_refused(disk: Path, tmp_path: Path) -> None:
    run("mkfs.ext4", "-q", f"{disk}p1")
    run("mount", f"{disk}p1", tmp_path)
    try:
        refused(disk, "target-mounted")
        open_target(f"{disk}p2", []).close()
    finally:
        run("umount", tmp_path)


@pytest.mark.root
def test_a_mount_that_only_another_namespace_sees_is_refused(loop: Path, tmp_path: Path) -> None:
    run("mkfs.ext4", "-q", loop)
    script = f"mount {loop} {tmp_path} && echo ready && read _"
    other = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with other:
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"
        refused(loop, "target-busy")
        other.communicate("\n")


@pytest.mark.verifies("S1")
@pytest.mark.root
def test_two_cannot_hold_one_target(loop: Path) -> None:
    with open_target(loop, []):
        refused(loop, "target-busy")
    open_target(loop, []).close()


@pytest.mark.root
def test_a_read_only_device_is_named(backing: Path) -> None:
    with loop_device(backing, "--read-only") as device:
        with pytest.raises(DeviceError) as caught:
            open_target(device, [])
    assert caught.value.code == "device.target-read-only"
    assert backing.read_bytes() == b"\xee" * (4 * MIB)


@pytest.mark.root
def test_large_sectors_are_respected(backing: Path) -> None:
    with loop_device(backing, "--sector-size", "4096") as device, open_target(device, []) as target:
        assert target.sector == 4096
        target.zero(100, 3 * 4096)
        target.flush()
        assert target.read_direct(0, 16384) == b"\xee" * 100 + bytes(3 * 4096) + b"\xee" * (4096 - 100)
        with pytest.raises(LifecycleError, match="whole sectors"):
            target.read_direct(512, 512)


@pytest.fixture
def full_medium(tmp_path: Path) -> Iterator[Path]:
    """A block device that claims 8 MiB but can keep only 1 MiB."""
    point = tmp_path / "small"
    point.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=1m", "none", point)
    try:
        (point / "disk").touch()
        os.truncate(point / "disk", 8 * MIB)
        with loop_device(point / "disk") as device:
            yield device
    finally:
        run("umount", point)


@pytest.mark.verifies("S5")
@pytest.mark.root
def test_a_flush_that_fails_is_never_forgotten(full_medium: Path) -> None:
    with open_target(full_medium, []) as target:
        for at in range(1, 8 * MIB, 4096):  # within sectors, so that the kernel's cache takes them
            target.write(at, b"twinslot" * 500)
        with pytest.raises(DeviceError) as first:
            target.flush()
        assert first.value.code == "device.flush"
        for call in (target.flush, lambda: target.write(0, b"x"), lambda: target.read_direct(0, 512)):
            with pytest.raises(DeviceError) as again:
                call()
            assert again.value is first.value


@pytest.mark.root
def test_a_medium_error_names_the_offset(full_medium: Path) -> None:
    with open_target(full_medium, []) as target:
        with pytest.raises(DeviceError, match=r"cannot write '.*' at byte \d*[1-9]\d*") as caught:
            target.write(0, os.urandom(8 * MIB))
        assert caught.value.found == os.strerror(errno.ENOSPC)


@pytest.mark.verifies("S5")
@pytest.mark.root
def test_a_flush_leaves_nothing_held_back(backing: Path) -> None:
    with loop_device(backing) as device, open_target(device, []) as target:
        target.write(4096, b"new" * 1000)
        target.flush()
        assert backing.read_bytes()[4096:][:3000] == b"new" * 1000, "although nobody asked the target for it"
        target.write(8192, b"x" * 4096)
        target.zero(8192, 4096)
        target.flush()
        assert backing.read_bytes()[8192:][:4096] == bytes(4096), "what was written before is zeroed too"
