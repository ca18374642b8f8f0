"""`twinslot-image sign`: with a key that is here, or in two steps with one that is not."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]

from twinslot.cli.output import Output
from twinslot.core.errors import Refusal, RefusedError
from twinslot.core.manifest import parse_manifest
from twinslot.image.wire import parse_trust
from twinslot_image import replaceable, signing
from twinslot_image.cli_commands import say
from twinslot_image.compose import Front, replace_manifest
from twinslot_image.description import read_policy
from twinslot_image.file_kind import read_image_front, require_image
from twinslot_image.gate.bound import require
from twinslot_image.inspect import describe_image, signature_count
from twinslot_image.key_source import open_signer
from twinslot_image.outputs import Target
from twinslot_image.progress import ProgressLine
from twinslot_image.recipients import unlock_with
from twinslot_image.signing_time import clock, refuse_before

_SIGNATURE_MAX: Final = 4096  # bytes of a detached signature file


def sign(arguments: argparse.Namespace, output: Output) -> None:
    """`sign`, its detached half, and its attaching half."""
    require_image(arguments.image)  # before a key is asked for
    if arguments.detached_payload is not None:
        _write_bytes_to_sign(arguments, output)
        return
    if not arguments.role:
        raise RefusedError(Refusal("role-missing", "'--key' and '--attach' need a role", hint="add '--role ROLE'"))
    policy = read_policy(arguments.policy) if arguments.policy else None
    add = _attaching(arguments) if arguments.attach else _signing(arguments.role, open_signer(arguments.key, arguments))
    unlock, known = unlock_with(arguments), list[str]()

    def change(front: Front) -> bytes:
        require(front, arguments.image, arguments.role, policy, unlock)
        known.extend(parse_manifest(front.manifest).key_ids)
        return add(front)

    with ProgressLine("signing", arguments.image.stat().st_size) as progress:
        replace_manifest(arguments.image, change, progress.update)
    data = describe_image(read_image_front(arguments.image))
    again = data["signatures"] == known
    state = ", ".join(f"{role['role']} {signature_count(role)}" for role in data["roles"])
    text = f"{arguments.image}: signatures: {state}"
    lines = [text, "this key had already signed"] if again else [text]
    roles = {"roles": data["roles"], "already_signed": again}
    say(arguments, output, {"file": str(arguments.image)} | roles, lines)


def _write_bytes_to_sign(arguments: argparse.Namespace, output: Output) -> None:
    given, image = arguments.detached_payload, arguments.image
    with Target(given, replaceable.bytes_to_sign, inputs=(image,), force=arguments.force) as target:
        data = signing.signed_bytes(read_image_front(image).manifest)
        with target.writing() as sink:
            sink.write(data)
    text = f"{target.path}: sign these bytes, then '--attach' the signature"
    say(arguments, output, {"file": str(target.path), "size": len(data)}, [text], target)


def signed_by(image: Path, role: str, signer: CryptoSigner) -> Callable[[Front], bytes]:
    """What makes a manifest with a signature that a device counts, by a key that is open already.

    It raises whatever stands against the signature, before anything is written.
    """
    sign = _signing(role, signer)

    def change(front: Front) -> bytes:
        require(front, image, role, None)
        return sign(front)

    return change


def _attaching(arguments: argparse.Namespace) -> Callable[[Front], bytes]:
    signature = read_signature(arguments.attach)

    def add(front: Front) -> bytes:
        _refuse_early(front)
        return signing.attach_signature(front.manifest, parse_trust(front.trust).targets, arguments.role, signature)

    return add


def _signing(role: str, signer: CryptoSigner) -> Callable[[Front], bytes]:
    def add(front: Front) -> bytes:
        _refuse_early(front)
        return signing.sign_manifest(front.manifest, parse_trust(front.trust).targets, role, signer)

    return add


# keeps: REQ-IMG-28
def _refuse_early(front: Front) -> None:
    refuse_before(clock(), parse_manifest(front.manifest).built)


def read_signature(path: Path) -> bytes:
    """A detached signature from a file, raw or in hex."""
    with path.open("rb") as file:
        data = file.read(_SIGNATURE_MAX)
    text = data.strip()
    return bytes.fromhex(text.decode()) if re.fullmatch(rb"[0-9a-fA-F]+", text) and len(text) % 2 == 0 else data
