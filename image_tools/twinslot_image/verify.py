"""Reads an image as a device would: trust, then every group; and what a device leaves to its read-back, too."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from twinslot.core.errors import DeviceError, ImageError, Refusal, RefusedError
from twinslot.core.manifest import Manifest, parse_manifest
from twinslot.image.events import EndOfImage, Event, Group, Head
from twinslot.trust.verdict import TrustPolicy, TrustRequest, TrustTime, Verdict
from twinslot.trust.verify import verify
from twinslot_image.key_documents import parse_metadata
from twinslot_image.named_file import read_small
from twinslot_image.reading import read_events
from twinslot_image.recipients import LOCKED, Unlock

TARGETS = "the targets document, role"  # how a refusal of `trust.verify` begins when the root is another one


@dataclass(frozen=True, slots=True)
class VerifiedImage:
    """What was found good: the manifest, who signed, and how many groups and bytes were read."""

    manifest: Manifest
    verdict: Verdict
    groups: int
    size: int


def verify_image(
    path: Path,
    root: bytes,
    policy: TrustPolicy,
    now: datetime,
    on_progress: Callable[[int], None] = lambda _: None,
    *,
    kept: bytes | None = None,
    unlock: Unlock = LOCKED,
) -> VerifiedImage:
    """Everything there is to check about an image file.

    Args:
        path: The image.
        root: The root document that the device trusts.
        policy: What it demands.
        now: In UTC.
        on_progress: Called with the bytes read so far.
        kept: The targets document that the device trusted last; None for a device that has none.
        unlock: Opens an encrypted image.

    Raises:
        ImageError: Damaged or malformed, naming the section.
        RefusedError: Not trusted, with every reason.
    """
    check = _Check(root, policy, now, kept)
    for event in read_events(path, check.believe, unlock, on_progress):
        check.take(event)
    return check.finish()


def read_root(path: Path) -> bytes:
    """A root document, as a device has it.

    Raises:
        DeviceError: `device.trust-root`: the file is none.
    """
    hint = "give the root that the device was made with, '1.root.json' in the key directory"
    data = read_small(path)
    if found := _not_of_kind(data, "root"):
        what = f"'{path}' is no root document"
        raise DeviceError(what, code="trust-root", found=found, hint=hint)
    return data


def read_targets(path: Path) -> bytes:
    """A targets document, as a device keeps it.

    Raises:
        DeviceError: `device.trust-targets`: the file is none.
    """
    hint = "give the 'targets.json' that the device's last image was built with"
    data = read_small(path)
    if found := _not_of_kind(data, "targets"):
        what = f"'{path}' is no targets document"
        raise DeviceError(what, code="trust-targets", found=found, hint=hint)
    return data


def _not_of_kind(data: bytes, kind: str) -> str | None:
    """What it is instead; None: it is of this kind."""
    try:
        found = parse_metadata(data, kind).signed.type
    except ImageError:
        return "no document of that form"
    return None if found == kind else f"a {found} document"


@contextmanager
def naming_root(path: Path) -> Iterator[None]:
    """Errors about a root name the file, since here is no device that has one."""
    try:
        yield
    except DeviceError as e:
        if e.code != "device.trust-root":
            raise
        raise DeviceError(f"'{path}' is damaged", code="trust-root", found=e.found) from e
    except RefusedError as e:
        if not any(
            reason.code == "signatures" and reason.message.startswith(TARGETS) and reason.found == "0"
            for reason in e.reasons
        ):
            raise
        what, hint = f"this image was made with other keys than '{path}'", "see 'twinslot-image keys list'"
        raise RefusedError((Refusal("other-keys", what, hint=hint), *e.reasons)) from e


class _Check:
    """Collects what the reader says, and holds each payload to its whole digest."""

    def __init__(self, root: bytes, policy: TrustPolicy, now: datetime, kept: bytes | None) -> None:
        self._root, self._policy, self._now, self._kept = root, policy, now, kept
        self._hashes: dict[str, hashlib._Hash] = {}
        self._groups = 0
        self._verdict: Verdict | None = None
        self._manifest: Manifest | None = None
        self._size = 0

    def take(self, event: Event | EndOfImage) -> None:
        if isinstance(event, Group):
            self._groups += 1
            self._hashes[event.payload.name].update(event.data)
        elif isinstance(event, EndOfImage):
            self._size = event.size

    def believe(self, head: Head) -> Manifest:
        epoch = datetime.fromtimestamp(0, UTC)
        time = TrustTime(self._now, epoch, epoch)
        request = TrustRequest(self._root, head.trust, head.manifest, self._policy, time, kept_targets=self._kept)
        self._verdict = verify(request)
        self._manifest = parse_manifest(head.manifest)
        self._hashes = {payload.name: hashlib.sha256() for payload in self._manifest.payloads}
        return self._manifest

    def finish(self) -> VerifiedImage:
        assert self._manifest
        assert self._verdict
        for payload in self._manifest.payloads:
            found = self._hashes[payload.name].hexdigest()
            if found != payload.digest:
                what = f"payload '{payload.name}': digest of the whole"
                raise ImageError(what, code="payload", expected=payload.digest, found=found)
        return VerifiedImage(self._manifest, self._verdict, self._groups, self._size)
