"""A change of keys in plain words: what whoever is asked to sign must be able to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from twinslot_image.key_change import TOP_ROLES, KeyChange, keys_of, roles_of
from twinslot_image.key_files import ID_SHOWN, Documents


def describe_change(change: KeyChange, labels: Mapping[str, str]) -> dict[str, Any]:
    """What changes, JSON-ready: each role that does, and the new documents."""
    after = Documents(change.root or change.before.root, change.targets or change.before.targets)
    names = dict.fromkeys((*TOP_ROLES, *roles_of(change.before.targets), *roles_of(after.targets)))
    roles = [_role_change(change.before, after, name, labels) for name in names]
    new = [document for document in (change.root, change.targets) if document is not None]
    return {
        "changes": [role for role in roles if role is not None],
        "documents": [
            {"type": d.type, "version": d.version, "expires": d.expires.strftime("%Y-%m-%dT%H:%M:%SZ")} for d in new
        ],
    }


def _role_change(before: Documents, after: Documents, role: str, labels: Mapping[str, str]) -> dict[str, Any] | None:
    old, new = (_keys(documents, role) for documents in (before, after))
    plans = [_plan(documents, role) for documents in (before, after)]
    joins = [_key(key, labels) for key_id, key in new.items() if key_id not in old]
    leaves = [_key(key, labels) for key_id, key in old.items() if key_id not in new]
    if not joins and not leaves and plans[0] == plans[1]:
        return None
    return {"role": role, "before": plans[0], "after": plans[1], "joins": joins, "leaves": leaves}


def _keys(documents: Documents, role: str) -> dict[str, Any]:
    return {key.keyid: key for key in keys_of(documents, role)} if _plan(documents, role) else {}


def _plan(documents: Documents, role: str) -> list[int] | None:
    """How many must sign of how many; None where there is no such role."""
    known: Mapping[str, Any] = documents.root.roles if role in TOP_ROLES else roles_of(documents.targets)
    return [int(known[role].threshold), len(known[role].keyids)] if role in known else None


def _key(key: Any, labels: Mapping[str, str]) -> dict[str, Any]:
    return {"id": key.keyid, "scheme": key.scheme, "label": labels.get(key.keyid)}


def render_change(data: Mapping[str, Any]) -> list[str]:
    """The same for people."""
    lines = []
    for role in data["changes"]:
        lines.append(_render_role(role["role"], role["before"], role["after"]))
        for word in ("joins", "leaves"):
            lines += [f"  {word}: {named(key['id'], key['label'])}, {key['scheme']}" for key in role[word]]
    if not lines:
        lines.append("no role changes, only the date")
    return lines + [f"new: {d['type']} version {d['version']}, until {d['expires'][:10]}" for d in data["documents"]]


def _render_role(name: str, before: Sequence[int] | None, after: Sequence[int] | None) -> str:
    if before is None and after is not None:
        return f"role '{name}' is new: {after[0]} of {after[1]} must sign, on devices whose policy demands it"
    if after is None and before is not None:
        return f"role '{name}' goes: devices whose policy demands it take no image that is built afterwards"
    assert before is not None
    assert after is not None
    return f"role '{name}': {before[0]} of {before[1]} must sign; afterwards {after[0]} of {after[1]}"


def named(key_id: str, label: str | None) -> str:
    """A key as people know it."""
    return f"{key_id[:ID_SHOWN]}{f' ({label})' if label else ''}"


def render_needs(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Signatures that there are and that are missing, for people; see `key_proposal.count_needs`."""
    lines = []
    for row in rows:
        who = f"keys of '{row['by']}' in root version {row['root_version']}"
        lines.append(f"{row['document']}: {row['given']} of {row['needed']} signatures by {who}")
        if row["open"]:
            lines.append(f"  could sign: {', '.join(named(key['id'], key['label']) for key in row['open'])}")
    return lines
