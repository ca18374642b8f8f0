"""The documentation as a site: every page is in it, links lead somewhere, nothing comes from elsewhere."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from twinslot.core.lifecycle import State

pytest.importorskip("mkdocs", reason="the site is made with the checkout's own environment")
pytest.importorskip("material", reason="the site is made with the checkout's own environment")

ROOT = Path(__file__).parents[2]
LOADED = {("script", "src"), ("img", "src"), ("iframe", "src"), ("source", "src"), ("object", "data")}
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`site` and what it was made of, as `make docs` does it."""
    place = tmp_path_factory.mktemp("built")
    command = [sys.executable, str(ROOT / "docs/make_site.py"), str(place / "work"), str(place / "site")]
    said = subprocess.run(command, capture_output=True, text=True)
    assert said.returncode == 0, said.stdout + said.stderr
    return place


class Loads(HTMLParser):
    """What a browser fetches by itself to show a page."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        loaded = [given[name] for of, name in LOADED if of == tag and given.get(name)]
        if tag == "link" and given.get("rel") not in ("canonical", "next", "prev"):
            loaded.append(given.get("href"))
        self.addresses += [address for address in loaded if address]


def test_every_page_of_the_tree_is_one_of_the_site(built: Path) -> None:
    listing = ["git", "ls-files", "*.md"]
    tracked = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert "docs/safety.md" in tracked
    pages = {str(path.relative_to(built / "site")) for path in (built / "site").rglob("*.html")}
    wanted = {re.sub(r"README\.md$", "index.md", name).replace(".md", ".html") for name in tracked}
    wanted = {name for name in wanted if not name.startswith("tests/data/0.")}  # samples of what is written, no pages
    assert not wanted - pages
    manuals = {f"docs/man/{path.name}.html" for path in (ROOT / "docs/man").glob("*.[1-8]")}
    assert manuals
    assert not manuals - pages


def test_nothing_is_fetched_from_elsewhere(built: Path) -> None:
    pages = list((built / "site").rglob("*.html"))
    assert pages
    for page in pages:
        loads = Loads()
        loads.feed(page.read_text())
        assert loads.addresses
        assert not [address for address in loads.addresses if re.match(r"(https?:)?//", address)], page
    for style in (built / "site").rglob("*.css"):
        assert not re.findall(r"url\(['\"]?(?:https?:)?//[^)]*\)|@import", style.read_text()), style


@pytest.mark.parametrize("link", ["docs/nowhere.md", "docs/safety.md#nowhere"])
def test_a_link_that_leads_nowhere_is_an_error(built: Path, tmp_path: Path, link: str) -> None:
    work = built / "work"
    page = work / "pages/SECURITY.md"
    sound = page.read_text()
    page.write_text(f"{sound}\n[a link]({link})\n")
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "-f",
        f"{work}/mkdocs.yml",
        "-d",
        f"{tmp_path}/site",
    ]
    said = subprocess.run(command, capture_output=True, text=True)
    page.write_text(sound)
    assert said.returncode == 1
    assert "SECURITY.md" in said.stderr


def test_the_diagram_is_a_picture_with_every_state(built: Path) -> None:
    page = (built / "site/docs/lifecycle.html").read_text()
    [diagram] = re.findall(r'<div class="diagram".*?</svg>', page, re.DOTALL)
    assert {state.value for state in State} <= set(re.findall(r"<text [^>]*>([a-z]+)</text>", diagram))
    assert "mermaid" not in page


def test_the_search_finds_an_error_by_its_code(built: Path) -> None:
    index = json.loads((built / "site/search/search_index.json").read_text())
    assert [entry for entry in index["docs"] if "device.env-write" in entry["title"] + entry["text"]]
