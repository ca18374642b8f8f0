"""Which marked lines ran: modules with marks are compiled with one call more before each marked statement.

Only in the process of the tests, and only by whoever loads the pytest plugin; what is installed on a device is the
source as it stands. Line numbers stay. Programs that a test starts are not watched.
"""

from __future__ import annotations

import ast
import builtins
import hashlib
import importlib.machinery
import importlib.util
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import CodeType, ModuleType
from typing import Final

from twinslot_lab.matrix.marks import WORD, Function, MarkError, statements

REACHED: Final = "__twinslot_reached__"  # the name under which marked code finds the set's `add`
_NOT_SOURCE: Final = frozenset({"site-packages", "dist-packages"})


class Watch:
    """The places that ran since `begin`."""

    def __init__(self) -> None:
        self._places: set[str] = set()
        setattr(builtins, REACHED, self._places.add)

    def begin(self) -> None:
        """Forget what ran before."""
        self._places.clear()

    def reached(self) -> list[str]:
        """`file:line` of each mark, sorted; absolute paths."""
        return sorted(self._places)


class _Loader(importlib.machinery.SourceFileLoader):
    """Compiles marked modules anew, and leaves all others to their cached byte code."""

    def get_code(self, fullname: str) -> CodeType | None:
        path = self.get_filename(fullname)
        data = self.get_data(path)
        if WORD.encode() not in data:
            return super().get_code(fullname)
        tree = ast.parse(data, path)
        try:
            watched(tree, importlib.util.decode_source(data), path)
        except MarkError:  # `find_marks` says it, with its place
            return super().get_code(fullname)
        return compile(tree, path, "exec", dont_inherit=True)


class _Finder:
    """Python's own finder for files, with our loader for source."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        loader = spec.loader if spec else None
        if spec and type(loader) is importlib.machinery.SourceFileLoader and is_own(Path(loader.path)):
            spec.loader = _Loader(loader.name, loader.path)
        return spec


def is_own(path: Path) -> bool:
    """Whether a module is of the project, wherever that stands: neither installed nor of Python's own library."""
    return _NOT_SOURCE.isdisjoint(path.parts) and not path.is_relative_to(sysconfig.get_path("stdlib"))


WATCH: Final = Watch()


def install() -> None:
    """From here on marked modules say what of them runs; those that were imported before do not."""
    if not any(isinstance(each, type) and each is _Finder for each in sys.meta_path):
        at = sys.meta_path.index(importlib.machinery.PathFinder)
        sys.meta_path.insert(at, _Finder)


def watched(tree: ast.Module, text: str, path: str) -> None:
    """Put a call before each marked statement; into a function, where the mark is on its definition.

    Raises:
        MarkError: A mark belongs to no statement.
    """
    for marked in sorted(statements(tree, text, path), key=lambda each: each.at, reverse=True):
        node = marked.block[marked.at]
        for mark in (each for each in marked.marks if each.watched):
            call = ast.Call(ast.Name(REACHED, ast.Load()), [ast.Constant(mark.place)], [])
            block, at = marked.block, marked.at
            if isinstance(node, Function):
                block, at = node.body, _behind_docstring(node)
            block.insert(at, ast.fix_missing_locations(ast.copy_location(ast.Expr(call), node)))


def _behind_docstring(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return 1 if ast.get_docstring(node, clean=False) is not None else 0


def digest_of(root: Path, sources: Iterable[Path]) -> str:
    """SHA-256 of files below `sources`, sorted: name, NUL, length, NUL and content of each. Byte code is left out."""
    files = {path for source in sources for path in ([source] if source.is_file() else source.rglob("*"))}
    digest = hashlib.sha256()
    for path in sorted(files):
        if path.is_file() and not path.is_symlink() and "__pycache__" not in path.parts:
            data = path.read_bytes()
            digest.update(f"{path.relative_to(root).as_posix()}\0{len(data)}\0".encode() + data)
    return digest.hexdigest()
