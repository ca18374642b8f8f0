"""The form of every error: lower-case, no full stop, no Python in it."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

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


@functools.cache
def modules() -> dict[Path, ast.Module]:
    """Every module whose errors people read, parsed."""
    return {path: ast.parse(path.read_text()) for folder in FOLDERS for path in sorted(folder.rglob("*.py"))}


def errors_of(path: Path, tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Every place that makes an error, as `file:line`."""
    for call in calls(tree):
        yield f"{path.relative_to(ROOT)}:{call.lineno}", call


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


SPELLED_SO = ("HTTP", "U-Boot", "UTF-8", "TOML", "Ed25519,", "K/N,", "ROLE=FILE")  # names, also at the beginning


def begins_as_it_should(text: str) -> bool:
    """In lower case, but for a name."""
    word = text.split(" ", maxsplit=1)[0]
    return not text[:1].isupper() or word in SPELLED_SO or word.startswith("TWINSLOT")


def test_messages_begin_in_lower_case_and_end_without_a_full_stop() -> None:
    said = [
        (place, first, last)
        for path, tree in modules().items()
        for place, call in errors_of(path, tree)
        for value in values(call)
        for first, last in texts(tree, value)
    ]
    assert len(said) > 500
    assert not [each for each in said if not begins_as_it_should(each[1]) or each[2].endswith((".", "!"))]


def of_the_language(node: ast.AST) -> bool:
    """`!r`, `repr()`, a type's name, bytes: what people do not read."""
    match node:
        case ast.FormattedValue(conversion=conversion):
            return conversion == ord("r")
        case ast.Call(func=ast.Name(id=name)):
            return name in PYTHON
        case ast.Attribute(attr=attribute):
            return attribute in ("__name__", "pattern", "errno")
        case ast.Constant(value=value):
            return isinstance(value, bytes)
        case _:
            return False


def test_messages_hold_no_types_and_no_forms_of_the_language() -> None:
    assert not [
        (place, ast.unparse(node))
        for path, tree in modules().items()
        for place, call in errors_of(path, tree)
        if name_of(call) != "LifecycleError"  # a mistake of ours, reported to those who know the program
        for value in values(call)
        for node in ast.walk(value)
        if of_the_language(node)
    ]


def as_it_stands(value: ast.expr, name: str) -> bool:
    """An exception of this name is the text, or a part of it."""
    parts = value.values if isinstance(value, ast.JoinedStr) else []
    shown = [value, *(part.value for part in parts if isinstance(part, ast.FormattedValue))]
    return any(isinstance(each, ast.Name) and each.id == name for each in shown)


def test_an_exception_is_not_put_into_a_message_as_it_stands() -> None:
    """`[Errno 2] No such file or directory: 'x'` names nothing that a person gave."""
    handlers = [
        (path, node, node.name)
        for path, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler) and node.name
    ]
    assert len(handlers) > 100
    assert not [
        place
        for path, handler, name in handlers
        if not {node.id for node in ast.walk(handler.type or handler) if isinstance(node, ast.Name)} <= IN_WORDS
        for place, call in errors_of(path, handler)
        if name_of(call) != "LifecycleError" and any(as_it_stands(value, name) for value in values(call))
    ]


BAD = """
try: ...
except OSError as error:
    raise ImageError(code="x", message=f"{error}", hint=repr(1), found="Upper.")
"""


def test_a_message_that_is_not_as_it_should_be_is_found() -> None:
    (call,) = calls(ast.parse(BAD))
    found = {ast.unparse(value): value for value in values(call)}
    assert as_it_stands(found["f'{error}'"], "error")
    assert of_the_language(found["repr(1)"])
    assert not begins_as_it_should("Upper.")
    assert begins_as_it_should("HTTP is none")
