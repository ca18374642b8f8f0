"""Patches: how a device makes a new payload out of the one it runs (docs/patch-format.md). Pure; no I/O of its own.

A patch is not signed. What it says of digests is believed only after the list that they complete has the digest in the
signed manifest, and what it decodes to is believed group by group against that list (S2). Its frames are decoded in the
unprivileged worker alone, with memory and output capped. The order of use:

    length = patch_head_length(first PATCH_HEADER_SIZE bytes)
    head = parse_patch_head(first `length` bytes)
    part = head.payload("rootfs")
    new_list = check_plain_list(payload, part.new_plain_list(base_list))   # bundle.groups: the signed digest decides
    for index, plain in PatchDecoder(part, new_list, read_base).groups(chunks):
        ...                                                                # plain is None: fetch it from the image
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

PATCH_HEADER_SIZE: Final = 32  # bytes; section 2

ReadBase = Callable[[int, int], bytes]  # (offset, length), both in bytes of the base payload


@dataclass(frozen=True, slots=True)
class ChangedGroup:
    """One group that the base does not hold at the same place: its number, and the 32 bytes of its plain digest."""

    index: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of the patch that is decoded alone, so that an interrupted fetch starts again at a piece.

    Attributes:
        offset: Of its first byte, from the start of the patch file.
        length: Bytes stored, at most `PIECE_MAX`.
        first: Position of its first group in `PayloadPatch.changed`.
        count: How many groups it makes, one after another.
    """

    offset: int
    length: int
    first: int
    count: int


@dataclass(frozen=True, slots=True)
class PayloadPatch:
    """What a patch says of one payload; nothing of it is signed.

    Attributes:
        name: Of the payload.
        base: SHA-256 of the base payload, 64 hex digits: whether this device runs the base at all.
        base_size: Bytes of the base payload.
        plain_list: SHA-256 of the new payload's plain list, 64 hex digits; equals the manifest's, or the patch belongs
            to another image.
        size: Bytes of the new payload.
        group_size: Bytes.
        changed: In ascending order; all groups beyond the end of the base are among them.
        pieces: In the order of the file, without gaps.
    """

    name: str
    base: str
    base_size: int
    plain_list: str
    size: int
    group_size: int
    changed: Sequence[ChangedGroup]
    pieces: Sequence[Piece]

    def new_plain_list(self, base_list: bytes) -> bytes:
        """The new payload's plain list: the base's, with the changed digests put in.

        Args:
            base_list: The device's own plain list of the base, 32 bytes for each group.

        Returns:
            The list, not yet believed: `bundle.groups.check_plain_list` holds it to the signed digest.

        Raises:
            BundleError: `bundle.patch-base`: the list has not one digest for each group of the base.
        """
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class PatchHead:
    """Header, table and digests of a patch: all that stands before the first piece.

    Attributes:
        length: Bytes of the head, which starts the file.
        total: Bytes of the whole patch file.
        payloads: In the order of names, as in the manifest. A payload that did not change is there without groups.
    """

    length: int
    total: int
    payloads: tuple[PayloadPatch, ...]

    def payload(self, name: str) -> PayloadPatch:
        """The part for one payload.

        Raises:
            KeyError: The patch has none for it.
        """
        raise NotImplementedError


def patch_head_length(data: bytes) -> int:
    """How many bytes `parse_patch_head` needs, from the first `PATCH_HEADER_SIZE` bytes of the file; bounded.

    Raises:
        BundleError: `bundle.truncated`, `bundle.patch-header` (not a patch, or a format this client does not know) or
            `bundle.length` (above its bound).
    """
    raise NotImplementedError


def parse_patch_head(data: bytes) -> PatchHead:
    """Read the head of a patch; `data` starts with it and may go on.

    Raises:
        BundleError: As `patch_head_length`, or `bundle.patch-table`.
    """
    raise NotImplementedError


class PatchDecoder:
    """Makes the changed groups of one payload.

    Memory stays below 1 MiB for groups of 64 KiB, whatever the patch says.

    Args:
        part: From the head.
        plain_list: The new payload's whole plain list, once it had the digest in the signed manifest.
        read_base: Reads the base payload. May return less at the end of the medium; may raise OSError, which is taken
            as a damaged base.
    """

    def __init__(self, part: PayloadPatch, plain_list: bytes, read_base: ReadBase) -> None:
        raise NotImplementedError

    def piece(self, number: int, stored: bytes) -> Iterator[tuple[int, bytes | None]]:
        """The groups of one piece, each as (index, plain content).

        Content that does not have its digest in the list never leaves: the group comes as (index, None), and so do the
        rest of a piece whose frames are damaged. Such a group must come from the image.

        Args:
            number: Of the piece.
            stored: Its bytes, exactly `Piece.length`.
        """
        raise NotImplementedError

    def groups(self, chunks: Iterable[bytes], first: int = 0) -> Iterator[tuple[int, bytes | None]]:
        """The groups of all pieces from `first` on, in the order of the file.

        Args:
            chunks: The bytes of the patch from the offset of that piece on, cut anyhow; what follows the payload's last
                piece is not taken.
            first: Number of the piece to start with.

        Raises:
            BundleError: `bundle.truncated`: the chunks end before the last piece does.
        """
        raise NotImplementedError
