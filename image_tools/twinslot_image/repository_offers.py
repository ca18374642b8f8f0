"""What a repository offers: releases are added, spread over waves, halted."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from twinslot.core.errors import ImageError, Refusal, RefusedError
from twinslot.core.manifest import Manifest, parse_manifest
from twinslot.core.offer import parse_offers
from twinslot.core.waves import WHOLE
from twinslot.image.wire_blocks import BLOCKS_SUFFIX
from twinslot_image.compose import read_front
from twinslot_image.replacement import replacing
from twinslot_image.repository_files import Listed, RepositoryDirectory, offers_document, read_listed, save_listed

_CHUNK: Final = 1 << 20  # bytes
_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"


def add_release(directory: RepositoryDirectory, image: Path) -> tuple[Manifest, list[str]]:
    """Copy an image and the files beside it to where they are served, and offer it to the device types that it names.

    Survives a power cut: files come first, each whole or not at all; then the release is listed.

    Raises:
        ImageError: It is no image, or its name cannot be served (`image.offers`).
        RefusedError: `refused.image-exists`: other content stands there under this name; `refused.sequence-taken`:
            another image of this sequence is offered.
    """
    listed = read_listed(directory)
    with image.open("rb") as file:
        front = read_front(file)
    manifest = parse_manifest(front.manifest)
    offer = _offer(manifest, f"images/{image.name}", front.header.total)
    parse_offers(offers_document([offer]))
    for name in manifest.compatible:
        offers = listed.setdefault(name, [])
        known = next((each for each in offers if each["sequence"] == offer["sequence"]), None)
        if known is None:
            offers.append(offer)
        elif known["manifest"] != offer["manifest"]:
            what = f"another image with sequence {offer['sequence']} is offered to '{name}'"
            hint = "give the new one a higher sequence"
            raise RefusedError(Refusal("sequence-taken", what, known["manifest"], offer["manifest"], hint))
    files = [image, *_beside(image)]
    for path in files:
        _copy(path, directory.images / path.name)
    for offers in listed.values():
        offers.sort(key=lambda each: each["sequence"])
    save_listed(directory, listed)
    return manifest, [path.name for path in files]


def _offer(manifest: Manifest, path: str, size: int) -> dict[str, Any]:
    release = manifest.release
    offer: dict[str, Any] = {
        "epoch": release.epoch,
        "image": path,
        "manifest": manifest.digest,
        "name": release.name,
        "sequence": release.sequence,
        "size": size,
    }
    if (limits := manifest.taken_from) is not None:
        offer["from"] = {"highest": limits.highest, "lowest": limits.lowest}
    return offer


def _beside(image: Path) -> Iterator[Path]:
    """Block list and patches, by the names under which devices look for them."""
    if (blocks := image.with_suffix(BLOCKS_SUFFIX)).is_file():
        yield blocks
    yield from sorted(
        path for path in image.parent.glob(f"{_plain_glob(image.stem)}.from-*.twinpatch") if path.is_file()
    )


def _plain_glob(text: str) -> str:
    """A name in which nothing stands for anything else."""
    return "".join(f"[{char}]" if char in "*?[" else char for char in text)


def _copy(source: Path, target: Path) -> None:
    """Unless it is there already.

    Raises:
        RefusedError: `refused.image-exists`.
    """
    if target.exists():
        if _digest(source) != _digest(target):
            what, hint = f"'{target}' stands there with other content", "give the new file another name"
            raise RefusedError(Refusal("image-exists", what, hint=hint))
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as file, replacing(target) as sink:
        shutil.copyfileobj(file, sink, _CHUNK)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def set_waves(directory: RepositoryDirectory, release: str, waves: list[tuple[int, datetime, int]]) -> int:
    """Spread a release over waves, or offer it to all at once again; how many device types that is for.

    Args:
        directory: Of the repository.
        release: Its name.
        waves: Share in millionths, start in UTC, spread in seconds; none: all at once.

    Raises:
        RefusedError: `refused.release-unknown`; `refused.waves`: more than all devices together, or not in order.
    """
    total, starts = sum(share for share, _, _ in waves), [start for _, start, _ in waves]
    if total > WHOLE or starts != sorted(starts):
        found = f"{total / (WHOLE / 100):g} %" if total > WHOLE else "a wave before the one that it follows"
        raise RefusedError(
            Refusal("waves", "the waves make no sense", "100 % or less, each after the one before", found)
        )
    written = [{"share": share, "spread": spread, "start": start.strftime(_TIME)} for share, start, spread in waves]
    return _change(directory, release, "waves", written)


def halt_release(directory: RepositoryDirectory, release: str, reason: str) -> int:
    """No device takes it any more, as soon as it has heard; an empty reason offers it again. Returns as `set_waves`."""
    return _change(directory, release, "halted", reason)


def _change(directory: RepositoryDirectory, release: str, key: str, value: Any) -> int:
    listed = read_listed(directory)
    found = [each for offers in listed.values() for each in offers if each["name"] == release]
    if not found:
        known = ", ".join(sorted({each["name"] for offers in listed.values() for each in offers})) or "(none)"
        raise RefusedError(Refusal("release-unknown", f"no release '{release}' is offered", known, release))
    for each in found:
        each.pop(key, None)
        if value:
            each[key] = value
    _check(listed)
    save_listed(directory, listed)
    return len(found)


def _check(listed: Listed) -> None:
    """By the very rules of a device.

    Raises:
        ImageError: `image.offers`.
    """
    try:
        for offers in listed.values():
            parse_offers(offers_document(offers))
    except ValueError as e:
        raise ImageError("this cannot be offered", code="offers", found="text that is not UTF-8") from e
