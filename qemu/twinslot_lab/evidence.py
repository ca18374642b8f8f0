"""What is kept of a failed test: console, journal, disks, and the account of its power."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from twinslot_lab.board import Board
from twinslot_lab.command import run
from twinslot_lab.errors import BoardError, LabError

_LINES = "5000"  # of the journal: some starts of an emulated board
_ANSWER = 10  # seconds for a guest to begin an answer, if it is well
_BLOCK = 1 << 20
_SECTOR = 512  # bytes, the unit of sfdisk


def gather(board: Board | None, folder: Path) -> list[str]:
    """Keep what there is: the journal asked of the guest, or read from the disk after a cut if it does not answer.

    Args:
        board: On or off, off afterwards if it did not answer; None if it never came to be.
        folder: Its folder; it may be missing.

    Returns:
        One line for each thing that is kept, or why it is not.
    """
    disks = sorted(folder.rglob("disk.img"))
    lines = [f"console: {path}" for path in sorted(folder.rglob("console.log"))]
    lines += [f"disk: {disk}" for disk in disks]
    journal = folder / "journal.txt"
    asked = "it never came up"
    if board is not None:
        try:
            journal.write_text(ask_journal(board))
            return [*lines, f"journal: {journal}"]
        except LabError as e:
            asked = first_line(e)
            board.cut()
    if not disks:
        return [*lines, f"journal: not asked: {asked}"]
    try:
        journal.write_text(read_journal(disks[0], folder))
    except LabError as e:
        return [*lines, f"journal: not asked: {asked}; not read: {first_line(e)}"]
    return [*lines, f"journal: {journal} (from the disk)"]


def first_line(error: LabError) -> str:
    """The cause in one line."""
    text = error.cause if isinstance(error, BoardError) else error.message
    return text.splitlines()[0] if text else type(error).__name__


def ask_journal(board: Board) -> str:
    """The newest lines of the journal, all starts.

    Raises:
        LabError: The guest does not answer.
    """
    board.check("true", timeout=_ANSWER)
    return board.check("journalctl", "--no-pager", "-q", "-o", "short-iso", "-n", _LINES, timeout=120)


def read_journal(disk: Path, work: Path) -> str:
    """The same from the data partition of a board that is off; its file system's own journal is replayed on a copy.

    Raises:
        LabError: There is no such partition, no file system that debugfs can read, or no journal in it.
    """
    copy, out = work / "data.img", work / "journal"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    _copy_range(disk, *_data_partition(disk), copy)
    try:
        run("debugfs", "-w", "-f", "-", copy, stdin=f"jr\nrdump log/journal {out}\n".encode())
        files = sorted(out.rglob("*.journal*"))
        if not files:
            raise BoardError(f"no journal on the data partition of '{disk}'")
        wanted = [f"--file={file}" for file in files]
        return run("journalctl", "--no-pager", "-q", "-o", "short-iso", "-n", _LINES, *wanted)
    finally:
        copy.unlink()
        shutil.rmtree(out)


def _data_partition(disk: Path) -> tuple[int, int]:
    """Start and size in bytes."""
    for entry in json.loads(run("sfdisk", "--json", disk))["partitiontable"]["partitions"]:
        if entry.get("name") == "data":
            return entry["start"] * _SECTOR, entry["size"] * _SECTOR
    raise BoardError(f"'{disk}' has no partition 'data'")


def _copy_range(disk: Path, start: int, size: int, out: Path) -> None:
    """A partition as a file; zeros take no room."""
    with disk.open("rb") as source, out.open("wb") as target:
        source.seek(start)
        target.truncate(size)
        for at in range(0, size, _BLOCK):
            block = source.read(min(_BLOCK, size - at))
            if block.count(0) != len(block):
                target.seek(at)
                target.write(block)
