"""The form of every error: lower-case, no full stop, no Python in it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from twinslot.core import errors

ROOT = Path(__file__).parents[2]
FOLDERS = (ROOT / "image_tools/twinslot_image", ROOT / "client/twinslot")
CLASSES = {kind.__name__ for kind in errors.TwinslotError.__subclasses__()} | {"Refusal"}
# What of an exception may stand in a message: of an error of the system its words (core.errors), of ours its sentence.
IN_WORDS = {kind.__name__ for kind in errors.TwinslotError.__subclasses__()} | {
    "OSError",
    "CodecError",
    "TwinslotError",
}
IN_WORDS |= {"sqlite3", "tomllib"}  # the words of these are sentences, with the place
PYTHON = {"repr", "type", "ascii"}  # what turns a value into the words of the language


def modules() -> list[Path]:
    """Every module whose errors people read."""
    return [path for folder in FOLDERS for path in sorted(folder.rglob("*.py"))]


def calls(tree: ast.AST) -> Iterator[ast.Call]:
    """Every place that makes an error."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CLASSES:
            yield node


def name_of(call: ast.Call) -> str:
    """Its class."""
    return call.func.id if isinstance(call.func, ast.Name) else ""


def values(call: ast.Call) -> Iterator[ast.expr]:
    """What is said: all arguments but the code."""
    yield from call.args
    yield from (keyword.value for keyword in call.keywords if keyword.arg != "code")


def texts(tree: ast.AST, value: ast.expr) -> Iterator[tuple[str, str]]:
    """First and last literal part of a text, also of one that a variable of this module holds."""
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        yield value.value, value.value
    elif isinstance(value, ast.JoinedStr):
        ends = [part.value if isinstance(part, ast.Constant) else "x" for part in (value.values[0], value.values[-1])]
        yield str(ends[0]), str(ends[1])
    elif isinstance(value, ast.IfExp):
        yield from texts(tree, value.body)
        yield from texts(tree, value.orelse)
    elif isinstance(value, ast.Name):
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign):
                yield from assigned(tree, node, value.id)


def assigned(tree: ast.AST, node: ast.Assign, name: str) -> Iterator[tuple[str, str]]:
    """`what = "..."` and `what, hint = "...", "..."`."""
    target = node.targets[0]
    if isinstance(target, ast.Name) and target.id == name and not isinstance(node.value, ast.Name):
        yield from texts(tree, node.value)
    if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
        for each, value in zip(target.elts, node.value.elts, strict=True):
            if isinstance(each, ast.Name) and each.id == name:
                yield from texts(tree, value)


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.name)
def test_messages_begin_in_lower_case_and_end_without_a_full_stop(path: Path) -> None:
    tree = ast.parse(path.read_text())
    for call in calls(tree):
        for value in values(call):
            for first, last in texts(tree, value):
                word = first.split(" ")[0]
                named = word in ("HTTP", "U-Boot", "UTF-8", "TOML", "Ed25519,", "K/N,", "ROLE=FILE") or word.startswith(
                    "TWINSLOT"
                )
                assert not first[:1].isupper() or named, (path.name, call.lineno, first)
                assert not last.endswith((".", "!")), (path.name, call.lineno, last)


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.name)
def test_messages_hold_no_types_and_no_forms_of_the_language(path: Path) -> None:
    for call in calls(ast.parse(path.read_text())):
        if name_of(call) == "LifecycleError":  # a mistake of ours, reported to those who know the program
            continue
        for value in values(call):
            for node in ast.walk(value):
                where = (path.name, call.lineno)
                assert not (isinstance(node, ast.FormattedValue) and node.conversion == ord("r")), where
                assert not (
                    isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in PYTHON
                ), where
                assert not (isinstance(node, ast.Attribute) and node.attr in ("__name__", "pattern", "errno")), where
                assert not (isinstance(node, ast.Constant) and isinstance(node.value, bytes)), where


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.name)
def test_an_exception_is_not_put_into_a_message_as_it_stands(path: Path) -> None:
    """`[Errno 2] No such file or directory: 'x'` names nothing that a person gave."""
    for handler in ast.walk(ast.parse(path.read_text())):
        if not isinstance(handler, ast.ExceptHandler) or not handler.name:
            continue
        caught = {node.id for node in ast.walk(handler.type or handler) if isinstance(node, ast.Name)}
        for call in calls(handler):
            if caught <= IN_WORDS or name_of(call) == "LifecycleError":
                continue
            for value in values(call):
                assert not (isinstance(value, ast.Name) and value.id == handler.name), (path.name, call.lineno)
                parts = value.values if isinstance(value, ast.JoinedStr) else []
                shown = [part.value for part in parts if isinstance(part, ast.FormattedValue)]
                assert not any(isinstance(each, ast.Name) and each.id == handler.name for each in shown), call.lineno
