"""Puts an image together from its parts, and swaps the manifest of one that exists (docs/image-format.md section 1)."""

from __future__ import annotations

import hashlib
import io
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from twinslot.core.canonical import encode
from twinslot.core.change import Change
from twinslot.core.errors import ImageError
from twinslot.core.manifest import FORMAT, SEQUENCE_MAX, SequenceRange, Source, parse_manifest
from twinslot.image.layout import layout
from twinslot.image.wire import HEADER_SIZE, Header, Section, TrustDocuments, build_header, build_trust, parse_header
from twinslot_image.pack import PackedPayload
from twinslot_image.replacement import rewriting
from twinslot_image.sealing import Chain, Encryption, seal_body, sealed_header

SPEC_VERSION = "1.0.31"  # TUF specification; fixed, so that another python-tuf gives the same image
_COPY = 1024 * 1024  # bytes
_AGAIN = "it stays as it is: build or fetch it again"


@dataclass(frozen=True, slots=True)
class ReleaseFacts:
    """What the manifest says of the release (docs/image-format.md section 5.2); `built` and `expires` in UTC."""

    product: str
    release: str
    sequence: int
    epoch: int
    type: str
    compatible: tuple[str, ...]
    checks: tuple[str, ...]
    built: datetime
    expires: datetime
    hardware: tuple[str, ...] = ()
    variants: tuple[str, ...] = ()
    taken_from: SequenceRange | None = None
    source: Source = field(default_factory=Source)
    change: Change = field(default_factory=Change)
    requires: tuple[str, ...] = ()
    policy: Mapping[str, Any] = field(default_factory=dict)  # `gate.bound`; no device looks at it


@dataclass(frozen=True, slots=True)
class AttachedFile:
    """An attachment with its content."""

    name: str
    media_type: str
    data: bytes = field(repr=False)
    type: str = ""

    def target(self) -> dict[str, object]:
        """Its entry among the manifest's targets (docs/image-format.md section 5.4)."""
        custom = {"kind": "attachment", "media_type": self.media_type}
        custom |= {"type": self.type} if self.type else {}
        return {
            "custom": custom,
            "hashes": {"sha256": hashlib.sha256(self.data).hexdigest()},
            "length": len(self.data),
        }


def compose_manifest(
    facts: ReleaseFacts, payloads: Iterable[PackedPayload], attachments: Iterable[AttachedFile]
) -> bytes:
    """An unsigned manifest; what comes out has been read back by the device's own parser.

    Raises:
        ImageError: `image.manifest`: a value is out of its bounds, or one name stands for two things.
    """
    targets: dict[str, object] = {}
    parts: list[PackedPayload | AttachedFile] = [*payloads, *attachments]
    for part in parts:
        if part.name in targets:
            raise ImageError("two parts of one name", code="manifest", found=part.name)
        targets[part.name] = part.target()
    ours: dict[str, object] = {
        "built": _time(facts.built),
        "checks": sorted(facts.checks),
        "compatible": sorted(facts.compatible),
        "epoch": facts.epoch,
        "format": FORMAT,
        "product": facts.product,
        "release": facts.release,
        "type": facts.type,
    }
    lists = {"hardware": facts.hardware, "requires": facts.requires, "variants": facts.variants}
    ours |= {key: sorted(names) for key, names in lists.items() if names}
    if facts.taken_from:
        ours["from"] = _range(facts.taken_from)
    if source := {key: value for key, value in asdict(facts.source).items() if value}:
        ours["source"] = source
    if change := facts.change.as_dict():
        ours["change"] = change
    if facts.policy:
        ours["policy"] = dict(facts.policy)
    signed = {
        "_type": "targets",
        "expires": _time(facts.expires),
        "spec_version": SPEC_VERSION,
        "targets": targets,
        "version": facts.sequence,
        "x-twinslot": ours,
    }
    manifest = encode({"signatures": [], "signed": signed})
    parse_manifest(manifest)
    return manifest


def _range(limits: SequenceRange) -> dict[str, int]:
    """A limit that limits nothing is left out; one of the two is there in any case."""
    return {"lowest": limits.lowest} | ({"highest": limits.highest} if limits.highest < SEQUENCE_MAX else {})


def write_image(
    sink: BinaryIO,
    trust: TrustDocuments,
    manifest: bytes,
    payloads: Iterable[PackedPayload],
    attachments: Iterable[AttachedFile],
    groups: Iterable[BinaryIO],
    encryption: Encryption | None = None,
) -> Header:
    """Write every section in order.

    Args:
        sink: Where to.
        trust: Root chain and targets document.
        manifest: Signed or not.
        payloads: In any order; written by name.
        attachments: In any order; written by name.
        groups: For each payload by name, a file at the start of its groups.
        encryption: For whom everything behind the manifest is sealed; the manifest requires it then.
    """
    ordered = sorted(payloads, key=lambda part: part.name)
    attached = b"".join(part.data for part in sorted(attachments, key=lambda part: part.name))
    plain_lists = b"".join(part.plain_list for part in ordered)
    stored_tables = b"".join(part.stored_table for part in ordered)
    trust_bytes = build_trust(trust)
    stored = sum(part.stored_size for part in ordered)
    header = Header(len(trust_bytes), len(manifest), len(attached), len(plain_lists), len(stored_tables), stored)
    body = Chain([*map(io.BytesIO, (attached, plain_lists, stored_tables)), *groups])
    if encryption is None:
        sink.writelines((build_header(header), trust_bytes, manifest))
        shutil.copyfileobj(body, sink, _COPY)
        return header
    parsed = parse_manifest(manifest)
    sealed = seal_body(parsed, body, encryption)
    header = sealed_header(header, parsed, len(sealed.envelope))
    sink.writelines((build_header(header), trust_bytes, manifest, sealed.envelope))
    sink.writelines(sealed.units)
    return header


@dataclass(frozen=True, slots=True)
class Front:
    """The front of an image file, unverified."""

    header: Header
    trust: bytes = field(repr=False)
    manifest: bytes = field(repr=False)


def read_front(source: BinaryIO) -> Front:
    """Read header, trust section and manifest from the start of an image.

    Raises:
        ImageError: Not an image, or it ends before the manifest does.
    """
    header = parse_header(source.read(HEADER_SIZE))
    trust, manifest = source.read(header.trust), source.read(header.manifest)
    if len(manifest) < header.manifest:
        raise ImageError(
            "the image ends before its manifest does",
            code="truncated",
            expected=f"{header.offset(Section.ATTACHMENTS)} bytes",
            found=f"{HEADER_SIZE + len(trust) + len(manifest)} bytes",
        )
    return Front(header, trust, manifest)


def replace_manifest(
    path: Path, change: Callable[[Front], bytes], on_progress: Callable[[int], None] = lambda _: None
) -> None:
    """Give an image another manifest; nothing after it changes. The file is replaced as a whole or not at all.

    Args:
        path: The image; locked from before its front is read until it is replaced, so nothing of another's is lost.
        change: Makes the new manifest from the front that stands there now.
        on_progress: Called with the bytes copied so far.

    Raises:
        ImageError: What stands there is not a whole image; it stays as it is.
    """
    with rewriting(path) as (source, sink):
        front = read_front(source)
        layout(front.header, parse_manifest(front.manifest))
        manifest = change(front)
        lengths = {name: getattr(front.header, name) for name in Header.__slots__}
        sink.write(build_header(Header(**(lengths | {"manifest": len(manifest)}))))
        sink.write(front.trust)
        sink.write(manifest)
        copy_rest(source, sink, front.header, on_progress)


def copy_rest(
    source: BinaryIO, sink: BinaryIO, header: Header, on_progress: Callable[[int], None] = lambda _: None
) -> None:
    """What follows in an image, as it is.

    Raises:
        ImageError: `image.truncated` or `image.trailing`: it does not end where its header says.
    """
    before = source.tell()
    for block in iter(lambda: source.read(_COPY), b""):
        sink.write(block)
        on_progress(source.tell() - before)
    expected, found = f"{header.total} bytes", f"{source.tell()} bytes"
    if source.tell() < header.total:
        raise ImageError("the image ends early", code="truncated", expected=expected, found=found, hint=_AGAIN)
    if source.tell() > header.total:
        what = "bytes follow the end of the image"
        raise ImageError(what, code="trailing", expected=expected, found=found, hint=_AGAIN)


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
