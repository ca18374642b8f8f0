"""Every error code that the code raises is explained, once, and spelled one way."""

from __future__ import annotations

import argparse
import difflib
import functools
import re
import runpy
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from twinslot.cli.output import EXIT_PIPE
from twinslot.cli.parser import make_parser
from twinslot.config.reference import reference
from twinslot.core.errors import TwinslotError
from twinslot_image.cli_parser import make_parser as make_image_parser

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs"))
PAGE = runpy.run_path(str(ROOT / "docs" / "make_errors.py"))
ENTRIES: dict[str, dict[str, object]] = PAGE["entries"]()
FAMILIES = {kind.family: kind.exit_status for kind in TwinslotError.__subclasses__()}
# A family and a detail in backticks or quotes, or in a comparison of a test.
SPELLED = re.compile(rf"[`'\"]((?:{'|'.join(FAMILIES)})\.[a-z][a-z0-9-]*)[`'\"]")
VERB = re.compile(r"'(twinslot(?:-image)?) ([\w-]+)")
KEY = re.compile(r"'((?:delta|http|install|trust|boot|device|health|trial|record)\.\w+)'")


@functools.cache
def codes() -> Any:
    """What the code raises: a second of work, for the worker that comes to it rather than for each that collects."""
    return PAGE["Codes"]()


@functools.cache
def raised() -> dict[str, list[Any]]:
    """Each code, with the places that raise it."""
    found: dict[str, list[Any]] = codes().by_code()
    return found


@functools.cache
def config_keys() -> set[str]:
    """Every key of the configuration: `device.compatible`, `health.command.argv`."""
    keys, table = set(), ""
    for line in reference().splitlines():
        if heading := re.match(r"## `\[+([a-z.]+)\]+`", line):
            table = heading[1]
        if row := re.match(r"\| `(\w+)`", line):
            keys.add(f"{table}.{row[1]}")
    return keys


def test_every_code_can_be_read_from_the_source() -> None:
    assert not codes().unread, "write the code as text where it is raised, or as a constant"
    assert len(raised()) > 100


@pytest.mark.verifies("REQ-CLI-01")
def test_every_code_has_a_line_in_errors_toml_and_every_line_a_code() -> None:
    assert sorted(raised().keys() - ENTRIES.keys()) == [], "add them to docs/errors.toml: meaning, and what to do"
    assert sorted(ENTRIES.keys() - raised().keys()) == [], "nothing raises these any more"
    assert list(ENTRIES) == sorted(ENTRIES)
    for code, entry in ENTRIES.items():
        assert entry.keys() - {"both"} == {"meaning", "do"}, code
        for text in (str(entry["meaning"]), str(entry["do"])):
            assert text
            assert not text.endswith((".", "?")), code


def test_only_a_cancelled_job_has_no_detail() -> None:
    assert [code for code in raised() if "." not in code] == ["cancelled"]


def test_a_code_of_both_tools_was_looked_at() -> None:
    of_both = [code for code, places in raised().items() if len({place.tool for place in places}) == 2]
    said = sorted(code for code, entry in ENTRIES.items() if entry.get("both"))
    assert of_both == said, "does it mean the same in both? then `both = true`"


def test_one_sentence_has_one_code() -> None:
    by_message: dict[str, set[str]] = {}
    for place in codes().raised:
        if len(re.findall(r"[a-z]{2,}", place.message)) > 3:
            by_message.setdefault(place.message, set()).add(place.code)
    # One function tells these apart by what the system said.
    together = {"target-gone", "target-open", "target-read-only", "read", "write", "record", "record-full"}
    together |= {"config-type", "config-range", "config-value", "manifest", "trust"}
    together |= {
        "config-missing",
        "config-unknown",
        "description",
    }  # config.toml and image.toml are spoken of in the same words
    assert not {
        message: found
        for message, found in by_message.items()
        if len(found) > 1 and not {code.partition(".")[2] for code in found} <= together
    }


def test_no_two_codes_of_a_family_are_two_spellings_of_one() -> None:
    details = [tuple(code.split(".")) for code in raised() if "." in code]
    alike = {
        (family, one, two)
        for (family, one), (other, two) in combinations(details, 2)
        if family == other
        and (
            one.replace("-", "").rstrip("s") == two.replace("-", "").rstrip("s")
            or sorted(one.split("-")) == sorted(two.split("-"))
            or difflib.SequenceMatcher(None, one, two).ratio() > 0.92
        )
    }
    assert alike == {("device", "key", "keys")}  # one private key; a directory of documents


@pytest.mark.parametrize("folder", ["client", "image_tools", "docs", "tests", "bootloader_hooks", "systemd"])
def test_every_code_that_is_named_anywhere_exists(folder: str) -> None:
    known = raised().keys() | config_keys()
    # Made up by tests of the error classes themselves, and the beginning of some.
    known |= {"image.toml", "image.twin", "image.x", "cancelled.x", "refused.x", "device.config-"}
    wrong = {
        f"{path.relative_to(ROOT)}: {code}"
        for path in sorted((ROOT / folder).rglob("*"))
        if path.suffix in {".py", ".md", ".1", ".5", ".xml", ".toml"} and "build" not in path.relative_to(ROOT).parts
        for code in SPELLED.findall(path.read_text())
        if code not in known and not code.startswith("transport.http-") and not module(code)
    }
    assert not wrong


def module(dotted: str) -> bool:
    """Whether a name is a module of the client, such as `trust.verify`, or a file of a test."""
    path = ROOT / "client/twinslot" / dotted.replace(".", "/")
    return path.with_suffix(".py").exists() or dotted.endswith((".py", ".md"))


def verbs_of(parser: argparse.ArgumentParser) -> set[str]:
    """The verbs of a command line, the first word of each."""
    return {
        name for action in parser._actions if isinstance(action, argparse._SubParsersAction) for name in action.choices
    }


def test_what_an_entry_tells_to_do_exists() -> None:
    verbs = {"twinslot": verbs_of(make_parser()), "twinslot-image": verbs_of(make_image_parser())}
    named = []
    for code, entry in ENTRIES.items():
        text = f"{entry['meaning']} {entry['do']}"
        named += [(code, verb, verb in verbs[tool]) for tool, verb in re.findall(VERB, text)]
        named += [(code, key, key in config_keys()) for key in re.findall(KEY, text)]
    assert len(named) > 50
    assert not [(code, name) for code, name, exists in named if not exists]


def test_the_manual_pages_list_the_exit_statuses_of_the_families() -> None:
    client, image = PAGE["statuses"]("twinslot.1"), PAGE["statuses"]("twinslot-image.1")
    assert set(FAMILIES.values()) <= client.keys()
    raised = {place.code.partition(".")[0] for place in codes().raised if place.tool == "twinslot-image"}
    raised.discard("cancelled")  # it only stops by a signal, and ends with 128 and its number
    assert image.keys() == {FAMILIES[family] for family in raised} | {0, 1, 2, EXIT_PIPE}


# Names that are written with a capital wherever they stand.
NAMES = ("U-Boot", "TWINSLOT_", "SOURCE_DATE_EPOCH", "HTTP ")


def test_every_message_begins_in_lower_case_and_has_no_full_stop() -> None:
    messages = {place.message for place in codes().raised if place.message}
    assert len(messages) > 200
    assert not {text for text in messages if text[0].isupper() and not text.startswith(NAMES)}
    assert not {text for text in messages if text.endswith((".", "!", "?")) and not text.endswith("...")}


def test_the_page_is_printed_from_the_code() -> None:
    assert (ROOT / "docs/errors.md").read_text() == PAGE["page"](codes()), "run 'make docs'"
