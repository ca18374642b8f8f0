"""Hooks that fail or lie: nothing that they say about a write is believed."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest

import waits
from fakes.rigs import HOOK, HOOKS, ONE_SHOT, write_default
from twinslot.bootloader.hook import Hook
from twinslot.config.options import BootConfig
from twinslot.core.errors import DeviceError
from twinslot.core.loaders import BACKENDS
from twinslot.core.model import LoaderTraits

pytestmark = pytest.mark.slow

Make = Callable[[str], Hook]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """A hook that does as the example does, except what the given shell text does first."""
    monkeypatch.setenv("TWINSLOT_HOOK_DIR", str(tmp_path))
    Hook(HOOK, default_env=write_default(tmp_path)).reset({})

    def build(text: str) -> Hook:
        path = tmp_path / "hook"
        path.write_text(f'#!/bin/sh\n{text}\nexec {HOOK} "$@"\n')
        path.chmod(0o755)
        return Hook(path, default_env=tmp_path / "default-env.txt", timeout=waits.HANG)

    return build


def fails(hook: Hook, code: str) -> DeviceError:
    with pytest.raises(DeviceError) as caught:
        hook.write({"slot": "b", "slot_b": "trial"})
    assert caught.value.code == f"device.{code}"
    return caught.value


def test_a_write_that_landed_counts_although_the_hook_failed_afterwards(make: Make) -> None:
    hook = make('[ "$1" = set-environment ] && { "' + str(HOOK) + '" "$@"; exit 1; }')
    assert hook.write({"slot": "b"}).variables["slot"] == "b"


@pytest.mark.verifies("REQ-BOOT-04")
def test_a_write_that_did_nothing_is_an_error_although_the_hook_said_0(make: Make) -> None:
    error = fails(make('[ "$1" = set-environment ] && exit 0'), "env-write")
    assert error.expected == "slot=b, slot_b=trial"
    assert error.found == "slot=a, slot_b=good"


@pytest.mark.verifies("REQ-BOOT-04")
def test_a_hook_that_hangs_is_killed_and_named(make: Make) -> None:
    hook = Hook(make('[ "$1" = set-environment ] && sleep 1000')._hook, timeout=0.5)
    assert "did not end in time" in str(fails(hook, "env-write").hint)


@pytest.mark.verifies("REQ-BOOT-04")
@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('[ "$1" = get-primary ] && { echo a; exit 0; }', "a"),
        ('[ "$1" = get-primary ] && { echo no >&2; exit 1; }', "ended with status 1: no"),
        ('[ "$1 $2" = "get-state b" ] && { echo bad; exit 0; }', "bad"),
    ],
)
def test_a_boot_loader_that_says_otherwise_than_the_environment_is_caught(make: Make, text: str, found: str) -> None:
    error = fails(make(text), "env-write")
    assert "contradicts" in error.message
    assert error.found == found


@pytest.mark.parametrize(
    "text",
    [
        '[ "$1" = get-environment ] && exit 1',
        '[ "$1" = get-environment ] && { echo no equals sign; exit 0; }',
        '[ "$1" = get-environment ] && { echo a=1; echo a=2; exit 0; }',
        '[ "$1" = get-environment ] && { printf "a=\\377\\n"; exit 0; }',
        '[ "$1" = get-environment ] && { echo a=1; head -c 300000 /dev/zero | tr "\\0" x; exit 0; }',
    ],
)
def test_an_environment_that_cannot_be_used_is_an_error_not_a_loss(make: Make, text: str) -> None:
    with pytest.raises(DeviceError) as caught:
        make(text).read()
    assert caught.value.code == "device.env-hook"


def test_a_store_that_is_not_mounted_is_an_error_not_a_loss(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    hook = make("")
    monkeypatch.setenv("TWINSLOT_HOOK_DIR", "/nonexistent")
    with pytest.raises(DeviceError, match="get-environment"):
        hook.read()


def test_a_missing_hook_is_named(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="absent") as caught:
        Hook(tmp_path / "absent").read()
    assert caught.value.code == "device.env-hook"


def test_without_a_default_a_lost_environment_stays_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWINSLOT_HOOK_DIR", str(tmp_path))
    with pytest.raises(DeviceError) as caught:
        Hook(HOOK).reset({})
    assert caught.value.code == "device.env-default"


def test_a_hook_whose_copies_never_agree_is_an_error(make: Make) -> None:
    hook = make('[ "$1" = get-environment ] && { "' + str(HOOK) + '" "$@"; exit 4; }')
    with pytest.raises(DeviceError) as caught:
        hook.settle()
    assert caught.value.code == "device.env-hook"


@pytest.mark.parametrize("hook", [HOOK, ONE_SHOT], ids=lambda hook: hook.parent.name)
def test_a_hook_that_is_killed_leaves_nothing_that_the_next_one_does_not_use(
    hook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client kills a hook at its time-out, and a cut ends it; a file for each would fill /tmp of a device."""
    for name in ("store", "temporary"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("TWINSLOT_HOOK_DIR", str(tmp_path / "store"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    asked = Hook(hook, default_env=write_default(tmp_path))
    asked.reset({})
    before = sorted((tmp_path / "store").iterdir())
    for number in (signal.SIGTERM, signal.SIGKILL):
        with subprocess.Popen([hook, "set-environment"], stdin=subprocess.PIPE, start_new_session=True) as process:
            assert process.stdin is not None
            process.stdin.write(b"ts_generation=7\n")
            process.stdin.flush()
            pipe = process.stdin
            waits.until(lambda: not _unread(pipe))  # noqa: B023 - called in this round
            os.killpg(process.pid, number)
    assert not list((tmp_path / "temporary").iterdir())
    assert asked.write({"ts_generation": "8"}).variables["ts_generation"] == "8"
    assert sorted((tmp_path / "store").iterdir()) == before
    assert not list((tmp_path / "temporary").iterdir())


def _unread(pipe: IO[bytes]) -> int:
    """Bytes in a pipe that nobody has read."""
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


@pytest.mark.parametrize("torn", ["env0", "env1", "tmp"])
def test_a_cut_between_the_two_files_leaves_the_old_or_the_new(make: Make, tmp_path: Path, torn: str) -> None:
    hook = make("")
    hook.write({"ts_generation": "2"})
    data = (tmp_path / "env1").read_bytes()
    (tmp_path / torn).write_bytes(data[: len(data) // 3])
    assert hook.read().variables["ts_generation"] == "2"
    assert hook.write({"ts_generation": "3"}).settled


@pytest.mark.parametrize(
    ("said", "traits"),
    [
        ("exit 2", LoaderTraits()),  # of before: it does not know the verb
        ("exit 0", LoaderTraits()),
        ("echo counts=no; exit", LoaderTraits(counts=False)),
        (
            "echo counts=no; echo hands_over=no; echo tells_reason=no; echo copies=1; exit",
            LoaderTraits(counts=False, hands_over=False, tells_reason=False, copies=1),
        ),
        ("echo counts=yes; echo copies=2; echo of_tomorrow=perhaps; exit", LoaderTraits()),
    ],
)
def test_what_a_hook_does_not_say_of_its_boot_loader_is_as_with_u_boot(
    make: Make, said: str, traits: LoaderTraits
) -> None:
    assert make(f'[ "$1" = describe ] && {{ {said}; }}').describe() == traits


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("echo counts=perhaps; exit", "counts=perhaps"),
        ("echo copies=3; exit", "copies=3"),
        ("echo counts; exit", "counts"),
        ("echo tired >&2; exit 1", "tired"),
    ],
)
def test_a_description_that_cannot_be_used_is_an_error_that_names_it(make: Make, said: str, found: str) -> None:
    with pytest.raises(DeviceError) as caught:
        make(f'[ "$1" = describe ] && {{ {said}; }}').describe()
    assert caught.value.code == "device.env-hook"
    assert found in str(caught.value.found)


def test_the_hooks_that_ship_say_what_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWINSLOT_HOOK_DIR", str(tmp_path))
    assert Hook(HOOK).describe() == LoaderTraits()
    assert Hook(ONE_SHOT).describe() == LoaderTraits(counts=False, tells_reason=False)


def test_each_hook_of_the_tree_has_a_name_and_a_place_and_no_name_is_without_a_hook() -> None:
    folders = {path.parent.name for path in HOOKS.glob("*/twinslot-hook")}
    assert folders == set(BACKENDS) - {"uboot", "hook"}
    for name in folders:
        assert BootConfig(backend=name).executable == Path("/usr/lib/twinslot/hooks") / name
        assert BootConfig(backend=name, hook=Path("/opt/hook")).executable == Path("/opt/hook")
    assert BootConfig().executable is None
