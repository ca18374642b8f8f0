"""The fixtures' own parts, without a board: what is remembered, drawn, told and named."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinslot_lab import command, evidence
from twinslot_lab.agent import Hello
from twinslot_lab.board import Board
from twinslot_lab.boot_log import last_start
from twinslot_lab.broken import BrokenBoards
from twinslot_lab.device import EmulatedDevice, RealDevice, find
from twinslot_lab.errors import BoardError, BuildError, LabError
from twinslot_lab.image_factory import ReadyImages, marker_of
from twinslot_lab.own import OwnTeam, parse
from twinslot_lab.power import Power

pytest_plugins = ["pytester"]
WITH_THE_LAB = ("-p", "twinslot_lab.plugin")


def empty_motor(tree: Path) -> None:
    (tree / "motor").write_text("")


# --- boards that do not come up


def test_the_first_cause_is_what_everybody_hears(tmp_path: Path) -> None:
    one, other = BrokenBoards(tmp_path / "m"), BrokenBoards(tmp_path / "m")  # as two workers of one session
    with pytest.raises(BoardError, match="no kernel"), one.coming_up("pump", "test_first"):
        raise BoardError("no kernel", "the console's end")
    for board in (one, other):
        with pytest.raises(BoardError, match=r"this board is broken: no kernel \(found by test_first\)"):
            with board.coming_up("pump", "test_second"):
                pytest.fail("nobody tries it again")
    with other.coming_up("another pump", "test_third"):
        pass


def test_a_board_that_cannot_be_built_is_broken_too_and_a_test_that_is_wrong_breaks_nothing(tmp_path: Path) -> None:
    broken = BrokenBoards(tmp_path)
    with pytest.raises(ZeroDivisionError), broken.coming_up("pump", "test_zero"):
        _ = 1 / 0
    assert broken.cause("pump") == ""
    with pytest.raises(BuildError), broken.coming_up("pump", "test_one"):
        raise BuildError("no compiler", hint="install one")
    assert broken.cause("pump") == "no compiler (found by test_one)"


BOARD_THAT_DOES_NOT_START = """
    import pytest
    from twinslot_lab import device
    from twinslot_lab.errors import BoardError

    def dead(*_, **__):
        with open("tries", "a") as tries:
            tries.write("x")
        raise BoardError("the fuse is blown", "the last words")

    @pytest.fixture(autouse=True)
    def no_power(monkeypatch):
        monkeypatch.setattr(device, "open_board", dead)
"""


def test_a_session_with_a_dead_board_tries_it_once(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(BOARD_THAT_DOES_NOT_START)
    tests = "\n".join(f"def test_{n}(board, power, console): pass" for n in range(3))
    pytester.makepyfile(tests + "\ndef test_without(): pass")
    result = pytester.runpytest(*WITH_THE_LAB)
    result.assert_outcomes(passed=1, errors=3)
    result.stdout.fnmatch_lines(["*the fuse is blown", "*the last words", "*this board is broken: the fuse is blown*"])
    assert (pytester.path / "tries").read_text() == "x"


BOARDS_THAT_ARE_HELD = """
    import pytest
    from pathlib import Path
    from twinslot_lab import device
    from twinslot_lab.errors import BoardError

    class Held:
        def __init__(self, name, stuck=False):
            self.name, self.stuck = name, stuck

        def note(self, what):
            with open("account", "a") as account:
                account.write(f"{what} {self.name}\\n")

        def cut(self):
            self.note("cut")
            if self.stuck:
                raise BoardError("the relay is stuck")

        def close(self):
            self.note("close")

    @pytest.fixture(autouse=True)
    def two(monkeypatch, _watch):
        monkeypatch.setattr(device, "open_board", lambda *_, **__: Held("one"))
        _watch.boards[Path("other")] = Held("two", stuck=True)
"""


@pytest.mark.slow
def test_after_a_test_every_board_is_cut_and_its_line_let_go_also_if_one_of_them_cannot_be_switched(
    pytester: pytest.Pytester,
) -> None:
    pytester.makeconftest(BOARDS_THAT_ARE_HELD)
    pytester.makepyfile("def test_one(board): assert board.name == 'one'")
    result = pytester.runpytest_subprocess(*WITH_THE_LAB)  # in here, what other tests left behind may fail it
    result.assert_outcomes(passed=1, errors=1)
    account = (pytester.path / "account").read_text().splitlines()
    assert sorted(account) == ["close one", "close two", "cut one", "cut two"]
    assert account.index("cut one") < account.index("close one")


LEAVES_MUCH = """
    import pytest

    @pytest.mark.parametrize("fails", [False, True])
    def test_it(artifacts, fails):
        for name in ("frozen/memory", "frozen/disk.img", "board/disk.img", "board/console.log"):
            (artifacts / name).parent.mkdir(exist_ok=True)
            (artifacts / name).write_text("x")
        assert not fails
"""


def test_of_a_test_that_passed_only_what_was_said_stays_and_of_one_that_failed_all(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "BUILD", pytester.path)
    pytester.makepyfile(LEAVES_MUCH)
    pytester.runpytest(*WITH_THE_LAB).assert_outcomes(passed=1, failed=1)
    kept = [file.relative_to(pytester.path / "artifacts") for file in pytester.path.glob("artifacts/*/*/*")]
    said = {str(file.parent.name + "/" + file.name) for file in kept if "False" in file.parts[0]}
    assert said == {"board/console.log"}
    assert len([file for file in kept if "True" in file.parts[0]]) == 4


def test_the_disk_of_a_failed_test_is_named_also_if_the_guest_still_answers(tmp_path: Path) -> None:
    (tmp_path / "disk.img").write_bytes(b"x")
    (tmp_path / "console.log").write_text("x")
    answers = SimpleNamespace(check=lambda *_, **__: "systemd: up\n")
    lines = evidence.gather(cast("Board", answers), tmp_path)
    assert [line.split(": ")[0] for line in lines] == ["console", "disk", "journal"]
    assert (tmp_path / "journal.txt").read_text() == "systemd: up\n"


def test_the_board_is_named_by_option_then_environment_then_file(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile("""
        from twinslot_lab.plugin import board_name
        def test_name(pytestconfig):
            print("board:", board_name(pytestconfig))
    """)

    def named(*options: str) -> str:
        lines = pytester.runpytest(*WITH_THE_LAB, "-s", *options).outlines
        return next(line.split("board: ")[1] for line in lines if "board: " in line)

    monkeypatch.delenv("TWINSLOT_BOARD", raising=False)
    assert named() == "virt-arm64"
    pytester.makeini("[pytest]\ntwinslot_board = by-file")
    assert named() == "by-file"
    monkeypatch.setenv("TWINSLOT_BOARD", "by-environment")
    assert named() == "by-environment"
    assert named("--board", "by-option") == "by-option"


# --- power


class Lamp:
    """A board that can only be switched."""

    def __init__(self) -> None:
        self.cuts: list[str] = []

    def cut(self) -> None:
        self.cuts.append("off")


def test_a_drawn_moment_comes_again_with_its_seed_and_stands_in_the_account() -> None:
    moments = []
    for _ in range(2):
        power = Power(Lamp(), 7)  # type: ignore[arg-type]
        moments.append([power.cut_within(0.0, 0.02) for _ in range(3)])
        assert [line.split("s  ")[1] for line in power.account] == [f"cut after {s:.3f} s" for s in moments[-1]]
    assert moments[0] == moments[1]
    assert len(set(moments[0])) == 3


def test_a_cut_comes_after_its_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    lamp = Lamp()
    monkeypatch.setattr("twinslot_lab.power.time.sleep", lambda seconds: lamp.cuts.append(f"after {seconds} s"))
    Power(lamp, 0).cut_after(0.2)  # type: ignore[arg-type]
    assert lamp.cuts == ["after 0.2 s", "off"]


@pytest.mark.parametrize("panic", ["", "Kernel panic - not syncing: no"])
def test_a_guest_that_panics_on_its_way_down_is_not_taken_for_one_that_is_off(panic: str) -> None:
    class Board(Lamp):
        console = SimpleNamespace(mark=7, fatal=lambda since: panic if since == 7 else "an earlier one")

        def run(self, *argv: str, **_: object) -> None:
            if argv == ("true",):
                raise BoardError("the agent's channel ended")

    board = Board()
    with pytest.raises(BoardError, match=panic) if panic else nullcontext():
        Power(board, 0).off()  # type: ignore[arg-type]
    assert len(board.cuts) == 1


def test_up_says_which_slot_it_is() -> None:
    class Board(Lamp):
        def power_on(self) -> None:
            pass

        def wait_up(self, *_: object, **__: object) -> Hello:
            return Hello("boot", "b")

    power = Power(Board(), 0)  # type: ignore[arg-type]
    assert power.up().slot == "b"
    assert [line.split("s  ")[1] for line in power.account] == ["on", "slot b is up"]


# --- what a board said

SPL = "U-Boot SPL 2023.01+dfsg-2 (Jan 01 1970)\r\nTrying to boot from MMC1\r\n"
UBOOT = "U-Boot 2023.01+dfsg-2 (Jan 01 1970)\r\nHit any key\r\n"


@pytest.mark.parametrize("firmware", [UBOOT, SPL + "\r\n\r\n" + UBOOT])
def test_the_boot_log_begins_with_the_firmware_of_the_last_start(firmware: str) -> None:
    console = firmware + "Linux one\r\n" + firmware + "Linux two\r\n"
    assert last_start(console) == firmware + "Linux two\r\n"


@given(st.text(), st.text())
def test_the_last_start_is_always_the_end_of_the_text(before: str, after: str) -> None:
    text = before + "\n" + UBOOT + after
    found = last_start(text)
    assert text.endswith(found)
    assert found.startswith("U-Boot")
    assert before.endswith(last_start(before))


# --- images


def test_a_change_is_named_by_its_file_and_one_that_depends_on_more_is_refused() -> None:
    assert marker_of(empty_motor).startswith("empty_motor-")
    content = "x"

    def depends(tree: Path) -> None:
        (tree / "motor").write_text(content)

    with pytest.raises(LabError, match="marker="):
        marker_of(depends)


# --- which device


def test_a_device_is_a_board_of_the_lab_or_a_file_that_says_what_it_is(tmp_path: Path) -> None:
    assert isinstance(find("virt-arm64"), EmulatedDevice)
    file = tmp_path / "pump.toml"
    file.write_text('name = "pump"\nkind = "real"\n[console]\nurl = "socket://127.0.0.1:1"\n')
    found = find(str(file))
    assert isinstance(found, RealDevice)
    assert found.name == "pump"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("name = ", "cannot be read"),
        ('name = "pump"', 'kind = "emulated" or "real"'),
        ('kind = "emulated"\nname = "pump"\nlike = "virt-arm64"', "missing keys: root"),
        ('kind = "emulated"\nname = "pump"\nlike = "virt-arm64"\nroot = "."\nrot = 1', "unknown or missing keys: rot"),
        ('kind = "emulated"\nname = "pump"\nlike = "virt-arm64"\nroot = "nowhere"', "there is no '.*nowhere'"),
        ('kind = "emulated"\nname = "pump"\nlike = "toaster"\nroot = "."', "no board 'toaster'"),
    ],
)
def test_a_wrong_file_is_refused_with_what_is_wrong(tmp_path: Path, text: str, sentence: str) -> None:
    file = tmp_path / "pump.toml"
    file.write_text(text)
    with pytest.raises(LabError, match=sentence):
        find(str(file))


def test_a_device_may_have_slots_of_another_size(tmp_path: Path) -> None:
    data = {"name": "pump", "kind": "emulated", "like": "virt-arm64", "root": ".", "slot_mib": 512}
    board = parse(data, tmp_path).board
    assert (board.disk.slot_mib, board.disk.data_mib) == (512, 256)


CONFIG = """[device]
compatible = "acme,pump-3"
[slots.a]
rootfs = "/dev/disk/by-partlabel/slot_a"
[slots.b]
rootfs = "/dev/disk/by-partlabel/slot_b"
[trust]
roles = ["engineering"]
"""


def own_team(folder: Path, **files: str) -> OwnTeam:
    """A device whose root file system and overlay hold only these files."""
    for name in ("root", "overlay"):
        (folder / name / "usr/lib/twinslot").mkdir(parents=True)
        (folder / name / "etc/twinslot/config.d").mkdir(parents=True)
    for name, text in files.items():
        (folder / name.replace("__", "/")).with_suffix(".toml").write_text(text)
    data = {"name": "pump", "kind": "emulated", "like": "virt-arm64", "root": "root", "overlays": ["overlay"]}
    return OwnTeam(parse(data, folder))


def test_what_a_device_is_and_who_signs_for_it_is_read_as_its_own_client_does(tmp_path: Path) -> None:
    changed = '[device]\ncompatible = "acme,pump-4"\n'
    files = {"root__usr__lib__twinslot__config": CONFIG, "overlay__etc__twinslot__config.d__20": changed}
    team = own_team(tmp_path, **files)
    assert (team.compatible, team.roles) == ("acme,pump-4", ("engineering",))


def test_a_root_file_system_without_a_configuration_is_refused_with_where_to_read_on(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"guide-device\.md"):
        own_team(tmp_path)


def test_the_images_of_a_real_board_are_found_by_name(tmp_path: Path) -> None:
    (tmp_path / "2.0.twin").write_bytes(b"x")
    images = ReadyImages(tmp_path)
    assert images("2.0").path == tmp_path / "2.0.twin"
    assert images.installed.slot == tmp_path / "installed.img"
    with pytest.raises(LabError, match=r"there is no '.*3\.0\.twin'"):
        images("3.0")
    with pytest.raises(LabError, match="cannot be changed"):
        images("2.0", empty_motor)
