"""`twinslot-image provenance`: with a key that is here, or in two steps with one that is not."""

from __future__ import annotations

import argparse
from pathlib import Path

from twinslot.cli.output import Output
from twinslot.core.errors import Refusal, RefusedError, UsageError
from twinslot.core.manifest import parse_manifest
from twinslot.core.text import printable
from twinslot.image.wire import parse_trust
from twinslot_image import provenance as statements
from twinslot_image import replaceable
from twinslot_image.cli_commands import counted, say
from twinslot_image.cli_sign import read_signature
from twinslot_image.compose import Front
from twinslot_image.dsse import ResourceDescriptor, Statement, open_envelope
from twinslot_image.file_digest import file_digest
from twinslot_image.file_kind import read_image_front, require_lasting
from twinslot_image.key_source import open_signer
from twinslot_image.named_file import read_small
from twinslot_image.outputs import Target
from twinslot_image.signing_time import clock, refuse_before


def provenance(arguments: argparse.Namespace, output: Output) -> None:
    """`provenance`, its detached half, and its attaching half."""
    image: Path = arguments.image
    require_lasting(image)
    front = read_image_front(image)
    refuse_before(clock(), parse_manifest(front.manifest).built)
    _check_options(arguments)
    given = arguments.detached_payload or arguments.output or image.with_name(f"{image.name}.provenance.json")
    inputs = [image, *(path for _, path in arguments.input or ())]
    kind = replaceable.approval_to_sign if arguments.detached_payload else replaceable.envelope
    with Target(given, kind, inputs=inputs, force=arguments.force) as target:
        data, statement = _made(arguments, front)
        with target.writing() as sink:
            sink.write(data)
    dependencies = statement.predicate["buildDefinition"]["resolvedDependencies"]
    builder = statement.predicate["runDetails"]["builder"]["id"]
    what = f"built by {builder} from {counted(len(dependencies), 'input')}"
    more = "sign these bytes, then '--attach' the signature" if arguments.detached_payload else what
    said = {"file": str(target.path), "builder": builder, "inputs": len(dependencies)}
    say(arguments, output, said, [f"{target.path}: {more}"], target)


def _check_options(arguments: argparse.Namespace) -> None:
    if arguments.attach and not arguments.statement:
        raise UsageError("'--attach' needs the statement that was signed", code="missing", hint="'--statement FILE'")
    if arguments.statement and not arguments.attach:
        raise UsageError("'--statement' belongs to '--attach'", code="option")
    if not arguments.detached_payload and not arguments.role:
        raise RefusedError(Refusal("role-missing", "'--key' and '--attach' need a role", hint="add '--role ROLE'"))


def _made(arguments: argparse.Namespace, front: Front) -> tuple[bytes, Statement]:
    """The output, and the statement in it."""
    targets = parse_trust(front.trust).targets
    if arguments.attach:
        signature, signed = read_signature(arguments.attach), read_small(arguments.statement)
        data = statements.attach_signature(signed, front.manifest, targets, arguments.role, signature)
        return data, open_envelope(data, statements.PROVENANCE).statement
    origins = statements.Origins(arguments.builder or "", _repository(arguments), _inputs(arguments, front))
    statement = statements.provenance_of(front.manifest, origins)
    if arguments.detached_payload:
        return statements.bytes_to_sign(statement), statement
    signer = open_signer(arguments.key, arguments)
    return statements.sign_provenance(statement, targets, arguments.role, signer), statement


def _repository(arguments: argparse.Namespace) -> str:
    repository: str = arguments.repository or ""
    if repository and not statements.URI.fullmatch(repository):
        expected = "a URI such as https://git.example/pump"
        raise UsageError("'--repository' is wrong", code="value", expected=expected, found=repository)
    return repository


def _inputs(arguments: argparse.Namespace, front: Front) -> tuple[ResourceDescriptor, ...]:
    """Each under a name of its own, which none of what the image itself consists of has."""
    taken = {each.name for each in statements.inputs_of(parse_manifest(front.manifest))}
    made = []
    for name, path in arguments.input or ():
        if name in taken or printable(name) != name:
            what = "a name that can be printed and that no other input has"
            raise UsageError("'--input' is wrong", code="value", expected=what, found=name)
        taken.add(name)
        made.append(ResourceDescriptor(name, file_digest(path)))
    return tuple(made)
