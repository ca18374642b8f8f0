"""What a repository offers: releases are added, spread over waves, halted, made barriers, recalled."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from twinslot.core.errors import ImageError, Refusal, RefusedError
from twinslot.core.manifest import Manifest, parse_manifest
from twinslot.core.offer import Offer, Offered, parse_offers
from twinslot.core.recall import recall_of
from twinslot.core.waves import WHOLE
from twinslot.image.wire_blocks import BLOCKS_SUFFIX
from twinslot_image.compose import read_front
from twinslot_image.replacement import replacing
from twinslot_image.repository_files import Listed, RepositoryDirectory, read_listed, save_listed

_CHUNK: Final = 1 << 20  # bytes
TIME: Final = "%Y-%m-%dT%H:%M:%SZ"


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
    for name in manifest.compatible:
        offers = listed.offers.setdefault(name, [])
        known = next((each for each in offers if each["sequence"] == offer["sequence"]), None)
        if known is None:
            offers.append(offer)
        elif known["manifest"] != offer["manifest"]:
            what = f"another image with sequence {offer['sequence']} is offered to '{name}'"
            hint = "give the new one a higher sequence"
            raise RefusedError(Refusal("sequence-taken", what, known["manifest"], offer["manifest"], hint))
    for offers in listed.offers.values():
        offers.sort(key=lambda each: each["sequence"])
    _check(listed)
    files = [image, *_beside(image)]
    for path in files:
        _copy(path, directory.images / path.name)
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


@dataclass(frozen=True, slots=True)
class PlannedWave:
    """One wave as the maker says it.

    Attributes:
        share: Millionths of the fleet.
        start: In UTC.
        spread: Seconds.
        more: `approved_by`, `networks`, `rings` (names) and `end` (a time as text), as far as they are given.
    """

    share: int
    start: datetime
    spread: int
    more: dict[str, Any]

    def listed(self) -> dict[str, Any]:
        """As devices read it."""
        return {"share": self.share, "spread": self.spread, "start": self.start.strftime(TIME)} | self.more


def set_waves(directory: RepositoryDirectory, release: str, waves: list[PlannedWave]) -> int:
    """Spread a release over waves, or offer it to all at once again; how many device types that is for.

    Args:
        directory: Of the repository.
        release: Its name.
        waves: In their order; none: all at once.

    Raises:
        RefusedError: `refused.release-unknown`; `refused.waves`: more than all devices together, or not in order.
        ImageError: `image.offers`: a wave that no device would read.
    """
    total, starts = sum(wave.share for wave in waves), [wave.start for wave in waves]
    if total > WHOLE or starts != sorted(starts):
        found = f"{total / (WHOLE / 100):g} %" if total > WHOLE else "a wave before the one that it follows"
        raise RefusedError(
            Refusal("waves", "the waves make no sense", "100 % or less, each after the one before", found)
        )
    return _change(directory, release, "waves", [wave.listed() for wave in waves])


def halt_release(directory: RepositoryDirectory, release: str, reason: str) -> int:
    """No device takes it any more, as soon as it has heard; an empty reason offers it again. Returns as `set_waves`."""
    return _change(directory, release, "halted", reason)


def set_barrier(directory: RepositoryDirectory, release: str, *, barrier: bool) -> int:
    """No device passes this release by, or each may again. Returns as `set_waves`."""
    return _change(directory, release, "barrier", barrier)


def recall_release(directory: RepositoryDirectory, release: str, reason: str, successor: str, sequence: int) -> int:
    """No device may run this release any more; how many device types that is for.

    Args:
        directory: Of the repository.
        release: Its name.
        reason: Why; devices show it. Empty: the recall is lifted.
        successor: Name of the release that takes its place; empty: none is named.
        sequence: Of a release that was never offered here; 0: it is offered, and its image alone is meant.

    Raises:
        RefusedError: `refused.release-unknown`.
    """
    listed = read_listed(directory)
    count = 0
    for name in listed.names:
        kept = [each for each in listed.recalls.get(name, []) if each["name"] != release]
        lifted = len(kept) < len(listed.recalls.get(name, []))
        offers = listed.offers.get(name, [])
        recall = _recall(offers, release, successor, sequence)
        if not reason:
            count += lifted
        elif recall:
            kept.append(recall | {"reason": reason})
            count += 1
        listed.recalls[name] = sorted(kept, key=lambda each: (each["sequence"], each["name"]))
    if not count:
        raise _unknown(listed, release, "recalled" if not reason else "offered")
    _check(listed)
    save_listed(directory, listed)
    return count


def _recall(offers: list[dict[str, Any]], release: str, successor: str, sequence: int) -> dict[str, Any]:
    """Empty: this type of device has no such release, or no such successor."""
    offered = {each["name"]: each for each in offers}
    if successor and successor not in offered:
        return {}
    follows = {"successor": offered[successor]["sequence"]} if successor else {}
    if sequence:
        return {"name": release, "sequence": sequence} | follows
    known = offered.get(release)
    return {"manifest": known["manifest"], "name": release, "sequence": known["sequence"]} | follows if known else {}


def _unknown(listed: Listed, release: str, how: str) -> RefusedError:
    names = {each["name"] for offers in listed.offers.values() for each in offers}
    known = ", ".join(sorted(names)) or "(none)"
    return RefusedError(Refusal("release-unknown", f"no release '{release}' is {how}", known, release))


def dead_ends(listed: Listed) -> dict[str, list[str]]:
    """By device type the releases that are offered and from which no way leads to the newest one that is."""
    found: dict[str, list[str]] = {}
    for name, document in listed.documents().items():
        offered = parse_offers(document)
        open_ = [each for each in offered.offers if not each.halted and not _is_recalled(each, offered)]
        if open_:
            newest = max(each.sequence for each in open_)
            reached = {newest}
            for each in sorted(offered.offers, key=lambda offer: offer.sequence, reverse=True):
                ways = (to for to in open_ if to.sequence in reached and to.sequence > each.sequence)
                if any(to.lowest <= each.sequence <= to.highest for to in ways):
                    reached.add(each.sequence)
            lost = [each.name for each in offered.offers if each.sequence < newest and each.sequence not in reached]
            found |= {name: lost} if lost else {}
    return found


def _is_recalled(offer: Offer, offered: Offered) -> bool:
    return recall_of(offered.recalls, offer.sequence, offer.manifest) is not None


def find_offer(listed: Listed, release: str) -> dict[str, Any]:
    """What is offered under this name.

    Raises:
        RefusedError: `refused.release-unknown`.
    """
    for offers in listed.offers.values():
        for each in offers:
            if each["name"] == release:
                return each
    raise _unknown(listed, release, "offered")


def _change(directory: RepositoryDirectory, release: str, key: str, value: Any) -> int:
    listed = read_listed(directory)
    found = [each for offers in listed.offers.values() for each in offers if each["name"] == release]
    if not found:
        raise _unknown(listed, release, "offered")
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
        for document in listed.documents().values():
            parse_offers(document)
    except ValueError as e:
        raise ImageError("this cannot be offered", code="offers", found="text that is not UTF-8") from e
