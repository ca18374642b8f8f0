"""What a key directory holds: each role's keys, whose private halves are here, and what is left of earlier times."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twinslot_image.key_files import ID_SHOWN, KeyDirectory


def describe_keys(directory: Path, private: Path | None = None) -> dict[str, Any]:
    """The directory as JSON-ready data; signatures are not verified. `private`: see `KeyDirectory.secrets`.

    Raises:
        DeviceError: `device.keys`: it is no key directory.
        ImageError: `image.trust`: a document is damaged.
    """
    store = KeyDirectory(directory, private)
    roots, targets = store.roots(), store.targets()
    newest, labels = roots[-1], store.labels()
    assert targets.delegations is not None
    roles = {name: newest.roles[name] for name in ("root", "targets")} | dict(targets.delegations.roles or {})
    current = {name: list(role.keyids) for name, role in roles.items()}
    former = {name: [key for root in roots for key in root.roles[name].keyids] for name in ("root", "targets")}
    rows = []
    for name, role in roles.items():
        old = [key for key in dict.fromkeys(former.get(name, [])) if key not in current[name]]
        keys = [_key(store, name, key, "current", labels) for key in current[name]]
        keys += [_key(store, name, key, "old", labels) for key in old]
        named = {key["file"] for key in keys}
        left = [path for path in store.key_files() if path.name.startswith(f"{name}.") and str(path) not in named]
        keys += [_leftover(path, name) for path in left]
        rows.append({"role": name, "threshold": role.threshold, "keys": keys})
    documents = [("root", root.version, root.expires) for root in roots]
    documents.append(("targets", targets.version, targets.expires))
    return {
        "directory": str(directory),
        "roles": rows,
        "documents": [{"type": t, "version": v, "expires": e.strftime("%Y-%m-%dT%H:%M:%SZ")} for t, v, e in documents],
    }


def _key(store: KeyDirectory, role: str, key_id: str, state: str, labels: dict[str, str]) -> dict[str, Any]:
    path = store.key_file(role, key_id)
    here = path.is_file()
    return {
        "id": key_id,
        "state": state,
        "private": here,
        "file": str(path) if here else None,
        "label": labels.get(key_id),
    }


def _leftover(path: Path, role: str) -> dict[str, Any]:
    """A private key that no document names: of a rotated role, whose earlier documents are not kept."""
    digits = path.name.removeprefix(f"{role}.").removesuffix(".pem")
    return {"id": digits, "state": "old", "private": True, "file": str(path), "label": None}


def render_keys(data: dict[str, Any]) -> list[str]:
    """The same for people: one line for each key."""
    lines = []
    for role in data["roles"]:
        count = sum(key["state"] == "current" for key in role["keys"])
        lines.append(f"{role['role']}: {role['threshold']} of {count} must sign")
        for key in role["keys"]:
            where = key["file"] or "private key not here"
            label = f"  {key['label']}" if key["label"] else ""
            lines.append(f"  {key['id'][:ID_SHOWN]}  {key['state']:<7}  {where}{label}")
    dates = [f"{d['type']} {d['version']} until {d['expires'][:10]}" for d in data["documents"]]
    return [*lines, f"documents: {', '.join(dates)}"]
