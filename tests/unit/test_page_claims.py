"""What pages name must exist and what they count must be so: keys, units, variables, targets, bounds, dependencies."""

from __future__ import annotations

import ast
import dataclasses
import functools
import re
import tomllib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from twinslot.config import options as config
from twinslot.config.reference import reference
from twinslot.core import boot_variables as bootenv
from twinslot.core import bounds, manifest
from twinslot.image import wire

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "docs/man").glob("*.[1-8]"))]
PAGES += [ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"]
PAGES += [ROOT / f"{part}/README.md" for part in ("bootloader_hooks", "client", "image_tools", "qemu")]
SIZES = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


@functools.cache
def names(page: Path) -> str:
    """The page's text; of a manual page without roff's marks."""
    return page.read_text().replace("\\-", "-").replace("\\&", "")


@functools.cache
def config_keys() -> dict[str, set[str]]:
    """Table -> keys, as the reference prints them."""
    found: dict[str, set[str]] = {}
    table = ""
    for line in reference().splitlines():
        if heading := re.match(r"## `\[+([a-z.]+)\]+`", line):
            table = heading[1]
        if row := re.match(r"\| `(\w+)`", line):
            found.setdefault(table, set()).add(row[1])
    return found


def named(pattern: str | re.Pattern[str], pages: Iterable[Path] = PAGES) -> list[tuple[str, str]]:
    """What pages name, with the page's path."""
    return [(str(page.relative_to(ROOT)), name) for page in pages for name in re.findall(pattern, names(page))]


def test_every_key_of_the_configuration_that_a_page_names_exists() -> None:
    keys = config_keys()
    found = named(rf"[`'\"]((?:{'|'.join(map(re.escape, keys))})\.\w+)(?: = [^`]*)?[`'\"]")
    assert len(found) > 100
    unknown = [(page, whole) for page, whole in found if whole.rpartition(".")[2] not in keys[whole.rpartition(".")[0]]]
    assert not [(page, whole) for page, whole in unknown if not is_something_else(whole)]


def is_something_else(dotted: str) -> bool:
    """A table of tables, an error's code, a module of the client, a file."""
    if dotted in config_keys() or re.search(rf'^"{dotted}" =', (ROOT / "docs/errors.toml").read_text(), re.MULTILINE):
        return True
    folder, _, name = dotted.partition(".")
    return (ROOT / f"client/twinslot/{folder}/{name}.py").exists() or name in ("d", "py", "md", "xml", "scr")


def test_every_unit_of_ours_that_a_page_names_is_shipped() -> None:
    units = {path.name for folder in ("systemd", "qemu", "debian") for path in (ROOT / folder).rglob("twinslot*")}
    found = named(r"\btwinslot[a-z-]*@?\.(?:service|socket|timer|target|slice)\b")
    assert len(found) > 100
    assert not [(page, unit) for page, unit in found if unit not in units]


def variables(page: Path) -> set[str]:
    """Variables of ours that it names, but those of a makefile, which are Buildroot's, after the package."""
    text = re.sub(r"^```makefile.*?^```", "", names(page), flags=re.MULTILINE | re.DOTALL)
    prefix = "`TWINSLOT`" if page.name == "testing-your-device.md" else ""
    return set(re.findall(r"\bTWINSLOT_[A-Z_]+\b", text.replace(prefix, "") if prefix else text))


def test_every_variable_of_ours_that_a_page_names_is_read_somewhere() -> None:
    read = {
        name
        for folder in ("client", "image_tools", "qemu", "systemd", "tests", "bootloader_hooks", "bench")
        for path in sorted((ROOT / folder).rglob("*"))
        if path.is_file() and path.suffix in {"", ".py", ".sh", ".env", ".service"} and "cache" not in str(path)
        for name in re.findall(r"TWINSLOT_[A-Z_]+", path.read_text())
    }
    found = [(str(page.relative_to(ROOT)), name) for page in PAGES for name in variables(page)]
    assert len(found) > 30
    assert not [(page, name) for page, name in found if name not in read]


def test_every_target_of_make_that_a_page_names_exists() -> None:
    rules = "".join((ROOT / file).read_text() for file in ("Makefile", "client/install.mk"))
    targets = set(re.findall(r"^([a-z0-9-]+):", rules, flags=re.MULTILINE))
    found = named(r"`make ([a-z][a-z0-9-]*)", [page for page in PAGES if page.name != "errors.md"])
    assert len(found) > 50
    assert not [(page, target) for page, target in found if target not in targets]


def test_the_bounds_of_the_format_page_are_those_of_the_code() -> None:
    page = (ROOT / "docs/image-format.md").read_text()
    section = dict(re.findall(r"^\| \d \| `([a-z-]+)` \| \d+ to (\d+ [KMG]iB) \|", page, flags=re.MULTILINE))
    header = dict(re.findall(r"^\| \d+ \| 8 \| length of `([a-z-]+)` \| \d to (\d+) \|", page, flags=re.MULTILINE))
    assert section
    assert header.keys() == {str(each) for each in wire.SECTION_MAX}
    for each, bound in wire.SECTION_MAX.items():
        assert int(header[str(each)]) == bound
        if str(each) in section:
            number, unit = section[str(each)].split()
            assert int(number) * SIZES[unit] == bound
    for text, value in {
        "262144 groups in all": bounds.GROUPS_MAX,
        "1 to 16 payloads": bounds.PAYLOADS_MAX,
        "0 to 32 attachments": bounds.ATTACHMENTS_MAX,
        "A list of 0 to 32 objects": manifest.SIGNATURES_MAX,
        "| `compatible` | device types, 1 to 64": manifest.NAMES_MAX,
        "from 4096 to 1048576": bounds.GROUP_SIZE_MAX,
        "1 to 65536 bytes": wire.DOCUMENT_MAX,
    }.items():
        assert text in page
        assert str(value) in text


def test_the_boot_contract_names_every_variable_that_the_client_writes() -> None:
    page = (ROOT / "docs/boot-contract.md").read_text()
    tree = ast.parse(Path(bootenv.__file__).read_text())
    written = {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r"ts_[a-z_]+", node.value)
    }
    assert written
    assert not {name for name in written if f"`{name}`" not in page}


def test_every_dependency_of_the_project_has_its_line() -> None:
    requirements = (ROOT / "tests/requirements.txt").read_text().splitlines()
    wanted = {line for line in requirements if not line.startswith("#")}
    for part in ("client", "image_tools", "qemu"):
        wanted |= set(tomllib.loads((ROOT / part / "pyproject.toml").read_text())["project"]["dependencies"])
    names = {re.split(r"[><=\[]", each)[0].lower() for each in wanted}
    page = (ROOT / "docs/dependencies.md").read_text()
    rows = [row.split(" | ") for row in page.splitlines() if row.startswith("| ")]
    explained = {name.strip().lower() for row in rows if row[1].strip() for name in row[0][2:].split(",")}
    assert not names - explained - {"twinslot", "twinslot-image"}


def test_the_index_lists_every_page_and_every_decision() -> None:
    index = (ROOT / "docs/README.md").read_text()
    pages = [path.name for path in (ROOT / "docs").glob("*.md") if path.name != "README.md"]
    pages += [f"man/{path.name}" for path in (ROOT / "docs/man").glob("*.[1-8]")]
    pages += [f"decisions/{path.name}" for path in (ROOT / "docs/decisions").glob("*.md")]
    assert not [page for page in pages if f"]({page})" not in index]
    assert "A number that is not in the table" in index
    rows = re.findall(r"^\| (.+?) \|", index, flags=re.MULTILINE)
    assert not [row for row, times in Counter(rows).items() if times > 1]


def test_each_word_of_the_glossary_stands_once() -> None:
    page = (ROOT / "docs/terminology.md").read_text()
    rows = re.findall(r"^\| ((?:\*\*[a-z ]+\*\*(?:, )?)+) \|(.*)\|$", page, flags=re.MULTILINE)
    words = [word for cell, _ in rows for word in re.findall(r"\*\*([a-z ]+)\*\*", cell)]
    assert len(words) == len(set(words)) > 25
    assert all(rest.count("|") == 2 for _, rest in rows), "each row has its meaning, RAUC's word and Mender's"


HANDED_ON = {
    "boot": "bootloader",
    "watch": "policy",
    "http": "transport",
    "slots": "config.py",
}  # a table that a folder gets as a whole


def test_every_key_of_the_configuration_is_read_by_the_product() -> None:
    client = ROOT / "client/twinslot"
    sources = {path: path.read_text() for path in sorted(client.rglob("*.py"))}
    unread = []
    for table in dataclasses.fields(config.Config):
        kind = getattr(config, str(table.type).rpartition(".")[2])
        for key in dataclasses.fields(kind):
            own = re.compile(rf"\b{table.name}\.{key.name}\b")
            whole = re.compile(rf"\.{key.name}\b")
            where = client / HANDED_ON.get(table.name, "-")
            if not any(
                (own.search(text) and not path.name.startswith("config"))
                or (whole.search(text) and (where in path.parents or where == path))
                for path, text in sources.items()
            ):
                unread.append(f"{table.name}.{key.name}")
    assert not unread
