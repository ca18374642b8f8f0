from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from twinslot import config, config_reference
from twinslot.core.errors import DeviceError
from twinslot.core.model import SlotName

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
        ("[boot]\nbackend = 'barebox'", "config-value", "uboot | hook"),
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


def test_one_device_in_both_slots_is_refused(tmp_path: Path) -> None:
    put(tmp_path, "etc/twinslot/config.toml", SMALL.replace("slot_b", "slot_a"))
    assert "stands twice" in refused(tmp_path, "config-value").message


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
    assert command == config.HealthCommand(
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


def test_a_directory_in_place_of_the_file_is_unreadable(tmp_path: Path) -> None:
    (tmp_path / "etc/twinslot/config.toml").mkdir(parents=True)
    refused(tmp_path, "config-unreadable")


def test_a_huge_file_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    put(tmp_path, "etc/twinslot/config.toml", "#" * ((1 << 20) + 1))
    assert "too large" in refused(tmp_path, "config-syntax").message


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
KEYS = [
    (table.name, key.name)
    for table in dataclasses.fields(config.Config)
    for key in dataclasses.fields(getattr(config, table.name.title()))
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
        "run: python3 -m twinslot.config_reference > docs/config.md"
    )


def test_every_number_in_the_manual_has_bounds() -> None:
    for line in config_reference.reference().splitlines():
        if "| integer |" in line or "| number |" in line:
            assert " to " in line, line
