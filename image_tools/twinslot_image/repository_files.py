"""A repository on the maker's disk: its keys, the list of what it offers, and `public/`, which any web server serves.

    DIR/keys/               a key directory: roots, targets.json, private keys as far as they are here
    DIR/repository.json     what is offered, to whom and when, and what is recalled; written by 'add', 'wave', 'halt',
                            'barrier' and 'recall'
    DIR/approvals/          what each role has approved, signed by it; written by 'approve'
    DIR/public/             copied to the server as it is: metadata/, targets/, images/

`keys rotate`, `keys propose` and the other commands work on DIR/keys as on every key directory.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from tuf.api.metadata import (  # type: ignore[attr-defined]  # documented there, marked as export nowhere
    DelegatedRole,
    Delegations,
    Metadata,
    Role,
    Root,
    Targets,
)

from twinslot.core.approvals import approvals_path
from twinslot.core.canonical import encode
from twinslot.core.errors import DeviceError, ImageError, Refusal, RefusedError
from twinslot.core.offer import OFFERS_SUFFIX, parse_offers
from twinslot_image.compose import SPEC_VERSION
from twinslot_image.key_change import ONLINE_ROLES, ROOT_DAYS, TARGETS_DAYS, set_keys
from twinslot_image.key_files import KeyDirectory, NewFile, make_signer, private_file, write_together
from twinslot_image.named_file import read_small
from twinslot_image.replacement import write_whole

ROLE: Final = "offers"  # who signs what is offered
LISTED: Final = "repository.json"


@dataclass(frozen=True, slots=True)
class RepositoryDirectory:
    """Where everything is."""

    path: Path

    @property
    def keys(self) -> KeyDirectory:
        """Roots, targets document and private keys."""
        return KeyDirectory(self.path / "keys")

    @property
    def listed(self) -> Path:
        """What is offered."""
        return self.path / LISTED

    @property
    def public(self) -> Path:
        """What the server serves."""
        return self.path / "public"

    @property
    def metadata(self) -> Path:
        """Signed documents."""
        return self.public / "metadata"

    def approvals(self, role: str) -> Path:
        """What a role has approved."""
        return self.path / "approvals" / f"{role}.json"

    @property
    def images(self) -> Path:
        """Images, and files beside them."""
        return self.public / "images"


def init_repository(
    directory: RepositoryDirectory, plans: Mapping[str, tuple[int, int]], now: datetime, secret: bytes | None
) -> list[Path]:
    """Make keys, the first root and the first targets document; nothing is published yet.

    Args:
        directory: Where; made when it is not there.
        plans: Threshold and number of keys of `root`, `targets`, `offers`, `snapshot`, `timestamp`, and of each role
            that approves.
        now: In UTC; the dates count from it.
        secret: The passphrase that encrypts the private keys.

    Raises:
        RefusedError: `refused.keys-exist`.
    """
    keys = directory.keys
    if keys.root_versions() or keys.key_files() or directory.listed.exists():
        raise RefusedError(
            Refusal("keys-exist", f"'{directory.path}' holds a repository", hint="name another directory")
        )
    made: list[NewFile] = []
    signers: dict[str, list[Any]] = {}
    for role, (_, count) in plans.items():
        for _ in range(count):
            signer, key = make_signer()
            signers.setdefault(role, []).append(signer)
            made.append(private_file(keys.key_file(role, signer.public_key.keyid), key, secret))
    empty = {role: Role([], 1) for role in ("root", "targets", *ONLINE_ROLES)}
    root = Root(1, SPEC_VERSION, now + timedelta(days=ROOT_DAYS), {}, empty, consistent_snapshot=True)
    approvers = [role for role in plans if role not in ("root", "targets", ROLE, *ONLINE_ROLES)]
    delegated = {ROLE: DelegatedRole(ROLE, [], 1, True, paths=[f"*{OFFERS_SUFFIX}"])}
    delegated |= {role: DelegatedRole(role, [], 1, True, paths=[approvals_path(role)]) for role in approvers}
    targets = Targets(1, SPEC_VERSION, now + timedelta(days=TARGETS_DAYS), {}, Delegations({}, delegated))
    for role, (threshold, _) in plans.items():
        public = [signer.public_key for signer in signers[role]]
        set_keys(targets if role in delegated else root, role, public, threshold)
    documents = [
        NewFile(keys.targets_file, sign_document(targets, signers["targets"])),
        NewFile(directory.listed, write_listed(Listed({}, {}))),
        NewFile(keys.root_file(1), sign_document(root, signers["root"])),
    ]
    write_together([*made, *documents])
    return [file.path for file in made]


def sign_document(signed: Any, signers: list[Any]) -> bytes:
    """A document in its one form, signed by these keys."""
    metadata: Metadata[Any] = Metadata(signed)
    for signer in signers:
        metadata.sign(signer, append=True)
    document = metadata.to_dict()
    document["signatures"].sort(key=lambda entry: entry["keyid"])
    return encode(document)


@dataclass(frozen=True, slots=True)
class Listed:
    """What is offered and recalled, by device type, as core/offer.py and core/recall.py read it."""

    offers: dict[str, list[dict[str, Any]]]
    recalls: dict[str, list[dict[str, Any]]]

    def documents(self) -> dict[str, bytes]:
        """What devices of each type read.

        Raises:
            ValueError: Something in it is no JSON.
        """
        return {name: _document(self.offers.get(name, []), self.recalls.get(name, [])) for name in self.names}

    @property
    def names(self) -> list[str]:
        """The device types."""
        return sorted({*self.offers, *self.recalls})


def read_listed(directory: RepositoryDirectory) -> Listed:
    """What is offered, by device type.

    Raises:
        DeviceError: `device.repository-files`: there is none, or it was damaged.
    """
    path = directory.listed
    if not path.is_file():
        hint = "make one with 'twinslot-image repository init'"
        raise DeviceError(f"'{directory.path}' holds no repository", code="repository-files", hint=hint)
    try:
        table = json.loads(read_small(path))
        listed = Listed(table["offers"], table.get("recalls", {}))
        for document in listed.documents().values():
            parse_offers(document)
    except ImageError as e:
        raise DeviceError(f"'{path}' is damaged", code="repository-files", found=e, hint="restore a copy") from e
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        raise DeviceError(f"'{path}' holds no list of offers", code="repository-files", hint="restore a copy") from e
    return listed


def write_listed(listed: Listed) -> bytes:
    """The file that `read_listed` reads."""
    table = {"format": 1, "offers": listed.offers, "recalls": listed.recalls}
    return json.dumps(table, indent=2, sort_keys=True).encode() + b"\n"


def save_listed(directory: RepositoryDirectory, listed: Listed) -> None:
    """Replace it, whole or not at all."""
    write_whole(directory.listed, write_listed(listed))


def _document(offers: list[dict[str, Any]], recalls: list[dict[str, Any]]) -> bytes:
    recalled = {each["sequence"] for each in recalls}
    barriers = [each["sequence"] for each in offers if each.get("barrier") and each["sequence"] not in recalled]
    document: dict[str, Any] = {"format": 1, "offers": [_behind(barriers, each) for each in offers]}
    if recalls:
        document["recalls"] = recalls
    return encode(document)


# keeps: REQ-REP-03
def _behind(barriers: list[int], offer: dict[str, Any]) -> dict[str, Any]:
    """An offer as devices read it: it can follow no release that is older than the last barrier before it."""
    last = max((each for each in barriers if each < offer["sequence"]), default=0)
    if not last:
        return offer
    limits = offer.get("from", {})
    return offer | {"from": limits | {"lowest": max(last, limits.get("lowest", 1))}}
