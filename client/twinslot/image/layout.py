"""Where everything stands in an image (docs/image-format.md section 9): arithmetic for readers by ranges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from twinslot.core.errors import ImageError
from twinslot.core.manifest import Manifest
from twinslot.core.model import DIGEST_SIZE
from twinslot.core.span import Span
from twinslot.image.wire import ENTRY_SIZE, Header, Section


@dataclass(frozen=True, slots=True)
class Layout:
    """Spans by name; every payload of the manifest is in each of the last three."""

    attachments: Mapping[str, Span]
    plain_lists: Mapping[str, Span]
    stored_tables: Mapping[str, Span]
    groups: Mapping[str, Span]


def layout(header: Header, manifest: Manifest) -> Layout:
    """The spans that the signed manifest implies, once the header's lengths agree with it.

    Raises:
        ImageError: `image.length`: a length in the header is not what the manifest adds up to.
    """
    sizes = {
        Section.ATTACHMENTS: {a.name: a.size for a in manifest.attachments},
        Section.PLAIN_LISTS: {p.name: p.groups * DIGEST_SIZE for p in manifest.payloads},
        Section.STORED_TABLES: {p.name: p.groups * ENTRY_SIZE for p in manifest.payloads},
        Section.GROUPS: {p.name: p.stored_size for p in manifest.payloads},
    }
    for section, parts in sizes.items():
        if (expected := sum(parts.values())) != (found := header.length(section)):
            raise ImageError(
                f"the length of the '{section}' section",
                code="length",
                expected=f"{expected} bytes",
                found=f"{found} bytes",
            )
    return Layout(*(_spans(header.offset(section), parts) for section, parts in sizes.items()))


def _spans(offset: int, parts: Mapping[str, int]) -> dict[str, Span]:
    spans = {}
    for name, length in parts.items():
        spans[name] = Span(offset, length)
        offset += length
    return spans
