"""docs/man/twinslot-fleet.8 says what units, code and errors say."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from twinslot.config.hawkbit import HawkbitConfig
from twinslot.fleet.__main__ import SOCKET
from twinslot.fleet.state import DIRECTORY, FILE_NAME

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "systemd"
PAGE = (ROOT / "docs/man/twinslot-fleet.8").read_text()
NUMBERS = {"1min": "a minute", "5min": "five minutes"}


def test_every_error_of_the_server_is_in_the_page_and_no_other_is() -> None:
    known = tomllib.loads((ROOT / "docs/errors.toml").read_text())
    named = set(re.findall(r"^\.It Sy ([\w.-]+)$", PAGE, flags=re.MULTILINE))
    assert named <= known.keys()
    assert {code for code in known if code.startswith("transport.ddi")} <= named


def test_when_the_timer_starts_it_is_as_the_page_says() -> None:
    timer = dict(re.findall(r"^(\w+)=(.*)$", (UNITS / "twinslot-fleet.timer").read_text(), flags=re.MULTILINE))
    boot, again, later = (NUMBERS[timer[name]] for name in ("OnBootSec", "OnUnitInactiveSec", "RandomizedDelaySec"))
    told = f"{boot} after the boot and then {again} after each run, each time up to {later} later."
    assert told in PAGE.replace("\n", " ")


def test_what_is_no_failure_for_the_unit_is_none_in_the_page() -> None:
    (status,) = re.findall(r"^SuccessExitStatus=(.*)$", (UNITS / "twinslot-fleet.service").read_text(), re.MULTILINE)
    four, five = status.split()
    assert re.search(rf"The unit takes {four} \(.*\) and {five} \(.*\) for no failure", PAGE)


def test_files_are_where_the_page_says() -> None:
    paths = set(re.findall(r"^\.It Pa (\S+)$", PAGE, flags=re.MULTILINE))
    assert {str(HawkbitConfig().token), str(SOCKET), f"/var/lib/twinslot/{DIRECTORY}/{FILE_NAME}"} <= paths
    assert f"ListenStream={SOCKET}" in (UNITS / "twinslot-fleet-relay.socket").read_text()


def test_units_name_the_page_and_the_page_names_units_that_there_are() -> None:
    named = set(re.findall(r"twinslot-fleet[\w@-]*\.(?:service|socket|timer)", PAGE))
    assert named <= {path.name for path in UNITS.iterdir()}
    units = list(UNITS.glob("twinslot-fleet*"))
    assert len(units) == 4
    assert all("\nDocumentation=man:twinslot-fleet(8)\n" in path.read_text() for path in units)
