"""docs/guide-fleet.md: its configuration loads, and its commands leave a token that only the relays' user may read."""

from __future__ import annotations

import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from twinslot.config.options import load

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/guide-fleet.md").read_text()
DEVICE = """
[device]
compatible = "acme,pump-3"
[slots.a]
rootfs = "/dev/disk/by-partlabel/slot_a"
[slots.b]
rootfs = "/dev/disk/by-partlabel/slot_b"
[boot]
default_env = "/etc/u-boot-initial-env"
[trust]
roles = ["engineering"]
"""


def commands(name: str) -> str:
    """The block of shell with this name."""
    found = re.search(rf"^```sh {name}\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
    assert found, name
    return found[1]


def test_the_configuration_of_the_guide_loads(tmp_path: Path) -> None:
    found = re.search(r"^```toml \S+\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
    assert found
    folder = tmp_path / "usr/lib/twinslot"
    (folder / "config.d").mkdir(parents=True)
    (folder / "config.toml").write_text(DEVICE)
    (folder / "config.d/hawkbit.toml").write_text(found[1])
    hawkbit = load(tmp_path).hawkbit
    assert (hawkbit.url, str(hawkbit.controller)) == ("https://hawkbit.example.com", "/etc/machine-id")
    assert (str(hawkbit.token), hawkbit.authentication) == ("/etc/twinslot/hawkbit.token", "target-token")


@pytest.mark.root
def test_the_token_is_made_with_one_line_that_only_its_user_may_read(tmp_path: Path) -> None:
    *made, enabled = commands("token").splitlines()
    place = tmp_path / "hawkbit.token"
    script = "\n".join(made).replace("/etc/twinslot/hawkbit.token", str(place))
    user = re.search(r"-o (\S+)", script)
    assert user
    assert f"u {user[1]} " in (ROOT / "systemd/twinslot.sysusers").read_text()
    script = script.replace(f"-o {user[1]} ", "")  # no such user here
    subprocess.run(
        ["sh", "-eu", "-c", f"umask 022; {script}"], env={"TOKEN": "d34db33f", "PATH": "/usr/bin:/bin"}, check=True
    )
    assert place.read_text() == "d34db33f\n"
    assert stat.S_IMODE(place.stat().st_mode) == 0o400
    assert (ROOT / "systemd" / enabled.split()[-1]).is_file()


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_the_list_is_run_on_a_server_that_is_named() -> None:
    asked = subprocess.run(
        ["make", "-n", *commands("list").split()[1:]], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert 'HAWKBIT="http://127.0.0.1:8080"' in asked.stdout
    assert "tests/component/test_hawkbit.py" in asked.stdout
