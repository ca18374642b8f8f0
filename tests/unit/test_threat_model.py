"""The threat model: each threat has its number, and names tests, or says what the maker must do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NODE = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
PAGE = (ROOT / "docs/threat-model.md").read_text()
THREATS = dict(re.findall(r"^### (T\d+) (.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL))
OF_OTHERS = PAGE.partition("## Flaws that others had")[2].split("\n| ")[2:]
RULES = set(re.findall(r"^### (S\d+) ", (ROOT / "docs/safety.md").read_text(), re.MULTILINE))


def test_the_threats_are_numbered_from_1_on() -> None:
    assert list(THREATS) == [f"T{number}" for number in range(1, len(THREATS) + 1)]
    assert len(THREATS) >= 19, "TUF's, Uptane's and RFC 9124's, and those of a device with several users"


@pytest.mark.parametrize("threat", THREATS)
def test_a_threat_names_tests_that_exist_and_perhaps_what_is_the_makers(threat: str) -> None:
    nodes = NODE.findall(THREATS[threat])
    assert nodes or "- The maker's: " in THREATS[threat]
    missing = [name for file, name in nodes if f"\ndef {name}(" not in (ROOT / file).read_text()]
    assert not missing
    assert len(nodes) == len(set(nodes))
    assert "- Tests: " in THREATS[threat] or not nodes


def test_the_rules_that_are_named_exist() -> None:
    named = set(re.findall(r"\bS\d+\b", PAGE))
    assert named
    assert named <= RULES


def test_every_boundary_that_keeps_users_apart_is_one_of_the_units() -> None:
    """The page says which workers have no network; the units say the same."""
    for name, network in (("fetch", False), ("read", False), ("relay", True), ("verify", False)):
        unit = (ROOT / f"systemd/twinslot-{name}@.service").read_text()
        assert f"User=twinslot-{name}\n" in unit
        assert ("PrivateNetwork=yes" in unit) != network


@pytest.mark.parametrize("row", OF_OTHERS, ids=lambda row: row.partition(" | ")[0])
def test_a_flaw_that_others_had_names_a_test_that_exists(row: str) -> None:
    nodes = NODE.findall(row)
    assert nodes
    assert not [name for file, name in nodes if f"\ndef {name}(" not in (ROOT / file).read_text()]
