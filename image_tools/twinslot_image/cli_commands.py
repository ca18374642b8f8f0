"""What each command of `twinslot-image` does: arguments in, the library called, a sentence or a table out."""

from __future__ import annotations

import argparse
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from twinslot.cli.output import Output
from twinslot.core.errors import Refusal, RefusedError, UsageError
from twinslot.core.manifest import parse_manifest
from twinslot.core.text import printable
from twinslot.trust.verdict import TrustPolicy
from twinslot_image import replaceable
from twinslot_image.approvals_beside import find_approvals
from twinslot_image.attachments import read_attachment
from twinslot_image.blocks_inspect import describe_blocks, is_blocks, read_blocks_head, render_blocks
from twinslot_image.build import build_image, build_time
from twinslot_image.cli_keys import words
from twinslot_image.compose import read_front
from twinslot_image.description import read_description
from twinslot_image.encryption import read_envelope
from twinslot_image.envelope_inspect import describe_sealed, is_sealed, render_sealed
from twinslot_image.file_kind import read_image_front, require_image, require_lasting
from twinslot_image.inspect import describe_image, render_image
from twinslot_image.outputs import Target
from twinslot_image.patch_inspect import describe_patch, is_patch, read_patch_head, render_patch
from twinslot_image.progress import ProgressLine, size_text
from twinslot_image.recipients import unlock_with
from twinslot_image.sequence import check_sequence
from twinslot_image.skeleton import write_skeletons
from twinslot_image.verify import VerifiedImage, naming_root, read_root, read_targets, verify_image


def init(arguments: argparse.Namespace, output: Output) -> None:
    """`init`."""
    paths = [str(path) for path in write_skeletons(arguments.directory)]
    say(arguments, output, {"files": paths}, [f"{path}: edit it" for path in paths])


def build(arguments: argparse.Namespace, output: Output) -> None:
    """`build`."""
    overrides = {name: getattr(arguments, name) for name in ("release", "sequence")}
    given: dict[str, object] = {name: value for name, value in overrides.items() if value is not None}
    if arguments.source:
        given["source"] = dict(arguments.source)
    description = read_description(arguments.description, given)
    if not arguments.allow_jump:
        check_sequence(description.sequence, arguments.previous, Path(arguments.output))
    inputs = (arguments.description, *description.files, *description.trust.rglob("*"))
    with Target(arguments.output, replaceable.unsigned_image, inputs=inputs, force=arguments.force) as target:
        built = build_image(description, target, build_time(os.environ))
    looked = {name: part.as_dict() for name, part in built.looked.items()}
    data = {"file": str(target.path), "release": description.release, "sequence": description.sequence}
    lines = [f"{target.path}: {size_text(built.header.total)}, not signed yet"]
    lines += [f"  {name}: {line}" for name, part in built.looked.items() for line in part.lines()]
    say(arguments, output, data | {"size": built.header.total, "rootfs": looked}, lines, target)


def inspect(arguments: argparse.Namespace, output: Output) -> None:
    """`inspect`, of an image, a patch or a block list. Verifies nothing."""
    kind, data, text = _inspected(arguments.image)
    if output.as_json:
        output.line({"type": "inspect", kind: data})
    else:
        output.text(map(printable, text))


def _inspected(path: Path) -> tuple[str, dict[str, Any], list[str]]:
    """What a file is and says of itself, for programs and for people."""
    require_lasting(path)
    if is_patch(path):
        with path.open("rb") as file:
            data = describe_patch(read_patch_head(file))
        return "patch", data, render_patch(data)
    if is_blocks(path):
        with path.open("rb") as file:
            data = describe_blocks(read_blocks_head(file))
        return "blocks", data, render_blocks(data)
    if is_sealed(path):
        data = describe_sealed(path)
        return "sealed", data, render_sealed(data)
    front = read_image_front(path)
    envelope = None
    if parse_manifest(front.manifest).encrypted:
        with path.open("rb") as file:
            envelope = read_envelope(file)[1]
    data = describe_image(front, envelope, find_approvals(path))
    return "image", data, render_image(data)


def verify(arguments: argparse.Namespace, output: Output) -> None:
    """`verify`."""
    roles = tuple(dict.fromkeys(words(arguments.roles, "--roles")))  # a role that is named twice is demanded once
    policy = TrustPolicy(roles, ignore_expiry=arguments.ignore_expiry)
    require_image(arguments.image)
    root = read_root(arguments.root)
    kept = read_targets(arguments.targets) if arguments.targets else None
    unlock = unlock_with(arguments)
    with ProgressLine("verifying", arguments.image.stat().st_size) as progress, naming_root(arguments.root):
        verified = verify_image(
            arguments.image, root, policy, datetime.now(UTC), progress.update, kept=kept, unlock=unlock
        )
    if output.as_json:
        output.line({"type": "verify"} | _verified_data(verified))
    else:
        output.text(map(printable, _verified_text(verified)))


def extract(arguments: argparse.Namespace, output: Output) -> None:
    """`extract-attachment`; its digest is checked, who signed is not."""
    if output.as_json and not arguments.output:
        raise UsageError("'--json' needs '--output' here", code="missing", hint="an attachment goes to a file then")
    require_lasting(arguments.image)
    require_image(arguments.image)
    with arguments.image.open("rb") as file:
        front = read_front(file)
        manifest = parse_manifest(front.manifest)
        found = {attachment.name: attachment for attachment in manifest.attachments}
        if arguments.name not in found:
            names = ", ".join(found) or "(none)"
            raise RefusedError(Refusal("attachment-unknown", "the image has no such attachment", names, arguments.name))
        unlock = unlock_with(arguments)
        data = read_attachment(file, front, manifest, arguments.name, unlock)
    given, name = arguments.output or "-", arguments.name
    target = Target(given, replaceable.nothing, inputs=(arguments.image,), force=arguments.force, name=name)
    with target, target.writing() as sink:
        sink.write(_for_terminal(data) if sink.isatty() else data)
    if output.as_json:
        say(arguments, output, {"file": str(target.path), "size": len(data)}, [], target)


def _for_terminal(data: bytes) -> bytes:
    """A text that does not steer a terminal."""
    lines = data.decode(errors="replace").expandtabs().splitlines()
    return "".join(f"{printable(line)}\n" for line in lines).encode()


def say(
    arguments: argparse.Namespace, output: Output, data: dict[str, Any], lines: list[str], target: Target | None = None
) -> None:
    """What was done; not in the middle of an output that goes to the same place."""
    if target is not None and target.on_standard_output:
        output.aside("".join(f"{printable(line)}\n" for line in lines))
    elif output.as_json:
        output.line({"type": "result", "command": arguments.verb} | data)
    else:
        output.text(map(printable, lines))


def _verified_data(verified: VerifiedImage) -> dict[str, object]:
    release = verified.manifest.release
    head: dict[str, object] = {"release": release.name, "sequence": release.sequence, "groups": verified.groups}
    return head | {"size": verified.size} | verified.verdict.summary()


def _verified_text(verified: VerifiedImage) -> list[str]:
    verdict = verified.verdict
    lines = [f"good: {verified.manifest.product} {verified.manifest.release.name}, {counted(verified.groups, 'group')}"]
    lines += [
        f"  role '{r.role}': {counted(len(r.key_ids), 'valid signature')}, {r.threshold} needed" for r in verdict.roles
    ]
    lines += [f"  {d.what} until {d.expires:%Y-%m-%d}{' (EXPIRED)' if d.expired else ''}" for d in verdict.dates]
    if verdict.new_roots:
        lines.append(f"  brings {counted(len(verdict.new_roots), 'newer root')}, up to version {verdict.root_version}")
    return lines


def counted(count: int, what: str) -> str:
    """`1 group`, `2 groups`."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
