"""Board descriptions, environment text, and the one list of variables that three files share."""

from __future__ import annotations

import re
import tomllib
from itertools import pairwise

import pytest

from twinslot_lab.command import ROOT
from twinslot_lab.description import BOARDS, load, parse
from twinslot_lab.errors import BuildError, LabError
from twinslot_lab.slotimage import slot_offsets
from twinslot_lab.uboot import CONTRACT, HOOKS, default_environment, factory_environment, flatten, initial_environment

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
    lines = (description.hooks / "fw_env.config").read_text().splitlines()
    tool = [tuple(int(word, 0) for word in line.split()[1:3]) for line in lines if line.startswith("/")]
    place = description.environment.place
    assert [(offset, place.size) for offset in place.offsets] == tool
    assert place.offsets == (values["ENV_OFFSET"], values["ENV_OFFSET_REDUND"])
    assert place.size == values["ENV_SIZE"]


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
    called = {name for value in environment.values() for name in re.findall(r"\brun (\w+)", value)}
    assert called == {name for name in environment if name.startswith(("do_", "board_"))}
    assert not any(name.startswith("ts_") for name in environment), "the card could replace it"
    assert {"bootcmd", "altbootcmd"} <= set(environment)


def test_the_built_in_default_counts_and_the_factory_does_not(board: str) -> None:
    description = load(board)
    default = dict(line.split("=", 1) for line in initial_environment(description).splitlines())
    both_good = {"slot": "a", "slot_a": "good", "slot_b": "good"}
    assert default == both_good | {"upgrade_available": "1", "bootcount": "0"}
    factory = factory_environment(description, sequence=5, epoch=2, root=3)
    assert (factory["upgrade_available"], factory["slot_b"], factory["ts_generation"]) == ("0", "bad", "1")
    assert (factory["ts_sequence"], factory["ts_epoch"], factory["ts_root"]) == ("5", "2", "3")


def test_comments_go_and_indented_lines_join_the_variable_above() -> None:
    assert flatten("# what\na=1;\n  2\n\nb=x\n") == ["a=1; 2", "b=x"]


@pytest.mark.parametrize("text", ["  first line indented\n", "no equals sign\n"])
def test_a_line_that_is_no_variable_is_refused(text: str) -> None:
    with pytest.raises(BuildError, match="is not name=value"):
        flatten(text)


def test_partitions_stand_one_behind_the_other_without_a_gap(board: str) -> None:
    places = list(slot_offsets(load(board)).values())
    assert all(start + size == after for (start, size), (after, _) in pairwise(places))
    assert all(start % (1 << 20) == 0 for start, _ in places)
