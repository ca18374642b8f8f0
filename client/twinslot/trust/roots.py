"""The chain of roots: from the one that was built in, over those that the device kept, to those that an image brings.

What the device keeps stands on a medium that others may write. So the kept roots are no anchor: each time they are
walked from the built-in root, and what does not follow from it is not used (S24).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from twinslot.core.errors import DeviceError, ImageError, Refusal, RefusedError, TwinslotError
from twinslot.core.fields import bad
from twinslot.trust.documents import Document, count_signatures, read_root, refuse, signed_part, too_few
from twinslot.trust.keys import SECTION, refuse_role
from twinslot.trust.replaced import Step, refuse_outranked, top_roles


@dataclass(frozen=True, slots=True)
class Walk:
    """From the built-in root over those that were kept.

    Attributes:
        newest: Where it ends: what the roots of an image must lead on from.
        fit: How many of the kept roots follow, from the first on. Those that are not newer than the built-in one count
            as following: another system of this device may have an older one built in.
        stopped: Why the next one does not follow; None: all do.
    """

    newest: Document
    fit: int
    stopped: TwinslotError | None


# keeps: S24
def walk(built_in: bytes, kept: tuple[bytes, ...]) -> Walk:
    """Start at the built-in root, and go as far as the kept ones lead.

    Raises:
        DeviceError: `device.trust-root`: the built-in root cannot be used.
    """
    newest = _read_anchor(built_in)
    start = newest.version
    for fit, data in enumerate(kept):
        try:
            root = read_root(data)
            if root.version > start:
                _check_next(newest, root)
                newest = root
        except (ImageError, RefusedError) as e:
            return Walk(newest, fit, e)
    return Walk(newest, len(kept), None)


def _check_next(before: Document, root: Document) -> None:
    """Raise unless this is the next root. What it outranks of the roles behind was asked when it came with an image."""
    if root.version != before.version + 1:
        raise bad("roots", f"version {before.version + 1}", f"version {root.version}", SECTION)
    refuse(check_root_signatures(before, root))
    count = count_signatures(before, "root", root)
    tops = top_roles(signed_part(before)), top_roles(signed_part(root))
    refuse(refuse_outranked(Step(f"root version {root.version}", "root", count, *tops, behind={})))


def _read_anchor(data: bytes) -> Document:
    try:
        anchor = read_root(data)
        refuse(check_root_signatures(anchor, anchor))
    except (ImageError, RefusedError) as e:
        hint = "restore the root document that the product was built with"
        raise DeviceError("this device's trusted root is damaged", code="trust-root", found=e, hint=hint) from e
    return anchor


# keeps: S16
def follow_chain(anchor: Document, chain: list[Document]) -> list[Document]:
    """The roots of an image that are newer than the anchor, each verified by the one before.

    Raises:
        ImageError: `image.trust`: a hole in the chain.
        RefusedError: It does not reach this device (`refused.root-gap`), or has too few signatures.
    """
    for before, after in pairwise(chain):
        if after.version != before.version + 1:
            raise bad("roots", f"version {before.version + 1}", f"version {after.version}", SECTION)
    newer = [root for root in chain if root.version > anchor.version]
    trusted = anchor
    for root in newer:
        if root.version != trusted.version + 1:
            what, hint = (
                "the image's root chain does not reach this device",
                "install an image with an older chain first",
            )
            raise RefusedError(
                Refusal("root-gap", what, f"root version {trusted.version + 1}", f"root version {root.version}", hint)
            )
        refuse(check_root_signatures(trusted, root))
        trusted = root
    return newer


def check_root_signatures(previous: Document, root: Document) -> tuple[Refusal, ...]:
    """Why a root is not signed as it must be, by the keys of the root before and by its own."""
    reasons = refuse_role(root.roles["root"], f"root version {root.version}, role 'root'")
    reasons += refuse_role(root.roles["targets"], f"root version {root.version}, role 'targets'")
    if reasons:
        return reasons
    for signer in (previous, root):
        result = signer.metadata.signed.get_verification_result("root", root.signed, root.metadata.signatures)
        if not result:
            reasons += (too_few(f"root version {root.version}, by the keys of version {signer.version}", result),)
    return reasons
