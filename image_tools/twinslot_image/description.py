"""`image.toml`: what an image is made of, in the words of docs/image-toml.md. Unknown keys are refused."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from twinslot.bundle.codec import LEVEL_DEFAULT, LEVEL_MAX
from twinslot.core.errors import BundleError
from twinslot.core.manifest import GROUP_SIZE_MAX, GROUP_SIZE_MIN, TYPES
from twinslot_image.elf import ARCHITECTURES

VALID_DAYS_DEFAULT = 365
VALID_DAYS_MAX = 3650
KINDS = ("rootfs", "raw")


@dataclass(frozen=True, slots=True)
class PayloadSource:
    """One payload: its file, whether it is a root file system to be checked, and files excused from the check."""

    name: str
    file: Path
    kind: str
    foreign: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AttachmentSource:
    """One attachment: its file and media type."""

    name: str
    file: Path
    media_type: str


@dataclass(frozen=True, slots=True)
class Description:
    """The whole file; paths are relative to where it stands."""

    product: str
    release: str
    sequence: int
    epoch: int
    type: str
    compatible: tuple[str, ...]
    hardware: tuple[str, ...]
    variants: tuple[str, ...]
    checks: tuple[str, ...]
    architecture: str
    trust: Path
    valid_days: int
    expires: datetime | None
    group_size: int | None  # bytes; None: by the size of each payload
    level: int
    payloads: tuple[PayloadSource, ...]
    attachments: tuple[AttachmentSource, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that the image is made of, beside the documents of the key directory."""
        return (*(source.file for source in self.payloads), *(source.file for source in self.attachments))


def read_description(path: Path, overrides: Mapping[str, object] | None = None) -> Description:
    """Read and check the file.

    Args:
        path: The TOML file.
        overrides: Values from the command line, which stand above the file's.

    Raises:
        BundleError: `bundle.description`, naming the key.
    """
    try:
        data = tomllib.loads(path.read_text())
    except (OSError, ValueError) as e:
        raise BundleError(f"cannot read '{path}'", code="description", found=e) from e
    return _describe(_Table({**data, **(overrides or {})}, "", path.parent))


def _describe(top: _Table) -> Description:
    payloads = tuple(_payload(top.table("payloads", name), name) for name in top.names("payloads"))
    attachments = tuple(_attachment(top.table("attachments", name), name) for name in top.names("attachments"))
    rootfs = any(payload.kind == "rootfs" for payload in payloads)
    expires = top.get("expires", datetime, None)
    description = Description(
        product=top.get("product", str),
        release=top.get("release", str),
        sequence=top.get("sequence", int),
        epoch=top.get("epoch", int, 0),
        type=top.choice("type", TYPES, "feature"),
        compatible=top.strings("compatible"),
        hardware=top.strings("hardware", ()),
        variants=top.strings("variants", ()),
        checks=top.strings("checks", ()),
        architecture=top.choice("architecture", ARCHITECTURES, None if rootfs else ""),
        trust=top.path("trust"),
        valid_days=top.bounded("valid_days", 1, VALID_DAYS_MAX, VALID_DAYS_DEFAULT),
        expires=None if expires is None else _in_utc(expires),
        group_size=_group_size(top),
        level=top.bounded("level", 1, LEVEL_MAX, LEVEL_DEFAULT),
        payloads=payloads,
        attachments=attachments,
    )
    top.refuse_unknown()
    if not payloads:
        raise _bad("payloads", "one table or more", "none")
    return description


def _group_size(top: _Table) -> int | None:
    size: int | None = top.get("group_size", int, None)
    if size is not None and (size & (size - 1) or not GROUP_SIZE_MIN <= size <= GROUP_SIZE_MAX):
        raise _bad("group_size", f"a power of two from {GROUP_SIZE_MIN} to {GROUP_SIZE_MAX}", size)
    return size


def _payload(table: _Table, name: str) -> PayloadSource:
    source = PayloadSource(
        name, table.path("file"), table.choice("kind", KINDS, "rootfs"), table.strings("foreign", ())
    )
    table.refuse_unknown()
    return source


def _attachment(table: _Table, name: str) -> AttachmentSource:
    source = AttachmentSource(name, table.path("file"), table.get("media_type", str, "text/markdown"))
    table.refuse_unknown()
    return source


def _in_utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise _bad("expires", "a date with its offset, such as 2027-11-01T00:00:00Z", moment)
    return moment.astimezone(UTC).replace(microsecond=0)


_REQUIRED: Any = object()


class _Table:
    """One TOML table that remembers what it was asked for, so that the rest can be refused with the nearest name."""

    def __init__(self, data: object, where: str, base: Path) -> None:
        if not isinstance(data, dict):
            raise _bad(where, "a table", data)
        self._data: dict[str, object] = data
        self._where = where
        self._base = base
        self._asked: set[str] = set()

    def get(self, key: str, kind: type, default: Any = _REQUIRED) -> Any:
        self._asked.add(key)
        if key not in self._data and default is not _REQUIRED:
            return default
        value = self._data.get(key)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise self._bad(key, kind.__name__, "nothing" if value is None else value)
        return value

    def bounded(self, key: str, low: int, high: int, default: int) -> int:
        value: int = self.get(key, int, default)
        if not low <= value <= high:
            raise self._bad(key, f"{low} to {high}", value)
        return value

    def choice(self, key: str, words: Iterable[str], default: str | None) -> str:
        value: str = self.get(key, str, _REQUIRED if default is None else default)
        if value not in (*words, default):
            raise self._bad(key, " or ".join(words), value)
        return value

    def strings(self, key: str, default: Any = _REQUIRED) -> tuple[str, ...]:
        values = self.get(key, list, default)
        if not all(isinstance(value, str) for value in values):
            raise self._bad(key, "a list of strings", values)
        return tuple(values)

    def path(self, key: str) -> Path:
        return self._base / Path(self.get(key, str))

    def names(self, key: str) -> list[str]:
        return sorted(self.get(key, dict, {}))

    def table(self, key: str, name: str) -> _Table:
        return _Table(self.get(key, dict)[name], f"{key}.{name}", self._base)

    def refuse_unknown(self) -> None:
        for key in sorted(self._data.keys() - self._asked):
            near = difflib.get_close_matches(key, self._asked, 1, 0.5)
            hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(sorted(self._asked))}"
            raise BundleError(
                f"unknown key in '{self._where or 'image.toml'}'", code="description", found=key, hint=hint
            )

    def _bad(self, key: str, expected: object, found: object) -> BundleError:
        return _bad(f"{self._where}.{key}" if self._where else key, expected, found)


def _bad(where: str, expected: object, found: object) -> BundleError:
    return BundleError(f"image description, '{where}'", code="description", expected=expected, found=found)
