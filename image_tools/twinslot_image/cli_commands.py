"""What each command of `twinslot-image` does: arguments in, the library called, a sentence or a table out."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from twinslot.bundle.groups import check_attachment
from twinslot.bundle.layout import layout
from twinslot.bundle.verdict import TrustPolicy
from twinslot.bundle.wire import parse_trust
from twinslot.core.errors import DeviceError, Refusal, RefusedError
from twinslot.core.manifest import NAME, parse_manifest
from twinslot.core.model import SlotName
from twinslot_image import keys, replaceable, signing
from twinslot_image.blocks_inspect import describe_blocks, is_blocks, read_blocks_head, render_blocks
from twinslot_image.build import build_image, build_time
from twinslot_image.compose import Front, read_front, replace_manifest
from twinslot_image.description import read_description
from twinslot_image.inspect import describe_image, render_image
from twinslot_image.key_files import load_signer
from twinslot_image.outputs import Target
from twinslot_image.patch_inspect import describe_patch, is_patch, read_patch_head, render_patch
from twinslot_image.progress import Progress, size_text
from twinslot_image.provision import provision
from twinslot_image.verify import Verified, verify_image

PASSPHRASE = "TWINSLOT_KEY_PASSPHRASE"  # noqa: S105 - the variable's name
_PLAN = re.compile(r"([1-9][0-9]?)/([1-9][0-9]?)")
_SIGNATURE_MAX = 4096  # bytes of a detached signature file
_OWN_ROLES = ("root", "targets", "snapshot", "timestamp")


def init_keys(arguments: argparse.Namespace) -> None:
    """`keys init`."""
    roles: dict[str, keys.RolePlan] = {}
    for part in arguments.roles.split(","):
        name, _, plan = part.strip().partition("=")
        if not NAME.fullmatch(name) or name in _OWN_ROLES or name in roles:
            what = "each role needs a name of its own, of lower-case letters and digits"
            raise RefusedError(Refusal("role-name", what, found=name))
        roles[name] = _plan(plan or "1/1")
    keys.init_keys(arguments.directory, roles, _plan(arguments.root), build_time(os.environ), _passphrase())
    locked = "encrypted" if _passphrase() else f"NOT encrypted: set {PASSPHRASE} to encrypt them"
    print(f"{arguments.directory}: private keys in 'private', {locked}")
    print(f"{arguments.directory / '1.root.json'}: give this to devices as their trusted root")


def rotate_keys(arguments: argparse.Namespace) -> None:
    """`keys rotate`."""
    keys.rotate_keys(arguments.directory, arguments.role, build_time(os.environ), _passphrase())
    trust = keys.load_trust(arguments.directory)
    newest = [signing.describe_document(data) for data in (*trust.roots[-1:], trust.targets)]
    for kind, version, expires in newest:
        print(f"{kind} version {version}, until {expires:%Y-%m-%d}")


def build(arguments: argparse.Namespace) -> None:
    """`build`."""
    overrides = {name: getattr(arguments, name) for name in ("release", "sequence")}
    given = {name: value for name, value in overrides.items() if value is not None}
    description = read_description(arguments.description, given)
    inputs = (arguments.description, *description.files)
    with Target(arguments.output, replaceable.unsigned_image, inputs=inputs, force=arguments.force) as target:
        header = build_image(description, target, build_time(os.environ))
    _say(f"{target.path}: {size_text(header.total)}, not signed yet", target)


def sign(arguments: argparse.Namespace) -> None:
    """`sign`, its detached half, and its attaching half."""
    if arguments.detached_payload:
        _write_bytes_to_sign(arguments)
        return
    if not arguments.role:
        raise RefusedError(Refusal("role-missing", "'--key' and '--attach' need a role", hint="add '--role ROLE'"))
    add = _attaching(arguments) if arguments.attach else _signing(arguments)
    with Progress("signing", arguments.image.stat().st_size) as progress:
        replace_manifest(arguments.image, add, progress.update)
    data = describe_image(_read_front(arguments.image))
    state = ", ".join(f"{r['role']} {len(r['signatures'])} of {r['threshold']}" for r in data["roles"])
    print(f"{arguments.image}: signatures: {state}")


def _write_bytes_to_sign(arguments: argparse.Namespace) -> None:
    given, image = arguments.detached_payload, arguments.image
    with Target(given, replaceable.bytes_to_sign, inputs=(image,), force=arguments.force) as target:
        data = signing.signed_bytes(_read_front(image).manifest)
        with target.writing() as sink:
            sink.write(data)
    _say(f"{target.path}: sign these bytes, then '--attach' the signature", target)


def _attaching(arguments: argparse.Namespace) -> Callable[[Front], bytes]:
    signature = _read_signature(arguments.attach)

    def add(front: Front) -> bytes:
        return signing.attach_signature(front.manifest, parse_trust(front.trust).targets, arguments.role, signature)

    return add


def _signing(arguments: argparse.Namespace) -> Callable[[Front], bytes]:
    signer = load_signer(*_read_key(arguments.key), passphrase=_passphrase())

    def add(front: Front) -> bytes:
        return signing.sign_manifest(front.manifest, parse_trust(front.trust).targets, arguments.role, signer)

    return add


def inspect(arguments: argparse.Namespace) -> None:
    """`inspect`, of an image, a patch or a block list. Verifies nothing."""
    data, text = _inspected(arguments.image)
    print(json.dumps(data, indent=2) if arguments.json else text)


def _inspected(path: Path) -> tuple[dict[str, Any], str]:
    """What a file says of itself, for programs and for people."""
    if is_patch(path):
        with path.open("rb") as file:
            data = describe_patch(read_patch_head(file))
        return data, render_patch(data)
    if is_blocks(path):
        with path.open("rb") as file:
            data = describe_blocks(read_blocks_head(file))
        return data, render_blocks(data)
    data = describe_image(_read_front(path))
    return data, render_image(data)


def verify(arguments: argparse.Namespace) -> None:
    """`verify`."""
    roles = tuple(part.strip() for part in arguments.roles.split(","))
    policy = TrustPolicy(roles, ignore_expiry=arguments.ignore_expiry)
    with Progress("verifying", arguments.image.stat().st_size) as progress:
        root, now = arguments.root.read_bytes(), datetime.now(UTC)
        verified = verify_image(arguments.image, root, policy, now, progress.update)
    print(json.dumps(_verified_data(verified), indent=2) if arguments.json else _verified_text(verified))


def extract(arguments: argparse.Namespace) -> None:
    """`extract-attachment`; its digest is checked, who signed is not."""
    with arguments.image.open("rb") as file:
        front = read_front(file)
        manifest = parse_manifest(front.manifest)
        found = {attachment.name: attachment for attachment in manifest.attachments}
        if arguments.name not in found:
            names = ", ".join(found) or "(none)"
            raise RefusedError(Refusal("attachment-unknown", "the image has no such attachment", names, arguments.name))
        span = layout(front.header, manifest).attachments[arguments.name]
        file.seek(span.offset)
        data = check_attachment(found[arguments.name], file.read(span.length))
    given, name = arguments.output or "-", arguments.name
    target = Target(given, replaceable.nothing, inputs=(arguments.image,), force=arguments.force, name=name)
    with target, target.writing() as sink:
        sink.write(data)


def _verified_data(verified: Verified) -> dict[str, object]:
    release = verified.manifest.release
    head: dict[str, object] = {"release": release.name, "sequence": release.sequence, "groups": verified.groups}
    return head | {"size": verified.size} | verified.verdict.summary()


def _verified_text(verified: Verified) -> str:
    verdict = verified.verdict
    lines = [f"good: {verified.manifest.product} {verified.manifest.release.name}, {verified.groups} groups"]
    lines += [f"  role '{r.role}': {len(r.key_ids)} valid signatures, {r.threshold} needed" for r in verdict.roles]
    lines += [f"  {d.what} until {d.expires:%Y-%m-%d}{' (EXPIRED)' if d.expired else ''}" for d in verdict.dates]
    if verdict.new_roots:
        lines.append(f"  brings {len(verdict.new_roots)} newer roots, up to version {verdict.root_version}")
    return "\n".join(lines)


def _read_front(path: Path) -> Front:
    with path.open("rb") as file:
        return read_front(file)


def _plan(text: str) -> keys.RolePlan:
    match = _PLAN.fullmatch(text)
    if not match or int(match[1]) > int(match[2]):
        raise RefusedError(Refusal("threshold-form", "how many keys of how many must sign", "K/N, K not above N", text))
    return keys.RolePlan(int(match[2]), int(match[1]))


def _passphrase() -> bytes | None:
    return os.environb.get(PASSPHRASE.encode()) or None


def _read_key(where: str) -> tuple[bytes, str]:
    if not where.startswith("env:"):
        return Path(where).read_bytes(), where
    value = os.environb.get(where.removeprefix("env:").encode())
    if not value:
        raise DeviceError("the variable that should hold the private key is not set", code="key", expected=where)
    return value, where


def _read_signature(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(_SIGNATURE_MAX)
    text = data.strip()
    return bytes.fromhex(text.decode()) if re.fullmatch(rb"[0-9a-fA-F]+", text) and len(text) % 2 == 0 else data


def provision_device(arguments: argparse.Namespace) -> None:
    """`provision`; the variables for both copies of the environment go to standard output, for mkenvimage."""
    image, slot, force = arguments.image, SlotName(arguments.slot), arguments.force
    with Target(arguments.record, replaceable.nothing, inputs=(image,), force=force) as target:
        variables = provision(image, slot, target, build_time(os.environ))
    _say("\n".join(f"{name}={value}" for name, value in sorted(variables.items())), target)


def _say(text: str, target: Target) -> None:
    """What was done; not in the middle of an output that goes to the same place."""
    print(text, file=sys.stderr if target.on_standard_output else sys.stdout)
