"""`image.toml`: what an image is made of, in the words of docs/image-toml.md. Unknown keys are refused."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from twinslot.core.attachments import MEDIA_TYPES
from twinslot.core.bounds import ATTACHMENTS_MAX, GROUP_SIZE_MAX, GROUP_SIZE_MIN, PAYLOADS_MAX
from twinslot.core.change import CLASSES, MARKETS_MAX, NUMBER, REGULATORY_MAX, WORD, Change
from twinslot.core.errors import ImageError
from twinslot.core.manifest import (
    COMPATIBLE,
    EPOCH_MAX,
    MEDIA_TYPE,
    NAME,
    NAMES_MAX,
    RELEASE_NAME,
    SEQUENCE_MAX,
    TYPES,
    SequenceRange,
    Source,
    source_form,
)
from twinslot.core.model import PARTITION
from twinslot.core.pkcs11_uri import is_pkcs11
from twinslot.image.codec import LEVEL_DEFAULT, LEVEL_MAX
from twinslot.image.envelope import RECIPIENTS_MAX, Cipher
from twinslot_image.elf import ARCHITECTURES
from twinslot_image.gate.policy import POLICY_KEYS, ReleasePolicy, policy_of
from twinslot_image.named_file import read_small
from twinslot_image.toml_table import Table

VALID_DAYS_DEFAULT = 365
VALID_DAYS_MAX = 3650
FOREIGN_MAX = 1024  # patterns of one payload
CHECKS = ("rootfs", "none")
FORMER_CHECKS = {"rootfs": "rootfs", "raw": "none"}  # by the words of `kind`, as `check` was called first
_PATTERN = re.compile(r"[^/].*")
_TOML = "TOML 1.0"
_PLACE = re.compile(r"(?P<what>.*) \(at line (?P<line>\d+), column (?P<column>\d+)\)", re.DOTALL)
_TWICE = re.compile(r"cannot (?:declare|mutate .*) \((?P<names>.*)\)(?: twice)?")
_QUOTED = r"'([^']*)'"
_CONTROL = re.compile(r"illegal character '\\x(?P<code>[0-9a-f]{2})'")
# What the patterns of the manifest allow, in words.
_TITLE_FORM = "1 to 64 letters, digits, blanks and . _ + ~ -, the first and last a letter or digit"
_NAME_FORM = "1 to 64 of a-z 0-9 . _ -, the first a letter or digit"
_SOURCE_FORM = "1 to 256 printable ASCII characters, the first and last no blank"
_NUMBER_FORM = "1 to 128 printable ASCII characters, the first and last no blank"
_DEVICE_FORM = "1 to 64 of a-z 0-9 . _ , -, the first a letter or digit"


@dataclass(frozen=True, slots=True)
class PayloadSource:
    """One payload: its file, as what it is checked, files excused from that, and its type on the device."""

    name: str
    file: Path
    check: str
    foreign: tuple[str, ...]
    type: str


@dataclass(frozen=True, slots=True)
class AttachmentSource:
    """One attachment: its file, media type and type; empty: of none."""

    name: str
    file: Path
    media_type: str
    type: str


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
    taken_from: SequenceRange | None
    source: Source
    change: Change
    checks: tuple[str, ...]
    architecture: str
    trust: Path
    valid_days: int
    expires: datetime | None
    group_size: int | None  # bytes; None: by the size of each payload
    level: int
    payloads: tuple[PayloadSource, ...]
    attachments: tuple[AttachmentSource, ...]
    sbom: str  # "auto": a bill of materials of each root file system is made and attached
    spdx: Path | None  # names more packages for it
    policy: ReleasePolicy | None
    recipients: tuple[str, ...]  # files or URIs of public keys; none: not encrypted
    cipher: Cipher

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that the image is made of, beside the documents of the key directory."""
        payloads, attachments = (each.file for each in self.payloads), [each.file for each in self.attachments]
        attachments += self.policy.files if self.policy else ()
        keys = (Path(each) for each in self.recipients if not is_pkcs11(each))
        return (*payloads, *attachments, *keys, *([self.spdx] if self.spdx else []))


TOP_KEYS = (
    *("product", "release", "sequence", "epoch", "type", "compatible", "hardware", "variants", "from", "checks"),
    *("source", "architecture", "trust", "valid_days", "expires", "group_size", "level", "payloads", "attachments"),
    *("change", "encryption", "policy", "sbom", "spdx"),
)
PAYLOAD_KEYS = ("file", "check", "foreign", "type", "kind")
ATTACHMENT_KEYS = ("file", "media_type", "type")
SBOMS = ("none", "auto")
CHANGE_KEYS = ("class", "markets", "regulatory")
ENCRYPTION_KEYS = ("recipients", "cipher")
CIPHER_DEFAULT = Cipher.CHACHA20_POLY1305  # as fast on a processor without instructions for AES, which many boards have
CIPHERS = {"aes-256-gcm": Cipher.AES_256_GCM, "chacha20-poly1305": Cipher.CHACHA20_POLY1305}
FROM_KEYS = tuple(each.name for each in fields(SequenceRange))
SOURCE_KEYS = tuple(each.name for each in fields(Source))


def read_description(path: Path, overrides: Mapping[str, object] | None = None) -> Description:
    """Read and check the file.

    Args:
        path: The TOML file.
        overrides: Values from the command line, which stand above the file's; those of `source` key by key.

    Raises:
        ImageError: `image.description`, naming the key.
    """
    data, given = read_toml(path), dict(overrides or {})
    if isinstance(source := given.get("source"), dict) and isinstance(stated := data.get("source"), dict):
        given["source"] = stated | source
    return _describe(Table(data | given, path, "", TOP_KEYS))


def read_toml(path: Path) -> dict[str, Any]:
    """A description as TOML.

    Raises:
        ImageError: `image.description`, with line and column.
    """
    try:
        return tomllib.loads(read_small(path).decode("utf-8-sig"))
    except FileNotFoundError as e:
        raise ImageError(f"there is no file '{path}'", code="description") from e
    except OSError as e:
        what = f"the description '{path}' cannot be read"
        raise ImageError(what, code="description", found=e.strerror or str(e)) from e
    except UnicodeDecodeError as e:
        line = e.object[: e.start].count(b"\n") + 1
        raise ImageError(f"'{path}', line {line}: not UTF-8", code="description", expected=_TOML) from e
    except RecursionError as e:
        raise ImageError(f"'{path}': lists or tables are nested too deeply", code="description") from e
    except ValueError as e:
        found = _PLACE.fullmatch(str(e))
        where = f", line {found['line']}, column {found['column']}" if found else ""
        what = found["what"] if found else str(e).removesuffix(" (at end of document)")
        what = _in_our_words(f"{what[:1].lower()}{what[1:]}")
        raise ImageError(f"'{path}'{where}: {what}", code="description", expected=_TOML) from e


def _in_our_words(what: str) -> str:
    """A parser's sentence without the language that it is written in."""
    if r"'\n'" in what:
        return "the line ends within a text"
    if "integer string conversion" in what:
        return "a number of thousands of digits"
    if twice := _TWICE.fullmatch(what):
        return f"table '[{'.'.join(re.findall(_QUOTED, twice['names']))}]' is there twice"
    if character := _CONTROL.fullmatch(what):
        return f"the control character U+{int(character['code'], 16):04X} in a text"
    return "a key is given twice" if what == "cannot overwrite a value" else what


def _describe(top: Table) -> Description:
    payloads = top.tables("payloads", PAYLOAD_KEYS, NAME, _NAME_FORM)
    attachments = top.tables("attachments", ATTACHMENT_KEYS, NAME, _NAME_FORM)
    sources = tuple(_payload(table, name) for name, table in payloads.items())
    rootfs = any(payload.check == "rootfs" for payload in sources)
    expires = top.get("expires", datetime, None)
    recipients, cipher = _encryption(top)
    description = Description(
        product=top.text("product", RELEASE_NAME, _TITLE_FORM),
        release=top.text("release", RELEASE_NAME, _TITLE_FORM),
        sequence=top.number("sequence", 1, SEQUENCE_MAX),
        epoch=top.number("epoch", 0, EPOCH_MAX, 0),
        type=top.choice("type", TYPES, "feature"),
        compatible=top.names("compatible", COMPATIBLE, _DEVICE_FORM, NAMES_MAX),
        hardware=top.names("hardware", COMPATIBLE, _DEVICE_FORM, NAMES_MAX, ()),
        variants=top.names("variants", COMPATIBLE, _DEVICE_FORM, NAMES_MAX, ()),
        taken_from=_taken_from(top),
        source=_source(top),
        change=_change(top),
        checks=top.names("checks", NAME, _NAME_FORM, NAMES_MAX, ()),
        architecture=top.choice("architecture", ARCHITECTURES, None if rootfs else ""),
        trust=top.path("trust"),
        valid_days=top.number("valid_days", 1, VALID_DAYS_MAX, VALID_DAYS_DEFAULT),
        expires=None if expires is None else _in_utc(top, expires),
        group_size=_group_size(top),
        level=top.number("level", 1, LEVEL_MAX, LEVEL_DEFAULT),
        payloads=sources,
        attachments=tuple(_attachment(table, name) for name, table in attachments.items()),
        sbom=top.choice("sbom", SBOMS, "none"),
        spdx=top.path("spdx") if top.has("spdx") else None,
        policy=_policy(top),
        recipients=recipients,
        cipher=cipher,
    )
    if description.sbom == "auto" and not rootfs:
        raise top.bad("sbom", 'a payload with check = "rootfs" beside "auto"', "none, so nothing would be listed")
    if description.spdx and description.sbom != "auto":
        raise top.bad("spdx", 'sbom = "auto" beside it', description.sbom)
    for key, count, high in (
        ("payloads", len(sources), PAYLOADS_MAX),
        ("attachments", len(attachments), ATTACHMENTS_MAX),
    ):
        if count > high or (key == "payloads" and not count):
            raise top.bad(key, f"{1 if key == 'payloads' else 0} to {high} tables", f"{count}")
    if both := sorted(payloads.keys() & attachments.keys()):
        raise top.bad("attachments", "names that no payload has", both[0])
    return description


def _group_size(top: Table) -> int | None:
    size: int | None = top.get("group_size", int, None)
    if size is not None and (size & (size - 1) or not GROUP_SIZE_MIN <= size <= GROUP_SIZE_MAX):
        raise top.bad("group_size", f"a power of two from {GROUP_SIZE_MIN} to {GROUP_SIZE_MAX}", size)
    return size


def _payload(table: Table, name: str) -> PayloadSource:
    foreign = table.names("foreign", _PATTERN, "a pattern without a slash in front", FOREIGN_MAX, ())
    type_ = table.text("type", NAME, _NAME_FORM, PARTITION)
    return PayloadSource(name, table.path("file"), _check(table), foreign, type_)


def _check(table: Table) -> str:
    """`check`, or what a description of before has in its place."""
    if not table.has("kind"):
        return table.choice("check", CHECKS, "rootfs")
    if table.has("check"):
        raise table.bad("kind", "'check' alone", "both")
    return FORMER_CHECKS[table.choice("kind", FORMER_CHECKS, None)]


def _taken_from(top: Table) -> SequenceRange | None:
    table = top.table("from", FROM_KEYS)
    if table is None:
        return None
    lowest = table.number("lowest", 1, SEQUENCE_MAX, 1)
    limits = SequenceRange(lowest, table.number("highest", lowest, SEQUENCE_MAX, SEQUENCE_MAX))
    if limits == SequenceRange():
        raise top.bad("from", "'lowest' above 1, or 'highest'", "a table that excludes no release")
    return limits


def _encryption(top: Table) -> tuple[tuple[str, ...], Cipher]:
    table = top.table("encryption", ENCRYPTION_KEYS)
    if table is None:
        return (), CIPHER_DEFAULT
    name = table.choice("cipher", tuple(CIPHERS), cipher_name(CIPHER_DEFAULT))
    return table.keys("recipients", RECIPIENTS_MAX), CIPHERS[name]


def cipher_name(cipher: Cipher) -> str:
    """As a description says it."""
    return next(name for name, each in CIPHERS.items() if each is cipher)


def _source(top: Table) -> Source:
    table = top.table("source", SOURCE_KEYS)
    forms = dict.fromkeys(SOURCE_KEYS, _SOURCE_FORM) | {"commit": "40 or 64 hex digits, lower case"}
    given = [key for key in SOURCE_KEYS if table is not None and table.has(key)]
    return Source(**{key: table.text(key, source_form(key), forms[key]) for key in given if table is not None})


def read_policy(path: Path) -> ReleasePolicy:
    """The table `[policy]` of a description; the rest of the file is not looked at.

    Raises:
        ImageError: `image.description`; also when the file has none.
    """
    policy = _policy(Table({"policy": read_toml(path).get("policy")}, path, "", ("policy",)))
    assert policy is not None  # the key is there
    return policy


def _policy(top: Table) -> ReleasePolicy | None:
    table = top.table("policy", POLICY_KEYS)
    return None if table is None else policy_of(table, top.get("policy", dict))


def _change(top: Table) -> Change:
    table = top.table("change", CHANGE_KEYS)
    if table is None:
        return Change()
    kind = table.choice("class", CLASSES, "")
    if kind == "security" != top.choice("type", TYPES, "feature"):
        raise table.bad("class", 'another one, or type = "security" beside it', kind)
    numbers = table.get("regulatory", dict, {})
    for scheme, number in numbers.items():
        if not WORD.fullmatch(scheme):
            raise table.bad("regulatory", _NAME_FORM, scheme)
        if not isinstance(number, str) or not NUMBER.fullmatch(number):
            raise table.bad(f"regulatory.{scheme}", _NUMBER_FORM, number)
    if len(numbers) > REGULATORY_MAX:
        raise table.bad("regulatory", f"at most {REGULATORY_MAX} numbers", len(numbers))
    change = Change(kind, table.names("markets", WORD, _NAME_FORM, MARKETS_MAX, ()), numbers)
    if change == Change():
        raise top.bad("change", "'class', 'markets' or 'regulatory'", "a table that says nothing")
    return change


def _attachment(table: Table, name: str) -> AttachmentSource:
    type_ = table.choice("type", MEDIA_TYPES, "")
    default = MEDIA_TYPES.get(type_, "text/markdown")
    media_type = table.text("media_type", MEDIA_TYPE, "a media type such as text/markdown", default)
    return AttachmentSource(name, table.path("file"), media_type, type_)


def _in_utc(top: Table, moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise top.bad("expires", "a date with its offset, such as 2027-11-01T00:00:00Z", str(moment))
    try:
        return moment.astimezone(UTC).replace(microsecond=0)
    except OverflowError as e:
        raise top.bad("expires", "a date of the years 1 to 9999 in UTC", str(moment)) from e
