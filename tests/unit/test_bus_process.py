"""`twinslot service` as a process: its exit status and what it logs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import waits
from twinslot.core.errors import DeviceError

CONFIG = """
[device]
compatible = "acme,pump-3"
[slots.a]
rootfs = "/dev/disk/by-partlabel/slot_a"
[slots.b]
rootfs = "/dev/disk/by-partlabel/slot_b"
[trust]
roles = ["engineering"]
"""


def run(root: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", f"import sys; from twinslot.service import main; sys.exit(main({str(root)!r}))"]
    return subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, timeout=waits.HANG, check=False
    )


@pytest.fixture
def configured(tmp_path: Path) -> Path:
    (tmp_path / "etc/twinslot").mkdir(parents=True)
    (tmp_path / "etc/twinslot/config.toml").write_text(CONFIG)
    return tmp_path


def test_without_a_bus_the_service_says_so_and_ends(configured: Path) -> None:
    result = run(configured, DBUS_SYSTEM_BUS_ADDRESS=f"unix:path={configured}/nothing")
    assert result.returncode == DeviceError.exit_status
    assert result.stderr.startswith("twinslot: error: there is no message bus: found '")
    assert "Traceback" not in result.stderr


def test_without_a_configuration_the_service_names_the_file_and_ends(tmp_path: Path) -> None:
    result = run(tmp_path)
    assert result.returncode == DeviceError.exit_status
    assert "config.toml" in result.stderr
    assert "Traceback" not in result.stderr


def test_under_systemd_each_line_has_its_priority(configured: Path) -> None:
    address = f"unix:path={configured}/nothing"
    result = run(configured, DBUS_SYSTEM_BUS_ADDRESS=address, JOURNAL_STREAM="8:1234")
    assert result.stderr.startswith("<3>there is no message bus")
    assert all(line.startswith("<") for line in result.stderr.splitlines())
