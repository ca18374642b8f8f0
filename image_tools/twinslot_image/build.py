"""Builds an unsigned image from its description. The same inputs give the same bytes."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO, Final

from twinslot.core.bounds import ATTACHMENT_SIZE_MAX
from twinslot.core.errors import ImageError, Refusal, RefusedError
from twinslot.core.manifest import ENCRYPTION
from twinslot.image.wire import Header
from twinslot_image.binaries import Looked
from twinslot_image.compose import AttachedFile, ReleaseFacts, compose_manifest, write_image
from twinslot_image.description import Description, PayloadSource
from twinslot_image.file_digest import file_digest
from twinslot_image.gate.bound import bound, require_roles
from twinslot_image.gate.judge import Contents, judge
from twinslot_image.keys import load_trust
from twinslot_image.named_file import NamedFile, read_small
from twinslot_image.outputs import Target
from twinslot_image.pack import PackedPayload, group_size_for, pack_payload
from twinslot_image.progress import ProgressLine
from twinslot_image.recipients import read_encryption
from twinslot_image.replacement import spool
from twinslot_image.rootfs import Checked, check_rootfs
from twinslot_image.sbom.attach import make_sboms, sbom_names
from twinslot_image.signing_time import clock

_BUILD_TIME_MAX: Final = 250246627200 - 1  # seconds to the year 9900: dates that count from it still have four digits


@dataclass(frozen=True, slots=True)
class Built:
    """An image's header, and what the check of each root file system looked at, by payload."""

    header: Header
    looked: Mapping[str, Looked]


def build_image(description: Description, target: Target, now: datetime) -> Built:
    """Check, pack and write an image. It appears under its name whole or not at all.

    Args:
        description: What it is made of.
        target: Where it goes.
        now: When it is built, in UTC, whole seconds; `build_time` says.

    Raises:
        ImageError: Something in the description cannot be made into an image.
        RefusedError: A root file system is for another architecture, or lacks a library that a program needs or a unit
            that judges the release; every reason at once. Or its policy is not met, with every reason.
        DeviceError: No keys, or a program is missing.
    """
    trust = load_trust(description.trust)
    if description.policy:
        require_roles(description.policy, trust.targets)
    attachments = [AttachedFile(a.name, a.media_type, _attached(a.file), a.type) for a in description.attachments]
    encryption = read_encryption(description.recipients, description.cipher) if description.recipients else None
    facts = _facts(description, now)
    # Mistakes in names and numbers show before minutes go into packing.
    names = [_placeholder(source.name) for source in description.payloads]
    compose_manifest(facts, names, [*attachments, *(AttachedFile(n, "a/b", b"-") for n in sbom_names(description))])
    looked = _check_payloads(description)
    attachments += make_sboms(description, now)
    _require_policy(description, attachments)
    with ExitStack() as stack:
        packed, groups = [], []
        for source in description.payloads:
            file = stack.enter_context(spool(target.folder))
            packed.append(_pack(source, description, file))
            file.seek(0)
            groups.append(file)
        manifest = compose_manifest(facts, packed, attachments)
        with target.writing() as sink:
            header = write_image(sink, trust, manifest, packed, attachments, groups, encryption)
    return Built(header, looked)


def build_time(environ: Mapping[str, str]) -> datetime:
    """When the build happens: `SOURCE_DATE_EPOCH` (reproducible-builds.org specification) or the clock.

    Raises:
        ImageError: `image.description`: the variable is no number of seconds.
        RefusedError: `refused.clock`: without the variable, and with a clock that nobody has set.
    """
    text = environ.get("SOURCE_DATE_EPOCH")
    if text is None:
        return clock()
    try:
        if not 0 <= (seconds := int(text)) <= _BUILD_TIME_MAX:
            raise ValueError
        return datetime.fromtimestamp(seconds, UTC)
    except ValueError as e:
        what, expected = "the variable 'SOURCE_DATE_EPOCH' is wrong", "seconds since 1970, before the year 9900"
        raise ImageError(what, code="description", expected=expected, found=text[:40]) from e


def _facts(description: Description, now: datetime) -> ReleaseFacts:
    return ReleaseFacts(
        product=description.product,
        release=description.release,
        sequence=description.sequence,
        epoch=description.epoch,
        type=description.type,
        compatible=description.compatible,
        checks=description.checks,
        built=now,
        expires=_expiry(description, now),
        hardware=description.hardware,
        variants=description.variants,
        taken_from=description.taken_from,
        source=description.source,
        change=description.change,
        requires=(ENCRYPTION,) if description.recipients else (),
        policy=bound(description.policy) if description.policy else {},
    )


def _require_policy(description: Description, attachments: list[AttachedFile]) -> None:
    """A policy that names roles is asked when they sign; one that names none is asked here."""
    policy = description.policy
    if policy is None or policy.roles:
        return
    payloads = {source.name: file_digest(source.file) for source in description.payloads}
    contents = Contents(description.product, description.release, payloads, tuple(attachments))
    if reasons := judge(policy, contents):
        raise RefusedError(reasons)


def _placeholder(name: str) -> PackedPayload:
    return PackedPayload(name, 1, "0" * 64, 4096, b"", b"", 0)


def _check_payloads(description: Description) -> dict[str, Looked]:
    reasons: tuple[Refusal, ...] = ()
    looked = {}
    for source in description.payloads:
        if not source.file.is_file():
            raise _no_file(source.file)
        if source.check == "rootfs":
            checked = _check(source, description.architecture)
            reasons += checked.reasons
            looked[source.name] = checked.looked
    if reasons:
        raise RefusedError(reasons)
    return looked


def _check(source: PayloadSource, architecture: str) -> Checked:
    with ProgressLine(f"checking {source.name}", 0, "files") as progress:
        return check_rootfs(source.file, architecture, source.foreign, progress.update)


def _pack(source: PayloadSource, description: Description, sink: BinaryIO) -> PackedPayload:
    try:
        with NamedFile(os.open(source.file, os.O_RDONLY), source.file, "rb") as raw, io.BufferedReader(raw) as file:
            total = os.fstat(file.fileno()).st_size
            with ProgressLine(f"packing {source.name}", total) as progress:
                return pack_payload(
                    source.name,
                    file,
                    sink,
                    description.group_size or group_size_for(total),
                    level=description.level,
                    type_=source.type,
                    on_progress=progress.update,
                )
    except OSError as e:
        if e.filename != str(source.file):
            raise  # of what is written
        raise _unreadable(source.file, e) from e


def _expiry(description: Description, now: datetime) -> datetime:
    expires = description.expires or now + timedelta(days=description.valid_days)
    if expires <= now:
        what, expected = "the image would be stale when it is built", f"'expires' after {now:%Y-%m-%dT%H:%M:%SZ}"
        raise ImageError(what, code="description", expected=expected, found=f"{expires:%Y-%m-%dT%H:%M:%SZ}")
    return expires


def _attached(path: Path) -> bytes:
    data = _read(path)
    if not 1 <= len(data) <= ATTACHMENT_SIZE_MAX:
        what = f"'{path}', which the description names, cannot be attached"
        expected = f"1 to {ATTACHMENT_SIZE_MAX} bytes"
        raise ImageError(what, code="description", expected=expected, found=str(len(data)))
    return data


def _read(path: Path) -> bytes:
    try:
        return read_small(path)
    except OSError as e:
        raise _unreadable(path, e) from e


def _no_file(path: Path) -> ImageError:
    if not path.exists():
        return _unreadable(path, FileNotFoundError())
    found = "a directory" if path.is_dir() else "a device, pipe or socket"
    what = f"'{path}', which the description names, is no regular file"
    return ImageError(what, code="description", found=found)


def _unreadable(path: Path, error: OSError) -> ImageError:
    if isinstance(error, FileNotFoundError):
        return ImageError(f"there is no file '{path}', which the description names", code="description")
    what = f"'{path}', which the description names, cannot be read"
    return ImageError(what, code="description", found=error.strerror or "an error")
