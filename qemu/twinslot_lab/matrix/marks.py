"""Marks in code: a comment `# keeps: S5` on a line, or above it, says that this line keeps a requirement.

A comment costs nothing where the code runs. In Python it belongs to the statement that begins on its line or, standing
alone, to the next one of its block; in shell, U-Boot scripts and units to the line. What a run has to reach is the
statement, unless the comment says in brackets why no run can watch it: `# keeps: S21 (in the service's process)`.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from twinslot_lab.matrix.model import ID, Mark

WORD: Final = "keeps:"  # in every file that has a mark
_COMMENT: Final = re.compile(r"#\s*keeps:\s*(?P<ids>[^#(]*)(?P<why>\(.*\))?")
_SHELL_FUNCTION: Final = re.compile(r"(\w+)\s*\(\)")
_SKIPPED: Final = {"__pycache__", ".git", "build", "node_modules"}
_LARGE: Final = 4 << 20  # bytes; larger files are no source

Function = ast.FunctionDef | ast.AsyncFunctionDef
Block = list[ast.stmt]


class MarkError(ValueError):
    """A mark names nothing, or belongs to no statement. No `LabError`: this module is there before the client is."""


@dataclass(frozen=True, slots=True)
class Marked:
    """A statement, the block and the place in the block where it stands, and the marks on it."""

    block: Block
    at: int
    function: str
    marks: tuple[Mark, ...]


def find_marks(root: Path, sources: Iterable[Path]) -> list[Mark]:
    """All marks of files and folders below a root, sorted by place.

    Raises:
        MarkError: One does not say what it keeps, or stands where no statement follows.
    """
    found = []
    for path in _files(sources):
        data = path.read_bytes() if path.stat().st_size <= _LARGE else b""
        if WORD.encode() not in data:
            continue
        name, text = path.relative_to(root).as_posix(), data.decode(errors="replace")
        if path.suffix == ".py":
            found += [mark for marked in _of_python(text, name) for mark in marked.marks]
        else:
            found += list(_lines(text, name))
    return sorted(found)


def _of_python(text: str, name: str) -> list[Marked]:
    """The marked statements; only of a file with a mark it is asked whether it is Python."""
    if not _COMMENT.search(text):
        return []
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError) as e:  # the second: null bytes
        at = f"{name}:{getattr(e, 'lineno', None) or 1}"
        hint = f"this is Python {sys.version_info.major}.{sys.version_info.minor}"
        raise MarkError(f"{at}: not Python, so its marks cannot be found (hint: {hint})") from e
    return statements(tree, text, name)


def statements(tree: ast.Module, text: str, name: str) -> list[Marked]:
    """The marked statements of a module.

    Raises:
        MarkError: As `find_marks`.
    """
    every = sorted(_statements(tree.body, ""), key=lambda each: _start(each[0][each[1]]))
    found: dict[int, Marked] = {}
    for (line, column), (ids, unwatched) in _comments(text, name).items():
        beside = text.splitlines()[line - 1][:column].strip() != ""
        block, at, function = _marked(every, line, column, beside, f"{name}:{line}")
        marks = tuple(Mark(name, line, id_, function, not unwatched) for id_ in ids)
        before = found.get(id(block[at]))
        found[id(block[at])] = Marked(block, at, function, (*(before.marks if before else ()), *marks))
    return list(found.values())


def _marked(
    every: list[tuple[Block, int, str]], line: int, column: int, beside: bool, place: str
) -> tuple[Block, int, str]:
    """The statement of a comment: the innermost around it, or the next one, which must begin in the same column."""
    for block, at, function in reversed(every) if beside else every:
        node = block[at]
        if beside and _start(node) <= line <= _end(node):
            return block, at, function
        if not beside and _start(node) > line:
            if node.col_offset == column:
                return block, at, function
            break
    raise MarkError(f"{place}: the mark belongs to no statement (hint: put it beside one, or above it in its column)")


def _statements(block: Block, inside: str) -> Iterator[tuple[Block, int, str]]:
    for at, node in enumerate(block):
        named = isinstance(node, Function | ast.ClassDef)
        name = f"{inside}.{node.name}".lstrip(".") if isinstance(node, Function | ast.ClassDef) else inside
        for inner in _blocks(node):
            yield from _statements(inner, name if named else inside)
        yield block, at, name


def _blocks(node: ast.stmt) -> Iterator[Block]:
    for _, value in ast.iter_fields(node):
        if isinstance(value, list) and value:
            if isinstance(value[0], ast.stmt):
                yield value
            else:
                for each in value:
                    if isinstance(each, ast.ExceptHandler | ast.match_case):
                        yield each.body


def _start(node: ast.stmt) -> int:
    decorators = node.decorator_list if isinstance(node, Function | ast.ClassDef) else []
    return min([node.lineno, *(each.lineno for each in decorators)])


def _end(node: ast.stmt) -> int:
    return node.end_lineno or node.lineno


def _comments(text: str, name: str) -> dict[tuple[int, int], tuple[list[str], bool]]:
    """Ids by line and column, and whether no run can watch the place."""
    return {
        token.start: (_ids(comment["ids"], f"{name}:{token.start[0]}"), comment["why"] is not None)
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.COMMENT and (comment := _COMMENT.match(token.string))
    }


def _lines(text: str, name: str) -> Iterator[Mark]:
    """Marks of a file that is no Python; one above a function of shell is the function's."""
    lines = text.splitlines()
    function = ""
    for number, line in enumerate(lines, 1):
        below = lines[number] if line.lstrip().startswith("#") and number < len(lines) else ""
        if begun := _SHELL_FUNCTION.match(below) or _SHELL_FUNCTION.match(line):
            function = begun[1]
        if comment := _COMMENT.search(line):
            for id_ in _ids(comment["ids"], f"{name}:{number}"):
                yield Mark(name, number, id_, function, watched=False)
        if line.startswith("}"):
            function = ""


def _ids(text: str, place: str) -> list[str]:
    ids = [each.strip() for each in text.split(",")]
    if wrong := [each for each in ids if not ID.fullmatch(each)]:
        raise MarkError(f"{place}: '{wrong[0]}' is no id of a requirement (hint: write '# keeps: S5, REQ-IMG-12')")
    return ids


def _files(sources: Iterable[Path]) -> Iterator[Path]:
    for source in sources:
        if source.is_file():
            yield source
        for path in sorted(source.rglob("*")) if source.is_dir() else []:
            if path.is_file() and not path.is_symlink() and not _SKIPPED.intersection(path.relative_to(source).parts):
                yield path
