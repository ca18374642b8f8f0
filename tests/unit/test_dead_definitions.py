"""Every function, class, method, constant and attribute of the packages is named by something other than a test."""

from __future__ import annotations

import ast
import functools
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("client/twinslot", "image_tools/twinslot_image", "qemu/twinslot_lab")
ALSO_NAME = ("bench", "docs")  # their Python uses what the packages define; tests do not count
LAB = "qemu/twinslot_lab"  # made for tests, and for the programs in the guest
OF_THE_LAB = ("tests/board", "tests/component", "qemu/rootfs")
PROJECTS = ("client/pyproject.toml", "image_tools/pyproject.toml", "qemu/pyproject.toml")
TEXTS = ("pyproject.toml", *PROJECTS, "Makefile", "docs/testing-your-device.md", "docs/guide-developer.md")

# Called by a library or by the language, by name.
CALLED_BY_OTHERS = {
    "API_VERSION": "nbdkit's Python plugin",
    "_check_value": "argparse",
    "_create_unmarshaller": "dbus-next",
    "_fields_": "ctypes",
    "_fill_text": "argparse",
    "_print_message": "argparse",
    "_writer": "dbus-next",
    "_new_conn": "urllib3",
    "_lost": "asyncio: a task that no name holds may vanish",
    "can_fua": "nbdkit's Python plugin",
    "continue_": "cli.main: the verb, with a line below it since the word is Python's",
    "config_complete": "nbdkit's Python plugin",
    "emit": "logging",
    "find_spec": "the import system",
    "get_code": "the import system",
    "get_size": "nbdkit's Python plugin",
    "handle_error": "socketserver",
    "log_message": "http.server",
    "parse_known_args": "argparse",
    "pread": "nbdkit's Python plugin",
    "protocol_version": "http.server",
    "pwrite": "nbdkit's Python plugin",
    "pytest_addoption": "pytest",
    "pytest_collection_modifyitems": "pytest",
    "pytest_collectreport": "pytest",
    "pytest_configure": "pytest",
    "pytest_runtest_logreport": "pytest",
    "pytest_runtest_makereport": "pytest",
    "pytest_runtest_setup": "pytest",
    "pytest_sessionfinish": "pytest",
    "pytest_terminal_summary": "pytest",
    "readable": "io",
    "readinto": "io",
    "reset_input_buffer": "serial",
    "seekable": "io",
    "send_head": "http.server",
    "trim": "nbdkit's Python plugin",
    "write_callback": "dbus-next",
}

ABOUT_TO_BE_USED = {"SERVER"}  # stored with an update since the first release; no server asks yet


@dataclass(frozen=True)
class Definition:
    """A name that is defined: where, from which line to which, and the class if it is an attribute of its objects."""

    name: str
    path: str
    first: int
    last: int
    owner: ast.ClassDef | None = None


@dataclass
class Uses:
    """Where names are used: as plain names of a file, as attributes or text, and as a name of a module."""

    plain: dict[str, list[tuple[str, int]]]
    read: dict[str, list[tuple[str, int]]]
    of_module: set[tuple[str, str]]
    bases: set[str]


@functools.cache
def parsed(path: Path) -> ast.Module:
    """A module; the packages are read several times."""
    return ast.parse(path.read_text())


def definitions(path: str, tree: ast.Module) -> Iterator[Definition]:
    """What a module defines at its top level and in its classes."""
    yield from bodies(path, tree.body, None)
    for owner in ast.walk(tree):
        if isinstance(owner, ast.ClassDef):
            yield from bodies(path, owner.body, owner)
            for node in ast.walk(owner):
                match node:
                    case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
                        yield Definition(name, path, 0, 0, owner)  # what is read in the same line counts
                    case _:
                        pass


def bodies(path: str, body: list[ast.stmt], owner: ast.ClassDef | None) -> Iterator[Definition]:
    """The names that statements define."""
    for node in body:
        last = node.end_lineno or node.lineno
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield Definition(name, path, node.lineno, last, owner)
            case ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]):
                yield Definition(name, path, node.lineno, last, owner)
            case _:
                pass


@functools.cache
def uses(*more: str) -> Uses:
    """Every place outside the tests that names something, and in `more` folders."""
    found = Uses(defaultdict(list), defaultdict(list), set(), set())
    for folder in (*PACKAGES, *ALSO_NAME, *more):
        for path in sorted((ROOT / folder).rglob("*.py")):
            note(found, str(path.relative_to(ROOT)), parsed(path))
    scripts = [path for folder in more for path in (ROOT / folder).rglob("*") if path.is_file() and not path.suffix]
    for text in [*(ROOT / name for name in TEXTS), *scripts]:
        for name in re.findall(r"\w+", text.read_text(errors="replace")):
            found.read[name].append((str(text), 0))
    return found


def note(found: Uses, where: str, tree: ast.Module) -> None:
    """What one module uses."""
    modules: dict[str, str] = {}  # as it is called here -> last word of its name
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module=str() as module, names=names):
                for alias in names:
                    found.of_module.add((module.rpartition(".")[2], alias.name))
                    modules[alias.asname or alias.name] = alias.name
            case ast.Name(id=name, ctx=ast.Load()):
                found.plain[name].append((where, node.lineno))
            case ast.Attribute(attr=name, ctx=ast.Load() | ast.Del()):
                found.read[name].append((where, node.lineno))
                if isinstance(node.value, ast.Name):
                    found.of_module.add((modules.get(node.value.id, node.value.id), name))
            case ast.ClassDef(bases=bases):
                found.bases |= {base.id for base in bases if isinstance(base, ast.Name)}
            case ast.MatchClass(kwd_attrs=names):
                for name in names:
                    found.read[name].append((where, node.lineno))
            case ast.Constant(value=str() as text) if re.fullmatch(r"[\w.:]+", text):
                for word in re.findall(r"\w+", text):
                    found.read[word].append((where, 0))


def used(each: Definition, found: Uses) -> bool:
    """Whether something outside of the definition names it in a way that can mean it."""
    inside = [(where, line) for where, line in found.plain[each.name] if where == each.path]
    read = found.read[each.name]
    if each.owner:
        alone = not each.owner.bases and each.owner.name not in found.bases
        private = alone and each.name.startswith("_")
        places = [place for place in read + inside if place[0] == each.path or not private]
    else:
        places = inside + [(where, line) for where, line in read if not line]
        file = Path(each.path)
        if {(file.stem, each.name), (file.parent.name, each.name)} & found.of_module:
            return True
    return any(where != each.path or not each.first <= line <= each.last for where, line in places)


@functools.cache
def dead() -> list[str]:
    """What nothing names but tests, or itself."""
    missing = set()
    for package in PACKAGES:
        found = uses(*OF_THE_LAB) if package == LAB else uses()
        for file in sorted((ROOT / package).rglob("*.py")):
            path = str(file.relative_to(ROOT))
            missing |= {
                f"{path}:{each.first} {each.name}"
                for each in definitions(path, parsed(file))
                if not re.fullmatch(r"__\w+__|_", each.name) and not used(each, found)
            }
    return sorted(missing)


def test_nothing_is_defined_that_only_tests_name() -> None:
    unknown = [line for line in dead() if line.split()[1] not in {*CALLED_BY_OTHERS, *ABOUT_TO_BE_USED}]
    assert not unknown, "delete it, or say in CALLED_BY_OTHERS who calls it"


def test_the_list_of_exceptions_has_nothing_that_is_named_or_gone() -> None:
    assert not set(CALLED_BY_OTHERS) - {line.split()[1] for line in dead()}


SAMPLE = """
def alone():
    return alone()
class Used:
    def idle(self): ...
    def busy(self): self.kept = 1
Used().busy()
"""


def test_what_only_itself_names_is_found() -> None:
    tree, found = ast.parse(SAMPLE), Uses(defaultdict(list), defaultdict(list), set(), set())
    note(found, "sample.py", tree)
    dead_names = [each.name for each in definitions("sample.py", tree) if not used(each, found)]
    assert dead_names == ["alone", "idle", "kept"]
