"""Who may read what on the data partition: the table of the threat model, held to the modes after a whole update."""

from __future__ import annotations

import fnmatch
import os
import random
import re
import stat
from pathlib import Path

import pytest
from host_device import HostDevice
from release_bench import ReleaseBench

from fakes.rigs import REPOSITORY
from twinslot.core.model import SlotName
from twinslot.storage.device_key import DeviceKeyFiles
from twinslot.trust.device_key import make_device_key

ROW = re.compile(r"^\| `([^`]+)` \| `(0\d{3})` \|", re.MULTILINE)


def table() -> dict[str, int]:
    """Paths below `record.directory`, patterns among them, with their modes."""
    page = (REPOSITORY / "docs/threat-model.md").read_text().split("## Who may read what")[1].split("\n## ")[0]
    return {path: int(mode, 8) for path, mode in ROW.findall(page)}


def modes(directory: Path) -> dict[str, int]:
    """What is there, with modes."""
    found = {"": stat.S_IMODE(directory.stat().st_mode)}
    for path in directory.rglob("*"):
        assert path.stat().st_uid == os.geteuid(), path
        found[str(path.relative_to(directory))] = stat.S_IMODE(path.stat().st_mode)
    return found


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Of a device that lost a record to damage, then took an update and committed it; nothing is hidden by a umask."""
    before = os.umask(0)
    try:
        bench = ReleaseBench.make(tmp_path / "bench")
        image = bench.image("2.0", 20, random.Random(1).randbytes(700_000))
        (tmp_path / "device").mkdir()
        device = HostDevice(tmp_path / "device", bench)
        data = tmp_path / "device/data"
        data.chmod(0o755)  # as systemd-tmpfiles makes it
        (data / "record.sqlite").write_bytes(b"damaged" * 1000)
        make_device_key(DeviceKeyFiles(data, ""))
        device.install(image)
        device.running, device.boots = SlotName.B, 2
        device.engine().boot()
        device.engine().check()
        device.engine().commit(if_trial=True)
    finally:
        os.umask(before)
    return data


@pytest.mark.root
def test_after_an_update_everything_has_the_mode_of_the_table_and_nothing_else_is_there(data: Path) -> None:
    expected, found = table(), modes(data)
    assert len(expected) > 5
    for path, mode in found.items():
        fitting = {each: allowed for each, allowed in expected.items() if fnmatch.fnmatchcase(path or ".", each)}
        assert list(fitting.values()) == [mode], f"'{path}' has mode {mode:04o}, the table says {fitting}"
    for each in expected:
        assert any(fnmatch.fnmatchcase(path or ".", each) for path in found), f"'{each}' is not there"


@pytest.mark.root
def test_another_user_reads_what_is_for_everybody_and_nothing_else(data: Path) -> None:
    """By the modes alone: in the units of the workers the whole directory is out of sight."""
    assert {path for path, mode in modes(data).items() if mode & 0o007 and path} == {"device-key.pub", "status.json"}
