"""No error of the system leaves the client's edges without the name of what was opened, read or written.

A call that the kernel may refuse stands where OSError becomes an error of ours, or in a function whose docstring says
that it raises OSError; and so does each call of such a function.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import TypeGuard

CLIENT = Path(__file__).parents[2] / "client/twinslot"
EDGES = ("bootloader", "bus", "engine", "health", "payloads", "queries", "storage")
CALLS = {
    "os": "open read write pread pwrite preadv fsync dup pidfd_open memfd_create posix_fadvise listdir fchmod",
    "fcntl": "ioctl flock",
    "mmap": "mmap",
    "socket": "socket socketpair",
    "subprocess": "Popen run",
}
METHODS = {"read_text", "read_bytes", "write_text", "write_bytes", "iterdir", "mkdir", "touch", "unlink"}
CAUGHT = {"OSError", "Exception", "BaseException"}


def modules() -> list[Path]:
    """The edges, and what starts programs and workers."""
    found = [path for edge in EDGES for path in sorted((CLIENT / edge).rglob("*.py"))]
    return [*found, CLIENT / "system/process.py", CLIENT / "worker/launch.py"]


@functools.cache
def trees() -> dict[Path, ast.Module]:
    """All of them, parsed."""
    return {path: ast.parse(path.read_text()) for path in modules()}


@functools.cache
def all_telling() -> frozenset[tuple[Path, str]]:
    """The functions that say that they raise OSError, with their modules."""
    return frozenset((each, node.name) for each, tree in trees().items() for node in ast.walk(tree) if raising(node))


def telling(path: Path) -> set[str]:
    """Names of the functions that say that they raise OSError: those of this module, and the public ones of others."""
    return {name for each, name in all_telling() if each == path or not name.startswith("_")}


def raising(node: ast.AST) -> TypeGuard[ast.FunctionDef]:
    """A function that says so."""
    return isinstance(node, ast.FunctionDef) and says(node)


def says(node: ast.FunctionDef) -> bool:
    return "OSError: " in (ast.get_docstring(node) or "")


def guards(node: ast.AST) -> bool:
    """`try` with a handler, or `suppress`."""
    if isinstance(node, ast.Try):
        types = [handler.type for handler in node.handlers]
        return any(
            isinstance(each, ast.Name) and each.id in CAUGHT for kind in types if kind for each in ast.walk(kind)
        )
    if isinstance(node, ast.With):
        return any(
            "OSError" in ast.unparse(item.context_expr) or "as_device_error" in ast.unparse(item.context_expr)
            for item in node.items
        )
    return False


def unguarded(node: ast.AST, names: set[str], modules: set[str]) -> Iterator[ast.Call]:
    """Calls below this node that may raise OSError and stand in the open."""
    if isinstance(node, ast.FunctionDef) and says(node):
        return
    covered = node.body if guards(node) and isinstance(node, ast.Try | ast.With) else []
    if isinstance(node, ast.Call) and may_raise(node, names, modules):
        yield node
    for child in ast.iter_child_nodes(node):
        if child not in covered:
            yield from unguarded(child, names, modules)


def may_raise(call: ast.Call, names: set[str], modules: set[str]) -> bool:
    """By its name."""
    function = call.func
    if isinstance(function, ast.Name):
        return function.id == "open" or function.id in names
    if not isinstance(function, ast.Attribute):
        return False
    of = function.value.id if isinstance(function.value, ast.Name) else ""
    if of in CALLS:
        return function.attr in CALLS[of].split()
    return function.attr in (names if of in modules else METHODS)


def imported(path: Path) -> set[str]:
    """Modules of ours by the names that they have here."""
    found = [each for node in ast.walk(trees()[path]) if isinstance(node, ast.ImportFrom) for each in node.names]
    return {each.name for each in found} & {each.stem for each in trees()}


def test_an_error_of_the_system_becomes_ours_where_its_name_is_known() -> None:
    assert len(trees()) > 100
    assert not [
        f"{path.relative_to(CLIENT)}:{call.lineno}: {ast.unparse(call)}"
        for path, tree in trees().items()
        for call in unguarded(tree, telling(path), imported(path))
    ]
