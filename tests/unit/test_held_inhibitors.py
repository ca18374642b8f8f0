"""Inhibitors that are held by a descriptor: for as long as somebody has it, whatever becomes of who gave it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from twinslot.core.errors import DeviceError, RefusedError
from twinslot.core.inhibitors import Inhibitor, asked_for
from twinslot.core.origin import Origin, OriginKind
from twinslot.policy import held
from twinslot.policy.held import HeldInhibitors

PUMP = Origin(OriginKind.BUS, uid=1000)
ROOT = Origin(OriginKind.BUS, uid=0)
THERAPY = Inhibitor("therapy", "an infusion runs", source="bus")


@pytest.fixture
def here(tmp_path: Path) -> HeldInhibitors:
    return HeldInhibitors(tmp_path / "inhibitors")


@pytest.mark.verifies("S20")
def test_it_is_held_until_the_last_copy_of_its_descriptor_is_closed(here: HeldInhibitors) -> None:
    assert here.inhibitors() == ()
    descriptor = here.hold(THERAPY, PUMP)
    copy = os.dup(descriptor)
    assert here.inhibitors() == (THERAPY,)
    assert HeldInhibitors(here.directory).inhibitors() == (THERAPY,), "another process sees the same"
    os.close(descriptor)
    assert here.inhibitors() == (THERAPY,)
    os.close(copy)
    assert here.inhibitors() == ()


@pytest.mark.verifies("S20")
def test_a_holder_that_is_killed_lets_go(here: HeldInhibitors) -> None:
    descriptor = here.hold(THERAPY, PUMP)
    holder = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], pass_fds=[descriptor])
    os.close(descriptor)
    assert here.inhibitors() == (THERAPY,)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert here.inhibitors() == ()


@pytest.mark.verifies("S20")
def test_what_its_holder_writes_does_not_let_go(here: HeldInhibitors) -> None:
    descriptor = here.hold(THERAPY, PUMP)
    reader = os.open(here.directory / "1.ref", os.O_RDONLY | os.O_NONBLOCK)
    os.write(descriptor, b"x")
    assert [here.inhibitors() for _ in range(3)] == [(THERAPY,)] * 3
    os.close(reader)
    os.close(descriptor)


@pytest.mark.verifies("S20")
def test_several_are_held_apart_and_those_that_ended_are_swept(here: HeldInhibitors) -> None:
    first, second = here.hold(THERAPY, PUMP), here.hold(Inhibitor("scan", "a scan runs", source="bus"), PUMP)
    assert [each.who for each in here.inhibitors()] == ["therapy", "scan"]
    os.utime(here.directory / "1.ref", (1_700_000_000, 1_700_000_000))
    assert here.inhibitors()[0].as_dict()["since"] == "2023-11-14T22:13:20Z", "asking whether it is held changes it not"
    os.close(first)
    assert [each.who for each in here.inhibitors()] == ["scan"]
    third = here.hold(THERAPY, PUMP)
    assert [each.who for each in here.inhibitors()] == ["scan", "therapy"]
    assert sorted(path.name for path in here.directory.iterdir()) == ["2.json", "2.ref", "3.json", "3.ref"]
    os.close(second)
    os.close(third)


@pytest.mark.verifies("S20")
def test_one_whose_words_are_lost_is_held_all_the_same(here: HeldInhibitors) -> None:
    descriptor = here.hold(THERAPY, PUMP)
    (here.directory / "1.json").write_text("[" * 1000)
    assert here.inhibitors() == (Inhibitor("inhibitor 1", "not known", source="bus"),)
    (here.directory / "1.json").unlink()
    assert len(here.inhibitors()) == 1
    os.close(descriptor)


def test_a_user_holds_only_so_many_and_never_keeps_root_from_one(
    here: HeldInhibitors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held, "EACH", 2)
    monkeypatch.setattr(held, "ALL", 3)
    open_ones = [here.hold(THERAPY, PUMP) for _ in range(2)]
    with pytest.raises(RefusedError, match="too many inhibitors are held already"):
        here.hold(THERAPY, PUMP)
    open_ones.append(here.hold(THERAPY, Origin(OriginKind.BUS, uid=1001)))
    with pytest.raises(RefusedError) as error:
        here.hold(THERAPY, Origin(OriginKind.BUS, uid=1002))
    assert error.value.found == "0 of this user, 3 of all"
    open_ones += [here.hold(THERAPY, ROOT) for _ in range(4)]
    assert len(here.inhibitors()) == 7
    for descriptor in open_ones:
        os.close(descriptor)


def test_a_place_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DeviceError, match="cannot be used") as error:
        HeldInhibitors(tmp_path / "file").hold(THERAPY, PUMP)
    assert error.value.code == "device.inhibitors"
    (in_use,) = HeldInhibitors(tmp_path / "file").inhibitors()
    assert in_use.why == "the directory cannot be listed (Not a directory)"


@pytest.mark.parametrize(
    ("what", "who", "why"), [("shutdown", "a", "b"), ("fetch:", "a", "b"), ("", "", "b"), ("", "a", " ")]
)
def test_a_caller_who_asks_for_what_is_not_known_is_told(what: str, who: str, why: str) -> None:
    with pytest.raises(RefusedError) as error:
        asked_for(what, who, why)
    assert error.value.code == "refused.inhibitor"
