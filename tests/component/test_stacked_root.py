"""Roots that stand on other things, mounted for real: what the kernel writes of an overlay, and a loop's file."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from twinslot.storage import mounts
from twinslot.storage.running_slot import overlay_layers

pytestmark = pytest.mark.root
ODD = ("plain", "with blank", "with,comma", "with:colon", "with\\backslash", "with=sign", "ü", "\udcff")
# System calls by number, the same on every architecture (include/uapi/asm-generic/unistd.h).
FSOPEN, FSCONFIG, FSMOUNT, MOVE_MOUNT = 430, 431, 432, 429
SET_STRING, CREATE, EMPTY_PATH = 1, 6, 4


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Path]:
    made = tmp_path / "root"
    made.mkdir()
    yield made
    with contextlib.suppress(subprocess.CalledProcessError):
        subprocess.run(["umount", made], check=True, capture_output=True)


def call(number: int, *arguments: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    result = int(libc.syscall(number, *arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def mount_layer_by_layer(layers: list[Path], target: Path) -> None:
    context = call(FSOPEN, b"overlay", 0)
    try:
        call(FSCONFIG, context, SET_STRING, b"source", b"overlay", 0)
        for layer in layers:
            call(FSCONFIG, context, SET_STRING, b"lowerdir+", os.fsencode(layer), 0)
        call(FSCONFIG, context, CREATE, None, None, 0)
        mounted = call(FSMOUNT, context, 0, 0)
        call(MOVE_MOUNT, mounted, b"", -100, os.fsencode(target), EMPTY_PATH)
        os.close(mounted)
    finally:
        os.close(context)


def mount_by_one_option(layers: list[Path], target: Path) -> None:
    """With mount(2), where overlayfs takes the commas apart itself; mount(8) has escapes of its own."""
    escaped = [
        os.fsencode(layer).replace(b"\\", b"\\\\").replace(b":", b"\\:").replace(b",", b"\\,") for layer in layers
    ]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"overlay", os.fsencode(target), b"overlay", 1, b"lowerdir=" + b":".join(escaped)) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@pytest.mark.verifies("S1")
@pytest.mark.parametrize("how", [mount_by_one_option, mount_layer_by_layer])
@pytest.mark.parametrize("name", ODD)
def test_the_layers_are_found_whatever_their_names(tmp_path: Path, target: Path, name: str, how: object) -> None:
    layers = [tmp_path / "first", tmp_path / name]
    for layer in layers:
        layer.mkdir()
    try:
        mount_layer_by_layer(layers, target) if how is mount_layer_by_layer else mount_by_one_option(layers, target)
    except OSError as e:
        pytest.skip(f"this kernel does not mount it so: {e}")
    table = mounts.parse_mountinfo(mounts.read_text(mounts.MOUNTINFO))
    (found,) = (mount for mount in table if mount.point == str(target))
    assert overlay_layers(found) == tuple(map(str, layers))


def test_a_loop_device_is_read_from_the_device_that_holds_its_file(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        outer, inner, point = tmp_path / "outer", tmp_path / "point/inner", tmp_path / "point"
        point.mkdir()
        outer.write_bytes(bytes(8 << 20))
        subprocess.run(["mkfs.ext4", "-q", "-F", outer], check=True)
        first = attach(outer, stack)
        subprocess.run(["mount", first, point], check=True)
        stack.callback(run, "umount", str(point))
        inner.write_bytes(bytes(1 << 20))
        second = attach(inner, stack)
        numbers = [mounts.device_of(Path(device)) for device in (first, second)]
        assert numbers[0] is not None
        assert numbers[1] is not None
        assert numbers[0] in mounts.read_from(numbers[1])
        assert mounts.below(numbers[1]) == {numbers[1]}


def run(*argv: str) -> None:
    subprocess.run(argv, check=True)


def attach(file: Path, stack: contextlib.ExitStack) -> str:
    argv = ["losetup", "--find", "--show", str(file)]
    device = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()
    stack.callback(run, "losetup", "--detach", device)
    return device
