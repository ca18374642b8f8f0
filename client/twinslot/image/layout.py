"""Where everything stands in an image (docs/image-format.md sections 9 and 11): arithmetic for readers by ranges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from twinslot.core.bounds import DIGEST_SIZE, ENTRY_SIZE
from twinslot.core.errors import ImageError
from twinslot.core.manifest import Manifest
from twinslot.core.span import Span
from twinslot.image.envelope import check_envelope_size
from twinslot.image.units import TAG_SIZE
from twinslot.image.wire import Header, Section


@dataclass(frozen=True, slots=True)
class Layout:
    """Spans by name, as they stand in the image; every payload of the manifest is in each of the last three.

    Attributes:
        tag: Bytes that sealing adds to each unit; 0 in an image that is not encrypted.
        envelope: Empty in an image that is not encrypted.
    """

    tag: int
    envelope: Span

    attachments: Mapping[str, Span]
    plain_lists: Mapping[str, Span]
    stored_tables: Mapping[str, Span]
    groups: Mapping[str, Span]


def layout(header: Header, manifest: Manifest) -> Layout:
    """The spans that the signed manifest implies, once the header's lengths agree with it.

    Raises:
        ImageError: `image.length`: a length in the header is not what the manifest adds up to; `image.envelope`.
    """
    tag = TAG_SIZE if manifest.encrypted else 0
    sizes = {
        Section.ATTACHMENTS: {a.name: a.size + tag for a in manifest.attachments},
        Section.PLAIN_LISTS: {p.name: p.groups * DIGEST_SIZE + tag for p in manifest.payloads},
        Section.STORED_TABLES: {p.name: p.groups * ENTRY_SIZE + tag for p in manifest.payloads},
        Section.GROUPS: {p.name: p.stored_size + p.groups * tag for p in manifest.payloads},
    }
    envelope = Span(header.offset(Section.ATTACHMENTS), _envelope_size(header, manifest, sizes[Section.ATTACHMENTS]))
    for section, parts in sizes.items():
        before = envelope.length if section is Section.ATTACHMENTS else 0
        if (expected := before + sum(parts.values())) != (found := header.length(section)):
            raise ImageError(
                f"the length of the '{section}' section",
                code="length",
                expected=f"{expected} bytes",
                found=f"{found} bytes",
            )
    starts = {section: header.offset(section) for section in sizes}
    starts[Section.ATTACHMENTS] = envelope.end
    return Layout(tag, envelope, *(_spans(starts[section], parts) for section, parts in sizes.items()))


def _envelope_size(header: Header, manifest: Manifest, attachments: Mapping[str, int]) -> int:
    """What the section has beside the attachments."""
    if not manifest.encrypted:
        return 0
    return check_envelope_size(header.attachments - sum(attachments.values()))


def _spans(offset: int, parts: Mapping[str, int]) -> dict[str, Span]:
    spans = {}
    for name, length in parts.items():
        spans[name] = Span(offset, length)
        offset += length
    return spans
