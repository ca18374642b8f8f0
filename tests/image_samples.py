"""Small images made in memory by the tool's own packing, for tests of whoever reads them."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from twinslot.core.manifest import Manifest, parse_manifest
from twinslot.image.wire import Header, TrustDocuments
from twinslot_image.compose import AttachedFile, ReleaseFacts, compose_manifest, write_image
from twinslot_image.pack import pack_payload

GROUP = 4096  # bytes; the smallest group size, so that small payloads have several groups
FACTS = ReleaseFacts(
    product="Pump",
    release="2026.11",
    sequence=7,
    epoch=1,
    type="security",
    compatible=("acme,pump-3", "acme,pump-4"),
    checks=("link", "pump-motor"),
    built=datetime(2026, 11, 1, tzinfo=UTC),
    expires=datetime(2027, 11, 1, tzinfo=UTC),
)
ATTACHMENTS = (
    AttachedFile("release-notes.md", "text/markdown", b"# 2026.11\n\nAlarm is louder.\n"),
    AttachedFile("known-anomalies.md", "text/markdown", "None known \u2014 yet.\n".encode()),
)
TRUST = TrustDocuments((b'{"root":1}', b'{"root":2}'), b'{"targets":1}')


def sample_content(seed: int = 0) -> bytes:
    """Ten groups of every encoding and a short one: zeros, noise (stored raw), text (zstd)."""
    noise = random.Random(seed)
    parts = [b"superblock".ljust(GROUP, b"\1"), bytes(GROUP), noise.randbytes(GROUP), bytes(2 * GROUP)]
    parts += [(f"line {i}\n" * 1000).encode()[:GROUP] for i in range(4)]
    return b"".join(parts) + noise.randbytes(1000)


PAYLOADS: Mapping[str, bytes] = {"rootfs": sample_content(), "firmware": b"\x7fboot" * 30}


@dataclass(frozen=True)
class Sample:
    """An image and what it was made of."""

    data: bytes
    header: Header
    manifest_bytes: bytes
    payloads: Mapping[str, bytes]

    @property
    def manifest(self) -> Manifest:
        """The manifest, parsed."""
        return parse_manifest(self.manifest_bytes)


def make_sample(
    payloads: Mapping[str, bytes] = PAYLOADS,
    attachments: tuple[AttachedFile, ...] = ATTACHMENTS,
    facts: ReleaseFacts = FACTS,
    trust: TrustDocuments = TRUST,
    group_size: int = GROUP,
) -> Sample:
    """Build an unsigned image in memory."""
    packed, groups = [], []
    for name in sorted(payloads):
        sink = io.BytesIO()
        packed.append(pack_payload(name, io.BytesIO(payloads[name]), sink, group_size))
        groups.append(io.BytesIO(sink.getvalue()))
    manifest = compose_manifest(facts, packed, attachments)
    image = io.BytesIO()
    header = write_image(image, trust, manifest, packed, attachments, groups)
    return Sample(image.getvalue(), header, manifest, payloads)


def document(sample: Sample) -> dict[str, object]:
    """The sample's manifest as JSON data, to change and encode again."""
    data: dict[str, object] = json.loads(sample.manifest_bytes)
    return data
