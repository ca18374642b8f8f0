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
from twinslot.trust.keys import KEYS_MAX, THRESHOLD_MAX
from twinslot_image.compose import SPEC_VERSION
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

ROOT_DAYS = 5 * 365  # an offline root outlives most service intervals; the chain renews it
TARGETS_DAYS = 2 * 365
TOP_ROLES = ("root", "targets")  # their keys stand in the root; those of all others in the targets document


@dataclass(frozen=True, slots=True)
class RolePlan:
    """How a new role begins: how many keys it has, how many of them must sign, and which of them come from outside."""

    keys: int = 1
    threshold: int = 1
    public: tuple[SSlibKey, ...] = ()


@dataclass(frozen=True, slots=True)
class Change:
    """What was done to a key directory: private keys that were made, and why keys that could have signed did not."""

    made: tuple[Path, ...]
    missing: tuple[str, ...]


class _Workshop:
    """Keys and documents of one change, in memory until `finish`."""

    def __init__(self, directory: Path, passphrase: bytes | None) -> None:
        self.directory = KeyDirectory(directory)
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

    def open(self, role: str, root: Root) -> tuple[CryptoSigner, ...]:
        """Those of a top role's keys that are here; see `open_role`."""
        known = root.roles[role]
        present = open_role(self.directory, role, known.keyids, known.threshold, self.passphrase)
        self._missing += [why for why in present.missing if why not in self._missing]
        return present.signers

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

    Raises:
        RefusedError: `refused.keys-exist`, `refused.threshold` or `refused.shared-key`; nothing was written.
    """
    shop = _Workshop(directory, passphrase)
    if shop.directory.root_versions() or shop.directory.targets_file.exists() or shop.directory.key_files():
        raise RefusedError(Refusal("keys-exist", f"'{directory}' holds keys already", hint="name another directory"))
    check_private(shop.directory, passphrase)
    plans = {**roles, "root": root, "targets": targets}
    _check_plans(plans)
    made = {name: shop.make(name, plan.keys - len(plan.public)) for name, plan in plans.items()}
    keys = {name: [*plan.public, *(s.public_key for s in made[name])] for name, plan in plans.items()}
    empty = {name: Role([], 1) for name in ("root", "targets", "snapshot", "timestamp")}
    document = Root(1, SPEC_VERSION, now + timedelta(days=ROOT_DAYS), {}, empty, consistent_snapshot=False)
    for name in TOP_ROLES:
        _set_keys(document, name, keys[name], plans[name].threshold)
    delegated = {name: DelegatedRole(name, [], roles[name].threshold, True, paths=["*"]) for name in sorted(roles)}
    lists = Targets(1, SPEC_VERSION, now + timedelta(days=TARGETS_DAYS), {}, Delegations({}, delegated))
    for name, plan in roles.items():
        _set_keys(lists, name, keys[name], plan.threshold)
    shop.write(shop.directory.root_file(1), document, made["root"])
    shop.write(shop.directory.targets_file, lists, made["targets"])
    return shop.finish(labels or {})


def rotate_keys(
    directory: Path,
    role: str,
    now: datetime,
    passphrase: bytes | None = None,
    *,
    public: Sequence[SSlibKey] = (),
    labels: Mapping[str, str] | None = None,
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
        labels: What they are called, by key id.

    Raises:
        RefusedError: `refused.role-unknown`, `refused.private-open`, `refused.not-encrypted`, `refused.threshold`,
            `refused.shared-key`.
        DeviceError: `device.key`: fewer private keys are here than must sign the change.
    """
    shop = _Workshop(directory, passphrase)
    root, targets = shop.directory.roots()[-1], shop.directory.targets()
    _, holder, plan = _find_role(root, targets, role)
    check_private(shop.directory, passphrase)
    old_root, old_targets = _signers(shop, root, role)
    count = max(len(plan.keyids), len(public))
    made = shop.make(role, count - len(public))
    keys = [*public, *(signer.public_key for signer in made)]
    _check_plans({role: RolePlan(count, plan.threshold, tuple(public))})
    _check_document(targets, role, count)
    _refuse_strangers(root, targets, role, public)
    _set_keys(holder, role, keys, plan.threshold)
    if role in TOP_ROLES:
        _renew_root(shop, root, now, [*old_root, *made] if role == "root" else old_root)
    if role != "root":
        _renew_targets(shop, targets, now, made if role == "targets" else old_targets)
    return shop.finish(labels or {})


def change_role(
    directory: Path,
    role: str,
    now: datetime,
    passphrase: bytes | None = None,
    *,
    add: Sequence[SSlibKey] = (),
    remove: Sequence[str] = (),
    threshold: int | None = None,
    labels: Mapping[str, str] | None = None,
) -> Change:
    """Put public keys into a role, take keys out of it, or set how many must sign; nothing private is made.

    Args:
        directory: The key directory.
        role: Whose keys.
        now: In UTC; the dates count from it.
        passphrase: Opens the private keys that must sign the change.
        add: New keys.
        remove: The first digits of the ids of keys, or their labels.
        threshold: How many must sign from now on; as before unless given.
        labels: What new keys are called, by key id.

    Raises:
        RefusedError: `refused.role-unknown`, `refused.key-known`, `refused.key-unknown`, `refused.threshold`,
            `refused.shared-key`.
        DeviceError: `device.key`: fewer private keys are here than must sign the change.
    """
    shop = _Workshop(directory, passphrase)
    root, targets = shop.directory.roots()[-1], shop.directory.targets()
    keys, holder, plan = _find_role(root, targets, role)
    gone = {_key_named(name, role, plan.keyids, shop.directory.labels()) for name in remove}
    if known := [key.keyid[:ID_SHOWN] for key in add if key.keyid in plan.keyids]:
        raise RefusedError(Refusal("key-known", f"role '{role}' has this key already", found=", ".join(known)))
    _refuse_strangers(root, targets, role, add)
    _refuse_twice(add)
    kept = [keys[key_id] for key_id in plan.keyids if key_id not in gone]
    left = [*kept, *add]
    _check_plans({role: RolePlan(len(left), threshold or plan.threshold)})
    _check_document(targets, role, len(left))
    old_root, old_targets = _signers(shop, root, role)
    if role in TOP_ROLES:
        stay = {key.keyid for key in left}
        able = [s for s in (old_root if role == "root" else old_targets) if s.public_key.keyid in stay]
        if len(able) < (threshold or plan.threshold):
            what = f"the keys that are left in role '{role}' could not sign here"
            raise RefusedError(
                Refusal("threshold", what, f"{threshold or plan.threshold} private keys", str(len(able)))
            )
    _set_keys(holder, role, left, threshold or plan.threshold)
    if role in TOP_ROLES:
        _renew_root(shop, root, now, old_root)
    if role != "root":
        stay = {key.keyid for key in left} if role == "targets" else {s.public_key.keyid for s in old_targets}
        _renew_targets(shop, targets, now, [s for s in old_targets if s.public_key.keyid in stay])
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


def _signers(shop: _Workshop, root: Root, role: str) -> tuple[tuple[CryptoSigner, ...], tuple[CryptoSigner, ...]]:
    """Who signs a change of this role: keys of root, keys of targets; opened before anything is made."""
    return (
        shop.open("root", root) if role in TOP_ROLES else (),
        shop.open("targets", root) if role != "root" else (),
    )


def _renew_root(shop: _Workshop, root: Root, now: datetime, signers: Iterable[CryptoSigner]) -> None:
    root.version += 1
    root.expires = now + timedelta(days=ROOT_DAYS)
    shop.write(shop.directory.root_file(root.version), root, signers)


def _renew_targets(shop: _Workshop, targets: Targets, now: datetime, signers: Iterable[CryptoSigner]) -> None:
    targets.version += 1
    targets.expires = now + timedelta(days=TARGETS_DAYS)
    shop.write(shop.directory.targets_file, targets, signers)


def _find_role(root: Root, targets: Any, role: str) -> tuple[dict[str, Any], Root | Targets, Any]:
    """The keys of the document that holds a role, the document, and the role."""
    if role in TOP_ROLES:
        return root.keys, root, root.roles[role]
    if role not in targets.delegations.roles:
        known = ", ".join((*TOP_ROLES, *targets.delegations.roles))
        raise RefusedError(Refusal("role-unknown", f"there is no role '{role}'", known, role))
    return targets.delegations.keys, targets, targets.delegations.roles[role]


def _set_keys(document: Any, role: str, keys: Iterable[SSlibKey], threshold: int) -> None:
    known = document.roles[role] if isinstance(document, Root) else document.delegations.roles[role]
    for key_id in list(known.keyids):
        document.revoke_key(key_id, role)
    for key in keys:
        document.add_key(key, role)
    known.threshold = threshold


def _check_plans(plans: Mapping[str, RolePlan]) -> None:
    """Before a key is made: thresholds that can be reached, and not more keys than a device reads."""
    seen: dict[str, str] = {}
    for name, plan in plans.items():
        if not 1 <= plan.threshold <= min(plan.keys, THRESHOLD_MAX) or plan.keys > THRESHOLD_MAX:
            expected = f"K/N, K from 1 to N, N at most {THRESHOLD_MAX}"
            raise RefusedError(
                Refusal("threshold", f"role '{name}' cannot sign so", expected, f"{plan.threshold}/{plan.keys}")
            )
        made = plan.keys - len(plan.public)
        if made < (plan.threshold if name in TOP_ROLES else 0):
            what, hint = (
                f"the document of role '{name}' is signed here",
                "give the role more keys, or fewer public ones",
            )
            needed = f"{plan.threshold} private keys" if name in TOP_ROLES else f"at most {plan.keys} public keys"
            raise RefusedError(Refusal("threshold", what, needed, str(made), hint))
        for key in plan.public:
            if seen.setdefault(key.keyid, name) != name or plan.public.count(key) > 1:
                what = f"one key twice, in '{seen[key.keyid]}' and '{name}'"
                raise RefusedError(Refusal("shared-key", what, found=key.keyid[:ID_SHOWN]))
    _check_total(sum(plan.keys for name, plan in plans.items() if name not in TOP_ROLES))


def _check_document(targets: Any, role: str, keys: int) -> None:
    """When a role gets so many keys, the others keeping theirs."""
    if role not in TOP_ROLES:
        others = (known for name, known in targets.delegations.roles.items() if name != role)
        _check_total(keys + sum(len(known.keyids) for known in others))


def _check_total(keys: int) -> None:
    if keys > KEYS_MAX:
        raise RefusedError(Refusal("threshold", "too many keys for one document", f"at most {KEYS_MAX}"))


def _refuse_strangers(root: Root, targets: Any, role: str, keys: Iterable[SSlibKey]) -> None:
    """A person with one key in two roles would sign twice."""
    others = {name: known.keyids for name, known in (root.roles | targets.delegations.roles).items() if name != role}
    for key in keys:
        for name, key_ids in others.items():
            if key.keyid in key_ids:
                what, hint = f"the key belongs to role '{name}'", "make another one: one key may not stand in two roles"
                raise RefusedError(Refusal("shared-key", what, found=key.keyid[:ID_SHOWN], hint=hint))


def _refuse_twice(keys: Sequence[SSlibKey]) -> None:
    """One key in two files counts once, so more could have to sign than there are."""
    seen = set[str]()
    for key in keys:
        if key.keyid in seen:
            what, hint = "one key is given twice", "name each key once"
            raise RefusedError(Refusal("shared-key", what, found=key.keyid[:ID_SHOWN], hint=hint))
        seen.add(key.keyid)


def _key_named(name: str, role: str, key_ids: Sequence[str], labels: Mapping[str, str]) -> str:
    found = [key_id for key_id in key_ids if key_id.startswith(name) or labels.get(key_id) == name]
    if len(found) != 1 or not name:
        what = f"role '{role}' has no key '{name}'" if not found else f"'{name}' may be more than one key"
        known = ", ".join(key_id[:ID_SHOWN] for key_id in key_ids)
        raise RefusedError(Refusal("key-unknown", what, known, name))
    return found[0]
