"""Who says that the device is in use, and what must not happen meanwhile."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinslot.core.inhibitors import WORDS, Inhibitor, obstacles, of_file, parse_what
from twinslot.core.policy import Gate
from twinslot.policy import inhibitors as edge
from twinslot.policy.inhibitors import file_inhibitors


def held(inhibitors: tuple[Inhibitor, ...]) -> dict[str, str]:
    return {each.who: each.why for each in inhibitors}


@pytest.mark.verifies("S20")
def test_a_file_holds_arming_and_restart_unless_it_says_what(tmp_path: Path) -> None:
    (tmp_path / "therapy").write_text("an infusion runs\n")
    (tmp_path / "backup").write_text("what=fetch:write\nthe line is busy\n")
    (tmp_path / "empty").touch()
    (tmp_path / ".hidden").touch()
    found = file_inhibitors(tmp_path)
    assert held(found) == {
        "therapy": "an infusion runs",
        "backup": "the line is busy",
        "empty": "no reason is given",
    }
    at = {gate: [each.why.message for each in obstacles(found, gate)] for gate in Gate}
    assert at[Gate.FETCH] == at[Gate.WRITE] == ["'backup' uses the device"]
    assert at[Gate.ACTIVATE] == at[Gate.RESTART] == ["'empty' uses the device", "'therapy' uses the device"]


@pytest.mark.verifies("S20")
def test_what_cannot_be_read_is_in_use_and_stands_against_every_step(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    found = file_inhibitors(tmp_path)
    assert held(found).keys() == {"directory", "link", "pipe"}
    assert all(each.what == frozenset(WORDS) for each in found)
    (tmp_path / "file").write_text("x")
    (no_directory,) = file_inhibitors(tmp_path / "file")
    assert no_directory.why == "the directory cannot be listed (Not a directory)"


def test_without_the_directory_the_device_is_not_in_use(tmp_path: Path) -> None:
    assert file_inhibitors(tmp_path / "none") == ()


@pytest.mark.verifies("S20")
def test_one_of_very_many_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge, "MANY", 3)
    for number in range(5):
        (tmp_path / str(number)).touch()
    assert len(file_inhibitors(tmp_path)) == 4


@pytest.mark.verifies("S20")
def test_a_file_behind_very_many_that_hold_another_step_is_heeded(tmp_path: Path) -> None:
    for number in range(edge.MANY):
        (tmp_path / f"{number:04}").write_text("what=fetch\n")
    assert not obstacles(file_inhibitors(tmp_path), Gate.RESTART)
    (tmp_path / "therapy").touch()
    assert obstacles(file_inhibitors(tmp_path), Gate.RESTART)


@pytest.mark.verifies("S20")
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", {"restart"}),
        ("restart", {"restart"}),
        ("fetch:write", {"fetch", "write"}),
        (" fetch : restart ", {"fetch", "restart"}),
        ("shutdown", {"fetch", "write", "restart"}),
        ("fetch:sleep", {"fetch", "write", "restart"}),
    ],
)
def test_a_word_that_is_not_known_stands_for_all(text: str, words: set[str]) -> None:
    assert parse_what(text) == words


@pytest.mark.verifies("S20")
@given(st.text(max_size=20), st.binary(max_size=300))
def test_whatever_a_file_holds_it_is_an_inhibitor_of_one_printable_line(name: str, data: bytes) -> None:
    found = of_file(name, data)
    assert found.what
    assert (found.who + found.why).isprintable()
