"""`make try`: the story on a device made of this machine, the shell in it, and that nothing of it stays."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("qemu.qmp", reason="the device's client gets its libraries from the checkout's own environment")

import waits
from twinslot_lab.errors import LabError
from twinslot_lab.try_device import needs
from twinslot_lab.try_device.cli import TryBench, workbench
from twinslot_lab.try_device.machine import End
from twinslot_lab.try_device.releases import LARGE, NEXT, NEXT_BAD, NEXT_LARGE, PLAY
from twinslot_lab.try_device.story import start
from twinslot_lab.try_device.story_output import StoryPrinter, asked

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/try.md").read_text()
SHELL = ROOT / "qemu/twinslot_lab/try_device/tree/opt/device/shell.rc"
THINGS = dict(re.findall(r"^```sh (\w+)\n(.*?)\n```$", PAGE, flags=re.MULTILINE | re.DOTALL))
HANG = 300.0  # seconds; only a hang reaches it
TRY = [sys.executable, "-m", "twinslot_lab", "try"]


def left_of(folder: Path) -> list[str]:
    """Loop devices on files of the folder, mounts and processes that name it."""
    loops = [path.read_text().strip() for path in Path("/sys/block").glob("loop*/loop/backing_file")]
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    found = [each for each in (*loops, *mounts) if str(folder) in each]
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = process.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it ended
            continue
        found += [words] if f"{folder}/" in words and "start.sh" in words else []
    return found


def nothing_stays(folder: Path) -> bool:
    """Whether all of it goes, soon."""
    waits.until(lambda: not left_of(folder))
    return True


@pytest.mark.root
@pytest.mark.slow
def test_the_story_ends_as_it_must_and_nothing_of_the_device_stays(tmp_path: Path) -> None:
    done = subprocess.run(
        [*TRY, "--json", "--folder", tmp_path], stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report == json.loads((tmp_path / "report.json").read_text())
    good, bad, large = report["updates"]
    assert (good["from"], good["to"], good["outcome"]) == ("a", "b", "committed")
    assert good["bytes_fetched"] < good["image_bytes"] / 20, "by delta"
    assert (bad["from"], bad["to"], bad["outcome"], bad["reason"]) == ("b", "a", "rolled-back", "unhealthy")
    assert bad["running"] == good["running"]
    assert (large["from"], large["to"], large["outcome"]) == ("b", "a", "committed")
    cut = report["cut"]
    assert (cut["phase"], cut["running"], cut["outcome"], cut["reason"]) == ("write", "b", "abandoned", "interrupted")
    assert 30 <= cut["percent"] < 100
    assert large["bytes_fetched"] + cut["fetched"] < LARGE.new_bytes * 1.3, "it went on where it was cut"
    told = [line for step in report["steps"] for each in step["commands"] for line in each["lines"]]
    for line in (
        "the new system runs on trial",
        "the new system was left; the old one runs",
        "the committed system runs",
    ):
        assert line in told
    assert "motor controller says 'stuck'" in "\n".join(told)
    shown = re.search(
        r"^ +7\.9 s .*?ended as it must", (ROOT / "README.md").read_text(), flags=re.MULTILINE | re.DOTALL
    )
    assert shown
    assert [
        shape(line) for line in shown[0].splitlines() if shape(line) not in map(shape, done.stderr.splitlines())
    ] == []
    assert nothing_stays(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def shape(line: str) -> str:
    """A line without its numbers and its report's place."""
    return re.sub(r"\d+", "N", line.partition("; report:")[0]).strip()


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_a_story_that_is_stopped_leaves_no_loop_device_mount_or_process(
    tmp_path: Path, number: signal.Signals, status: int
) -> None:
    command = ["env", "--default-signal=INT", *TRY, "--story", "--folder", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as story:
        assert story.stdout is not None
        assert any("[2/7]" in line for line in story.stdout)
        assert left_of(tmp_path), "there is something to take away"
        story.send_signal(number)
        story.stdout.read()
    assert story.returncode == status
    assert nothing_stays(tmp_path)
    if number != signal.SIGKILL:
        assert not list(tmp_path.iterdir())


@pytest.mark.root
@pytest.mark.slow
def test_a_second_device_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    with workbench(tmp_path / "device", (LARGE,), LARGE):
        done = subprocess.run([*TRY, "--story", "--folder", tmp_path], capture_output=True, text=True)
    assert done.returncode == 1
    assert "found another device in it" in done.stderr


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TryBench]:
    """A device that runs what the story ends with, and what its shell offers; the things are tried in their order."""
    with workbench(tmp_path_factory.mktemp("try") / "device", (LARGE, *PLAY), LARGE) as made:
        yield made


@pytest.mark.root
@pytest.mark.slow
def test_the_five_things_of_the_page_do_what_it_says(bench: TryBench, capfd: pytest.CaptureFixture[str]) -> None:
    machine, printer = bench.machine, StoryPrinter(sys.stdout, 0)
    start(printer, machine)

    done = machine.run("bash", "-c", THINGS["look"])
    assert done.returncode == 0
    assert "*  a     good   4.0" in done.stdout
    assert "no update was ever begun" in done.stdout

    machine.run("bash", "-c", THINGS["good"])
    assert machine.wait_end() is End.RESTART
    start(printer, machine)
    last = asked(machine, "status")["last"]
    assert (machine.slot, last["release"]["name"], last["outcome"]) == ("b", NEXT.name, "committed")

    machine.run("bash", "-c", THINGS["bad"])
    assert machine.wait_end() is End.RESTART
    start(printer, machine, well=False)
    assert machine.slot == "a"
    assert machine.wait_end() is End.RESTART
    start(printer, machine)
    last = asked(machine, "status")["last"]
    assert (machine.slot, last["release"]["name"], last["reason"]) == ("b", NEXT_BAD.name, "unhealthy")
    assert "motor controller says 'stuck'" in machine.check("twinslot", "history")

    done = machine.run("bash", "-c", THINGS["cut"])
    assert done.returncode == -signal.SIGKILL
    assert machine.wait_end() is End.CUT
    start(printer, machine)
    last = asked(machine, "status")["last"]
    assert (machine.slot, last["release"]["name"], last["reason"]) == ("b", NEXT_LARGE.name, "interrupted")
    again = asked(machine, "install", f"{bench.server}/{NEXT_LARGE.name}.twin")["transaction"]
    assert again["bytes_fetched"] < NEXT_LARGE.new_bytes, "what was written before the cut stays"

    done = machine.run("bash", "-c", THINGS["forged"])
    assert done.returncode == 4
    assert "expected '1 valid signature', found '0'" in done.stderr
    machine.off()
    assert "the boot loader starts slot a" in capfd.readouterr().out


def test_every_page_and_the_command_say_the_same_of_what_is_installed() -> None:
    """The figure is that of `du -sm .venv` after `make try` in a fresh clone: docs/try.md."""
    places = [(ROOT / name).read_text() for name in ("README.md", "docs/try.md", "qemu/try.sh")]
    assert [re.findall(r"(\d+) MB on disk", text) for text in places] == [["160"]] * 3


def test_the_shell_offers_the_things_of_the_page() -> None:
    offered = re.findall(r"^  \d  (.*?)  +\S.*$", SHELL.read_text(), flags=re.MULTILINE)
    assert offered == [commands.replace("\n", "; ") for commands in THINGS.values()]
    assert len(offered) == 5


@pytest.mark.root
@pytest.mark.slow
def test_a_person_at_a_terminal_gets_a_shell_that_comes_back_after_a_restart(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    argv = ["setsid", "--ctty", "--wait", *TRY, "--folder", str(tmp_path)]
    person = subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    try:
        read_until(ours, "slot a, release 4.0 # ")
        os.write(ours, b"hostname; twinslot status\n")
        read_until(ours, "*  a     good   4.0")
        os.write(ours, b"reboot\n")
        read_until(ours, "the device restarts")
        read_until(ours, "slot a, release 4.0 # ")
        os.write(ours, b"exit\n")
        read_until(ours, "the device is taken away")
        assert person.wait(HANG) == 0
    finally:
        os.close(ours)  # the terminal hangs up: whatever still runs is ended
        person.wait(HANG)
    assert nothing_stays(tmp_path)


def read_until(terminal: int, text: str) -> None:
    """Read what the terminal shows up to a text, and no more."""
    said = b""
    while not said.endswith(text.encode()):
        assert select.select([terminal], [], [], HANG)[0], said
        said += os.read(terminal, 1)


def test_without_root_one_sentence_says_what_was_expected_found_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(LabError) as told:
        needs.check(tmp_path, 65534)
    said = str(told.value)
    assert said == "expected root, for loop devices and mounts, found user 'nobody' (hint: sudo make try)"


def test_without_root_and_sudo_make_try_says_so_before_it_installs_anything(tmp_path: Path) -> None:
    (tmp_path / "id").write_text('#!/bin/sh\n[ "$*" = -u ] && echo 1000 || echo pump\n')
    (tmp_path / "id").chmod(0o755)
    for name in ("sh", "dirname"):
        found = shutil.which(name)
        assert found
        (tmp_path / name).symlink_to(found)
    done = subprocess.run([ROOT / "qemu/try.sh"], env={"PATH": str(tmp_path)}, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith(
        "make try: expected root or sudo, for loop devices and mounts, found user 'pump' without sudo"
    )


def test_a_program_that_is_missing_is_named_with_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LabError, match=r"expected the program 'e2fsck', found none \(hint: apt install e2fsprogs\)"):
        needs.check(tmp_path, 0)


def test_every_program_that_it_needs_is_in_a_package_of_its_list() -> None:
    lines = (ROOT / "qemu/twinslot_lab/try_device/apt-packages.txt").read_text().splitlines()
    listed = {line.split()[0] for line in lines if not line.startswith("#")}
    assert set(needs.PROGRAMS.values()) | {"python3-venv"} == listed
