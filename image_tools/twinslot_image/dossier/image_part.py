"""What a dossier has of the image itself: manifest, trust documents, attachments, approvals."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from securesystemslib.signer import SSlibKey  # type: ignore[attr-defined]

from twinslot.core.errors import Refusal, TwinslotError
from twinslot.core.manifest import Manifest, parse_manifest
from twinslot.image.wire import Section, parse_trust
from twinslot_image.approval import APPROVAL, judge_approval, read_approval
from twinslot_image.attachments import read_attachments
from twinslot_image.compose import Front
from twinslot_image.dossier.model import Body, DossierSection, DossierTable, SectionState
from twinslot_image.dsse import digest_of, open_envelope
from twinslot_image.evidence_file import read_evidence
from twinslot_image.file_kind import read_image_front
from twinslot_image.inspect import describe_image, signature_count
from twinslot_image.key_files import ID_SHOWN
from twinslot_image.recipients import Unlock
from twinslot_image.signing import describe_document, role_keys, signed_bytes

_CHUNK: Final = 1024 * 1024  # bytes
_SHOWN_DATE: Final = 10  # characters: the day


@dataclass(frozen=True, slots=True)
class ImagePart:
    """An image as a dossier sees it; nothing of it is verified, as with `inspect`."""

    path: Path
    front: Front
    manifest: Manifest
    described: Mapping[str, Any]
    attachments: Mapping[str, bytes]

    @property
    def digest(self) -> str:
        """SHA-256 of the manifest's signed part."""
        return digest_of(signed_bytes(self.front.manifest))

    @property
    def files(self) -> dict[str, bytes]:
        """What a reader needs to verify signatures without the image."""
        trust = parse_trust(self.front.trust)
        roots = {f"image/{describe_document(data)[1]}.root.json": data for data in trust.roots}
        attached = {f"image/attachments/{name}": data for name, data in self.attachments.items()}
        return {"image/manifest.json": self.front.manifest, "image/targets.json": trust.targets} | roots | attached

    def keys(self, role: str) -> dict[str, SSlibKey]:
        """The keys of a role, by id.

        Raises:
            RefusedError: `refused.role-unknown`.
        """
        return role_keys(parse_trust(self.front.trust).targets, role)


def read_image_part(path: Path, unlock: Unlock) -> ImagePart:
    """An image's front and attachments.

    Raises:
        ImageError: It is damaged, or an attachment is not as signed.
        RefusedError: `refused.encrypted`: it is, and no private key opens it.
    """
    front = read_image_front(path)
    return ImagePart(path, front, parse_manifest(front.manifest), describe_image(front), read_attachments(path, unlock))


def keys_section(image: ImagePart) -> DossierSection:
    """Roles, thresholds, who signed, and until when documents count."""
    roles = [
        [
            r["role"],
            f"{r['threshold']} of {r['keys']}",
            signature_count(r),
            ", ".join(k[:ID_SHOWN] for k in r["signatures"]),
        ]
        for r in image.described["roles"]
    ]
    documents = [[d["type"], str(d["version"]), d["expires"][:_SHOWN_DATE]] for d in image.described["documents"]]
    keys = [
        [role["role"], key_id, key.scheme]
        for role in image.described["roles"]
        for key_id, key in sorted(image.keys(role["role"]).items())
    ]
    tables = [
        DossierTable("Roles", ["role", "must sign", "signatures", "keys that signed"], roles),
        DossierTable("Keys", ["role", "key", "kind"], keys),
        DossierTable("Documents", ["document", "version", "until"], documents),
    ]
    return DossierSection("keys", SectionState.THERE, body=Body(tables=tables))


def approvals_section(image: ImagePart, paths: Iterable[Path], refuse: Callable[[Refusal], None]) -> DossierSection:
    """Every approval; one that does not count is refused.

    Args:
        image: What they are of.
        paths: Their files.
        refuse: Takes the reason.
    """
    rows: list[list[str]] = []
    files: dict[str, bytes] = {}
    for path in paths:
        data = read_evidence(path)
        try:
            signed = open_envelope(data, APPROVAL)
            approval = read_approval(signed.statement)
            keys = image.keys(approval.role)
        except TwinslotError as e:
            refuse(
                Refusal("approval", f"'{path}' is no approval of this image", e.expected, e.found or e.message, e.hint)
            )
            continue
        if problem := judge_approval(signed, approval, image.front.manifest, keys):
            what = f"the approval '{path}' does not count"
            refuse(
                Refusal("approval", what, f"of {image.manifest.release.name}, by a key of '{approval.role}'", problem)
            )
            continue
        files[_free(f"approvals/{path.name}", files)] = data
        seen = ", ".join(each.name for each in approval.looked_at) or "the manifest"
        by = _short(signed.signers(keys))
        when = f"{approval.signed.time:%Y-%m-%d %H:%M:%S} UTC"
        rows.append([approval.role, approval.name, approval.meaning, when, approval.signed.source, seen, by])
    if not rows:
        return DossierSection("approvals", SectionState.MISSING, "nobody approved this release")
    head = ["role", "name", "meaning", "signed", "by which clock", "looked at", "key"]
    return DossierSection(
        "approvals", SectionState.THERE, files=files, body=Body(tables=[DossierTable("", head, rows)])
    )


def _free(name: str, taken: Mapping[str, bytes]) -> str:
    """A name that no other approval has: two people may give files of one name."""
    start, number = name.removesuffix(".json"), 1
    while name in taken:
        number += 1
        name = f"{start}-{number}.json"
    return name


def build_digest(path: Path) -> dict[str, str]:
    """SHA-256 of what two builds must have in common, by name.

    Of an image: what its signatures cover, and everything behind the manifest; signatures may differ. Of a directory:
    each file. Of any other file: all of it.
    """
    if path.is_dir():
        files = sorted(each for each in path.rglob("*") if each.is_file())
        return {each.relative_to(path).as_posix(): _digest(each, 0) for each in files}
    if path.suffix == ".twin":
        front = read_image_front(path)
        behind = front.header.offset(Section.ATTACHMENTS)
        return {"signed part": digest_of(signed_bytes(front.manifest)), "behind the manifest": _digest(path, behind)}
    return {"file": _digest(path, 0)}


def _digest(path: Path, start: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        file.seek(start)
        for block in iter(lambda: file.read(_CHUNK), b""):
            digest.update(block)
    return digest.hexdigest()


def _short(key_ids: Iterable[str]) -> str:
    return ", ".join(key_id[:ID_SHOWN] for key_id in key_ids)
