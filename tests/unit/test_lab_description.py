"""Board descriptions, environment text, and the one list of variables that three files share."""

from __future__ import annotations

import re
import tomllib
from itertools import pairwise

import pytest

from twinslot.bootloader.uboot.rawenv import parse_config
from twinslot.core.model import Floors, SlotName
from twinslot.queries.doctor_boot import APART
from twinslot_image.factory.record import first_variables
from twinslot_lab.command import ROOT
from twinslot_lab.crash import bootmodel
from twinslot_lab.description import BOARDS, SYSTEMS, load, parse
from twinslot_lab.errors import BuildError, LabError
from twinslot_lab.release import settings_of
from twinslot_lab.uboot import (
    CONTRACT,
    HOOKS,
    default_environment,
    flatten,
    initial_environment,
)

BOARD_NAMES = sorted(file.stem for file in BOARDS.glob("*.toml"))


@pytest.fixture(params=BOARD_NAMES)
def board(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_an_unknown_board_is_refused_with_the_names_of_those_there_are() -> None:
    with pytest.raises(LabError, match=r"no board 'toaster' \(hint: there is: .*virt-arm64"):
        load("toaster")


@pytest.mark.parametrize("change", ["extra", "missing"])
def test_a_description_with_an_unknown_or_missing_key_is_refused_by_name(change: str) -> None:
    data = tomllib.loads((BOARDS / "virt-arm64.toml").read_text())
    if change == "extra":
        data["disk"]["colour"] = "red"
    else:
        del data["disk"]["slot_mib"]
    with pytest.raises(LabError, match=r"\[disk\] has unknown or missing keys: (colour|slot_mib)"):
        parse(data)


def test_u_boot_and_fw_env_config_agree_on_where_the_environment_is(board: str) -> None:
    description = load(board)
    config = (description.hooks / "board.config").read_text()
    values = {name: int(value, 0) for name, value in re.findall(r"^CONFIG_(ENV_\w+)=(0x\w+)$", config, re.MULTILINE)}
    environment = description.environment
    assert parse_config(environment.fw_env_config) == environment.places
    assert environment.offsets == (values["ENV_OFFSET"], values["ENV_OFFSET_REDUND"])
    assert environment.size == values["ENV_SIZE"]


def test_no_erase_block_of_a_card_holds_both_copies_nor_one_of_them_and_something_else(board: str) -> None:
    description = load(board)
    first, second = description.environment.offsets
    size = description.environment.size
    assert description.environment.device.startswith("/dev/mmcblk"), "a card: this board is meant by the rule"
    assert second - first >= APART
    assert not {first // APART, (first + size - 1) // APART} & {second // APART, (second + size - 1) // APART}
    if description.environment.card_mib:
        assert second + size <= description.environment.card_mib << 20
        return
    blocks = {at // APART for at in (first, first + size - 1, second, second + size - 1)}
    assert description.firmware.offset // APART not in blocks
    assert description.disk.first_mib << 20 >= second + size
    assert (description.disk.first_mib << 20) // APART not in blocks


def test_the_variables_of_the_contract_are_the_ones_that_the_card_may_set() -> None:
    document = (ROOT / "docs" / "boot-contract.md").read_text()
    table = document[document.index("## 2.") : document.index("## 3.")]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    named = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)} - {"bootlimit"}
    patches = "".join(patch.read_text() for patch in (HOOKS / "patches").glob("*.patch"))
    patterns = re.findall(r"([\w.+]+):[sd]w", patches)
    assert named == set(CONTRACT)
    assert {name for name in CONTRACT if not any(re.fullmatch(pattern, name) for pattern in patterns)} == set()


def test_every_variable_that_the_script_runs_is_there(board: str) -> None:
    environment = default_environment(load(board))
    called = {name for value in environment.values() for name in re.findall(r"\brun (\w+)(?![\w$])", value)}
    by_slot = {name for value in environment.values() for name in re.findall(r"\brun (\w+_)\$\{", value)}
    called |= {name + slot for name in by_slot for slot in environment["slots"].split()}
    assert called == {name for name in environment if name.startswith(("do_", "board_", "ask_"))}


def test_the_script_knows_each_slot_and_so_does_its_model(board: str) -> None:
    environment = default_environment(load(board))
    assert environment["slots"].split() == list(SlotName) == list(bootmodel.SLOTS)
    assert all(f"slot_{slot}" in environment for slot in SlotName)


def test_no_variable_of_the_script_can_be_replaced_by_the_card(board: str) -> None:
    environment = default_environment(load(board))
    assert not any(name.startswith("ts_") for name in environment), "the card could replace it"
    assert {"bootcmd", "altbootcmd"} <= set(environment)


def test_the_built_in_default_counts_and_the_factory_does_not(board: str) -> None:
    description = load(board)
    default = dict(line.split("=", 1) for line in initial_environment(description).splitlines())
    both_good = {"slot": "a", "slot_a": "good", "slot_b": "good"}
    assert default == both_good | {"upgrade_available": "1", "bootcount": "0"}
    factory = first_variables(SlotName.A, Floors(5, 2, 3))
    assert (factory["upgrade_available"], factory["slot_b"], factory["ts_generation"]) == ("0", "bad", "1")
    assert (factory["ts_sequence"], factory["ts_epoch"], factory["ts_root"]) == ("5", "2", "3")


def test_comments_go_and_indented_lines_join_the_variable_above() -> None:
    assert flatten("# what\na=1;\n  2\n\nb=x\n") == ["a=1; 2", "b=x"]


@pytest.mark.parametrize("text", ["  first line indented\n", "no equals sign\n"])
def test_a_line_that_is_no_variable_is_refused(text: str) -> None:
    with pytest.raises(BuildError, match="is not name=value"):
        flatten(text)


def test_partitions_stand_one_behind_the_other_without_a_gap(board: str) -> None:
    places = list(load(board).disk.partitions().values())
    assert all(start + size == after for (start, size), (after, _) in pairwise(places))
    assert all(start % (1 << 20) == 0 for start, _ in places)


def test_a_value_that_no_board_has_is_refused_with_those_there_are() -> None:
    data = tomllib.loads((BOARDS / "orangepi-pc.toml").read_text())
    data["quirks"]["reset"] = "prayer"
    with pytest.raises(LabError, match=r"\[quirks\] reset is 'prayer', expected one of: machine, harness"):
        parse(data)


def test_a_board_without_a_known_system_is_refused() -> None:
    data = tomllib.loads((BOARDS / "orangepi-pc.toml").read_text())
    data["system"]["base"] = "potato"
    with pytest.raises(LabError, match=r"there is no 'potato\.toml'"):
        parse(data)


def test_a_board_adds_to_the_shared_lists_and_takes_nothing_away(board: str) -> None:
    shared = tomllib.loads((SYSTEMS / "trixie.toml").read_text())
    system = load(board).system
    assert set(shared["packages"]) == set(system.packages)
    assert set(shared["masked_units"]) <= set(system.masked_units)
    assert set(shared["masked_generators"]) <= set(system.masked_generators)
    assert set(shared["left_out"]) <= set(system.left_out)
    assert set(shared["modules"]) <= set(system.modules)


def test_the_console_of_the_description_is_the_one_that_the_kernel_gets(board: str) -> None:
    description = load(board)
    arguments = default_environment(description)["board_args"]
    assert f"console={description.console.device}" in re.split(r"[ ,\"]", arguments)
    assert " ro quiet panic=1 " in arguments
    assert " twinslot.slot=${slot} twinslot.state=${state}" in arguments


def test_the_product_is_told_its_slots_and_on_a_slow_board_longer_deadlines(board: str) -> None:
    description = load(board)
    configuration, deadline = settings_of(description)
    said = tomllib.loads(configuration)
    assert said["device"]["compatible"] == f"twinslot,{board}"
    assert [said["slots"][slot]["rootfs"] for slot in "ab"] == [description.disk.device(f"slot_{s}") for s in "ab"]
    seconds = 600 * description.quirks.timeout_factor
    assert said.get("trial", {}).get("deadline", 600) == seconds
    assert deadline == ("" if seconds == 600 else f"TWINSLOT_DEADLINE={seconds}\n")


def test_quirks_are_named_for_reports() -> None:
    assert load("virt-arm64").quirks.named() == []
    assert load("orangepi-pc").quirks.named() == [
        "the machine cannot reset itself: the test harness does it",
        "the machine is slow: timeouts in the guest are 4 times as long",
    ]
