"""One change of who may sign: the documents before it, those after it, and whose signatures these need.

Nothing here has a private key or a file. `keys.py` signs a change with the keys of one directory, `key_proposal.py` has
it travel to those who hold them.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from securesystemslib.signer import SSlibKey  # type: ignore[attr-defined]
from tuf.api.metadata import DelegatedRole, Root, Targets  # type: ignore[attr-defined]  # marked as export nowhere

from twinslot.core.approvals import approvals_path
from twinslot.core.errors import ImageError, Refusal, RefusedError
from twinslot.trust.documents import ROLES_MAX
from twinslot.trust.keys import KEYS_MAX, THRESHOLD_MAX, public_bytes
from twinslot.trust.replaced import delegated_roles, signatures_needed, top_roles
from twinslot_image.key_files import ID_SHOWN, Documents

ROOT_DAYS = 5 * 365  # an offline root outlives most service intervals; the chain renews it
TARGETS_DAYS = 2 * 365
ONLINE_ROLES = ("snapshot", "timestamp")  # of a repository; the root of images has none of their keys
TOP_ROLES = ("root", "targets")  # their keys stand in the root; those of all others in the targets document


@dataclass(frozen=True, slots=True)
class Need:
    """Signatures that a new document needs.

    Attributes:
        document: `root` or `targets`.
        by: The role whose keys give them.
        version: Of the root that names these keys.
        key_ids: The keys.
        count: How many of them.
    """

    document: str
    by: str
    version: int
    key_ids: tuple[str, ...]
    count: int


@dataclass(frozen=True, slots=True)
class KeyChange:
    """The documents that stand, and those that take their place, unsigned; None: that one stays."""

    before: Documents
    root: Root | None
    targets: Targets | None

    @property
    def needs(self) -> tuple[Need, ...]:
        """Whose signatures: by the threshold of who says so, and by as many as what is replaced had to give (S24)."""
        old, newest = self.before.root, self.root or self.before.root
        before = delegated_roles(self.before.targets.to_dict())
        needs = []
        if self.root:
            replaced = signatures_needed(top_roles(old.to_dict()), top_roles(self.root.to_dict()), before)
            needs += [_need("root", old, replaced), _need("root", self.root)]
        if self.targets:
            replaced = signatures_needed(before, delegated_roles(self.targets.to_dict()))
            needs.append(_need("targets", newest, replaced))
        return tuple(dict.fromkeys(needs))


def _need(role: str, root: Root, replaced: int = 0) -> Need:
    known = root.roles[role]
    return Need(role, role, root.version, tuple(known.keyids), max(known.threshold, replaced))


def change_keys(before: Documents, role: str, keys: Sequence[SSlibKey], threshold: int, now: datetime) -> KeyChange:
    """Give a role these keys and this threshold, and renew the dates of the documents that change.

    A role with the keys and the threshold that it has is a renewal of the date alone.

    Raises:
        RefusedError: `refused.role-unknown`, `refused.threshold`, `refused.shared-key`, `refused.outranked`.
    """
    after = copy.deepcopy(before)
    holder, known = find_role(after, role)
    same = (list(known.keyids), known.threshold) == ([key.keyid for key in keys], threshold)
    refuse_twice(keys)
    _refuse_strangers(before, role, keys)
    check_threshold(role, len(keys), threshold)
    _check_document(before.targets, role, len(keys))
    if threshold != known.threshold:
        _check_rank_of(before, role, threshold)
    set_keys(holder, role, keys, threshold)
    if with_root := role in ("root", *ONLINE_ROLES) or (role == "targets" and not same):
        after.root.version += 1
        after.root.expires = now + timedelta(days=ROOT_DAYS)
    if with_targets := role not in ("root", *ONLINE_ROLES):
        after.targets.version += 1
        after.targets.expires = now + timedelta(days=TARGETS_DAYS)
    return _possible(
        KeyChange(before, after.root if with_root else None, after.targets if with_targets else None), role
    )


def add_role(before: Documents, role: str, keys: Sequence[SSlibKey], threshold: int, now: datetime) -> KeyChange:
    """A role that there was not, for every name; in a repository, for approvals alone.

    It counts on devices whose policy demands it, and on no other.

    Raises:
        RefusedError: `refused.role-known`, `refused.threshold`, `refused.shared-key`, `refused.outranked`.
    """
    known = roles_of(before.targets)
    if role in known or role in TOP_ROLES:
        what, hint = f"there is a role '{role}' already", "change it without '--add-role'"
        raise RefusedError(Refusal("role-known", what, hint=hint))
    if len(known) >= ROLES_MAX:
        raise RefusedError(Refusal("threshold", "too many roles for one document", f"at most {ROLES_MAX}"))
    refuse_twice(keys)
    _refuse_strangers(before, role, keys)
    check_threshold(role, len(keys), threshold)
    _check_document(before.targets, role, len(keys))
    _check_rank_of(before, role, threshold)
    after = _next_targets(before, now)
    _held_roles(after)[role] = DelegatedRole(role, [], threshold, True, paths=names_of_new(before.root, role))
    set_keys(after, role, keys, threshold)
    return _possible(KeyChange(before, None, after), role)


def names_of_new(root: Root, role: str) -> list[str]:
    """What a role that comes may sign for; in a repository, whose root has online keys, its approvals alone."""
    in_repository = all(root.roles[online].keyids for online in ONLINE_ROLES)
    return [approvals_path(role)] if in_repository else ["*"]


def remove_role(before: Documents, role: str, now: datetime) -> KeyChange:
    """A role less. Devices whose policy demands it take no image that is built afterwards.

    Raises:
        RefusedError: `refused.role-unknown`, `refused.role-needed`, `refused.outranked`.
    """
    find_role(before, role)
    if role in TOP_ROLES or len(roles_of(before.targets)) == 1:
        what, hint = f"role '{role}' cannot go", "root and targets always are, and one role must be left to sign images"
        raise RefusedError(Refusal("role-needed", what, hint=hint))
    after = _next_targets(before, now)
    set_keys(after, role, (), 1)
    del _held_roles(after)[role]
    return _possible(KeyChange(before, None, after), role)


def _next_targets(before: Documents, now: datetime) -> Targets:
    after = copy.deepcopy(before.targets)
    after.version += 1
    after.expires = now + timedelta(days=TARGETS_DAYS)
    return after


def _held_roles(targets: Targets) -> dict[str, Any]:
    assert targets.delegations is not None  # every targets document of ours delegates
    assert targets.delegations.roles is not None
    held: dict[str, Any] = targets.delegations.roles
    return held


def _possible(change: KeyChange, role: str) -> KeyChange:
    for need in change.needs:
        _check_possible(need, role)
    return change


def find_role(documents: Documents, role: str) -> tuple[Root | Targets, Any]:
    """The document that says who has this role, and what it says.

    Raises:
        RefusedError: `refused.role-unknown`.
    """
    if role in TOP_ROLES or (role in ONLINE_ROLES and documents.root.roles[role].keyids):
        return documents.root, documents.root.roles[role]
    delegated = roles_of(documents.targets)
    if role not in delegated:
        raise RefusedError(
            Refusal("role-unknown", f"there is no role '{role}'", ", ".join((*TOP_ROLES, *delegated)), role)
        )
    return documents.targets, delegated[role]


def roles_of(targets: Targets) -> Mapping[str, Any]:
    """The roles that a targets document delegates to."""
    return dict(targets.delegations.roles or {}) if targets.delegations else {}


def keys_of(documents: Documents, role: str) -> list[SSlibKey]:
    """A role's keys, in the order of the document."""
    holder, known = find_role(documents, role)
    delegations = documents.targets.delegations
    held: Mapping[str, Any] = holder.keys if isinstance(holder, Root) else delegations.keys if delegations else {}
    return [held[key_id] for key_id in known.keyids]


def set_keys(document: Any, role: str, keys: Iterable[SSlibKey], threshold: int) -> None:
    """Write them into a root or targets document."""
    known = document.roles[role] if isinstance(document, Root) else document.delegations.roles[role]
    for key_id in list(known.keyids):
        document.revoke_key(key_id, role)
    for key in keys:
        document.add_key(key, role)
    known.threshold = threshold


def keys_after(
    documents: Documents, role: str, add: Sequence[SSlibKey], remove: Iterable[str], labels: Mapping[str, str]
) -> list[SSlibKey]:
    """A role's keys without some and with others.

    Args:
        documents: As they stand.
        role: Whose keys.
        add: New keys.
        remove: The first digits of the ids of keys, or their labels.
        labels: What keys are called, by key id.

    Raises:
        RefusedError: `refused.role-unknown`, `refused.key-known`, `refused.key-unknown`.
    """
    keys = keys_of(documents, role)
    ids = [key.keyid for key in keys]
    if known := [key.keyid[:ID_SHOWN] for key in add if key.keyid in ids]:
        raise RefusedError(Refusal("key-known", f"role '{role}' has this key already", found=", ".join(known)))
    gone = {_key_named(name, role, ids, labels) for name in remove}
    return [*(key for key in keys if key.keyid not in gone), *add]


def _key_named(name: str, role: str, key_ids: Sequence[str], labels: Mapping[str, str]) -> str:
    found = [key_id for key_id in key_ids if key_id.startswith(name) or labels.get(key_id) == name]
    if len(found) != 1 or not name:
        what = f"role '{role}' has no key '{name}'" if not found else f"'{name}' may be more than one key"
        known = ", ".join(key_id[:ID_SHOWN] for key_id in key_ids)
        raise RefusedError(Refusal("key-unknown", what, known, name))
    return found[0]


# What cannot be


def check_threshold(role: str, keys: int, threshold: int) -> None:
    """A threshold that can be reached, and not more keys than a device reads.

    Raises:
        RefusedError: `refused.threshold`.
    """
    if not 1 <= threshold <= min(keys, THRESHOLD_MAX) or keys > THRESHOLD_MAX:
        expected = f"K/N, K from 1 to N, N at most {THRESHOLD_MAX}"
        raise RefusedError(Refusal("threshold", f"role '{role}' cannot sign so", expected, f"{threshold}/{keys}"))


def check_total(keys: int) -> None:
    """The keys of all roles of one targets document.

    Raises:
        RefusedError: `refused.threshold`.
    """
    if keys > KEYS_MAX:
        raise RefusedError(Refusal("threshold", "too many keys for one document", f"at most {KEYS_MAX}"))


# keeps: S24
def check_ranks(thresholds: Mapping[str, int]) -> None:
    """Root says who targets is, and targets who the others are: a lower threshold would outrank a higher one (S24).

    Args:
        thresholds: Of `targets`, of `root` if that is in question, and of other roles.

    Raises:
        RefusedError: `refused.outranked`.
    """
    others = [("targets", name) for name in thresholds if name not in TOP_ROLES]
    for above, below in (("root", "targets"), *others):
        least, needed = thresholds.get(above, THRESHOLD_MAX), thresholds[below]
        if least < needed:
            what = f"role '{above}' would outrank role '{below}'"
            expected = f"a threshold of '{above}' not below {needed}, that of '{below}'"
            hint = f"give '{above}' as high a threshold first; devices refuse a change that fewer keys sign"
            raise RefusedError(Refusal("outranked", what, expected, str(least), hint))


def _check_rank_of(documents: Documents, role: str, threshold: int) -> None:
    """A new threshold against those right above and below it."""
    top = {name: documents.root.roles[name].threshold for name in TOP_ROLES}
    if role in ONLINE_ROLES:
        return
    if role not in TOP_ROLES:
        check_ranks({"targets": top["targets"], role: threshold})
    elif role == "targets":
        others = {name: known.threshold for name, known in roles_of(documents.targets).items()}
        check_ranks(others | top | {role: threshold})
    else:
        check_ranks(top | {role: threshold})


def _check_document(targets: Targets, role: str, keys: int) -> None:
    """When a role gets so many keys, the others keeping theirs."""
    if role not in (*TOP_ROLES, *ONLINE_ROLES):
        others = (known for name, known in roles_of(targets).items() if name != role)
        check_total(keys + sum(len(known.keyids) for known in others))


def _check_possible(need: Need, role: str) -> None:
    if len(need.key_ids) < need.count:
        what = f"role '{need.by}' has too few keys to change role '{role}'"
        hint = f"a change of a role needs as many signatures as the role itself: give '{need.by}' more keys first"
        raise RefusedError(Refusal("outranked", what, f"{need.count} keys", str(len(need.key_ids)), hint))


def _refuse_strangers(documents: Documents, role: str, keys: Iterable[SSlibKey]) -> None:
    """A person with one key in two roles would sign twice."""
    known = {
        **{name: documents.root.roles[name] for name in (*TOP_ROLES, *ONLINE_ROLES)},
        **roles_of(documents.targets),
    }
    for key in keys:
        for name, other in known.items():
            if name != role and key.keyid in other.keyids:
                what, hint = f"the key belongs to role '{name}'", "make another one: one key may not stand in two roles"
                raise RefusedError(Refusal("shared-key", what, found=key.keyid[:ID_SHOWN], hint=hint))


def refuse_shared(change: KeyChange) -> None:
    """A change made by other means may have one key in two roles, or twice in one, under whatever ids.

    What was so before is not this change's doing.

    Raises:
        RefusedError: `refused.shared-key`.
    """
    after = Documents(change.root or change.before.root, change.targets or change.before.targets)
    before = _places(change.before)
    for key, roles in _places(after).items():
        if len(roles) > 1 and roles != before.get(key):
            names = [f"role '{role}'" for role in sorted(set(roles))]
            what = "one key stands in " + (" and ".join(names) if len(names) > 1 else f"{names[0]} twice")
            hint = "do not sign it; have it proposed again, with a key for each person and role"
            found = hashlib.sha256(key).hexdigest()[:ID_SHOWN]
            raise RefusedError(Refusal("shared-key", what, "each key in one role, once", found, hint))


def _places(documents: Documents) -> dict[bytes, list[str]]:
    """Each key, by what it is and not by its id, and the roles that have it."""
    places: dict[bytes, list[str]] = {}
    for role in sorted({"root", "targets", *roles_of(documents.targets)}):
        for key in keys_of(documents, role):
            places.setdefault(_what_it_is(key), []).append(role)
    return places


def _what_it_is(key: SSlibKey) -> bytes:
    """One form for one key; of a kind that is not known here, its id."""
    try:
        return public_bytes(key.to_dict())
    except ImageError:
        return str(key.keyid).encode()


def refuse_twice(keys: Sequence[SSlibKey]) -> None:
    """One key in two files counts once, so more could have to sign than there are.

    Raises:
        RefusedError: `refused.shared-key`.
    """
    seen = set[str]()
    for key in keys:
        if key.keyid in seen:
            what, hint = "one key is given twice", "name each key once"
            raise RefusedError(Refusal("shared-key", what, found=key.keyid[:ID_SHOWN], hint=hint))
        seen.add(key.keyid)
