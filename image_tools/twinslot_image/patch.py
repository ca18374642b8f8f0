"""Makes the patch from one image to the next: find, choose, pack, and try it out (docs/patch-format.md)."""

from __future__ import annotations

import hashlib
import itertools
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from twinslot.core.bounds import DIGEST_SIZE
from twinslot.core.errors import ImageError, Refusal, RefusedError
from twinslot.image.lzma2 import CONTROL_WINDOW, pack
from twinslot.image.patch import PatchHead, patch_name
from twinslot.image.wire_patch import (
    PATCH_VERSION,
    PLAIN_VERSION,
    PatchHeader,
    PayloadEntry,
    build_patch_header,
    build_patch_table,
    build_varints,
)
from twinslot_image.encryption import content_key
from twinslot_image.outputs import Target
from twinslot_image.patch_check import check_patch
from twinslot_image.patch_pieces import Pieces, make_pieces
from twinslot_image.patch_search import PatchSearch, Report
from twinslot_image.patch_sources import Content, is_image, read_content, unpack_image
from twinslot_image.progress import size_text
from twinslot_image.recipients import LOCKED, Unlock
from twinslot_image.replacement import workspace
from twinslot_image.sealing import seal_file


@dataclass(frozen=True, slots=True)
class _Part:
    base: Content
    target: Content
    changed: Sequence[int]
    made: Pieces

    @property
    def digests(self) -> bytes:
        return b"".join(self.target.plain_list[i * DIGEST_SIZE : (i + 1) * DIGEST_SIZE] for i in self.changed)


def make_patch(
    old: Path,
    new: Path,
    target: Target,
    report: Report = lambda *_: None,
    limit: int | None = None,
    unlock: Unlock = LOCKED,
    newest: int = PATCH_VERSION,
) -> PatchHead:
    """Make a patch, and apply it once before it appears under its name. The same inputs give the same bytes.

    Args:
        old: The base: an image, or the content of the partition for an image with one payload.
        new: The image that devices are to have.
        target: Where the patch goes; in a directory it gets the name under which devices look for it.
        report: Called now and then.
        limit: Bytes that the patch must stay below to be worth it; None: whatever it takes.
        unlock: Opens encrypted images. The patch of one is sealed with its content key.
        newest: Format that the patch may be of; it gets the oldest that can say it.

    Returns:
        The head of the finished patch.

    Raises:
        ImageError: An image is damaged; `image.patch-pair`: the two have not the same payloads.
        RefusedError: `refused.patch-useless`: it would not be smaller than the image.
    """
    content = content_key(new, unlock)
    with workspace(target.folder) as folder:
        pairs = _open_pair(old, new, folder, report, unlock)
        target.rename(patch_name(new.name, pairs[0][0].digest))
        searches = [(*pair, PatchSearch(*pair, folder, newest)) for pair in pairs]
        if limit is not None and all(search.has_nothing() for _, _, search in searches):
            raise _useless(old, limit, "a base that has nothing of it")
        parts = [_make_part(*search, folder / f"pieces{number}", report) for number, search in enumerate(searches)]
        draft = folder / "patch"
        with draft.open("wb") as sink:
            _write(sink, parts)
        if limit is not None and (size := draft.stat().st_size) >= limit:
            raise _useless(old, limit, size_text(size))
        head = check_patch(draft, pairs, report)
        with draft.open("rb") as source, target.writing() as sink:
            if content:
                sink.writelines(seal_file(content, source, head.total))
            else:
                shutil.copyfileobj(source, sink)
    return head


def _open_pair(old: Path, new: Path, folder: Path, report: Report, unlock: Unlock) -> list[tuple[Content, Content]]:
    targets = _unpack(new, folder / "new", report, unlock)
    if is_image(old):
        sources = _unpack(old, folder / "old", report, unlock)
    elif len(targets) == 1:
        sources = {name: Content(name, old, 0, "", 0, b"") for name in targets}
    else:
        raise _bad_pair("an image as the base of an image with several payloads", f"'{old}'")
    if sources.keys() != targets.keys():
        raise _bad_pair(", ".join(targets), ", ".join(sources))
    pairs = []
    for name, target in sorted(targets.items()):
        file = sources[name].file
        on_progress = partial(_report_done, report, "hashing", file.stat().st_size)
        pairs.append((read_content(name, file, target.group_size, on_progress), target))
    return pairs


def _unpack(path: Path, folder: Path, report: Report, unlock: Unlock) -> dict[str, Content]:
    folder.mkdir()
    return unpack_image(path, folder, partial(_report_done, report, "unpacking", path.stat().st_size), unlock)


def _report_done(report: Report, what: str, total: int, done: int) -> None:
    report(what, done, total)


def _bad_pair(expected: str, found: str) -> ImageError:
    return ImageError("the payloads of the two images", code="patch-pair", expected=expected, found=found)


def _useless(old: Path, limit: int, found: str) -> RefusedError:
    what, wanted = f"a patch from '{old}' is no smaller than the image itself", f"less than {size_text(limit)}"
    hint = "name the release that the devices run as the base"
    return RefusedError(Refusal("patch-useless", what, wanted, found, hint))


def _make_part(base: Content, target: Content, search: PatchSearch, place: Path, report: Report) -> _Part:
    changed = list(_changed_groups(base, target))
    return _Part(base, target, changed, make_pieces(search, changed, place, report) if changed else Pieces(place, ()))


def _changed_groups(base: Content, target: Content) -> Iterator[int]:
    for index in range(len(target.plain_list) // DIGEST_SIZE):
        place = slice(index * DIGEST_SIZE, (index + 1) * DIGEST_SIZE)
        if base.plain_list[place] != target.plain_list[place]:
            yield index


def _entry(part: _Part, version: int) -> PayloadEntry:
    numbers, at = list[int](), 0
    for _, run in itertools.groupby(enumerate(part.changed), lambda pair: pair[1] - pair[0]):
        members = [index for _, index in run]
        numbers += [members[0] - at, len(members)]
        at = members[-1] + 1
    target = part.target
    return PayloadEntry(
        name=target.name,
        base=bytes.fromhex(part.base.digest),
        base_size=part.base.size,
        plain_list=hashlib.sha256(target.plain_list).digest(),
        size=target.size,
        group_size=target.group_size,
        changed=len(part.changed),
        pieces=len(part.made.numbers),
        runs=build_varints(numbers),
        columns=build_varints(number for piece in part.made.numbers for number in piece.columns(version)),
    )


def _write(sink: BinaryIO, parts: Sequence[_Part]) -> None:
    """In the oldest format that can say it, which older clients read, too."""
    version = max((piece.version for part in parts for piece in part.made.numbers), default=PLAIN_VERSION)
    table = build_patch_table(_entry(part, version) for part in parts)
    packed, digests = pack(table, CONTROL_WINDOW), b"".join(part.digests for part in parts)
    stored = sum(part.made.length for part in parts)
    header = PatchHeader(version, len(packed), len(table), len(digests) // DIGEST_SIZE, stored)
    sink.writelines((build_patch_header(header), packed, digests))
    for part in parts:
        if part.made.numbers:
            with part.made.file.open("rb") as source:
                shutil.copyfileobj(source, sink)
