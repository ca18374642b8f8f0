"""Outputs of `twinslot-image`: what is replaced, what is written to, what is left when it goes wrong."""

from __future__ import annotations

import errno
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import waits
from image_samples import make_sample
from twinslot.core.errors import RefusedError
from twinslot_image.cli import main
from twinslot_image.outputs import Target
from twinslot_image.replaceable import unsigned_image
from twinslot_image.replacement import write_whole

pytestmark = pytest.mark.slow

PROGRAM = [sys.executable, "-m", "twinslot_image"]
TOML = """
product = "Pump"
release = "1"
sequence = 1
compatible = ["acme,pump-3"]
trust = "keys"
level = 1
[payloads.firmware]
file = "firmware.bin"
check = "none"
[attachments."notes.md"]
file = "notes.md"
"""


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keys, a description and its inputs."""
    shelf = tmp_path_factory.mktemp("shelf")
    assert main(["keys", "init", str(shelf / "keys"), "--roles", "engineering=3/3"]) == 0
    (shelf / "firmware.bin").write_bytes(bytes(range(256)) * 1000)
    (shelf / "notes.md").write_text("The alarm is louder.\n")
    (shelf / "image.toml").write_text(TOML)
    assert main(["build", str(shelf / "image.toml"), "-o", str(shelf / "pump.twin")]) == 0
    return shelf


@pytest.fixture
def image(shelf: Path, tmp_path: Path) -> Path:
    """A copy of the unsigned image."""
    image = tmp_path / "pump.twin"
    image.write_bytes((shelf / "pump.twin").read_bytes())
    return image


def keys_of(shelf: Path) -> list[Path]:
    return sorted((shelf / "keys/private").glob("engineering.*.pem"))


def build(shelf: Path, output: object, *more: str) -> int:
    return main(["build", str(shelf / "image.toml"), "-o", str(output), *more])


def sign(image: Path, key: Path) -> int:
    return main(["sign", str(image), "--role", "engineering", "--key", str(key)])


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


# What stands there


@pytest.mark.verifies("REQ-CLI-09")
def test_a_signed_image_is_replaced_only_by_force(shelf: Path, image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sign(image, keys_of(shelf)[0]) == 0
    before = image.read_bytes()
    assert build(shelf, image) == 4
    assert "an image with 1 signature" in capsys.readouterr().err
    assert image.read_bytes() == before
    assert build(shelf, image, "--force") == 0
    assert build(shelf, image) == 0, "an unsigned one is the builder's own"


def test_what_is_no_image_is_not_replaced_by_one(shelf: Path, tmp_path: Path) -> None:
    for name, content in (("notes.md", b"mine"), ("damaged.twin", (shelf / "pump.twin").read_bytes()[:60])):
        (tmp_path / name).write_bytes(content)
        assert build(shelf, tmp_path / name) == 4
        assert (tmp_path / name).read_bytes() == content
    (tmp_path / "empty").touch()
    assert build(shelf, tmp_path / "empty") == 0


def test_each_verb_replaces_its_own_kind_and_no_other(shelf: Path, image: Path, tmp_path: Path) -> None:
    mine, twice = tmp_path / "mine", ("0", "0")
    for verb, again in (
        (["blocks", str(image), "-o"], twice),
        (["patch", str(shelf / "firmware.bin"), str(image), "-o"], twice),
        (["sign", str(image), "--detached-payload"], twice),
        (["extract-attachment", str(image), "notes.md", "-o"], ("0", "4")),
        (["provision", str(image), "--record"], ("0", "4")),
    ):
        mine.write_text("mine")
        assert main([*verb, str(mine)]) == 4, verb
        assert mine.read_text() == "mine"
        fresh = tmp_path / "fresh"
        assert tuple(str(main([*verb, str(fresh)])) for _ in range(2)) == again, verb
        assert main([*verb, str(mine), "--force"]) == 0
        assert mine.read_bytes() != b"mine"
        fresh.unlink()
    assert left_in(tmp_path) == []


def test_an_image_that_was_signed_during_a_build_is_not_replaced(shelf: Path, image: Path) -> None:
    """The check at the start saw an unsigned image; the last word is had under the lock."""

    def write_while_it_is_signed() -> None:
        with Target(image, unsigned_image) as target, target.writing() as sink:
            sink.write(b"another image")
            assert sign(image, keys_of(shelf)[0]) == 0

    with pytest.raises(RefusedError, match="is there already"):
        write_while_it_is_signed()
    assert image.read_bytes() != b"another image"
    assert left_in(image.parent) == []


def test_two_builds_of_one_new_name_leave_one_whole_image(shelf: Path, tmp_path: Path) -> None:
    command = [*PROGRAM, "build", str(shelf / "image.toml"), "-o", str(tmp_path / "new.twin")]
    environment = os.environ | {"SOURCE_DATE_EPOCH": "1790000000"}
    both = [subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [job.wait() for job in both] == [0, 0]
    assert main(["inspect", str(tmp_path / "new.twin")]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["new.twin"]


@pytest.mark.parametrize("way", ["itself", "symlink", "hardlink", "dotted"])
def test_an_input_is_never_the_output(shelf: Path, image: Path, tmp_path: Path, way: str) -> None:
    def other(path: Path) -> str:
        name = tmp_path / "other"
        name.unlink(missing_ok=True)
        match way:
            case "symlink":
                name.symlink_to(path)
            case "hardlink":
                os.link(path, name)
            case _:
                return f"{path.parent}/./{path.name}" if way == "dotted" else str(path)
        return str(name)

    before = image.read_bytes()
    (tmp_path / "old.bin").write_bytes((shelf / "firmware.bin").read_bytes())
    for path, command in (
        (shelf / "firmware.bin", ["build", str(shelf / "image.toml"), "-o"]),
        (shelf / "notes.md", ["build", str(shelf / "image.toml"), "-o"]),
        (shelf / "image.toml", ["build", str(shelf / "image.toml"), "-o"]),
        (shelf / "keys/targets.json", ["build", str(shelf / "image.toml"), "-o"]),
        (keys_of(shelf)[0], ["build", str(shelf / "image.toml"), "-o"]),
        (image, ["blocks", str(image), "-o"]),
        (image, ["patch", str(tmp_path / "old.bin"), str(image), "-o"]),
        (tmp_path / "old.bin", ["patch", str(tmp_path / "old.bin"), str(image), "-o"]),
        (image, ["sign", str(image), "--detached-payload"]),
        (image, ["extract-attachment", str(image), "notes.md", "-o"]),
        (image, ["provision", str(image), "--record"]),
    ):
        content = path.read_bytes()
        assert main([*command, other(path), "--force"]) == 4, command
        assert path.read_bytes() == content
    assert image.read_bytes() == before


# Modes, links, directories


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_a_new_file_gets_what_the_umask_leaves_and_an_old_one_keeps_its_mode(
    shelf: Path, tmp_path: Path, mask: int
) -> None:
    image = tmp_path / "pump.twin"
    with umask(mask):
        assert build(shelf, image) == 0
        assert stat.S_IMODE(image.stat().st_mode) == 0o666 & ~mask
        image.chmod(0o640)
        assert sign(image, keys_of(shelf)[0]) == 0
        assert build(shelf, image, "--force") == 0
    assert stat.S_IMODE(image.stat().st_mode) == 0o640


@pytest.mark.verifies("REQ-KEY-05")
def test_a_secret_is_for_its_owner_alone_whatever_stood_there(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("old")
    with umask(0):
        for name in ("key", "new"):
            write_whole(tmp_path / name, b"secret", 0o600)
            assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


@pytest.mark.root
def test_what_root_signs_still_belongs_to_its_owner(shelf: Path, image: Path) -> None:
    os.chown(image, 65534, 65534)
    assert sign(image, keys_of(shelf)[0]) == 0
    assert (image.stat().st_uid, image.stat().st_gid) == (65534, 65534)


def test_a_link_stays_and_what_it_names_is_replaced(shelf: Path, image: Path, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link.twin").symlink_to("real/dangling.twin")
    (tmp_path / "second").symlink_to("link.twin")
    assert build(shelf, tmp_path / "second") == 0
    assert sign(tmp_path / "second", keys_of(shelf)[0]) == 0
    for name in ("second", "link.twin"):
        assert (tmp_path / name).is_symlink()
    assert (tmp_path / "real/dangling.twin").read_bytes()[1:5] == b"TWIN"


def test_a_loop_of_links_is_an_error(shelf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "loop").symlink_to("loop")
    assert build(shelf, tmp_path / "loop") == 6
    assert "circle" in capsys.readouterr().err


def test_the_other_names_of_a_hard_link_keep_the_old_content(shelf: Path, image: Path, tmp_path: Path) -> None:
    before = image.read_bytes()
    os.link(image, tmp_path / "copy.twin")
    assert sign(image, keys_of(shelf)[0]) == 0
    assert (tmp_path / "copy.twin").read_bytes() == before


@pytest.mark.parametrize("name", ["release/", "release", "release/.", ".", "file/x.twin", "absent/x.twin"])
def test_a_directory_or_no_way_there_is_an_error_and_never_a_file(
    shelf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    if name != "release/":
        (tmp_path / "release").mkdir()
    (tmp_path / "file").touch()
    before = sorted(tmp_path.rglob("*"))
    assert build(shelf, f"{tmp_path}/{name}") == 6
    error = capsys.readouterr().err
    assert f"{tmp_path}/{name}" in error
    assert ".twinslot-" not in error
    assert sorted(tmp_path.rglob("*")) == before


def test_a_directory_is_made_by_verbs_that_know_a_name_in_it(shelf: Path, image: Path, tmp_path: Path) -> None:
    base = str(shelf / "firmware.bin")
    assert main(["patch", base, str(image), "-o", f"{tmp_path}/a/b/"]) == 0
    assert main(["blocks", str(image), "-o", f"{tmp_path}/c/"]) == 0
    assert main(["extract-attachment", str(image), "notes.md", "-o", f"{tmp_path}/d/"]) == 0
    (patch,) = (tmp_path / "a/b").iterdir()
    assert patch.name.startswith("pump.from-")
    assert [path.name for folder in "cd" for path in (tmp_path / folder).iterdir()] == ["pump.twinblocks", "notes.md"]


def test_a_directory_that_was_made_for_nothing_is_removed(shelf: Path, image: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.img").touch()
    assert main(["patch", str(tmp_path / "empty.img"), str(image), "-o", f"{tmp_path}/a/b/"]) == 3
    assert not (tmp_path / "a").exists()


def test_names_as_long_as_they_get_and_not_in_utf_8_are_written(shelf: Path, tmp_path: Path) -> None:
    for name in ("n" * 255, "-o", "a\nb", "'\"$x"):
        assert build(shelf, tmp_path / name) == 0
        assert (tmp_path / name).stat().st_size > 1000
    done = run("build", shelf / "image.toml", "-o", tmp_path / os.fsdecode(b"caf\xe9.twin"))
    assert (done.returncode, done.stderr) == (0, b"")
    assert build(shelf, tmp_path / ("n" * 256)) == 6


# Streams


def run(*arguments: object, **more: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*PROGRAM, *map(str, arguments)], capture_output=True, check=False, **more)  # type: ignore[call-overload,no-any-return]


@pytest.mark.parametrize("name", ["-", "/dev/stdout"])
def test_standard_output_gets_the_output_and_nothing_else(image: Path, tmp_path: Path, name: str) -> None:
    to_file = tmp_path / "to-sign"
    assert main(["sign", str(image), "--detached-payload", str(to_file)]) == 0
    done = run("sign", image, "--detached-payload", name)
    assert (done.returncode, done.stdout) == (0, to_file.read_bytes())
    assert b"sign these bytes" in done.stderr
    redirected = tmp_path / "redirected"
    with redirected.open("wb") as file:
        file.write(b"before ")
        file.flush()
        subprocess.run([*PROGRAM, "sign", str(image), "--detached-payload", name], stdout=file, check=True, stderr=-3)
    assert redirected.read_bytes() == b"before " + to_file.read_bytes()


def test_a_closed_standard_output_and_a_reader_that_went_away_are_no_tracebacks(image: Path) -> None:
    command = f'"$@" extract-attachment "{image}" notes.md'
    for end, status in ((">&-", 6), ("| :; exit ${PIPESTATUS[0]}", 141)):
        done = subprocess.run(["bash", "-c", f"{command} {end}", "bash", *PROGRAM], capture_output=True, check=False)
        assert done.returncode in (status, 0 if status == 141 else status), done.stderr  # the pipe may take it all
        assert b"Traceback" not in done.stderr


def test_a_pipe_and_a_socket_are_written_to(image: Path, shelf: Path, tmp_path: Path) -> None:
    got: dict[str, bytes] = {}
    os.mkfifo(tmp_path / "pipe")
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "socket"))
    server.listen()

    def read_pipe() -> None:
        got["pipe"] = (tmp_path / "pipe").read_bytes()

    def read_socket() -> None:
        peer, _ = server.accept()
        with peer, peer.makefile("rb") as file:
            got["socket"] = file.read()

    for name, reader in (("pipe", read_pipe), ("socket", read_socket)):
        thread = threading.Thread(target=reader)
        thread.start()
        assert main(["extract-attachment", str(image), "notes.md", "-o", str(tmp_path / name)]) == 0
        thread.join()
        assert got[name] == (shelf / "notes.md").read_bytes()
    server.close()
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert stat.S_ISSOCK((tmp_path / "socket").stat().st_mode)


@pytest.mark.root
def test_a_device_is_written_to_and_never_replaced(
    shelf: Path, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    null, full = tmp_path / "null", tmp_path / "full"
    os.mknod(null, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    os.mknod(full, 0o666 | stat.S_IFCHR, os.makedev(1, 7))
    (tmp_path / "link").symlink_to("null")
    for command in (
        ["build", str(shelf / "image.toml"), "-o"],
        ["blocks", str(image), "-o"],
        ["patch", str(shelf / "firmware.bin"), str(image), "-o"],
        ["sign", str(image), "--detached-payload"],
        ["extract-attachment", str(image), "notes.md", "-o"],
        ["provision", str(image), "--record"],
    ):
        for name in ("null", "link"):
            assert main([*command, str(tmp_path / name)]) == 0, command
        assert stat.S_ISCHR(null.stat().st_mode), command
        assert (tmp_path / "link").is_symlink()
        capsys.readouterr()
        assert main([*command, str(full)]) == 6
        error = capsys.readouterr().err
        assert os.strerror(errno.ENOSPC) in error
        assert str(full) in error
        assert stat.S_ISCHR(full.stat().st_mode)
    assert main(["sign", str(null), "--role", "engineering", "--key", str(keys_of(shelf)[0])]) == 6
    assert stat.S_ISCHR(null.stat().st_mode)


# When it goes wrong


@pytest.mark.verifies("REQ-CLI-09")
@pytest.mark.root
def test_a_full_disk_leaves_the_old_file_and_nothing_else(
    shelf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "disk", disk], check=True)
    try:
        big = make_sample({"rootfs": os.urandom(80_000)}).data
        (disk / "out.twin").write_bytes(big)
        commands = [
            ["build", str(shelf / "large.toml"), "-o", str(disk / "out.twin")],
            ["blocks", str(shelf / "large.twin"), "-o", str(disk / "list")],
            ["patch", str(shelf / "firmware.bin"), str(shelf / "large.twin"), "-o", f"{disk}/new/"],
        ]
        (shelf / "large.bin").write_bytes(os.urandom(200_000))
        (shelf / "large.toml").write_text(TOML.replace("firmware.bin", "large.bin"))
        assert main(["build", str(shelf / "large.toml"), "-o", str(shelf / "large.twin"), "--force"]) == 0
        for command in commands:
            capsys.readouterr()
            assert main(command) == 6
            error = capsys.readouterr().err
            assert os.strerror(errno.ENOSPC) in error
            assert str(disk) in error
            assert "None" not in error
            assert [path.name for path in disk.iterdir()] == ["out.twin"]
        assert (disk / "out.twin").read_bytes() == big
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.root
def test_a_file_that_is_a_mount_point_is_an_error_with_its_name(
    shelf: Path, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    subprocess.run(["mount", "--bind", image, image], check=True)
    try:
        assert build(shelf, image) == 6
        assert sign(image, keys_of(shelf)[0]) == 6
    finally:
        subprocess.run(["umount", image], check=True)
    error = capsys.readouterr().err
    assert error.count(f"cannot write to '{image}'") == 2
    assert ".twinslot-" not in error
    assert left_in(image.parent) == []


@pytest.mark.root
def test_an_ordinary_user_is_told_of_a_read_only_file_and_directory(shelf: Path, tmp_path: Path) -> None:
    nobody: dict[str, object] = {"user": 65534, "group": 65534, "extra_groups": []}
    if run("--version", **nobody).returncode != 0:
        pytest.skip("the folder of this checkout is closed to other users")
    tmp_path.chmod(0o777)
    for parent in (tmp_path, *tmp_path.parents[:3]):
        parent.chmod(parent.stat().st_mode | 0o055)
    (tmp_path / "closed").mkdir(mode=0o755)
    image = tmp_path / "pump.twin"
    image.write_bytes((shelf / "pump.twin").read_bytes())
    os.chown(image, 65534, 65534)
    image.chmod(0o444)
    for command, where in (
        (["blocks", str(image), "-o", str(tmp_path / "closed/list")], "/closed'"),
        (["sign", str(image), "--role", "engineering", "--key", "env:KEY"], "pump.twin"),
    ):
        done = run(*command, **nobody, env=os.environ | {"KEY": keys_of(shelf)[0].read_text()})
        assert done.returncode == 6, done.stderr
        assert where in done.stderr.decode()
        assert b"Traceback" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["closed", "pump.twin"]


def test_three_signers_at_once_lose_no_signature(shelf: Path, image: Path) -> None:
    base = [*PROGRAM, "sign", str(image), "--role", "engineering", "--key"]
    jobs = [subprocess.Popen([*base, str(key)], stdout=subprocess.DEVNULL, stderr=-3) for key in keys_of(shelf)]
    assert [job.wait() for job in jobs] == [0, 0, 0]
    root = str(shelf / "keys/1.root.json")
    assert main(["verify", str(image), "--root", root, "--roles", "engineering"]) == 0


def handles_signals(pid: int) -> bool:
    """The program has begun: SIGHUP is caught (proc(5), SigCgt)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) >> (signal.SIGHUP - 1) & 1)
    return False


# What nohup, or a shell that starts a job in the background, had this process ignore, the program must not.
AS_IN_A_TERMINAL = ("env", "--default-signal=INT,TERM,HUP")


def signalled(command: list[object], number: signal.Signals, moment: float) -> tuple[int, bytes]:
    """Run the program, send a signal so many seconds after it is ready for one; its status and what it complained."""
    job = subprocess.Popen(
        [*AS_IN_A_TERMINAL, *PROGRAM, *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    waits.until(lambda: job.poll() is not None or handles_signals(job.pid))
    time.sleep(moment)
    if job.poll() is None:
        os.killpg(job.pid, number)  # as a terminal and a service manager do: to the whole group
    _, error = job.communicate()
    return job.returncode, error


@pytest.mark.verifies("REQ-CLI-09")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("verb", ["build", "blocks", "patch"])
def test_a_signal_at_any_moment_leaves_no_temporary_file_and_no_traceback(
    large: Path, tmp_path: Path, verb: str, number: signal.Signals
) -> None:
    commands: dict[str, list[object]] = {
        "build": ["build", large / "image.toml", "-o", tmp_path / "out"],
        "blocks": ["blocks", large / "new.twin", "-o", tmp_path / "out"],
        "patch": ["patch", large / "old.bin", large / "new.twin", "-o", tmp_path / "out"],
    }
    command = commands[verb]
    moment = {signal.SIGINT: 0.1, signal.SIGTERM: 0.3, signal.SIGHUP: 0.6}[number]  # seconds into its work
    # On a fast machine it was done by then, or was leaving: Python gives signals back before the process ends.
    while (ended := signalled(command, number, moment))[0] in (0, -number) and moment > 0.001:
        (tmp_path / "out").unlink()
        moment /= 2
    status, error = ended
    assert status == 128 + number, error
    assert error.decode().count("\n") <= 2
    assert b"Traceback" not in error
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What keeps each verb busy for seconds."""
    large = tmp_path_factory.mktemp("large")
    assert main(["keys", "init", str(large / "keys"), "--roles", "engineering"]) == 0
    content = bytearray(os.urandom(12_000_000))
    (large / "firmware.bin").write_bytes(content)
    for place in range(0, len(content), 1024):  # nowhere the same for long, and everywhere alike
        content[place : place + 64] = os.urandom(64)
    (large / "old.bin").write_bytes(content)
    (large / "notes.md").write_text("x")
    (large / "image.toml").write_text(TOML)
    assert main(["build", str(large / "image.toml"), "-o", str(large / "new.twin")]) == 0
    (large / "image.toml").write_text(TOML.replace("level = 1", "level = 19"))
    return large
