"""Who asked, as procfs and the source of an image tell it; nothing of it is a secret."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from twinslot.core.counting import EXACT_MAX, KINDS_MAX, counted, worth_a_row
from twinslot.core.origin import Origin, OriginKind
from twinslot.engine.naming import source_name
from twinslot.system.caller import name_of, this_process

SYSTEM = "0::/system.slice/twinslot-boot.service\n"
NO_LOGIN = str(2**32 - 1)


def proc(directory: Path, cgroup: str, login: str | None) -> Path:
    (directory / "cgroup").write_text(cgroup)
    if login is not None:
        (directory / "loginuid").write_text(login)
    return directory


def test_a_unit_without_a_person_is_named(tmp_path: Path) -> None:
    found = this_process(proc(tmp_path, SYSTEM, NO_LOGIN))
    assert found == Origin(OriginKind.UNIT, uid=os.getuid(), unit="twinslot-boot.service")


@pytest.mark.verifies("S19")
def test_behind_sudo_the_user_who_logged_in_is_named(tmp_path: Path) -> None:
    found = this_process(proc(tmp_path, "0::/user.slice/user-1000.slice/session-1.scope\n", "65534"))
    assert found == Origin(OriginKind.CLI, uid=os.getuid(), login=name_of(65534))


def test_who_logged_in_through_a_service_is_a_person(tmp_path: Path) -> None:
    found = this_process(proc(tmp_path, "0::/system.slice/ssh.service\n", "0"))
    assert found == Origin(OriginKind.CLI, uid=os.getuid(), login="root")


@pytest.mark.parametrize("cgroup", ["", "junk", "0::/", "0::/user.slice/user@0.service/app.slice/x.service\n"])
def test_without_a_unit_of_the_system_it_is_the_command(tmp_path: Path, cgroup: str) -> None:
    assert this_process(proc(tmp_path, cgroup, None)).kind is OriginKind.CLI


def test_only_what_is_known_is_written() -> None:
    assert Origin(OriginKind.BUS, uid=0, sender=":1.7").as_dict() == {"kind": "bus", "uid": 0, "sender": ":1.7"}


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://192.0.2.7/pump.twin", "http://192.0.2.7/pump.twin"),
        ("https://user:secret@host:8443/a/b?token=secret#secret", "https://host:8443/a/b"),
        ("https://[2001:db8::1]:8/a", "https://[2001:db8::1]:8/a"),
        ("https://user:secret@host:999999/x", "an address that cannot be read"),
        ("user:secret", "an address that cannot be read"),
        ("", "an address that cannot be read"),
    ],
)
def test_an_address_is_named_without_what_may_be_secret(url: str, shown: str) -> None:
    assert source_name(url) == shown


def test_a_descriptor_is_named_by_its_path_or_its_kind(tmp_path: Path) -> None:
    with (tmp_path / "image.twin").open("wb") as file:
        assert source_name(file.fileno()) == str(tmp_path / "image.twin")
    ends = os.pipe()
    assert source_name(ends[0]) == "a pipe"
    for end in ends:
        os.close(end)
    assert source_name(-1) == "a descriptor"


def test_what_comes_again_and_again_is_counted_in_a_bounded_place() -> None:
    counts: dict[str, int] = {}
    rows = 0
    for number in range(100_000):
        counts, times = counted(counts, f"exact {number % 5000}", f"kind {number % 300}")
        rows += worth_a_row(times)
    assert len(counts) == KINDS_MAX + 1
    assert rows < (KINDS_MAX + 1) * 17, "log2 of 100,000"
    assert sum(key.startswith("exact") for key in counts) == EXACT_MAX


def test_the_very_same_thing_has_a_row_each_time_its_number_doubles() -> None:
    counts: dict[str, int] = {}
    rows = []
    for _ in range(20):
        counts, times = counted(counts, "same", "kind")
        rows += [times] if worth_a_row(times) else []
    assert rows == [1, 2, 4, 8, 16]
