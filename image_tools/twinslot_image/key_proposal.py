"""A change of keys as a file that travels: proposed by one, signed by each where their key is, finished by all.

The file holds the new documents and the signatures so far. What they are compared with is the key directory of whoever
looks, public parts only, never the file: it says which documents it starts from, and no more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from securesystemslib.formats import encode_canonical
from securesystemslib.signer import CryptoSigner, Signature  # type: ignore[attr-defined]
from tuf.api.metadata import Metadata, Root, Targets  # type: ignore[attr-defined]  # marked as export nowhere

from twinslot.core.canonical import encode, parse_document
from twinslot.core.errors import DeviceError, ImageError, Refusal, RefusedError
from twinslot.core.fields import Fields
from twinslot.image.wire import TrustDocuments
from twinslot.trust.verify import check_documents
from twinslot_image.dsse import is_signed
from twinslot_image.key_change import TOP_ROLES, KeyChange, Need, names_of_new, refuse_shared, roles_of
from twinslot_image.key_documents import parse_metadata, parse_signed, read_document
from twinslot_image.key_files import ID_SHOWN, Documents, KeyDirectory, NewFile, write_together
from twinslot_image.key_words import named
from twinslot_image.named_file import read_small

KIND = "twinslot-key-change"
_KEYS = ("_type", "base", "labels", "root", "targets", "version")
_LABEL_MAX = 200  # characters


@dataclass(frozen=True, slots=True)
class Proposal:
    """New documents with the signatures so far, and what they start from.

    Attributes:
        base: SHA-256 of the signed part of the root and of the targets document before, by `root` and `targets`.
        documents: `root`, `targets` or both, as tuf's JSON.
        labels: What the proposer calls the new keys, by key id.
    """

    base: Mapping[str, str]
    documents: Mapping[str, dict[str, Any]]
    labels: Mapping[str, str] = field(default_factory=dict)

    def data(self) -> bytes:
        """The file."""
        whole = {"_type": KIND, "version": 1, "base": dict(self.base), "labels": dict(self.labels)}
        return encode(whole | {name: self.documents.get(name) for name in ("root", "targets")})

    def signed_by(self, name: str) -> dict[str, str]:
        """The signatures on a document, by key id."""
        return {entry["keyid"]: entry["sig"] for entry in self.documents[name]["signatures"]}

    def with_signatures(self, name: str, signatures: Mapping[str, str]) -> Proposal:
        """The same with these signatures on a document."""
        entries = [{"keyid": key_id, "sig": signatures[key_id]} for key_id in sorted(signatures)]
        return replace(self, documents={**self.documents, name: {**self.documents[name], "signatures": entries}})


def make_proposal(change: KeyChange, labels: Mapping[str, str]) -> Proposal:
    """Without a signature."""
    documents: dict[str, dict[str, Any]] = {}
    if change.root:
        documents["root"] = dict(Metadata(change.root).to_dict())
    if change.targets:
        documents["targets"] = dict(Metadata(change.targets).to_dict())
    return Proposal(_base(change.before), documents, labels)


def read_proposal(path: Path) -> Proposal:
    """A file that `make_proposal` made, its form checked; who signed it is not.

    Raises:
        DeviceError: `device.key-change`: it is none.
    """
    data = read_small(path)
    try:
        fields = Fields(parse_document(data, "trust"), "change", _KEYS, "trust")
        fields.choice("_type", (KIND,))
        fields.integer("version", 1, 1)
        base = Fields(fields.get("base"), "base", ("root", "targets"), "trust")
        given = {name: fields.get(name) for name in ("root", "targets")}
        documents = {name: _read(value, name) for name, value in given.items() if value is not None}
        labels = fields.get("labels")
        if not documents or not isinstance(labels, dict):
            raise fields.bad("labels", "labels, and a new document", labels)
    except ImageError as e:
        what, hint = f"'{path}' is no change of keys", "give the file that 'twinslot-image keys propose' made"
        found = ": ".join(filter(None, (e.message, e.found)))
        raise DeviceError(what, code="key-change", expected=e.expected, found=found, hint=hint) from e
    shown = {str(key): str(label)[:_LABEL_MAX] for key, label in labels.items()}
    return Proposal({name: str(base.get(name)) for name in ("root", "targets")}, documents, shown)


def _read(value: object, name: str) -> dict[str, Any]:
    metadata = parse_metadata(encode(value), name)
    if metadata.signed.type != name:
        raise ImageError(
            f"the new '{name}' is another document", code="trust", expected=name, found=metadata.signed.type
        )
    _require_keys(metadata.signed)
    return dict(metadata.to_dict())


def _require_keys(signed: Root | Targets) -> None:
    """So much that who has which role can be told; whether a device reads it comes behind what would be worse."""
    roles: Mapping[str, Any] = signed.roles if isinstance(signed, Root) else roles_of(signed)
    if not roles:
        raise ImageError(f"the new '{signed.type}' has no roles", code="trust", expected="one role or more")
    for name, role in roles.items():
        if absent := [key_id for key_id in role.keyids if key_id not in _held_keys(signed)]:
            what = f"the new '{signed.type}' names a key for role '{name}' that it does not hold"
            raise ImageError(what, code="trust", found=str(absent[0])[:ID_SHOWN])


def open_change(proposal: Proposal, directory: KeyDirectory) -> KeyChange:
    """What the proposal does to the documents of this directory.

    Raises:
        RefusedError: `refused.key-change-base`: it starts from other documents; `refused.key-change-more`: it changes
            what is neither keys nor thresholds nor dates; `refused.shared-key`: one key would stand in two roles.
        ImageError: `image.trust`: no device reads a new document.
    """
    before = _documents_before(proposal, directory)
    here = _base(before)
    if changed := [name for name in here if here[name] != proposal.base[name]]:
        what = f"this change starts from another {' and '.join(changed)} document than '{directory.path}' holds"
        hint = "finish the change before it here, or have it proposed again from these documents"
        versions = f"root {before.root.version}, targets {before.targets.version}"
        raise RefusedError(Refusal("key-change-base", what, "the documents it was proposed from", versions, hint))
    new: dict[str, Any] = {
        name: Metadata.from_dict(_copy(document)).signed for name, document in proposal.documents.items()
    }
    _refuse_more(before, new)
    change = KeyChange(before, new.get("root"), new.get("targets"))
    refuse_shared(change)
    for name, document in proposal.documents.items():
        parse_signed(encode(document), f"the new {name} document", Root if name == "root" else Targets)
    return change


# keeps: S24
def _documents_before(proposal: Proposal, directory: KeyDirectory) -> Documents:
    """What stands here. Where a power cut left the new root beside the old targets, what stood before the change."""
    now = directory.documents()
    before = now.root.version - 1
    new = {name: _digest(Metadata.from_dict(_copy(document)).signed) for name, document in proposal.documents.items()}
    if {"root": new.get("root"), "targets": proposal.base["targets"]} != _base(now) or "targets" not in new:
        return now
    return Documents(read_document(directory.root_file(before), Root), now.targets) if before else now


def _refuse_more(before: Documents, new: Mapping[str, Any]) -> None:
    """What people are shown is all that changes: roles' keys, thresholds, the next version, the date."""
    for name, old in (("root", before.root), ("targets", before.targets)):
        if name not in new:
            continue
        both = set(roles_of(old)) & set(roles_of(new[name])) if isinstance(old, Targets) else set()
        rest = [_without_keys(document.to_dict(), both) for document in (old, new[name])]
        known, held = _held_keys(old), _held_keys(new[name])
        other = [key_id for key_id in held if key_id in known and known[key_id] != held[key_id]]
        if rest[0] != rest[1] or other or new[name].version != old.version + 1 or _odd_roles(before, old, new[name]):
            what = f"the new {name} document changes more than roles, keys, thresholds and its date"
            hint = "do not sign it; have it proposed again with 'twinslot-image keys propose'"
            raise RefusedError(Refusal("key-change-more", what, hint=hint))


def _odd_roles(before: Documents, old: Any, new: Any) -> list[str]:
    """Roles that there were not, and that are not what `keys propose` makes: the words say nothing of names."""
    if not isinstance(old, Targets):
        return []
    fresh = {name: role for name, role in roles_of(new).items() if name not in roles_of(old)}
    return [name for name, role in fresh.items() if _bare(role.to_dict()) != _plain(before.root, name)]


def _plain(root: Root, role: str) -> dict[str, Any]:
    return {"name": role, "paths": names_of_new(root, role), "terminating": True}


def _bare(role: Mapping[str, Any]) -> dict[str, Any]:
    return {key: role[key] for key in role if key not in ("keyids", "threshold")}


def _without_keys(signed: dict[str, Any], both: Collection[str]) -> dict[str, Any]:
    rest = {key: value for key, value in signed.items() if key not in ("version", "expires", "keys", "roles")}
    if "delegations" in rest:
        rest["delegations"] = [_bare(role) for role in rest["delegations"]["roles"] if role["name"] in both]
    else:
        rest["roles"] = {name: name in TOP_ROLES or role for name, role in signed["roles"].items()}
    return rest


def _held_keys(document: Root | Targets) -> dict[str, Any]:
    keys = document.keys if isinstance(document, Root) else document.delegations.keys if document.delegations else {}
    return {key_id: key.to_dict() for key_id, key in keys.items()}


# Signatures


def sign_proposal(proposal: Proposal, change: KeyChange, signers: Iterable[CryptoSigner]) -> tuple[Proposal, list[str]]:
    """The proposal with a signature by each of these keys on each document that needs it.

    Returns:
        The proposal, and the ids of the keys that had a part in it.
    """
    used = []
    for signer in signers:
        key_id = signer.public_key.keyid
        for name in {need.document for need in change.needs if key_id in need.key_ids}:
            signature = signer.sign(covered(proposal, name))
            proposal = proposal.with_signatures(name, {**proposal.signed_by(name), key_id: signature.signature})
            used.append(key_id)
    return proposal, list(dict.fromkeys(used))


def attach_to_proposal(proposal: Proposal, change: KeyChange, name: str, signature: bytes) -> tuple[Proposal, str]:
    """The proposal with a signature of one document that was made elsewhere, in a hardware module for example.

    Returns:
        The proposal, and the id of the key that made it.

    Raises:
        RefusedError: `refused.bad-signature`: none of the keys that the document needs did.
    """
    for key_id, key in _keys_needed(change, name).items():
        candidate = Signature(key_id, signature.hex())
        if is_signed(key, candidate, covered(proposal, name)):
            signatures = {**proposal.signed_by(name), key_id: candidate.signature}
            return proposal.with_signatures(name, signatures), key_id
    what = f"the signature was made by no key that the new {name} document needs"
    raise RefusedError(Refusal("bad-signature", what, hint="sign the bytes that '--detached-payload' wrote"))


def covered(proposal: Proposal, name: str) -> bytes:
    """What the signatures of a document cover."""
    return str(encode_canonical(proposal.documents[name]["signed"])).encode()


def keep_valid(proposal: Proposal, change: KeyChange) -> Proposal:
    """The proposal without signatures that do not verify, or that nobody asked for."""
    for name in proposal.documents:
        keys = _keys_needed(change, name)
        good = {
            key_id: sig
            for key_id, sig in proposal.signed_by(name).items()
            if key_id in keys and is_signed(keys[key_id], Signature(key_id, sig), covered(proposal, name))
        }
        proposal = proposal.with_signatures(name, good)
    return proposal


def _keys_needed(change: KeyChange, name: str) -> dict[str, Any]:
    """The keys that may sign a new document, by id."""
    needs = [need for need in change.needs if need.document == name]
    return {key_id: _key_of(change, need, key_id) for need in needs for key_id in need.key_ids}


def _key_of(change: KeyChange, need: Need, key_id: str) -> Any:
    roots = {root.version: root for root in (change.before.root, change.root) if root is not None}
    return roots[need.version].keys[key_id]


def refuse_others(proposals: Sequence[Proposal]) -> None:
    """Only copies of one change can be put together.

    Raises:
        RefusedError: `refused.key-change-other`: they are not.
    """
    first = proposals[0]
    for other in proposals[1:]:
        same = first.base == other.base and first.documents.keys() == other.documents.keys()
        if not same or any(covered(first, name) != covered(other, name) for name in first.documents):
            what, hint = "these files are different changes of keys", "finish one after the other"
            raise RefusedError(Refusal("key-change-other", what, hint=hint))


def merge_proposals(proposals: Sequence[Proposal], change: KeyChange) -> Proposal:
    """One proposal with the valid signatures of all its copies; one that was damaged in a copy takes nobody's place.

    Raises:
        RefusedError: `refused.key-change-other`: they are not copies of one.
    """
    refuse_others(proposals)
    merged = keep_valid(proposals[0], change)
    for other in proposals[1:]:
        valid = keep_valid(other, change)
        for name in merged.documents:
            merged = merged.with_signatures(name, {**merged.signed_by(name), **valid.signed_by(name)})
    return merged


def count_needs(proposal: Proposal, change: KeyChange, labels: Mapping[str, str]) -> list[dict[str, Any]]:
    """For each document and whose signatures it needs: how many there are, and who could still give one; JSON-ready."""
    valid = keep_valid(proposal, change)
    rows = []
    for need in change.needs:
        given = [key_id for key_id in need.key_ids if key_id in valid.signed_by(need.document)]
        left = [{"id": key_id, "label": labels.get(key_id)} for key_id in need.key_ids if key_id not in given]
        row = {"document": need.document, "by": need.by, "root_version": need.version, "needed": need.count}
        rows.append(row | {"given": len(given), "open": left if len(given) < need.count else []})
    return rows


def finish_proposal(proposal: Proposal, change: KeyChange, directory: KeyDirectory) -> None:
    """Put the new documents in the place of the old ones: all of them, or nothing is changed.

    Raises:
        RefusedError: `refused.signatures`: some are missing, or a device would refuse the documents.
    """
    labels = labels_for(proposal, change, directory)
    missing = [row for row in count_needs(proposal, change, labels) if row["given"] < row["needed"]]
    if missing:
        raise RefusedError(tuple(map(_missing, missing)))
    valid = keep_valid(proposal, change)
    files = {name: encode(document) for name, document in valid.documents.items()}
    trusted = directory.root_file(change.before.root.version).read_bytes()
    kept = directory.targets_file.read_bytes()
    roots = (files["root"],) if "root" in files else ()
    check_documents(trusted, TrustDocuments(roots, files.get("targets", kept)), kept)
    new = [directory.labelled(labels)] if labels != directory.labels() else []
    if change.root:
        new.append(NewFile(directory.root_file(change.root.version), files["root"]))
    if change.targets:
        new.append(NewFile(directory.targets_file, files["targets"]))
    write_together(new)


def labels_for(proposal: Proposal, change: KeyChange, directory: KeyDirectory) -> dict[str, str]:
    """What keys are called here. The file names only keys that join: whose the others are is not for it to say."""
    known = _held_keys(change.before.root).keys() | _held_keys(change.before.targets).keys()
    joining = {key_id: label for key_id, label in proposal.labels.items() if key_id not in known}
    return joining | directory.labels()


def _missing(row: Mapping[str, Any]) -> Refusal:
    what = f"the new {row['document']} document, by the keys of '{row['by']}' in root version {row['root_version']}"
    hint = "could still sign: " + ", ".join(named(key["id"], key["label"]) for key in row["open"])
    return Refusal("signatures", what, f"{row['needed']} signatures", str(row["given"]), hint)


def _base(documents: Documents) -> dict[str, str]:
    return {"root": _digest(documents.root), "targets": _digest(documents.targets)}


def _digest(signed: Root | Targets) -> str:
    return hashlib.sha256(str(encode_canonical(signed.to_dict())).encode()).hexdigest()


def _copy(document: Mapping[str, Any]) -> dict[str, Any]:
    """Tuf takes apart what it reads."""
    copied: dict[str, Any] = parse_document(encode(document), "trust")
    return copied
