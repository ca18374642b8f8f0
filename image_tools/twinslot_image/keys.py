"""Signing keys, and the TUF documents that say what they are good for: made, changed and listed in a key directory.

The device gets `1.root.json` when it is made; everything later reaches it inside images. Each change is made in memory
first, with every key opened that must sign it; only then something is written, all of it or nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner, SSlibKey  # type: ignore[attr-defined]
from tuf.api.metadata import (  # type: ignore[attr-defined]  # documented there, marked as export nowhere
    DelegatedRole,
    Delegations,
    Metadata,
    Role,
    Root,
    Targets,
)

from twinslot.core.canonical import encode
from twinslot.core.errors import DeviceError, Refusal, RefusedError
from twinslot.image.wire import ROOTS_MAX, TrustDocuments
from twinslot_image.compose import SPEC_VERSION
from twinslot_image.key_change import (
    ROOT_DAYS,
    TARGETS_DAYS,
    TOP_ROLES,
    KeyChange,
    change_keys,
    check_ranks,
    check_threshold,
    check_total,
    find_role,
    keys_after,
    refuse_twice,
    set_keys,
)
from twinslot_image.key_files import (
    ID_SHOWN,
    KeyDirectory,
    NewFile,
    check_private,
    make_signer,
    open_role,
    private_file,
    write_together,
)


@dataclass(frozen=True, slots=True)
class RolePlan:
    """How a new role begins: how many keys it has, how many of them must sign, and which of them come from outside.

    Attributes:
        keys: How many.
        threshold: How many of them must sign.
        public: Those that come from outside; the others are made.
        signers: What signs with those from outside that are in a token here.
    """

    keys: int = 1
    threshold: int = 1
    public: tuple[SSlibKey, ...] = ()
    signers: tuple[CryptoSigner, ...] = ()


def default_plan(thresholds: Iterable[int]) -> tuple[int, int]:
    """Threshold and number of keys of root and targets, for roles that need so many: 1 of 1, or from 2 of 3 on.

    One key more than must sign, so that a lost one stops nothing.
    """
    high = max(thresholds, default=1)
    return (1, 1) if high == 1 else (high, high + 1)


@dataclass(frozen=True, slots=True)
class Change:
    """What was done to a key directory: private keys that were made, and why keys that could have signed did not."""

    made: tuple[Path, ...]
    missing: tuple[str, ...]


class _Workshop:
    """Keys and documents of one change, in memory until `finish`."""

    def __init__(self, directory: Path, passphrase: bytes | None, private: Path | None) -> None:
        self.directory = KeyDirectory(directory, private)
        self.passphrase = passphrase
        self._secrets: list[NewFile] = []
        self._documents: list[NewFile] = []
        self._missing: list[str] = []

    def make(self, role: str, count: int) -> list[CryptoSigner]:
        """New keys for a role."""
        signers = []
        for _ in range(count):
            signer, key = make_signer()
            path = self.directory.key_file(role, signer.public_key.keyid)
            self._secrets.append(private_file(path, key, self.passphrase))
            signers.append(signer)
        return signers

    def sign(self, change: KeyChange, made: Sequence[CryptoSigner] = ()) -> None:
        """The new documents, by those of the keys that they need which are here or were just made.

        Raises:
            DeviceError: `device.key`: they are too few.
        """
        signers: dict[str, dict[str, CryptoSigner]] = {"root": {}, "targets": {}}
        fresh = {signer.public_key.keyid: signer for signer in made}
        for need in change.needs:
            new = [fresh[key_id] for key_id in need.key_ids if key_id in fresh]
            old = [key_id for key_id in need.key_ids if key_id not in fresh]
            here = open_role(self.directory, need.by, old, need.count - len(new), self.passphrase)
            self._missing += [why for why in here.missing if why not in self._missing]
            signers[need.document] |= {signer.public_key.keyid: signer for signer in (*new, *here.signers)}
        if change.root:
            self.write(self.directory.root_file(change.root.version), change.root, signers["root"].values())
        if change.targets:
            self.write(self.directory.targets_file, change.targets, signers["targets"].values())

    def write(self, path: Path, signed: Root | Targets, signers: Iterable[CryptoSigner]) -> None:
        """A signed document."""
        metadata: Metadata[Any] = Metadata(signed)
        for signer in signers:
            metadata.sign(signer, append=True)
        document = metadata.to_dict()
        document["signatures"].sort(key=lambda entry: entry["keyid"])
        self._documents.append(NewFile(path, encode(document)))

    def finish(self, labels: Mapping[str, str]) -> Change:
        """Everything to the disk, or nothing."""
        named = [self.directory.labelled(dict(labels))] if labels else []
        write_together([*self._secrets, *named, *self._documents])
        return Change(tuple(file.path for file in self._secrets), tuple(self._missing))


def init_keys(
    directory: Path,
    roles: Mapping[str, RolePlan],
    root: RolePlan,
    now: datetime,
    passphrase: bytes | None = None,
    *,
    targets: RolePlan = RolePlan(),
    labels: Mapping[str, str] | None = None,
    private: Path | None = None,
) -> Change:
    """Make every key and the first documents.

    Args:
        directory: Where; made when it is not there.
        roles: The signing roles.
        root: Keys of the root.
        now: In UTC; the dates count from it.
        passphrase: Encrypts the private keys.
        targets: Keys of the targets document.
        labels: What public keys from outside are called, by key id.
        private: Where private keys go; in `private` below the directory unless given.

    Raises:
        RefusedError: `refused.keys-exist`, `refused.threshold`, `refused.shared-key` or `refused.outranked`.
    """
    shop = _Workshop(directory, passphrase, private)
    if shop.directory.root_versions() or shop.directory.targets_file.exists() or shop.directory.key_files():
        raise RefusedError(Refusal("keys-exist", f"'{directory}' holds keys already", hint="name another directory"))
    check_private(shop.directory, passphrase)
    plans = {**roles, "root": root, "targets": targets}
    _check_plans(plans)
    check_ranks({name: plan.threshold for name, plan in plans.items()})
    made = {name: shop.make(name, plan.keys - len(plan.public)) for name, plan in plans.items()}
    keys = {name: [*plan.public, *(s.public_key for s in made[name])] for name, plan in plans.items()}
    empty = {name: Role([], 1) for name in ("root", "targets", "snapshot", "timestamp")}
    document = Root(1, SPEC_VERSION, now + timedelta(days=ROOT_DAYS), {}, empty, consistent_snapshot=False)
    for name in TOP_ROLES:
        set_keys(document, name, keys[name], plans[name].threshold)
    delegated = {name: DelegatedRole(name, [], roles[name].threshold, True, paths=["*"]) for name in sorted(roles)}
    lists = Targets(1, SPEC_VERSION, now + timedelta(days=TARGETS_DAYS), {}, Delegations({}, delegated))
    for name, plan in roles.items():
        set_keys(lists, name, keys[name], plan.threshold)
    shop.write(shop.directory.root_file(1), document, [*made["root"], *root.signers])
    shop.write(shop.directory.targets_file, lists, [*made["targets"], *targets.signers])
    return shop.finish(labels or {})


def rotate_keys(
    directory: Path,
    role: str,
    now: datetime,
    passphrase: bytes | None = None,
    *,
    public: Sequence[SSlibKey] = (),
    signers: Sequence[CryptoSigner] = (),
    labels: Mapping[str, str] | None = None,
    private: Path | None = None,
) -> Change:
    """Replace every key of a role by new ones, and renew the dates.

    `root` and `targets` get a new root version, signed by the old root keys and, for `root`, by the new ones; every
    role but `root` gets a new targets document. As many of the old keys as must sign are enough.

    Args:
        directory: The key directory.
        role: Whose keys.
        now: In UTC; the dates count from it.
        passphrase: Opens the private keys that must sign, and encrypts those that are made.
        public: New keys from outside; as many fewer are made.
        signers: What signs with those of them that are in a token here.
        labels: What they are called, by key id.
        private: Where private keys are and go; in `private` below the directory unless given.

    Raises:
        RefusedError: `refused.role-unknown`, `refused.private-open`, `refused.not-encrypted`, `refused.threshold`,
            `refused.shared-key`, `refused.outranked`.
        DeviceError: `device.key`: fewer private keys are here than must sign the change.
    """
    shop = _Workshop(directory, passphrase, private)
    before = shop.directory.documents()
    _, plan = find_role(before, role)
    check_private(shop.directory, passphrase)
    refuse_twice(public)
    count = max(len(plan.keyids), len(public))
    _check_plans({role: RolePlan(count, plan.threshold, tuple(public), tuple(signers))})
    made = shop.make(role, count - len(public))
    keys = [*public, *(signer.public_key for signer in made)]
    shop.sign(change_keys(before, role, keys, plan.threshold, now), [*made, *signers])
    return shop.finish(labels or {})


def change_role(
    directory: Path,
    role: str,
    now: datetime,
    passphrase: bytes | None = None,
    *,
    add: Sequence[SSlibKey] = (),
    signers: Sequence[CryptoSigner] = (),
    remove: Sequence[str] = (),
    threshold: int | None = None,
    labels: Mapping[str, str] | None = None,
    private: Path | None = None,
) -> Change:
    """Put public keys into a role, take keys out of it, or set how many must sign; nothing private is made.

    Args:
        directory: The key directory.
        role: Whose keys.
        now: In UTC; the dates count from it.
        passphrase: Opens the private keys that must sign the change.
        add: New keys.
        signers: What signs with those of them that are in a token here.
        remove: The first digits of the ids of keys, or their labels.
        threshold: How many must sign from now on; as before unless given.
        labels: What new keys are called, by key id.
        private: Where private keys are; in `private` below the directory unless given.

    Raises:
        RefusedError: `refused.role-unknown`, `refused.key-known`, `refused.key-unknown`, `refused.threshold`,
            `refused.shared-key`, `refused.outranked`.
        DeviceError: `device.key`: fewer private keys are here than must sign the change.
    """
    shop = _Workshop(directory, passphrase, private)
    before = shop.directory.documents()
    _, plan = find_role(before, role)
    keys = keys_after(before, role, add, remove, shop.directory.labels())
    shop.sign(change_keys(before, role, keys, threshold or plan.threshold, now), signers)
    return shop.finish(labels or {})


def load_trust(directory: Path) -> TrustDocuments:
    """What goes into an image: every root but the first, and the targets document.

    Raises:
        DeviceError: `device.keys`: the directory lacks them.
    """
    store = KeyDirectory(directory)
    versions = store.root_versions()
    if not versions or not store.targets_file.is_file():
        hint = "make them with 'twinslot-image keys init'"
        raise DeviceError(f"'{directory}' holds no root and targets documents", code="keys", hint=hint)
    roots = tuple(store.root_file(version).read_bytes() for version in versions[1:][-ROOTS_MAX:])
    return TrustDocuments(roots, store.targets_file.read_bytes())


def _check_plans(plans: Mapping[str, RolePlan]) -> None:
    """Before a key is made: thresholds that can be reached, and not more keys than a device reads."""
    seen: dict[str, str] = {}
    for name, plan in plans.items():
        check_threshold(name, plan.keys, plan.threshold)
        made = plan.keys - len(plan.public) + len(plan.signers)
        if made < (plan.threshold if name in TOP_ROLES else 0):
            what = f"the document of role '{name}' is signed here"
            hint = "give the role more keys, or fewer public ones; who signs elsewhere joins later, by 'keys propose'"
            needed = f"{plan.threshold} private keys" if name in TOP_ROLES else f"at most {plan.keys} public keys"
            raise RefusedError(Refusal("threshold", what, needed, str(made), hint))
        for key in plan.public:
            if seen.setdefault(key.keyid, name) != name or plan.public.count(key) > 1:
                what = f"one key twice, in '{seen[key.keyid]}' and '{name}'"
                raise RefusedError(Refusal("shared-key", what, found=key.keyid[:ID_SHOWN]))
    check_total(sum(plan.keys for name, plan in plans.items() if name not in TOP_ROLES))
