from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import errno
import os
import re
import typing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from twinslot.app.local import LocalUpdater
from twinslot.cli import main as cli
from twinslot.cli import trial as cli_trial
from twinslot.config import options as config
from twinslot.config import reference as config_reference
from twinslot.config.trial import load_for_trial
from twinslot.core.errors import DeviceError
from twinslot.core.loaders import BACKENDS
from twinslot.core.model import SlotName
from twinslot.payloads.select import HANDLERS, find_places
from twinslot.storage.running_slot import RunningSlot

SMALL = """
[device]
compatible = "acme-pump"
[slots.a]
rootfs = "/dev/disk/by-partlabel/slot_a"
[slots.b]
rootfs = "/dev/disk/by-partlabel/slot_b"
[trust]
roles = ["engineering"]
"""


def put(root: Path, place: str, text: str) -> None:
    path = root / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def refused(root: Path, code: str) -> DeviceError:
    with pytest.raises(DeviceError) as caught:
        config.load(root)
    assert caught.value.code == f"device.{code}"
    return caught.value


def test_the_smallest_configuration_gets_the_defaults(tmp_path: Path) -> None:
    put(tmp_path, "etc/twinslot/config.toml", SMALL)
    loaded = config.load(tmp_path)
    assert loaded.device.compatible == ("acme-pump",)
    assert loaded.slots.of(SlotName.B) == {"rootfs": Path("/dev/disk/by-partlabel/slot_b")}
    assert loaded.trial.deadline == 300
    assert loaded.record.directory == Path("/var/lib/twinslot")
    assert loaded.boot.backend == "uboot"


def test_a_loaded_configuration_cannot_be_changed(tmp_path: Path) -> None:
    put(tmp_path, "etc/twinslot/config.toml", SMALL)
    loaded = config.load(tmp_path)
    with pytest.raises(dataclasses.FrozenInstanceError):
        loaded.trial.deadline = 1  # type: ignore[misc]
    with pytest.raises(TypeError):
        loaded.slots.a["rootfs"] = Path("/dev/sda")  # type: ignore[index]


def test_etc_hides_the_main_file_of_run_and_usr(tmp_path: Path) -> None:
    put(tmp_path, "usr/lib/twinslot/config.toml", SMALL + "[trial]\ndeadline = 100\n")
    put(tmp_path, "run/twinslot/config.toml", SMALL + "[trial]\ndeadline = 200\n")
    assert config.load(tmp_path).trial.deadline == 200
    put(tmp_path, "etc/twinslot/config.toml", SMALL)
    assert config.load(tmp_path).trial.deadline == 300


def test_drop_ins_of_all_directories_add_in_the_order_of_their_names(tmp_path: Path) -> None:
    put(tmp_path, "usr/lib/twinslot/config.toml", SMALL)
    put(tmp_path, "etc/twinslot/config.d/10-a.toml", "[trial]\ndeadline = 111\n[http]\nretries = 1\n")
    put(tmp_path, "usr/lib/twinslot/config.d/20-b.toml", "[trial]\ndeadline = 222\n")
    loaded = config.load(tmp_path)
    assert (loaded.trial.deadline, loaded.http.retries) == (222, 1)


def test_a_drop_in_of_etc_hides_the_one_of_the_same_name_and_an_empty_one_masks(tmp_path: Path) -> None:
    put(tmp_path, "usr/lib/twinslot/config.toml", SMALL)
    put(tmp_path, "usr/lib/twinslot/config.d/20-b.toml", "[trial]\ndeadline = 222\n[http]\nretries = 3\n")
    put(tmp_path, "etc/twinslot/config.d/20-b.toml", "")
    loaded = config.load(tmp_path)
    assert (loaded.trial.deadline, loaded.http.retries) == (300, 10)
    (tmp_path / "etc/twinslot/config.d/20-b.toml").unlink()
    (tmp_path / "etc/twinslot/config.d/20-b.toml").symlink_to("/dev/null")
    assert config.load(tmp_path).trial.deadline == 300


def test_without_any_file_the_places_are_named(tmp_path: Path) -> None:
    error = refused(tmp_path, "config-missing")
    assert str(tmp_path / "run/twinslot/config.toml") in str(error.expected)


@pytest.mark.verifies("REQ-CLI-04")
def test_an_unknown_key_names_its_file_its_table_and_the_nearest_key(tmp_path: Path) -> None:
    put(tmp_path, "usr/lib/twinslot/config.toml", SMALL)
    put(tmp_path, "etc/twinslot/config.d/50-mine.toml", "[trial]\ndead-line = 5\n")
    error = refused(tmp_path, "config-unknown")
    assert str(error) == (
        f"{tmp_path}/etc/twinslot/config.d/50-mine.toml: table '[trial]' has no key 'dead-line': "
        "expected 'deadline', found 'dead-line' (hint: did you mean 'deadline'?)"
    )


def test_an_unknown_table_is_refused(tmp_path: Path) -> None:
    put(tmp_path, "etc/twinslot/config.toml", SMALL + "[install_policy]\n")
    assert refused(tmp_path, "config-unknown").found == "install_policy"


@pytest.mark.parametrize(
    ("text", "code", "expected"),
    [
        ("[trial]\ndeadline = true", "config-type", "a whole number"),
        ("[trial]\ndeadline = 30.0", "config-type", "a whole number"),
        ("[trial]\ndeadline = 9", "config-range", "10 to 86400 seconds"),
        ("[trial]\ndeadline = 86401", "config-range", "10 to 86400 seconds"),
        ("[boot]\ntimeout = nan", "config-range", "1 to 600 seconds"),
        ("[boot]\ntimeout = inf", "config-range", "1 to 600 seconds"),
        ("[boot]\ntimeout = '30'", "config-type", "a number"),
        ("[boot]\nbackend = 'barebox'", "config-value", " | ".join(BACKENDS)),
        ("[boot]\nfw_env_config = 'etc/x'", "config-value", "an absolute path"),
        ("[boot]\nfw_env_config = ''", "config-value", "one line of text"),
        ('[boot]\nfw_setenv = "a\\nb"', "config-value", "one line of text"),
        ("[install]\nallow_reinstall = 1", "config-type", "true or false"),
        ("[health]\nunits = 3", "config-type", "a list"),
        ("[health]\nunits = [3]", "config-type", "a string"),
        ("[health]\ncommand = 'x'", "config-type", "a list"),
        ("[[health.command]]\nname = 'x'\nargv = []", "config-range", "at least 1 entry"),
        ("trial = 3", "config-type", "a table"),
        ("[record]\ndirectory = 3", "config-type", "a string"),
        ("http = 2026-11-21", "config-type", "a table"),
    ],
)
def test_a_wrong_value_says_what_was_expected(tmp_path: Path, text: str, code: str, expected: str) -> None:
    put(tmp_path, "etc/twinslot/config.toml", SMALL)
    put(tmp_path, "etc/twinslot/config.d/x.toml", text)
    error = refused(tmp_path, code)
    assert error.expected == expected
    assert "x.toml" in error.message


def test_bounds_that_no_value_is_within_are_refused_since_they_would_leave_every_release(tmp_path: Path) -> None:
    bounds = "[[watch.program]]\nname = 'drain'\nargv = ['/usr/lib/pump/drain']\nlow = 5\nhigh = 1"
    put(tmp_path, "etc/twinslot/config.toml", f"{SMALL}\n{bounds}")
    error = refused(tmp_path, "config-value")
    assert (error.expected, error.found) == ("'low' of 'drain' not above its 'high', 1", "5")


@pytest.mark.parametrize("missing", ["device", "slots.a", "slots.b", "trust"])
def test_a_missing_table_is_named_by_its_required_key(tmp_path: Path, missing: str) -> None:
    tables = SMALL.replace("\n[", "\n\0[").split("\0")
    put(tmp_path, "etc/twinslot/config.toml", "".join(t for t in tables if not t.startswith(f"[{missing}]")))
    assert missing in refused(tmp_path, "config-missing").message


def test_build_time_needs_an_offset(tmp_path: Path) -> None:
    put(tmp_path, "etc/twinslot/config.toml", SMALL + "build_time = 2026-11-21T01:02:03Z\n")
    assert config.load(tmp_path).trust.build_time == dt.datetime(2026, 11, 21, 1, 2, 3, tzinfo=dt.UTC)
    put(tmp_path, "etc/twinslot/config.toml", SMALL + "build_time = 2026-11-21T01:02:03\n")
    assert "with offset" in str(refused(tmp_path, "config-type").expected)


def test_slots_that_name_different_payloads_are_refused(tmp_path: Path) -> None:
    put(tmp_path, "etc/twinslot/config.toml", SMALL.replace("[slots.b]\nrootfs", "[slots.b]\nroot"))
    assert refused(tmp_path, "config-value").found == "root"


def test_a_type_is_said_of_a_payload_that_has_a_place_and_must_be_known(tmp_path: Path) -> None:
    put(tmp_path, "etc/twinslot/config.toml", SMALL + "[slots.types]\nroot = 'partition'\n")
    assert refused(tmp_path, "config-value").found == "root"
    put(tmp_path, "etc/twinslot/config.toml", SMALL + "[slots.types]\nrootfs = 'balloon'\n")
    slots = config.load(tmp_path).slots
    assert slots.type_of("rootfs") == "balloon"
    known = re.escape(" | ".join(sorted(HANDLERS)))
    with pytest.raises(DeviceError, match=f"rootfs' is wrong: expected '{known}', found 'balloon'") as error:
        find_places(slots, RunningSlot(SlotName.A, frozenset(), ()))
    assert error.value.code == "device.config-value"


def test_one_device_in_both_slots_is_refused(tmp_path: Path) -> None:
    put(tmp_path, "etc/twinslot/config.toml", SMALL.replace("slot_b", "slot_a"))
    assert "stands twice" in refused(tmp_path, "config-value").message


@pytest.mark.verifies("S11", "FLAW-MEN-9056")
@pytest.mark.parametrize("name", ["../x", "A", "", "x y", "é", "x" * 64, "/dev"])
def test_a_payload_name_that_could_be_a_path_is_refused(tmp_path: Path, name: str) -> None:
    text = SMALL.replace("[slots.a]", f'[slots.a]\n"{name}" = "/dev/x"')
    put(tmp_path, "etc/twinslot/config.toml", text)
    refused(tmp_path, "config-value")


def test_the_hook_backend_needs_a_hook(tmp_path: Path) -> None:
    put(tmp_path, "etc/twinslot/config.toml", SMALL + "[boot]\nbackend = 'hook'\n")
    assert "boot.hook" in refused(tmp_path, "config-missing").message


def test_health_commands_come_as_frozen_entries(tmp_path: Path) -> None:
    text = "[[health.command]]\nname = 'pump'\nargv = ['/usr/bin/pump', '--self-test']\ntimeout = 5\nrequired = false\n"
    put(tmp_path, "etc/twinslot/config.toml", SMALL + text)
    (command,) = config.load(tmp_path).health.command
    assert command == config.HealthCommandConfig(
        name="pump", argv=("/usr/bin/pump", "--self-test"), timeout=5.0, retries=0, delay=1.0, required=False
    )


def test_a_missing_name_in_a_list_of_tables_is_found(tmp_path: Path) -> None:
    put(tmp_path, "etc/twinslot/config.toml", SMALL + "[[health.command]]\nargv = ['/bin/true']\n")
    assert "health.command.name" in refused(tmp_path, "config-missing").message


def test_a_file_that_is_not_toml_is_named_with_the_line(tmp_path: Path) -> None:
    put(tmp_path, "etc/twinslot/config.toml", "[device\n")
    error = refused(tmp_path, "config-syntax")
    assert "etc/twinslot/config.toml" in error.message
    assert "line 1" in str(error.found)


def test_a_file_that_is_no_text_is_said_to_be_none(tmp_path: Path) -> None:
    put(tmp_path, "etc/twinslot/config.toml", "")
    (tmp_path / "etc/twinslot/config.toml").write_bytes(b"[device]\n# pr\xfcfung\n")
    assert refused(tmp_path, "config-syntax").found == "bytes that are no UTF-8 text"


def test_a_directory_in_place_of_the_file_is_unreadable(tmp_path: Path) -> None:
    (tmp_path / "etc/twinslot/config.toml").mkdir(parents=True)
    refused(tmp_path, "config-unreadable")


def test_a_huge_file_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    put(tmp_path, "etc/twinslot/config.toml", "#" * ((1 << 20) + 1))
    assert "too large" in refused(tmp_path, "config-syntax").message


@pytest.mark.verifies("REQ-CLI-02")
@given(data=st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode())))
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_bytes_end_in_our_own_error(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "etc/twinslot/config.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    with pytest.raises(DeviceError) as caught:
        config.load(tmp_path)
    assert caught.value.code.startswith("device.config-")


TOML_VALUES = st.sampled_from(
    ["1", "true", "1.5", "nan", '"x"', '"/x"', "[]", "[1]", '["a"]', "{}", "{a=1}", "2026-11-21", "[[1]]", "[{}]"]
)
SECTIONS = typing.get_type_hints(config.Config)
KEYS = [
    (table.name, key.name)
    for table in dataclasses.fields(config.Config)
    for key in dataclasses.fields(SECTIONS[table.name])
]


@given(key=st.sampled_from(KEYS), value=TOML_VALUES)
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_type_under_any_key_is_taken_or_refused_cleanly(tmp_path: Path, key: tuple[str, str], value: str) -> None:
    put(tmp_path, "etc/twinslot/config.toml", SMALL)
    put(tmp_path, "etc/twinslot/config.d/x.toml", f"[{key[0]}]\n{key[1]} = {value}\n")
    with contextlib.suppress(DeviceError):  # any other exception fails the test
        assert isinstance(config.load(tmp_path), config.Config)


def test_the_manual_is_the_one_that_the_code_prints() -> None:
    page = Path(__file__).parents[2] / "docs/config.md"
    assert page.read_text() == config_reference.reference(), (
        "run: python3 -m twinslot.config.reference > docs/config.md"
    )


@pytest.mark.verifies("REQ-CLI-07")
def test_every_number_in_the_manual_has_bounds() -> None:
    for line in config_reference.reference().splitlines():
        if "| integer |" in line or "| number |" in line:
            assert " to " in line, line


# What stands in config.d and is no drop-in.

DROP_IN = "[http]\nretries = 2\n"


@pytest.mark.parametrize(
    "name",
    [
        *("._10-http.toml", ".#10-http.toml", ".10-http.toml", ".toml", "10-http.toml~", "10-http.toml.dpkg-new"),
        *("10-http.toml.swp", "10-http.toml.rpmsave", "#10-http.toml#", "10-http.tom", "README"),
    ],
)
def test_what_editors_and_package_tools_leave_behind_counts_for_nothing(tmp_path: Path, name: str) -> None:
    put(tmp_path, "etc/twinslot/config.toml", SMALL)
    put(tmp_path, "etc/twinslot/config.d/10-http.toml", DROP_IN)
    (tmp_path / "etc/twinslot/config.d" / name).write_bytes(b"\0\5\x16\7leftover")
    assert config.load(tmp_path).http.retries == 2


@pytest.mark.parametrize("kind", ["directory", "pipe", "link to nowhere", "link to a directory", "loop"])
def test_what_is_no_file_is_left_out_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str) -> None:
    put(tmp_path, "etc/twinslot/config.toml", SMALL)
    put(tmp_path, "etc/twinslot/config.d/10-http.toml", DROP_IN)
    path = tmp_path / "etc/twinslot/config.d/20-odd.toml"
    if kind == "directory":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to({"link to nowhere": "nowhere", "link to a directory": "..", "loop": path.name}[kind])
    assert config.load(tmp_path).http.retries == 2
    assert "20-odd.toml' is left out" in caplog.text


def test_a_hidden_leftover_that_links_to_nowhere_is_not_even_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(tmp_path, "etc/twinslot/config.toml", SMALL)
    put(tmp_path, "etc/twinslot/config.d/10-http.toml", DROP_IN)
    (tmp_path / "etc/twinslot/config.d/.#10-http.toml").symlink_to("somebody@somewhere.1")
    assert config.load(tmp_path).http.retries == 2
    assert caplog.text == ""


@pytest.mark.parametrize("target", ["/dev/null", "../../../dev-null"])
def test_a_link_to_dev_null_masks_the_file_of_the_same_name(tmp_path: Path, target: str) -> None:
    put(tmp_path, "etc/twinslot/config.toml", SMALL)
    put(tmp_path, "usr/lib/twinslot/config.d/10-http.toml", DROP_IN)
    (tmp_path / "dev-null").symlink_to("/dev/null")
    (tmp_path / "etc/twinslot/config.d").mkdir()
    (tmp_path / "etc/twinslot/config.d/10-http.toml").symlink_to(target)
    assert config.load(tmp_path).http.retries == config.HttpConfig().retries


# A fault in the configuration while a system is on trial (decision 21).

WRONG_WINDOW = "[[policy.restart_window]]\ncalendar = 'Moonday 25:00'\nduration = 3600\n"


def faults_of(root: Path) -> tuple[config.Config, str]:
    loaded, faults = load_for_trial(root)
    assert all(fault.code.startswith("device.config-") for fault in faults)
    return loaded, "; ".join(map(str, faults))


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("20-typo.toml", "[http]\nretires = 2\n", "retires"),
        ("20-table.toml", "[htpp]\nretries = 2\n", "htpp"),
        ("20-value.toml", "[http]\nretries = -2\n", "http.retries"),
        ("20-needed.toml", "[boot]\ntimeuot = 2\n", "timeuot"),
        ("20-trial.toml", "[trial]\nnewer = 2\n", "newer"),
        ("20-device.toml", "[device]\ncompatible = 7\n", "device.compatible"),
        ("20-trust.toml", "[trust]\nroles = []\n", "trust.roles"),
        ("20-noise.toml", "\0\5leftover", "20-noise.toml"),
        ("20-pin.toml", "[http]\npins = ['AB']\n", "http.pins"),
        ("20-window.toml", WRONG_WINDOW, "policy.restart_window.calendar"),
        ("20-zone.toml", "[[policy.fetch_window]]\ncalendar='daily'\nduration=60\ntimezone='Moon/Sea'\n", "Moon/Sea"),
        ("20-erase.toml", "[retire]\nerase = ['/var/lib/twinslot']\n", "retire.erase"),
        ("20-market.toml", "[acceptance]\nmarket = 'E U'\n", "acceptance.market"),
        ("20-token.toml", "[device]\nkey = 'nowhere'\n", "device.key"),
        ("20-opened.toml", "[decryption]\nkey = 'pkcs11:'\n", "decryption.key"),
        ("20-shown.toml", "[http]\nclient_key = 'pkcs11:'\n", "http.client_key"),
        ("20-cut.toml", '[http]\nca_file = "/et', "20-cut.toml"),
    ],
)
def test_on_trial_what_is_not_needed_is_left_out_and_told(tmp_path: Path, name: str, text: str, told: str) -> None:
    put(tmp_path, "etc/twinslot/config.toml", SMALL + '[health]\nunits = ["pump.service"]\n')
    put(tmp_path, f"etc/twinslot/config.d/{name}", text)
    with pytest.raises(DeviceError):
        config.load(tmp_path)
    loaded, faults = faults_of(tmp_path)
    assert told in faults
    assert loaded.health.units == ("pump.service",)
    assert loaded.slots.a["rootfs"] == Path("/dev/disk/by-partlabel/slot_a")


@pytest.mark.verifies("S6")
@pytest.mark.parametrize(
    "text",
    [
        "[health]\nunit = []\n",
        "[health]\nunits = 7\n",
        '[[health.command]]\nname = "motor"\n',
        '[[health.command]]\nname = "motor"\nargv = ["/x"]\ntimeuot = 3\n',
        '[[health.command]]\nname = "motor',
        "[slots.a]\nrootfs = 7\n",
        "[slots]\nc = {}\n[slots.a]\nother = '/dev/x'\n",
        "[boot]\nbackend = 'grub'\n",
        "[record]\ndirectory = 'here'\n",
        "[trial]\ndeadline = 1\n",
    ],
)
def test_on_trial_nothing_is_left_out_that_is_needed_or_may_name_a_health_check(tmp_path: Path, text: str) -> None:
    put(tmp_path, "etc/twinslot/config.toml", SMALL)
    put(tmp_path, "etc/twinslot/config.d/20-fault.toml", text)
    with pytest.raises(DeviceError) as caught:
        load_for_trial(tmp_path)
    assert caught.value.code.startswith("device.config-")


def test_on_trial_a_drop_in_that_cannot_be_read_is_left_out_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, "etc/twinslot/config.toml", SMALL)
    put(tmp_path, "etc/twinslot/config.d/20-bad-sector.toml", "[health]\n")
    opened = Path.open

    def failing(path: Path, *arguments: Any, **named: Any) -> Any:
        if path.name == "20-bad-sector.toml":
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return opened(path, *arguments, **named)

    monkeypatch.setattr(Path, "open", failing)
    assert "20-bad-sector.toml" in faults_of(tmp_path)[1]


def test_on_trial_a_good_configuration_is_the_same_one(tmp_path: Path) -> None:
    put(tmp_path, "etc/twinslot/config.toml", SMALL)
    assert load_for_trial(tmp_path) == (config.load(tmp_path), ())


@pytest.mark.parametrize("verb", [("boot",), ("check",), ("commit", "--if-trial")], ids=" ".join)
@pytest.mark.parametrize("text", ["", "slots", "[health]\nunit = []\n"], ids=["none", "no-toml", "health"])
def test_a_unit_without_a_usable_configuration_leaves_the_trial_to_the_deadline(
    tmp_path: Path,
    verb: tuple[str, ...],
    text: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    if text:
        put(tmp_path, "etc/twinslot/config.toml", (SMALL if text.startswith("[") else "") + text)
    assert cli.main(["--config-root", str(tmp_path), *verb]) == cli_trial.UNDECIDED
    assert cli.main(["--config-root", str(tmp_path), "status"]) == 6


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[http]\nretires = 2\n", "no key 'retires'"),
        (WRONG_WINDOW, "'policy.restart_window.calendar' is no calendar event"),
        ("[http]\npins = ['AB']\n", "'http.pins' is wrong"),
    ],
    ids=["key", "window", "pin"],
)
@pytest.mark.verifies("S6")
@pytest.mark.parametrize("verb", [("boot",), ("check",), ("commit", "--if-trial")], ids=" ".join)
def test_a_mistake_in_a_drop_in_stops_no_unit_and_every_other_command(
    tmp_path: Path,
    verb: tuple[str, ...],
    text: str,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    reached: list[config.Config] = []

    def engine(device: LocalUpdater) -> None:
        reached.append(device.config)
        raise DeviceError("here the test ends", code="test")

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(LocalUpdater, "engine", engine)
    put(tmp_path, "etc/twinslot/config.toml", SMALL + '[health]\nunits = ["pump.service"]\n')
    put(tmp_path, "etc/twinslot/config.d/20-mistake.toml", text)
    assert cli.main(["--config-root", str(tmp_path), *verb]) == 6
    assert [found.health.units for found in reached] == [("pump.service",)]
    assert told in caplog.text
    caplog.clear()
    assert cli.main(["--config-root", str(tmp_path), "--no-service", "commit"]) == 6
    assert len(reached) == 1
