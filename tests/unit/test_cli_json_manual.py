"""The JSON section of twinslot(1) names the fields that the program prints, and no other."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from twinslot.cli.output import Output, error_object
from twinslot.cli.progress import Reporter
from twinslot.core.errors import DeviceError, Refusal, RefusedError
from twinslot.core.progress import Phase, Progress

PAGE = (
    (Path(__file__).parents[2] / "docs/man/twinslot.1").read_text().split(".Ss JSON\n")[1].split(".Sh ENVIRONMENT")[0]
)


def described(kind: str) -> str:
    """What the page says of one type of object."""
    item = re.search(rf"^\.It Sy {kind}\n(.*?)(?=^\.It |^\.El)", PAGE, flags=re.MULTILINE | re.DOTALL)
    assert item
    return item[1]


def fields(kind: str) -> set[str]:
    """The fields that the page names for it."""
    return set(re.findall(r"^\.Sq (\w+)", described(kind), flags=re.MULTILINE))


def test_progress_has_the_fields_and_phases_of_the_manual(capsys: pytest.CaptureFixture[str]) -> None:
    Reporter(Output(as_json=True))(Progress(Phase.WRITE, 1, 2))
    printed = json.loads(capsys.readouterr().out)
    assert printed.keys() - {"type"} == fields("progress")
    phases = re.search(r"\(([a-z, -]+)\)", described("progress").replace("\n", " "))
    assert phases
    assert set(phases[1].split(", ")) == set(Phase)


def test_an_error_has_the_fields_of_the_manual() -> None:
    plain = error_object(DeviceError("x", code="file", expected=1, found=2, hint="y"), 6)
    refused = error_object(RefusedError((Refusal("epoch", "x"), Refusal("downgrade", "y"))), 4)
    assert plain.keys() - {"type"} | {"reasons", "slots", "transaction"} == fields("error")
    assert refused.keys() == plain.keys() - {"expected", "found", "hint"} | {"reasons"}, "what is not known has no key"


def test_every_type_of_object_is_in_the_manual() -> None:
    client = Path(__file__).parents[2] / "client/twinslot/cli"
    printed = {kind for path in client.rglob("*.py") for kind in re.findall(r'"type": "([a-z-]+)"', path.read_text())}
    listed = {kind for line in re.findall(r"^\.It Sy (.*)$", PAGE, flags=re.MULTILINE) for kind in line.split(" , ")}
    assert printed == listed
