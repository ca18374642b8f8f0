"""The lab's NBD server as a guest sees it, and the data partition as its states leave it."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from nbd_client import FUA, NbdClient, NbdError

from twinslot_lab.crash.log import Drive, DriveOp, Log, _listens, served
from twinslot_lab.crash.partition import Health, Partition
from twinslot_lab.crash.replay import Drives
from twinslot_lab.crash.states import CrashState
from twinslot_lab.errors import LabError

SIZE = 1 << 20
START = 1 << 20  # of the partition on its disk
DATA = 24 << 20  # with 1 KiB blocks three groups, so that there is a second superblock


@contextmanager
def drives(folder: Path) -> Iterator[dict[str, NbdClient]]:
    """Both, full of ones at first."""
    for name in ("disk", "card"):
        (folder / name).write_bytes(b"\1" * SIZE)
        (folder / f"{name}.before").write_bytes(b"\1" * SIZE)
    with served(folder, folder / "disk", folder / "card") as options:
        places = {name: re.search(r"socket=(.+)$", words) for name, words in options.items()}
        clients = {name: NbdClient(place[1], name) for name, place in places.items() if place}
        yield clients
        for client in clients.values():
            client.close()


def test_both_drives_write_one_log_in_the_order_of_the_answers(tmp_path: Path) -> None:
    with drives(tmp_path) as client:
        assert client["disk"].size == SIZE
        client["disk"].write(4096, b"a" * 512)
        client["card"].write(512, b"b" * 512)
        client["disk"].write(8192, b"c" * 1024, FUA)
        client["disk"].zero(4096, 4096)
        client["disk"].flush()
        client["card"].write(1024, b"b" * 512)
        client["disk"].trim(65536, 4096)
        assert client["disk"].read(8192, 2) == b"cc"
    log = Log(tmp_path)
    assert [(e.drive, e.op, e.fua, e.offset, e.length) for e in log.entries] == [
        (Drive.DISK, DriveOp.WRITE, False, 4096, 512),
        (Drive.CARD, DriveOp.WRITE, False, 512, 512),
        (Drive.DISK, DriveOp.WRITE, True, 8192, 1024),
        (Drive.DISK, DriveOp.ZERO, False, 4096, 4096),
        (Drive.DISK, DriveOp.FLUSH, False, 0, 0),
        (Drive.CARD, DriveOp.WRITE, False, 1024, 512),
        (Drive.DISK, DriveOp.TRIM, False, 65536, 4096),
    ]
    assert log.content(log.entries[1]) == log.content(log.entries[5]) == b"b" * 512
    assert (tmp_path / "data").stat().st_size == 512 + 512 + 1024, "equal data is kept once"


def test_the_whole_log_replayed_is_what_the_server_left_in_its_files(tmp_path: Path) -> None:
    with drives(tmp_path) as client:
        for number in range(40):
            client["disk"].write(number * 1536 % SIZE, bytes([number]) * 4096)
            client["card"].write(number * 512, bytes([number]) * 512)
            if number % 7 == 0:
                client["disk"].flush()
                client["disk"].zero(number * 2048, 8192)
    log = Log(tmp_path)
    replayed = Drives(log, tmp_path / "disk.before", tmp_path / "card.before")
    replayed.go_to(len(log.entries))
    whole = bytearray(replayed.disk.flushed[:])
    for offset, data in replayed.disk.whole(CrashState(len(log.entries), "kept")):
        whole[offset : offset + len(data)] = data
    assert whole == (tmp_path / "disk").read_bytes()
    assert replayed.card.data == (tmp_path / "card").read_bytes()


def test_the_server_is_given_when_it_listens_and_not_when_its_socket_is_there(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as slow:
        slow.bind(str(path))
        assert path.exists()
        assert not _listens(path)
        slow.listen()
        assert _listens(path)


def test_a_drive_that_the_board_does_not_have_is_refused(tmp_path: Path) -> None:
    with drives(tmp_path), served(tmp_path, tmp_path / "disk", tmp_path / "card") as options:
        place = re.search(r"socket=(.+)$", options["disk"])
        assert place
        with pytest.raises((NbdError, AssertionError)):
            NbdClient(place[1], "tape")


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disk with a data partition that holds a record."""
    folder = tmp_path_factory.mktemp("disk")
    image, whole = folder / "data.img", folder / "disk.img"
    (folder / "record").write_bytes(b"what happened")
    image.write_bytes(bytes(DATA))
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-b", "1024", "-O", "metadata_csum", image], check=True)
    commands = f"mkdir lib\nmkdir lib/twinslot\nwrite {folder / 'record'} lib/twinslot/record.sqlite\n"
    subprocess.run(["debugfs", "-w", "-f", "-", image], input=commands.encode(), check=True, capture_output=True)
    whole.write_bytes(bytes(START) + image.read_bytes() + bytes(START))
    return whole


def test_the_record_is_taken_out_without_a_mount(disk: Path) -> None:
    with Partition(disk, START, DATA) as partition:
        found = partition.look([])
    assert (found.health, found.files) == (Health.CLEAN, (("record.sqlite", b"what happened"),))


def test_a_record_that_cannot_be_read_is_an_error_and_not_taken_for_no_record(disk: Path) -> None:
    with Partition(disk, START, DATA) as partition:
        break_it = "set_inode_field lib/twinslot/record.sqlite block[0] 0"
        subprocess.run(["debugfs", "-w", "-R", break_it, partition._flushed], check=True, capture_output=True)
        shutil.copy(partition._flushed, partition._look)
        with pytest.raises(LabError, match="Corrupt extent header"):
            partition._record()
        remove = "rm lib/twinslot/record.sqlite\nrmdir lib/twinslot\n"
        subprocess.run(["debugfs", "-w", "-f", "-", partition._look], input=remove.encode(), check=True)
        assert partition._record() == (), "lost, and known to be"


def test_a_torn_superblock_is_repaired_as_the_board_repairs_it(disk: Path) -> None:
    with Partition(disk, START, DATA) as partition:
        found = partition.look([(START + 1024, b"\xff" * 512)])
        assert (found.health, found.files) == (Health.REPAIRED, (("record.sqlite", b"what happened"),))
        assert partition.look([]).health is Health.CLEAN, "a look leaves nothing behind"


def test_a_partition_that_is_gone_has_no_record(disk: Path) -> None:
    with Partition(disk, START, DATA) as partition:
        found = partition.look([(0, bytes(START + DATA))])
    assert (found.health, found.files) == (Health.LOST, ())


def test_what_was_flushed_stays_and_what_lies_outside_is_left_out(disk: Path) -> None:
    with Partition(disk, START, DATA) as partition:
        partition.flush([(START - 512, b"\xff" * 512), (START + DATA, b"\xff" * 512)])
        assert partition.look([]).health is Health.CLEAN
        partition.flush([(START, bytes(DATA))])
        assert partition.look([]).health is Health.LOST
