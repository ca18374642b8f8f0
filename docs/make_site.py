"""The documentation as a site: `make_site.py WORK SITE`. `make docs` puts it into build/site.

The pages are staged in WORK/pages as they lie in the tree, since they refer to each other so. What a browser does not
show is turned into what it does: manual pages into pages (mandoc), the diagram of the lifecycle into a picture
(Graphviz), a link to a folder into one to its list. Then MkDocs builds SITE, strictly: a link or an anchor that leads
nowhere is an error.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
FOLDERS: Final = ("docs", "docs/decisions", "bench", "bootloader_hooks", "client", "image_tools", "qemu", "tests/data")
LINK: Final = re.compile(r"(?<=\]\()([^)#\s]+)(?=[)#])")
DIAGRAM: Final = re.compile(r"^```mermaid\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ARROW: Final = re.compile(r"^ *(\S+) --> ([\w-]+): ([\w-]+)$", re.MULTILINE)
NAMED: Final = re.compile(r"^```(\w+) (\S+)$", re.MULTILINE)
BREAK: Final = "\\n"  # Graphviz's, between two lines of a label
LISTS: Final = {"decisions/": "README.md#decisions"}  # a folder is no page


def stage(pages: Path) -> None:
    """Copy every page, and each file that a page links to."""
    for page in sorted([*ROOT.glob("*.md"), *(path for folder in FOLDERS for path in (ROOT / folder).glob("*.md"))]):
        there = pages / page.relative_to(ROOT)
        there.parent.mkdir(parents=True, exist_ok=True)
        there.write_text(DIAGRAM.sub(lambda found: picture(found[1]), linked(page, pages)))
    for manual in sorted((ROOT / "docs/man").glob("*.[1-8]")):
        there = pages / f"docs/man/{manual.name}.md"
        there.parent.mkdir(exist_ok=True)
        there.write_text(f"# {manual.stem}({manual.suffix[1:]})\n\n{manual_page(manual)}")
    shutil.copy(ROOT / "docs/site.css", pages)


def linked(page: Path, pages: Path) -> str:
    """The page's text, its links and examples as the site needs them; what links lead to beside pages is copied."""

    def link(found: re.Match[str]) -> str:
        name = found[1]
        target = (page.parent / name).resolve()
        if name in LISTS:
            return LISTS[name]
        if "/docs/man/" in str(target) and target.is_file():
            return f"{name}.md"
        if target.is_file() and target.suffix != ".md":
            copy = pages / target.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(target, copy)
        return name

    return NAMED.sub(title, LINK.sub(link, page.read_text()))


def title(opening: re.Match[str]) -> str:
    """The first line of an example that has a name: shown above it if it is a file's."""
    language, name = opening.groups()
    return f'```{language} title="{name}"' if "." in name else f"```{language}"


def manual_page(manual: Path) -> str:
    """A manual page as Markdown, its sections as headings, without the lines that frame it on a terminal."""
    made = subprocess.run(["mandoc", "-T", "markdown", manual], capture_output=True, text=True, check=True).stdout
    inner = re.sub(r"\A.*?(?=^# )|\n[^\n]*\n\Z", "", made, flags=re.MULTILINE | re.DOTALL)
    inner = re.sub(r"\*\*(-[\w-]+)\*\*", r'<b class="option">\1</b>', inner)  # a browser would break lines behind --
    return re.sub(r"^(#+) ", r"#\1 ", inner, flags=re.MULTILINE)


def picture(diagram: str) -> str:
    """States and events as an SVG inside the page; its colours are those of the text."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for source, target, event in ARROW.findall(diagram):
        arrows.setdefault((source, target), []).append(event)
    lines = [f'"{a}" -> "{b}" [label="{BREAK.join(events)}"]' for (a, b), events in arrows.items()]
    style = (
        'rankdir=LR; bgcolor=none; node [shape=box, style=rounded]; edge [fontsize=11]; node [fontname="sans-serif"]'
    )
    graph = (
        f'digraph {{ {style}; edge [fontname="sans-serif"]; "[*]" [shape=point]; "[*]" -> idle; {"; ".join(lines)} }}'
    )
    drawn = subprocess.run(["dot", "-Tsvg"], input=graph, capture_output=True, text=True, check=True).stdout
    svg = re.sub(r"<!--.*?-->\n|<title>.*?</title>\n", "", drawn[drawn.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r'(stroke|fill)="black"', r'\1="currentColor"', svg).replace("<text ", '<text fill="currentColor" ')
    return f'<div class="diagram" role="img" aria-label="states and events, as in the table below">{svg}</div>'


def configuration() -> str:
    """docs/mkdocs.yml with the decisions in its list of pages."""
    decisions = sorted((ROOT / "docs/decisions").glob("*.md"))
    listed = ", ".join(f"docs/decisions/{path.name}" for path in decisions)
    return (ROOT / "docs/mkdocs.yml").read_text().replace("Decisions: DECISIONS", f"Decisions: [{listed}]")


def main() -> int:
    """MkDocs' exit status."""
    if len(sys.argv) != 3:
        sys.exit(f"usage: {sys.argv[0]} WORK SITE")
    work, site = (Path(word).absolute() for word in sys.argv[1:])
    shutil.rmtree(work, ignore_errors=True)
    stage(work / "pages")
    (work / "mkdocs.yml").write_text(configuration())
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", work / "mkdocs.yml", "-d", site]
    # Not --quiet: what is not logged does not count as a warning, and --strict would pass.
    said = subprocess.run(command, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True)
    if said.returncode:
        sys.stderr.write(said.stdout + said.stderr)
    return said.returncode


if __name__ == "__main__":
    sys.exit(main())
