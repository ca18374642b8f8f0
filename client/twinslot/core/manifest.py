"""The manifest: the one signed statement that an image is made of (docs/image-format.md section 5).

Bytes in, frozen data out. This module checks form and bounds; signatures are `trust.verify`'s, and whether this device
wants the release is `core.acceptance`'s.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Final

from twinslot.core.bounds import (
    ATTACHMENT_SIZE_MAX,
    ATTACHMENTS_MAX,
    ATTACHMENTS_SIZE_MAX,
    GROUP_SIZE_MAX,
    GROUP_SIZE_MIN,
    GROUPS_MAX,
    MANIFEST_MAX,
    PAYLOADS_MAX,
)
from twinslot.core.canonical import parse_document
from twinslot.core.change import Change, parse_change
from twinslot.core.errors import Refusal, RefusedError
from twinslot.core.fields import Fields, bad, form
from twinslot.core.model import PARTITION, Release

FORMAT: Final = 1  # of the `x-twinslot` object
# Words of `requires` that this version knows. A change that an older client must not ignore adds a word here, and the
# image tool writes it into the images that make use of the change (docs/compatibility.md).
ENCRYPTION: Final = "encryption"  # what follows the manifest is sealed (docs/image-format.md section 11)
FEATURES: Final[frozenset[str]] = frozenset({ENCRYPTION})
SIGNATURES_MAX: Final = 32
NAMES_MAX: Final = 64  # entries of `compatible` and of `checks`
SEQUENCE_MAX: Final = 2**53 - 1  # the largest whole number that every JSON reader holds exactly (RFC 8259, section 6)
EPOCH_MAX: Final = 2**31 - 1

# Payloads, attachments, checks, roles.
NAME: Final = form(r"[a-z0-9][a-z0-9._-]{0,63}", "1 to 64 of a-z 0-9 . _ - with a letter or digit first")
# With the comma of devicetree's `vendor,board`.
COMPATIBLE: Final = form(r"[a-z0-9][a-z0-9._,-]{0,63}", "1 to 64 of a-z 0-9 . _ , - with a letter or digit first")
RELEASE_NAME: Final = form(
    r"[A-Za-z0-9](?:[A-Za-z0-9 ._+~-]{0,62}[A-Za-z0-9])?",
    "1 to 64 letters, digits, blanks and . _ + ~ - with a letter or digit first and last",
)
# RFC 6838, section 4.2
MEDIA_TYPE: Final = form(r"[a-z0-9][a-z0-9.+-]{0,63}/[a-z0-9][a-z0-9.+-]{0,63}", "a media type such as text/markdown")
TYPES: Final = ("feature", "security")
# Object ids of git: SHA-1 or SHA-256 (git-hash-object(1))
COMMIT: Final = form(r"[0-9a-f]{40}(?:[0-9a-f]{24})?", "40 or 64 hex digits, lower case")
SOURCE_TEXT: Final = form(
    r"[!-~](?:[ -~]{0,254}[!-~])?", "1 to 256 printable ASCII characters, the first and last no blank"
)

SPEC = form(r"1\.[0-9]{1,3}\.[0-9]{1,3}", "a version 1.x.y")  # TUF specification's version
_KEY_ID = form(r"[0-9a-f]{64}", "64 hex digits, lower case")
# Ours have 64 to 512 bytes; a later kind of key may have more: ML-DSA-87 4627 (FIPS 204, table 2).
_SIGNATURE = form(r"(?:[0-9a-f]{2}){1,8192}", "pairs of hex digits, lower case")


@dataclass(frozen=True, slots=True)
class SequenceRange:
    """Sequences from `lowest` to `highest`, both included."""

    lowest: int = 1
    highest: int = SEQUENCE_MAX

    def __contains__(self, sequence: int) -> bool:
        return self.lowest <= sequence <= self.highest

    def __str__(self) -> str:
        if self.highest == SEQUENCE_MAX:
            return f"{self.lowest} or higher"
        return f"{self.highest} or lower" if self.lowest == 1 else f"{self.lowest} to {self.highest}"


@dataclass(frozen=True, slots=True)
class Source:
    """What the release was built from, for people and for evidence; empty where the maker does not say.

    Attributes:
        commit: Object id of the sources' commit, 40 or 64 hex digits.
        tag: Its tag.
        build: Id of the build, for example a CI job.
        builder: Who or what built it, for example an URL of the build service.
    """

    commit: str = ""
    tag: str = ""
    build: str = ""
    builder: str = ""


@dataclass(frozen=True, slots=True)
class Payload:
    """One stream of bytes for one place of a slot.

    Attributes:
        name: What local configuration maps to a place, such as a partition (S11).
        size: Bytes of plain content.
        digest: SHA-256 of the plain content, 64 hex digits, as every digest here.
        group_size: Bytes of plain content per group, a power of two; the last group may be shorter.
        groups: How many.
        plain_list: Digest of its plain list.
        stored_table: Digest of its stored table.
        stored_size: Bytes of its groups as they stand in the image.
        type: Which kind of place it is for; a device refuses a type that its own place is not for.
    """

    name: str
    size: int
    digest: str
    group_size: int
    groups: int
    plain_list: str
    stored_table: str
    stored_size: int
    type: str = PARTITION

    def group_length(self, index: int) -> int:
        """Bytes of plain content in one group.

        Raises:
            IndexError: There is no such group.
        """
        if not 0 <= index < self.groups:
            raise IndexError(f"group {index} of {self.groups}")
        return min(self.group_size, self.size - index * self.group_size)


@dataclass(frozen=True, slots=True)
class Attachment:
    """A document for people or tools, readable before anyone consents: release notes, known anomalies, SBOM.

    Attributes:
        name: For choosing it; never a path.
        size: Bytes.
        digest: SHA-256.
        media_type: For example `text/markdown`.
        type: What it is (`core.attachments.MEDIA_TYPES`, or a word that came later); empty where nobody says.
    """

    name: str
    size: int
    digest: str
    media_type: str
    type: str = ""


@dataclass(frozen=True, slots=True)
class Manifest:
    """The manifest as parsed; trustworthy only together with a verdict of `trust.verify` over the same `digest`.

    Attributes:
        digest: SHA-256 of the manifest's bytes, signatures included.
        product: Family name, for people.
        release: Name, sequence and epoch; `release.manifest` is `digest`.
        type: `feature` or `security`.
        compatible: Device types that may take it, sorted.
        checks: Health checks that the device must know and pass, sorted.
        hardware: Hardware revisions that it is for, sorted; none: any.
        variants: Variants of the device type that it is for, sorted; none: any.
        requires: Features that a client must have to read it, sorted; all of them are known here (`FEATURES`).
        taken_from: Running releases that may take it, by sequence (`from` in the manifest); None: any.
        source: What it was built from.
        change: What kind of change it is, for which markets, under which numbers.
        built: When it was built, by the build host.
        expires: After this it is stale.
        payloads: Sorted by name; their sections follow this order.
        attachments: Sorted by name; their section follows this order.
        key_ids: Who claims to have signed; nothing here is verified.
    """

    digest: str
    product: str
    release: Release
    type: str
    compatible: tuple[str, ...]
    checks: tuple[str, ...]
    built: datetime
    expires: datetime
    payloads: tuple[Payload, ...]
    attachments: tuple[Attachment, ...]
    key_ids: tuple[str, ...]
    hardware: tuple[str, ...] = ()
    variants: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    taken_from: SequenceRange | None = None
    source: Source = field(default_factory=Source)
    change: Change = field(default_factory=Change)

    @property
    def encrypted(self) -> bool:
        """Everything behind the manifest is sealed. Signed, so nobody on the way can say otherwise."""
        return ENCRYPTION in self.requires

    def payload(self, name: str) -> Payload:
        """The payload of this name.

        Raises:
            KeyError: There is none.
        """
        for payload in self.payloads:
            if payload.name == name:
                return payload
        raise KeyError(name)


# keeps: S2, S11
def parse_manifest(data: bytes) -> Manifest:
    """Read a manifest strictly: canonical bytes, every value in its bounds, unknown keys only where later ones may be.

    What a later version added is ignored, unless `requires` says that it must be understood.

    Raises:
        ImageError: `image.json`, `image.not-canonical` or `image.manifest`, naming the field.
        RefusedError: `refused.feature`: it requires a feature that this version does not have.
    """
    if len(data) > MANIFEST_MAX:
        raise bad("length", f"at most {MANIFEST_MAX} bytes", f"{len(data)} bytes")
    whole = Fields(parse_document(data, "manifest"), "", ("signatures", "signed"))
    key_ids = read_signatures(whole, SIGNATURES_MAX)
    if list(key_ids) != sorted(key_ids):
        raise bad("signatures", "sorted by key id", list(key_ids))
    signed = Fields(
        whole.get("signed"), "signed", ("_type", "expires", "spec_version", "targets", "version", "x-twinslot")
    )
    signed.choice("_type", ("targets",))
    signed.text("spec_version", SPEC)
    ours = Fields(
        signed.get("x-twinslot"),
        "signed.x-twinslot",
        ("built", "checks", "compatible", "epoch", "format", "product", "release", "type"),
        optional=("change", "from", "hardware", "requires", "source", "variants"),
        extensible=True,
    )
    ours.integer("format", FORMAT, FORMAT)
    requires = _requires(ours)
    payloads, attachments = _parse_targets(signed)
    digest = hashlib.sha256(data).hexdigest()
    built, expires = ours.time("built"), signed.time("expires")
    if built >= expires:
        raise bad("signed.x-twinslot.built", f"before {expires:%Y-%m-%dT%H:%M:%SZ}", f"{built:%Y-%m-%dT%H:%M:%SZ}")
    sequence, epoch = signed.integer("version", 1, SEQUENCE_MAX), ours.integer("epoch", 0, EPOCH_MAX)
    return Manifest(
        digest=digest,
        product=ours.text("product", RELEASE_NAME),
        release=Release(ours.text("release", RELEASE_NAME), sequence, epoch, digest),
        type=ours.choice("type", TYPES),
        compatible=ours.names("compatible", COMPATIBLE, 1, NAMES_MAX),
        checks=ours.names("checks", NAME, 0, NAMES_MAX),
        built=built,
        expires=expires,
        payloads=payloads,
        attachments=attachments,
        key_ids=key_ids,
        hardware=_narrowing(ours, "hardware"),
        variants=_narrowing(ours, "variants"),
        requires=requires,
        taken_from=_taken_from(ours),
        source=_source(ours),
        change=parse_change(ours),
    )


def _requires(ours: Fields) -> tuple[str, ...]:
    """Looked at before all else that a later version may have changed, so that the answer is this one."""
    words = ours.names("requires", NAME, 1, NAMES_MAX) if ours.has("requires") else ()
    if unknown := [word for word in words if word not in FEATURES]:
        raise RefusedError(
            Refusal(
                "feature",
                "the image needs a feature that this version of Twinslot does not have",
                ", ".join(sorted(FEATURES)) or "(an image without 'requires')",
                ", ".join(unknown),
                "install a release with a newer Twinslot first",
            )
        )
    return words


def _taken_from(ours: Fields) -> SequenceRange | None:
    if not ours.has("from"):
        return None
    limits = Fields(ours.get("from"), ours.name("from"), (), optional=("highest", "lowest"))
    lowest = limits.integer("lowest", 1, SEQUENCE_MAX) if limits.has("lowest") else 1
    highest = limits.integer("highest", lowest, SEQUENCE_MAX) if limits.has("highest") else SEQUENCE_MAX
    return SequenceRange(lowest, highest)


def _source(ours: Fields) -> Source:
    if not ours.has("source"):
        return Source()
    keys = [each.name for each in fields(Source)]
    given = Fields(ours.get("source"), ours.name("source"), (), optional=keys, extensible=True)
    return Source(**{key: given.text(key, source_form(key)) for key in keys if given.has(key)})


def source_form(key: str) -> re.Pattern[str]:
    """The form of one value of `source`."""
    return COMMIT if key == "commit" else SOURCE_TEXT


def _narrowing(ours: Fields, key: str) -> tuple[str, ...]:
    """Which of the compatible devices it is for; an empty list would be for none, so it does not exist."""
    return ours.names(key, COMPATIBLE, 1, NAMES_MAX) if ours.has(key) else ()


def read_signatures(whole: Fields, high: int) -> tuple[str, ...]:
    """The key ids of a document's signatures: at most `high`, each `keyid` and `sig` in hex, no id twice."""
    key_ids = []
    for index, value in enumerate(whole.objects("signatures", high)):
        entry = Fields(value, whole.name(f"signatures.{index}"), ("keyid", "sig"), whole.section)
        entry.text("sig", _SIGNATURE)
        key_ids.append(entry.text("keyid", _KEY_ID))
    if len(set(key_ids)) != len(key_ids):
        raise whole.bad("signatures", "no key id twice", key_ids)
    return tuple(key_ids)


def _parse_targets(signed: Fields) -> tuple[tuple[Payload, ...], tuple[Attachment, ...]]:
    payloads: list[Payload] = []
    attachments: list[Attachment] = []
    targets = signed.mapping("targets", NAME, PAYLOADS_MAX + ATTACHMENTS_MAX)
    for name in sorted(targets):
        where = f"signed.targets.{name}"
        target = Fields(targets[name], where, ("custom", "hashes", "length"))
        digest = Fields(target.get("hashes"), f"{where}.hashes", ("sha256",)).digest("sha256")
        match _kind(target):
            case "attachment":
                attachments.append(_parse_attachment(name, target, digest))
            case "payload":
                payloads.append(_parse_payload(name, target, digest))
            case other:
                raise bad(f"{where}.custom.kind", "payload or attachment", other)
    _check_totals(payloads, attachments)
    return tuple(payloads), tuple(attachments)


def _kind(target: Fields) -> object:
    custom = target.get("custom")
    return custom.get("kind") if isinstance(custom, dict) else None


def _parse_attachment(name: str, target: Fields, digest: str) -> Attachment:
    keys = ("kind", "media_type")
    custom = Fields(target.get("custom"), f"{target.where}.custom", keys, optional=("type",), extensible=True)
    size = target.integer("length", 1, ATTACHMENT_SIZE_MAX)
    type_ = custom.text("type", NAME) if custom.has("type") else ""
    return Attachment(name, size, digest, custom.text("media_type", MEDIA_TYPE), type_)


def _parse_payload(name: str, target: Fields, digest: str) -> Payload:
    keys = ("group_size", "groups", "kind", "plain_list", "stored_size", "stored_table")
    custom = Fields(target.get("custom"), f"{target.where}.custom", keys, optional=("type",), extensible=True)
    group_size = custom.integer("group_size", GROUP_SIZE_MIN, GROUP_SIZE_MAX)
    if group_size & (group_size - 1):
        raise bad(custom.name("group_size"), "a power of two", group_size)
    size = target.integer("length", 1, GROUPS_MAX * group_size)
    groups = -(-size // group_size)
    return Payload(
        name=name,
        size=size,
        digest=digest,
        group_size=group_size,
        groups=custom.integer("groups", groups, groups),
        plain_list=custom.digest("plain_list"),
        stored_table=custom.digest("stored_table"),
        stored_size=custom.integer("stored_size", 0, size),
        type=custom.text("type", NAME) if custom.has("type") else PARTITION,
    )


def _check_totals(payloads: list[Payload], attachments: list[Attachment]) -> None:
    where = "signed.targets"
    if not 1 <= len(payloads) <= PAYLOADS_MAX:
        raise bad(where, f"1 to {PAYLOADS_MAX} payloads", str(len(payloads)))
    if len(attachments) > ATTACHMENTS_MAX:
        raise bad(where, f"at most {ATTACHMENTS_MAX} attachments", str(len(attachments)))
    if (groups := sum(payload.groups for payload in payloads)) > GROUPS_MAX:
        raise bad(where, f"at most {GROUPS_MAX} groups", str(groups))
    if (size := sum(attachment.size for attachment in attachments)) > ATTACHMENTS_SIZE_MAX:
        raise bad(where, f"at most {ATTACHMENTS_SIZE_MAX} bytes of attachments", str(size))
