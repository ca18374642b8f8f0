"""Finds every error code that the client and the image tool raise, by reading their source: for make_errors.py."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from twinslot.core import errors

ROOT = Path(__file__).parents[1]
SOURCES = {"twinslot": ROOT / "client/twinslot", "twinslot-image": ROOT / "image_tools/twinslot_image"}
FAMILIES = {kind.__name__: kind.family for kind in errors.TwinslotError.__subclasses__()} | {"Broken": "transport"}
REFUSAL = ("code", "message", "expected", "found", "hint")
# Errors that are built anew out of others: their codes are found where they were raised first.
PASSED_ON = {"core/errors.py", "transport/http/retry.py: last.code"}


@dataclass(frozen=True)
class Raised:
    """One place that raises a code: which tool, where, and what it says."""

    code: str
    tool: str
    module: str
    line: int
    message: str
    hint: str


@dataclass
class Source:
    """One module: its tree, for each node the functions around it, its calls by what they call, and its classes."""

    tool: str
    name: str
    tree: ast.Module
    around: dict[ast.AST, tuple[ast.FunctionDef, ...]] = field(default_factory=dict)
    calls: dict[str, list[ast.Call]] = field(default_factory=dict)
    classes: list[ast.ClassDef] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._note(self.tree, ())
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call):
                self.calls.setdefault(_called(node), []).append(node)
            elif isinstance(node, ast.ClassDef):
                self.classes.append(node)

    def _note(self, node: ast.AST, functions: tuple[ast.FunctionDef, ...]) -> None:
        self.around[node] = functions
        inner = (*functions, node) if isinstance(node, ast.FunctionDef) else functions
        for child in ast.iter_child_nodes(node):
            self._note(child, inner)

    def within(self, node: ast.expr) -> list[ast.ClassDef]:
        """The classes around a node of this module."""
        return [each for each in self.classes if each.lineno <= node.lineno <= (each.end_lineno or each.lineno)]


class Codes:
    """Every code of both tools.

    Attributes:
        raised: Each place, in the order of the files.
        unread: Places whose code could not be worked out; there must be none.
    """

    def __init__(self, folders: dict[str, Path] | None = None) -> None:
        self.raised: list[Raised] = []
        self.unread: list[str] = []
        self._open: list[ast.expr] = []
        self._sources = [
            Source(tool, str(path.relative_to(folder)), ast.parse(path.read_text()))
            for tool, folder in (folders or SOURCES).items()
            for path in sorted(folder.rglob("*.py"))
        ]
        for source in self._sources:
            for node in ast.walk(source.tree):
                if isinstance(node, ast.Call):
                    self._look(source, node)

    def by_code(self) -> dict[str, list[Raised]]:
        """Code -> the places that raise it, sorted by code."""
        found: dict[str, list[Raised]] = {}
        for place in self.raised:
            found.setdefault(place.code, []).append(place)
        return dict(sorted(found.items()))

    def _look(self, source: Source, call: ast.Call) -> None:
        name = _called(call)
        if name == "Refusal":
            given = dict(zip(REFUSAL, call.args, strict=False)) | {k.arg: k.value for k in call.keywords if k.arg}
            self._add(source, call, "refused", given)
        elif name in FAMILIES and name != "RefusedError":
            given = {"message": call.args[0]} if call.args else {}
            given |= {k.arg: k.value for k in call.keywords if k.arg}
            if name == "Broken":
                given.setdefault("code", ast.Constant("network"))
            self._add(source, call, FAMILIES[name], given)

    def _add(self, source: Source, call: ast.Call, family: str, given: dict[str, ast.expr]) -> None:
        where = f"{source.name}: {ast.unparse(given['code'])}" if "code" in given else source.name
        if source.name in PASSED_ON or where in PASSED_ON:
            return
        codes = list(self._values(source, given["code"])) if "code" in given else [""]
        if not codes or None in codes:
            self.unread.append(f"{source.tool}: {source.name}:{call.lineno}")
        message, hint = (self._words(source, given.get(part)) for part in ("message", "hint"))
        for code in dict.fromkeys(code for code in codes if code is not None):
            whole = f"{family}.{code}" if code else family
            self.raised.append(Raised(whole, source.tool, source.name, call.lineno, message, hint))

    def _words(self, source: Source, node: ast.expr | None) -> str:
        """A message as people may look for it: what is put in at run time stands as `...`."""
        match node:
            case None | ast.Constant(value=None):
                return ""
            case ast.Constant(value=str() as text):
                return text
            case ast.JoinedStr(values=parts):
                return "".join(p.value if isinstance(p, ast.Constant) else "..." for p in parts)
            case ast.BinOp(op=ast.Add(), left=left, right=right):
                return self._words(source, left) + self._words(source, right)
            case ast.Name(id=name):
                scopes = [*source.around[node][::-1], source.tree]
                values = [value for scope in scopes for value in _assigned(scope, name)]
                before = [value for value in values if value.lineno <= node.lineno]
                found = max(before or values, key=lambda value: value.lineno, default=None)
                return self._words(source, found) if found and not isinstance(found, ast.Name) else "..."
            case _:
                return "..."

    def _values(self, source: Source, node: ast.expr) -> Iterator[str | None]:
        """The texts that an expression may have; None for one that cannot be told."""
        if node in self._open:  # a function that hands its own argument on
            return
        self._open.append(node)
        yield from self._look_up(source, node)
        self._open.pop()

    def _look_up(self, source: Source, node: ast.expr) -> Iterator[str | None]:
        match node:
            case ast.Constant(value=str() as text):
                yield text
            case ast.JoinedStr(values=parts):
                yield "".join(p.value if isinstance(p, ast.Constant) else _placeholder(p) for p in parts)
            case ast.IfExp():
                yield from self._values(source, node.body)
                yield from self._values(source, node.orelse)
            case ast.Subscript(value=ast.Call(func=ast.Attribute(attr="partition", value=inner))):
                yield from (text and text.partition(".")[2] for text in self._values(source, inner))
            case ast.Name():
                yield from self._named(source, node)
            case ast.Attribute(value=ast.Name(id=owner), attr=attribute):
                yield from self._held(source, node, owner, attribute)
            case _:
                yield None

    def _held(self, source: Source, node: ast.expr, owner: str, attribute: str) -> Iterator[str | None]:
        """What an object holds that its class was made with: the calls of the class of `self`, or of a parameter."""
        kinds = {
            ast.unparse(parameter.annotation)
            for function in source.around[node]
            for parameter in _parameters(function)
            if parameter.arg == owner and parameter.annotation
        }
        for home in self._sources:
            for kind in home.classes:
                inits = [each for each in kind.body if isinstance(each, ast.FunctionDef) and each.name == "__init__"]
                if inits and (kind in source.within(node) if owner == "self" else kind.name in kinds):
                    name = attribute.removeprefix("_")
                    if name in [parameter.arg for parameter in _parameters(inits[0])]:
                        yield from self._arguments(inits[0], name, home, called=kind.name)

    def _named(self, source: Source, name: ast.Name) -> Iterator[str | None]:
        """What a name may hold: a parameter by its calls, a local or a constant by its assignments."""
        for function in reversed(source.around[name]):
            if name.id in [argument.arg for argument in _parameters(function)]:
                yield from self._arguments(function, name.id, source)
                return
            if assigned := _assigned(function, name.id):
                for value in assigned:
                    yield from self._values(source, value)
                return
        known = _assigned(source.tree, name.id)
        others = [(other, value) for other in self._sources for value in _assigned(other.tree, name.id)]
        for owner, value in [(source, value) for value in known] or others:
            yield from self._values(owner, value)

    def _arguments(
        self, function: ast.FunctionDef, parameter: str, home: Source, called: str = ""
    ) -> Iterator[str | None]:
        """What the calls of a function, or of the class `called`, give for one of its parameters."""
        called = called or function.name
        names = [argument.arg for argument in _parameters(function) if argument.arg not in ("self", "cls")]
        places = [home] if called.startswith("_") else self._sources
        if (default := _default(function, parameter)) is not None:
            yield from self._values(home, default)
        for source in places:
            for node in source.calls.get(called, ()):
                given = dict(zip(names, node.args, strict=False)) | {k.arg: k.value for k in node.keywords if k.arg}
                if parameter in given:
                    yield from self._values(source, given[parameter])


def _called(call: ast.Call) -> str:
    function = call.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _parameters(function: ast.FunctionDef) -> list[ast.arg]:
    return [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]


def _default(function: ast.FunctionDef, parameter: str) -> ast.expr | None:
    positional = [*function.args.posonlyargs, *function.args.args]
    defaults = dict(zip([a.arg for a in positional][::-1], function.args.defaults[::-1], strict=False))
    keyword = dict(zip([a.arg for a in function.args.kwonlyargs], function.args.kw_defaults, strict=True))
    return (defaults | keyword).get(parameter)


def _assigned(scope: ast.AST, name: str) -> list[ast.expr]:
    """The values that a scope's own statements assign to a name; of a module, only its top level."""
    nodes = scope.body if isinstance(scope, ast.Module) else ast.walk(scope)
    found: list[ast.expr] = []
    for node in nodes:
        match node:
            case ast.Assign(targets=[ast.Name(id=target)], value=value) if target == name:
                found.append(value)
            case ast.AnnAssign(target=ast.Name(id=target), value=ast.expr() as value) if target == name:
                found.append(value)
            case ast.Assign(targets=[ast.Tuple(elts=targets)], value=ast.Tuple(elts=values)):
                found += [v for t, v in zip(targets, values, strict=False) if isinstance(t, ast.Name) and t.id == name]
    return found


def _placeholder(part: ast.expr) -> str:
    return ast.unparse(part).strip("{}f'\"").upper()
