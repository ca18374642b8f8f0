"""`twinslot-image approve`: with a key that is here, or in two steps with one that is not."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from twinslot.cli.output import Output
from twinslot.core.errors import UsageError
from twinslot.core.manifest import parse_manifest
from twinslot.image.wire import parse_trust
from twinslot_image import approval as approvals
from twinslot_image import replaceable
from twinslot_image.approval import Approval
from twinslot_image.cli_commands import say
from twinslot_image.cli_sign import read_signature, signed_by
from twinslot_image.compose import Front, replace_manifest
from twinslot_image.dsse import ResourceDescriptor, digest_of
from twinslot_image.file_kind import read_image_front, require_lasting
from twinslot_image.key_files import ID_SHOWN
from twinslot_image.key_source import open_signer
from twinslot_image.named_file import read_small
from twinslot_image.outputs import Target
from twinslot_image.signing import role_keys
from twinslot_image.signing_time import refuse_before, signing_time

_SAYS: Final = ("role", "as", "meaning")  # options that an approval is made of


@dataclass(frozen=True, slots=True)
class _Made:
    """An approval with its signature."""

    approval: Approval
    envelope: bytes
    key_id: str


def approve(arguments: argparse.Namespace, output: Output) -> None:
    """`approve`, its detached half, and its attaching half."""
    require_lasting(arguments.image)
    front = read_image_front(arguments.image)  # before a key is asked for
    _check_options(arguments)
    if arguments.detached_payload is not None:
        _write_bytes_to_sign(arguments, output, front)
        return
    if arguments.attach:
        _write(arguments, output, _attached(arguments, front))
        return
    approval = _approval(arguments, front)
    signer = open_signer(arguments.key, arguments)
    envelope = approvals.sign_approval(approval, parse_trust(front.trust).targets, signer)
    made = _Made(approval, envelope, signer.public_key.keyid)
    change = signed_by(arguments.image, approval.role, signer) if arguments.sign else None
    if change:
        change(front)  # whatever stands against it is said before the approval is written
    _write(arguments, output, made)
    if change:
        replace_manifest(arguments.image, change)


def _check_options(arguments: argparse.Namespace) -> None:
    given = [f"--{name}" for name in (*_SAYS, "looked-at") if getattr(arguments, name.replace("-", "_"))]
    missing = [f"--{name}" for name in _SAYS if f"--{name}" not in given]
    if arguments.attach:
        if not arguments.statement:
            raise UsageError(
                "'--attach' needs the statement that was signed", code="missing", hint="'--statement FILE'"
            )
        if given:
            raise UsageError(f"'{given[0]}' stands in the statement already", code="option", hint="leave it out")
    elif missing:
        raise UsageError(f"missing on the command line: '{', '.join(missing)}'", code="missing")
    elif arguments.statement:
        raise UsageError("'--statement' belongs to '--attach'", code="option")
    if arguments.sign and not arguments.key:
        what, hint = "'--sign' needs '--key'", "sign the image with 'twinslot-image sign --attach'"
        raise UsageError(what, code="option", hint=hint)


def _approval(arguments: argparse.Namespace, front: Front) -> Approval:
    role_keys(parse_trust(front.trust).targets, arguments.role)
    looked_at = _looked_at(arguments.looked_at or (), front)
    person = getattr(arguments, "as")
    return approvals.approval_of(front.manifest, arguments.role, person, arguments.meaning, signing_time(), looked_at)


def _looked_at(given: Iterable[str], front: Front) -> list[ResourceDescriptor]:
    """Attachments by their names, and files."""
    attached = {each.name: each.digest for each in parse_manifest(front.manifest).attachments}
    return [
        ResourceDescriptor(name, attached[name])
        if name in attached
        else ResourceDescriptor(Path(name).name, digest_of(read_small(Path(name))))
        for name in given
    ]


def _write_bytes_to_sign(arguments: argparse.Namespace, output: Output, front: Front) -> None:
    data = approvals.bytes_to_sign(_approval(arguments, front))
    given = arguments.detached_payload
    target = Target(given, replaceable.approval_to_sign, inputs=(arguments.image,), force=arguments.force)
    with target, target.writing() as sink:
        sink.write(data)
    line = f"{target.path}: sign these bytes, then '--attach' the signature with '--statement {target.path}'"
    say(arguments, output, {"file": str(target.path), "size": len(data)}, [line], target)


def _attached(arguments: argparse.Namespace, front: Front) -> _Made:
    manifest = parse_manifest(front.manifest)
    approval, payload = approvals.read_bytes_to_sign(read_small(arguments.statement))
    approvals.refuse_other(approval, front.manifest, manifest)
    refuse_before(approval.signed.time, manifest.built)
    refuse_before(signing_time().time, approval.signed.time)
    signature, targets = read_signature(arguments.attach), parse_trust(front.trust).targets
    envelope, key_id = approvals.attach_signature(approval, payload, targets, signature)
    return _Made(approval, envelope, key_id)


def _write(arguments: argparse.Namespace, output: Output, made: _Made) -> None:
    image, approval = arguments.image, made.approval
    name = approval.file_name(image.name, made.key_id)
    target = Target(
        arguments.output or image.parent / name,
        replaceable.nothing,
        inputs=(image,),
        force=arguments.force,
        name=name,
    )
    with target, target.writing() as sink:
        sink.write(made.envelope)
    signed = approval.signed
    lines = [
        f"{target.path}: {approval.product} {approval.release} by {approval.name} as '{approval.role}'",
        f"  {approval.meaning}, {signed.time:%Y-%m-%d %H:%M:%S} UTC ({signed.source}), key {made.key_id[:ID_SHOWN]}",
    ]
    data = {"file": str(target.path), "approval": approval.as_dict() | {"key": made.key_id}}
    say(arguments, output, data, lines, target)
