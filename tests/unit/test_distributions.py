"""The three distributions of this tree: one version, pinned to each other, and nothing comes unasked."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

import twinslot
import twinslot_image
import twinslot_lab

ROOT = Path(__file__).parents[2]
PARTS = {"client": "twinslot", "image_tools": "twinslot-image", "qemu": "twinslot-lab"}


def project(part: str) -> dict[str, Any]:
    """The table `project` of one of them."""
    table: dict[str, Any] = tomllib.loads((ROOT / part / "pyproject.toml").read_text())["project"]
    return table


def test_everything_has_one_version() -> None:
    changelog = (ROOT / "debian/changelog").read_text()
    assert twinslot_image.__version__ == twinslot_lab.__version__ == twinslot.__version__
    assert changelog.startswith(f"twinslot ({twinslot.__version__})")
    assert re.search(rf"^## {re.escape(twinslot.__version__)}\b", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


def test_a_release_names_an_address_that_mail_reaches() -> None:
    """Until then SECURITY.md says that there is none: the pages promise nobody an answer that cannot come."""
    newest = re.search(r"^## .*$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest
    unreleased = newest[0].endswith(", not released yet")
    places = ((ROOT / name).read_text() for name in ("debian/control", "debian/changelog", "SECURITY.md"))
    assert [".invalid" in text for text in places] == [unreleased] * 3


@pytest.mark.parametrize("part", PARTS)
def test_a_distribution_needs_the_same_version_of_the_others(part: str) -> None:
    ours = [each for each in project(part)["dependencies"] if each.startswith("twinslot")]
    assert project(part)["name"] == PARTS[part]
    assert all(each.split("==")[1] == twinslot.__version__ for each in ours)
    assert len(ours) == list(PARTS).index(part)  # each needs those before it


@pytest.mark.parametrize("part", PARTS)
def test_a_distribution_needs_what_it_imports(part: str) -> None:
    """A library that only comes along with another one may stay away with the next version of that one."""
    names = {"dbus_next": "dbus-next", "elftools": "pyelftools", "qemu": "qemu.qmp", "serial": "pyserial"}
    names |= {"cyclonedx": "cyclonedx-python-lib", "packageurl": "packageurl-python"}
    wanted = {re.split(r"[><=]", each)[0] for each in project(part)["dependencies"]}
    text = "\n".join(path.read_text() for path in (ROOT / part).rglob("*.py"))
    known = [
        "construct",
        "cryptography",
        "cyclonedx",
        "dbus_next",
        "defusedxml",
        "elftools",
        "jinja2",
        "numpy",
        "packageurl",
    ]
    known += ["pytest", "qemu", "securesystemslib", "serial", "tuf", "zstandard"]
    known += ["urllib3"]
    imported = {name for name in known if re.search(rf"^\s*(?:from|import) {name}\b", text, re.MULTILINE)}
    assert {names.get(name, name) for name in imported} == {each for each in wanted if not each.startswith("twinslot")}


@pytest.mark.parametrize("part", PARTS)
def test_a_distribution_says_what_it_is_and_under_which_license(part: str) -> None:
    table = project(part)
    assert table["license"] == "Apache-2.0"
    assert (ROOT / part / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
    assert (ROOT / part / table["readme"]).read_text().startswith(f"# {PARTS[part]}\n")
    assert {"Operating System :: POSIX :: Linux", "Typing :: Typed"} <= set(table["classifiers"])


def test_no_pytest_loads_the_lab_for_those_who_did_not_ask() -> None:
    assert not [part for part in PARTS if "entry-points" in project(part)]
