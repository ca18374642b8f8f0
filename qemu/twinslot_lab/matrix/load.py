"""Requirements, risks, standards and reviews from TOML files. Unknown keys are refused, with the nearest known one."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from twinslot.core.errors import TwinslotError
from twinslot_image.named_file import read_small
from twinslot_image.toml_table import Table
from twinslot_lab.errors import LabError
from twinslot_lab.matrix.model import (
    ID,
    ID_FORM,
    Clause,
    Requirement,
    Requirements,
    Review,
    Risk,
    Standard,
    Verification,
)

REVIEWS: Final = "reviews.toml"  # written by `matrix review`
STANDARDS: Final = "standards"  # the folder of standards, below the requirements'
MANY: Final = 256  # ids that one key may list
_FINGERPRINT: Final = re.compile(r"[0-9a-f]{32}")
_DAY: Final = re.compile(r"\d{4}-\d\d-\d\d")
ONE_LINE: Final = re.compile(r"[^\s\x00-\x1f\x7f]([^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f])?")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")  # what is in no page and no XML, but for tab and line feed
_ANY: Final = re.compile(r".*", re.DOTALL)
_REQUIREMENT: Final = ("id", "title", "text", "rationale", "risks", "verification", "evidence")
_RISK: Final = ("id", "title", "harm", "maker")
_CLAUSE: Final = ("id", "title", "requirements", "pages", "maker")


class DataError(LabError):
    """A file of requirements, risks, standards, reviews or results is not what it must be."""


def load(folder: Path) -> Requirements:
    """Everything in `*.toml` of a folder, its reviews, and the standards in the folder `standards` below it.

    Raises:
        DataError: A file is missing, not TOML, or says what it may not; the file and the place are named.
    """
    files = sorted(path for path in folder.glob("*.toml") if path.name != REVIEWS)
    if not files:
        raise DataError(f"{folder}: there is no file of requirements", hint="expected *.toml with [[requirement]]")
    requirements: dict[str, Requirement] = {}
    risks: dict[str, Risk] = {}
    for file in files:
        top = _top(file, ("requirement", "risk"))
        for table in _tables(top, file, "requirement", _REQUIREMENT):
            _add(requirements, _requirement(table, file), requirements | risks)
        for table in _tables(top, file, "risk", _RISK):
            _add(risks, _risk(table, file), requirements | risks)
    standards = tuple(_standard(file) for file in sorted((folder / STANDARDS).glob("*.toml")))
    return Requirements(requirements, risks, standards, _reviews(folder / REVIEWS))


def write_reviews(folder: Path, reviews: dict[str, Review]) -> None:
    """The file of reviews, sorted by id; the whole file or none of it after a power cut."""
    lines = [
        "# Who read which text: written by `matrix review ID --by NAME`. Another text of an item makes it suspect.\n"
    ]
    for id_, review in sorted(reviews.items()):
        lines.append(
            f'\n[{id_}]\nfingerprint = "{review.fingerprint}"\nby = {_quoted(review.by)}\non = "{review.on}"\n'
        )
    temporary = folder / f".{REVIEWS}.new"
    temporary.write_text("".join(lines))
    temporary.replace(folder / REVIEWS)


def _quoted(text: str) -> str:
    escaped = "".join(f"\\u{ord(c):04x}" if c < " " or c in '"\\\x7f' else c for c in text)
    return f'"{escaped}"'


def _add(items: dict[str, Any], item: Requirement | Risk, known: dict[str, Any]) -> None:
    if item.id in known:
        raise DataError(f"{item.file}: '{item.id}' stands twice", hint=f"first in {known[item.id].file}")
    items[item.id] = item


def _top(file: Path, keys: tuple[str, ...]) -> Table:
    try:
        return Table(tomllib.loads(read_small(file).decode()), file, "", keys)
    except (OSError, UnicodeDecodeError) as e:
        raise DataError(f"{file}: cannot be read: {e}") from None
    except (tomllib.TOMLDecodeError, RecursionError) as e:
        raise DataError(f"{file}: not TOML: {e}") from None
    except TwinslotError as e:
        raise DataError(str(e)) from None


def _tables(top: Table, file: Path, key: str, keys: tuple[str, ...]) -> Iterator[Table]:
    try:
        for at, value in enumerate(top.get(key, list, []), 1):
            yield Table(value, file, f"{key} {at}", keys)
    except TwinslotError as e:
        raise DataError(str(e)) from None


def _ids(table: Table, key: str) -> tuple[str, ...]:
    return table.names(key, ID, ID_FORM, MANY, [])


def _said(table: Table, key: str, default: str | None = None) -> str:
    """A text of one line or more; one that must be there says something."""
    text: str = (table.get(key, str) if default is None else table.get(key, str, default)).strip()
    if (default is None and not text) or _CONTROL.search(text):
        raise table.bad(key, "a text that says something, without control characters", text)
    return text


def _requirement(table: Table, file: Path) -> Requirement:
    try:
        how = Verification(table.choice("verification", list(Verification), Verification.TEST))
        evidence = table.text("evidence", _ANY, "a path", "")
        if (how is Verification.TEST) == bool(evidence):
            raise table.bad("evidence", "the inspected file, for whatever no test verifies", evidence or "nothing")
        return Requirement(
            table.text("id", ID, ID_FORM),
            table.text("title", ONE_LINE, "one line"),
            _said(table, "text"),
            _said(table, "rationale", ""),
            _ids(table, "risks"),
            how,
            evidence,
            file,
        )
    except TwinslotError as e:
        raise DataError(str(e)) from None


def _risk(table: Table, file: Path) -> Risk:
    try:
        texts = (_said(table, "harm"), _said(table, "maker", ""))
        return Risk(table.text("id", ID, ID_FORM), table.text("title", ONE_LINE, "one line"), *texts, file)
    except TwinslotError as e:
        raise DataError(str(e)) from None


def _standard(file: Path) -> Standard:
    top = _top(file, ("id", "title", "status", "clause"))
    try:
        head = [top.text(key, ONE_LINE, "one line") for key in ("id", "title", "status")]
        clauses = [_clause(table) for table in _tables(top, file, "clause", _CLAUSE)]
    except TwinslotError as e:
        raise DataError(str(e)) from None
    return Standard(head[0], head[1], head[2], tuple(clauses), file)


def _clause(table: Table) -> Clause:
    clause = Clause(
        table.text("id", ONE_LINE, "one line"),
        table.text("title", ONE_LINE, "one line"),
        _ids(table, "requirements"),
        table.names("pages", ONE_LINE, "a path", MANY, []),
        _said(table, "maker", ""),
    )
    if not clause.requirements and not clause.pages and not clause.maker:
        raise table.bad("maker", "requirements, pages, or what is the maker's", "none of them")
    return clause


def _reviews(file: Path) -> dict[str, Review]:
    if not file.exists():
        return {}
    try:
        data = tomllib.loads(read_small(file).decode())
        found = {}
        for id_, value in data.items():
            table = Table(value, file, id_, ("fingerprint", "by", "on"))
            fingerprint = table.text("fingerprint", _FINGERPRINT, "32 hex digits")
            found[id_] = Review(fingerprint, table.text("by", ONE_LINE, "a name"), table.text("on", _DAY, "YYYY-MM-DD"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as e:
        raise DataError(f"{file}: cannot be read: {e}") from None
    except TwinslotError as e:
        raise DataError(str(e)) from None
    return found
