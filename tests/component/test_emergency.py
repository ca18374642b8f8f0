"""docs/emergency.md: the commands of each section are run, and devices do what it says of them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from host_device import HostDevice
from release_bench import ReleaseBench

from trust_samples import Authority, changed
from twinslot.core.errors import RefusedError
from twinslot.core.model import SlotName
from twinslot.engine import trust_time
from twinslot_image.cli import main

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[2] / "docs/emergency.md"
BLOCKS = dict(re.findall(r"^```sh (\S+)\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL))
CONTENT = b"superblock".ljust(4096, b"\1") + bytes(100_000)


@pytest.fixture
def team(tmp_path: Path) -> ReleaseBench:
    """Root, targets and clinical 2 of 3, engineering 1 of 1."""
    keys = tmp_path / "team/keys"
    assert main(["keys", "init", str(keys), "--roles", "engineering,clinical=2/3"]) == 0
    return ReleaseBench(tmp_path / "team")


def run(team: ReleaseBench, name: str, **variables: str) -> str:
    """The commands of a section, beside the keys."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path} | variables
    command = ["bash", "-euo", "pipefail", "-c", BLOCKS[name]]
    done = subprocess.run(command, cwd=team.directory, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def image(team: ReleaseBench, sequence: int, clinical: list[Path], trust: str = "keys") -> Path:
    """A release that engineering and these clinical keys have signed."""
    made = team.image(f"{sequence}.0", sequence, CONTENT, roles=("engineering",), trust=trust)
    for key in clinical:
        assert main(["sign", str(made), "--role", "clinical", "--key", str(key)]) == 0
    return made


def clinical_keys(team: ReleaseBench, trust: str = "keys") -> list[Path]:
    return sorted((team.directory / trust / "private").glob("clinical.*.pem"))


def new_device(team: ReleaseBench, folder: Path) -> HostDevice:
    folder.mkdir()
    return HostDevice(folder, team)


def update(device: HostDevice, made: Path) -> None:
    """Installed, started, committed."""
    device.install(made)
    device.running, device.boots = other(device), device.boots + 1
    device.engine().boot()
    device.engine().check()
    device.engine().commit(if_trial=True)


def other(device: HostDevice) -> SlotName:
    return SlotName.B if device.running is SlotName.A else SlotName.A


def codes(device: HostDevice, made: Path) -> list[str]:
    with pytest.raises(RefusedError) as error:
        device.install(made)
    return [reason.code for reason in error.value.reasons]


@pytest.mark.verifies("S24")
def test_after_a_clinical_key_was_stolen_and_a_release_was_shipped_it_counts_no_more(
    team: ReleaseBench, tmp_path: Path
) -> None:
    device = new_device(team, tmp_path / "device")
    keys = clinical_keys(team)
    before = image(team, 30, keys[:2])  # signed rightly, with the old documents
    (team.directory / "keys").rename(team.directory / "before")
    subprocess.run(["cp", "-r", str(team.directory / "before"), str(team.directory / "keys")], check=True)
    run(team, "stolen")
    fresh = team.directory / "clinical-new.key"
    unsigned = team.image("9.0", 90, CONTENT, roles=("engineering",))
    assert main(["sign", str(unsigned), "--role", "clinical", "--key", str(keys[0])]) == 4
    update(device, image(team, 20, [keys[1], fresh]))
    assert codes(device, before) == ["targets-version"]
    thief = image(team, 40, clinical_keys(team, "before")[:2], trust="before")
    assert codes(device, thief) == ["targets-version"]
    asleep = new_device(team, tmp_path / "asleep")
    asleep.install(before)


def test_a_lost_root_key_is_in_nobodys_way(team: ReleaseBench, tmp_path: Path) -> None:
    said = run(team, "root-lost")
    assert (team.directory / "keys/2.root.json").exists(), said
    device = new_device(team, tmp_path / "device")
    update(device, image(team, 20, clinical_keys(team)[:2]))
    assert device.environment()["ts_root"] == "2"


def test_all_keys_of_targets_are_replaced_and_a_thiefs_high_version_is_forgotten(
    team: ReleaseBench, tmp_path: Path
) -> None:
    device = new_device(team, tmp_path / "device")
    authority, kept = Authority(team.directory / "keys"), team.directory / "keys/targets.json"
    mine = kept.read_bytes()
    kept.write_bytes(changed(mine, lambda signed: signed.update(version=2**50), authority.signers("targets")))
    update(device, image(team, 20, clinical_keys(team)[:2]))
    kept.write_bytes(mine)
    assert codes(device, image(team, 30, clinical_keys(team)[:2])) == ["targets-version"]
    run(team, "targets-lost")
    update(device, image(team, 40, clinical_keys(team)[:2]))
    with device.record() as record:
        assert record.document("targets-version") == "2"


def test_a_device_that_slept_for_five_years_follows_every_root_to_the_current_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = tmp_path / "team/keys"

    def in_year(year: int) -> str:
        return str(int(datetime(year, 12, 1, tzinfo=UTC).timestamp()))

    monkeypatch.setenv("SOURCE_DATE_EPOCH", in_year(2026))
    assert main(["keys", "init", str(keys), "--roles", "engineering,clinical=2/3"]) == 0
    team = ReleaseBench(tmp_path / "team")
    device = new_device(team, tmp_path / "device")
    monkeypatch.setattr(trust_time, "utc_now", lambda: datetime(2026, 12, 24, tzinfo=UTC))
    monkeypatch.delenv("SOURCE_DATE_EPOCH")  # images are signed by the clock of today, which must not be before theirs
    update(device, image(team, 20, clinical_keys(team)[:2]))
    for year in (2028, 2030, 2032):
        run(team, "renew", SOURCE_DATE_EPOCH=in_year(year))
        for name in ("root.json", "targets.json"):
            (team.directory / name).unlink()
    monkeypatch.setenv("SOURCE_DATE_EPOCH", in_year(2032))
    assert main(["keys", "rotate", str(keys), "root"]) == 0
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    monkeypatch.setattr(trust_time, "utc_now", lambda: datetime(2032, 12, 24, tzinfo=UTC))
    first = json.loads(team.root.read_bytes())["signed"]["expires"]
    assert first < "2032", "its root has expired"
    update(device, image(team, 60, clinical_keys(team)[:2]))
    assert device.environment()["ts_root"] == "5"


def test_in_a_basement_in_1970_what_expired_before_the_system_was_built_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    team = ReleaseBench.make(tmp_path / "team")
    device = new_device(team, tmp_path / "device")
    monkeypatch.setattr(trust_time, "utc_now", lambda: datetime(1970, 1, 1, tzinfo=UTC))
    soon = datetime.now(UTC) + timedelta(days=1)  # an image that is stale when it is built is refused
    built = soon + timedelta(days=1)
    device.config = replace(device.config, trust=replace(device.config.trust, build_time=built))
    old = team.image("1.5", 15, CONTENT, expires=soon)
    assert codes(device, old) == ["expired"]
    device.install(team.image("2.0", 20, CONTENT))
    assert device.environment()["slot_b"] == "trial"


def test_every_section_of_the_page_has_its_commands_or_needs_none() -> None:
    sections = re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)[1:]
    without = [section.splitlines()[0] for section in sections if "```sh " not in section]
    assert without == ["A device's clock says 1970"]
