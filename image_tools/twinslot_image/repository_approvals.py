"""Approvals: a role of the repository signs that a release may go to a share of the fleet.

One file for each role, `DIR/approvals/ROLE.json`: a targets document of TUF that is signed by the role alone, and names
one target, the document that devices read (core/approvals.py). It holds that document, too, so that both are written
together. Whoever approves needs the keys of this role and no others; where several must sign, each gives the same
command with the own key, on the same file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from tuf.api.exceptions import UnsignedMetadataError
from tuf.api.metadata import Metadata, TargetFile, Targets  # type: ignore[attr-defined]  # marked as export nowhere

from twinslot.core.approvals import approvals_path, parse_approvals, reach_of
from twinslot.core.canonical import encode
from twinslot.core.errors import Refusal, RefusedError
from twinslot.core.waves import WHOLE
from twinslot_image.compose import SPEC_VERSION
from twinslot_image.key_change import roles_of
from twinslot_image.key_documents import parse_metadata
from twinslot_image.key_files import open_role
from twinslot_image.replacement import write_whole
from twinslot_image.repository_files import ROLE, RepositoryDirectory, read_listed
from twinslot_image.repository_offers import TIME, find_offer

DAYS: Final = 366  # how long approvals count; devices that wait for one for longer hear of it


@dataclass(frozen=True, slots=True)
class Approved:
    """What came of an approval.

    Attributes:
        reach: Millionths of the fleet that it is for.
        signatures: Valid ones, of how many must be.
        threshold: How many must be.
    """

    reach: int
    signatures: int
    threshold: int


def approve_release(
    directory: RepositoryDirectory,
    release: str,
    role: str,
    waves: int,
    words: Mapping[str, str],
    now: datetime,
    secret: bytes | None,
) -> Approved:
    """Approve a release by the keys of a role that are here, or add their signatures to an approval that waits.

    Args:
        directory: Of the repository.
        release: Its name.
        role: Whose approval.
        waves: Up to and with this wave, from 1; 0: for the whole fleet.
        words: `by` and `meaning`, as far as they are said.
        now: In UTC.
        secret: The passphrase of the private keys.

    Raises:
        RefusedError: `refused.release-unknown`, `refused.role-unknown`, `refused.waves`.
        DeviceError: `device.key`: none of the role's keys is here.
    """
    offer = find_offer(read_listed(directory), release)
    reach = _reach(offer, waves)
    entry = {"manifest": offer["manifest"], "reach": reach, "release": release, "at": now.strftime(TIME), **words}
    return _signed(directory, role, entry, now, secret)


def withdraw_release(
    directory: RepositoryDirectory, release: str, role: str, now: datetime, secret: bytes | None
) -> Approved:
    """Take an approval back. Args and errors as `approve_release`."""
    offer = find_offer(read_listed(directory), release)
    return _signed(directory, role, {"manifest": offer["manifest"], "reach": 0}, now, secret)


def approvals_of(directory: RepositoryDirectory, role: str) -> tuple[Metadata[Targets], bytes] | None:
    """The signed document and what devices read of it; None: the role has approved nothing yet.

    Raises:
        ImageError: `image.trust`, `image.wave-approvals`: a file was damaged.
    """
    path = directory.approvals(role)
    if not path.is_file():
        return None
    metadata: Metadata[Targets] = parse_metadata(path.read_bytes(), str(path))
    target = metadata.signed.targets.get(approvals_path(role))
    content = _content((target.custom or {}).get("approvals", []) if target else [])
    parse_approvals(content)
    return metadata, content


def _signed(
    directory: RepositoryDirectory, role: str, entry: dict[str, Any], now: datetime, secret: bytes | None
) -> Approved:
    known = _approver(directory, role)
    before = approvals_of(directory, role)
    metadata = before[0] if before and _says(before[1], entry) else _next(role, before, entry, now)
    for signer in open_role(directory.keys, role, known.keyids, 1, secret).signers:
        metadata.sign(signer, append=True)
    document = metadata.to_dict()
    document["signatures"].sort(key=lambda each: each["keyid"])
    path = directory.approvals(role)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, encode(document))
    count = sum(1 for each in document["signatures"] if each["keyid"] in known.keyids)
    return Approved(entry["reach"], count, known.threshold)


def _next(role: str, before: tuple[Metadata[Targets], bytes] | None, entry: dict[str, Any], now: datetime) -> Any:
    approvals: list[dict[str, Any]] = []
    if before is not None:
        approvals = list((before[0].signed.targets[approvals_path(role)].custom or {})["approvals"])
    approvals = [each for each in approvals if each["manifest"] != entry["manifest"]]
    if entry["reach"]:
        approvals.append(entry)
    content = _content(approvals)
    parse_approvals(content)
    digest = {"sha256": hashlib.sha256(content).hexdigest()}
    path = approvals_path(role)
    target = TargetFile(len(content), digest, path, {"custom": {"approvals": approvals}})
    version = before[0].signed.version + 1 if before else 1
    return Metadata(Targets(version, SPEC_VERSION, now + timedelta(days=DAYS), {path: target}))


def _content(approvals: list[dict[str, Any]]) -> bytes:
    return encode({"approvals": sorted(approvals, key=lambda each: each["manifest"]), "format": 1})


def _says(content: bytes, entry: dict[str, Any]) -> bool:
    return bool(reach_of(parse_approvals(content)).get(entry["manifest"], 0) == entry["reach"])


def _reach(offer: dict[str, Any], waves: int) -> int:
    """Raises `refused.waves`."""
    if not waves:
        return WHOLE
    known = offer.get("waves", [])
    if waves > len(known):
        what = f"{offer['name']} has no wave {waves}"
        raise RefusedError(Refusal("waves", what, f"at most {len(known)}", str(waves), "'repository wave' makes waves"))
    return int(sum(wave["share"] for wave in known[:waves])) or 1


def _approver(directory: RepositoryDirectory, role: str) -> Any:
    roles = approvers(directory)
    if role not in roles:
        what, hint = (
            f"no role '{role}' approves here",
            "'repository init --approver' or 'keys propose --add-role' makes one",
        )
        raise RefusedError(Refusal("role-unknown", what, ", ".join(sorted(roles)) or "(none)", role, hint))
    return roles[role]


def approvers(directory: RepositoryDirectory) -> dict[str, Any]:
    """The roles that may approve, with their keys and thresholds."""
    return {name: role for name, role in roles_of(directory.keys.targets()).items() if name != ROLE}


def is_complete(directory: RepositoryDirectory, role: str, metadata: Metadata[Any]) -> bool:
    """Whether as many keys as must have signed it."""
    try:
        directory.keys.targets().verify_delegate(role, metadata.signed_bytes, metadata.signatures)
    except UnsignedMetadataError:
        return False
    return True
