"""Provenance: from which sources, with which inputs and by whom an image was built, as SLSA has it.

An in-toto statement with the predicate SLSA provenance v1, signed in a DSSE envelope by a key of one of the image's
roles. It stands beside the image: one inside could not name the digest of what it is in. Its subjects are the signed
part of the manifest, which no later signature changes, and the content of each payload, which anybody can hash.
The same image and inputs give the same statement: its only time is that of the build.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from securesystemslib.signer import CryptoSigner, Signature  # type: ignore[attr-defined]

from twinslot.core.describe import TIME
from twinslot.core.errors import ImageError, Refusal, RefusedError
from twinslot.core.manifest import Manifest, parse_manifest
from twinslot_image import PROGRAM, __version__
from twinslot_image.dsse import (
    ResourceDescriptor,
    Statement,
    digest_of,
    enclose,
    encoding,
    is_signed,
    parse_statement,
    sign_statement,
)
from twinslot_image.signing import role_keys, signed_bytes

PROVENANCE: Final = "provenance"
PREDICATE_TYPE: Final = "https://slsa.dev/provenance/v1"
BUILD_TYPE: Final = "tag:twinslot.org,2026:build/1"  # RFC 4151
MANIFEST: Final = "manifest"  # the subject: its signed part
URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[!-~]{1,1000}")  # RFC 3986, section 3
_PAE: Final = b"DSSEv1 "


@dataclass(frozen=True, slots=True)
class Origins:
    """What the manifest does not say of a build.

    Attributes:
        builder: URI of who or what built it; empty: the manifest's `source.builder`.
        repository: URI of the sources, without a revision; empty: not said.
        inputs: Further inputs, by name and digest.
    """

    builder: str = ""
    repository: str = ""
    inputs: tuple[ResourceDescriptor, ...] = ()


def provenance_of(manifest: bytes, origins: Origins) -> Statement:
    """What is to be said of an image.

    Raises:
        RefusedError: `refused.builder`: nobody says who built it, or not as a URI.
        ImageError: The manifest is malformed.
    """
    parsed = parse_manifest(manifest)
    subjects = (ResourceDescriptor(MANIFEST, digest_of(signed_bytes(manifest))), *_payloads(parsed))
    definition = {
        "buildType": BUILD_TYPE,
        "externalParameters": _parameters(parsed),
        "resolvedDependencies": [*_sources(parsed, origins), *(_input(each) for each in _inputs(parsed, origins))],
    }
    metadata = {"startedOn": parsed.built.strftime(TIME)}
    metadata |= {"invocationId": parsed.source.build} if parsed.source.build else {}
    builder = {"id": _builder(parsed, origins), "version": {PROGRAM: __version__}}
    predicate = {"buildDefinition": definition, "runDetails": {"builder": builder, "metadata": metadata}}
    return Statement(subjects, PREDICATE_TYPE, predicate)


def _payloads(manifest: Manifest) -> tuple[ResourceDescriptor, ...]:
    return tuple(ResourceDescriptor(f"payload/{each.name}", each.digest) for each in manifest.payloads)


def _parameters(manifest: Manifest) -> dict[str, Any]:
    """What the maker chose: what whoever checks a build compares."""
    release = manifest.release
    chosen = {"compatible": list(manifest.compatible), "epoch": release.epoch, "product": manifest.product}
    return chosen | {"release": release.name, "sequence": release.sequence, "type": manifest.type}


def _sources(manifest: Manifest, origins: Origins) -> Iterable[dict[str, Any]]:
    source = manifest.source
    if not source.commit and not origins.repository:
        return
    found: dict[str, Any] = {"name": "source"}
    if source.commit:
        found["digest"] = {"gitCommit": source.commit}
    if origins.repository:
        found["uri"] = f"git+{origins.repository}" + (f"@{source.commit}" if source.commit else "")
    if source.tag:
        found["annotations"] = {"tag": source.tag}
    yield found


def inputs_of(manifest: Manifest) -> tuple[ResourceDescriptor, ...]:
    """What the image itself says that it consists of: payloads and attachments."""
    attached = (ResourceDescriptor(f"attachment/{each.name}", each.digest) for each in manifest.attachments)
    return (*_payloads(manifest), *attached)


def _inputs(manifest: Manifest, origins: Origins) -> list[ResourceDescriptor]:
    return sorted((*inputs_of(manifest), *origins.inputs), key=lambda each: each.name)


def _input(each: ResourceDescriptor) -> dict[str, Any]:
    return each.as_dict()


def _builder(manifest: Manifest, origins: Origins) -> str:
    builder = origins.builder or manifest.source.builder
    if not URI.fullmatch(builder):
        what = "provenance names who built the image, by a URI"
        hint = "'--builder URI', or 'builder' in '[source]' of the description"
        raise RefusedError(
            Refusal("builder", what, "a URI such as https://ci.example/pump", builder or "nothing", hint)
        )
    return builder


# keeps: REQ-IMG-28
def sign_provenance(statement: Statement, targets: bytes, role: str, signer: CryptoSigner) -> bytes:
    """The envelope, signed by a key of the role.

    Raises:
        RefusedError: `refused.role-unknown`, `refused.wrong-key`.
    """
    role_keys(targets, role, signer.public_key.keyid)
    return sign_statement(statement, [signer])


def bytes_to_sign(statement: Statement) -> bytes:
    """What is signed elsewhere."""
    return encoding(statement.encode())


def attach_signature(data: bytes, manifest: bytes, targets: bytes, role: str, signature: bytes) -> bytes:
    """The envelope with a signature made elsewhere over `bytes_to_sign`.

    Args:
        data: What was signed.
        manifest: The image's, which the statement must be of.
        targets: The image's, which says whose keys the role's are.
        role: For which role.
        signature: Raw.

    Raises:
        ImageError: `image.provenance`: it is not what was written to be signed.
        RefusedError: `refused.other-manifest`, `refused.role-unknown`, `refused.bad-signature`.
    """
    payload = data[data.find(b"{") :] if data.startswith(_PAE) else b""
    if not payload or encoding(payload) != data:
        hint = "name the file that '--detached-payload' wrote"
        raise ImageError("the file holds no provenance that is to be signed", code=PROVENANCE, hint=hint)
    refuse_other(parse_statement(payload, PROVENANCE), manifest)
    for key_id, key in role_keys(targets, role).items():
        candidate = Signature(key_id, signature.hex())
        if is_signed(key, candidate, encoding(payload)):
            return enclose(payload, [candidate])
    what, hint = f"the signature was made by no key of role '{role}'", "sign what '--detached-payload' wrote"
    raise RefusedError(Refusal("bad-signature", what, hint=hint))


def refuse_other(statement: Statement, manifest: bytes) -> None:
    """A provenance is of one image.

    Raises:
        ImageError: `image.provenance`: the statement is of another kind.
        RefusedError: `refused.other-manifest`.
    """
    if statement.predicate_type != PREDICATE_TYPE:
        what = "the statement is no provenance"
        raise ImageError(what, code=PROVENANCE, expected=PREDICATE_TYPE, found=statement.predicate_type[:120])
    parsed = parse_manifest(manifest)
    wanted = {each.name: each.digest for each in _payloads(parsed)} | {MANIFEST: digest_of(signed_bytes(manifest))}
    found = {each.name: each.digest for each in statement.subjects}
    if found != wanted:
        what = "the provenance is of another image"
        hint = "make it for this image: 'twinslot-image provenance'"
        raise RefusedError(Refusal("other-manifest", what, wanted[MANIFEST], found.get(MANIFEST, "none"), hint))
