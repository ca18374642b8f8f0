"""`twinslot-image keys propose`, `sign` and `finish`: a change of keys whose signers are in different places."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]

from twinslot.cli.output import Output
from twinslot.core.errors import DeviceError, Refusal, RefusedError, UsageError
from twinslot.core.text import printable
from twinslot_image import replaceable
from twinslot_image.build import build_time
from twinslot_image.cli_keys import check_role_name, plan_of
from twinslot_image.cli_sign import read_signature
from twinslot_image.file_lock import locked
from twinslot_image.key_change import KeyChange, add_role, change_keys, find_role, keys_after, remove_role
from twinslot_image.key_files import ID_SHOWN, Documents, KeyDirectory, load_signer, one_at_a_time
from twinslot_image.key_proposal import (
    Proposal,
    attach_to_proposal,
    count_needs,
    covered,
    finish_proposal,
    labels_for,
    make_proposal,
    merge_proposals,
    open_change,
    read_proposal,
    refuse_others,
    sign_proposal,
)
from twinslot_image.key_source import open_publics, open_signer
from twinslot_image.key_words import describe_change, render_change, render_needs
from twinslot_image.outputs import Target
from twinslot_image.replacement import write_whole

Adding: TypeAlias = Callable[[Proposal], tuple[Proposal, list[str]]]  # signatures, and the ids of their keys


def propose(arguments: argparse.Namespace, output: Output) -> None:
    """`keys propose`."""
    directory = KeyDirectory(arguments.directory)
    before = directory.documents()
    add = open_publics(arguments.add, arguments)
    labels = {each.key.keyid: each.label for each in add}
    change = _change(arguments, before, [each.key for each in add], directory.labels())
    proposal = make_proposal(change, labels)
    with Target(arguments.output, replaceable.nothing, force=arguments.force) as target, target.writing() as sink:
        sink.write(proposal.data())
    _tell(output, "propose", proposal, change, directory, file=str(target.path))


def _change(
    arguments: argparse.Namespace, before: Documents, add: Sequence[Any], labels: Mapping[str, str]
) -> KeyChange:
    """What is asked for: another role, a role less, or other keys, another threshold or date of one that there is."""
    now, role = build_time(os.environ), arguments.role
    if arguments.remove_role:
        if add or arguments.remove or arguments.threshold:
            raise UsageError("a role that goes is not changed", code="value", expected="'--remove-role' alone")
        return remove_role(before, role, now)
    if arguments.add_role:
        check_role_name(role)
        least, count = plan_of(arguments.add_role, "--add-role")
        if len(add) != count or arguments.remove or arguments.threshold:
            raise UsageError("a new role needs its keys", code="value", expected=f"{count} '--add'", found=len(add))
        return add_role(before, role, add, least, now)
    _, known = find_role(before, role)
    keys = keys_after(before, role, add, arguments.remove, labels)
    return change_keys(before, role, keys, arguments.threshold or known.threshold, now)


def sign(arguments: argparse.Namespace, output: Output) -> None:
    """`keys sign`."""
    directory = KeyDirectory(arguments.directory, arguments.private)
    shown = read_proposal(arguments.change)
    change = open_change(shown, directory)
    if arguments.detached_payload is not None:
        _write_bytes_to_sign(arguments, shown, change, directory, output)
        return
    if not arguments.yes:
        _ask(arguments.change, change, shown, directory, output)
    add = _attaching(arguments, shown, change) if arguments.attach else _signing(arguments, change, directory)
    with locked(arguments.change):  # others may have signed meanwhile; what is signed is what was shown
        proposal = merge_proposals([shown, read_proposal(arguments.change)], change)
        proposal, used = add(proposal)
        write_whole(arguments.change, proposal.data())
    _tell(output, "sign", proposal, change, directory, file=str(arguments.change), signed=used)


def finish(arguments: argparse.Namespace, output: Output) -> None:
    """`keys finish`."""
    directory = KeyDirectory(arguments.directory)
    with one_at_a_time(arguments.directory):
        proposals = [read_proposal(path) for path in arguments.change]
        refuse_others(proposals)
        change = open_change(proposals[0], directory)
        proposal = merge_proposals(proposals, change)
        finish_proposal(proposal, change, directory)
    _tell(output, "finish", proposal, change, directory)


def _tell(
    output: Output, verb: str, proposal: Proposal, change: KeyChange, directory: KeyDirectory, **more: Any
) -> None:
    labels = labels_for(proposal, change, directory)
    data, needs = describe_change(change, labels), count_needs(proposal, change, labels)
    whole = all(row["given"] >= row["needed"] for row in needs)
    if output.as_json:
        head = {"type": "result", "command": f"keys {verb}", "complete": whole}
        output.line(head | more | data | {"signatures": needs})
        return
    signed = [f"signed by {key_id[:ID_SHOWN]}" for key_id in more.get("signed", ())]
    end = {
        "propose": f"{more.get('file')}: have it signed with 'twinslot-image keys sign'",
        "sign": f"{more.get('file')}: {_next(more, whole=whole)}",
        "finish": f"{directory.path}: changed",
    }
    output.text(map(printable, [*render_change(data), *signed, *render_needs(needs), end[verb]]))


def _next(more: Mapping[str, Any], *, whole: bool) -> str:
    if "document" in more:
        return "sign these bytes, then '--attach' the signature"
    return "complete: 'twinslot-image keys finish'" if whole else "more must sign"


def _ask(path: Path, change: KeyChange, proposal: Proposal, directory: KeyDirectory, output: Output) -> None:
    """Show what changes, and wait for a yes; without a terminal nothing is signed."""
    lines = render_change(describe_change(change, labels_for(proposal, change, directory)))
    hint = f"read what '{path}' changes, and say yes, or give '--yes'"
    if not output.as_json:
        output.text(map(printable, lines))
    if output.as_json or not sys.stdin.isatty():
        raise RefusedError(Refusal("not-confirmed", "nothing was signed", hint=hint, found="; ".join(lines)))
    output.aside("Sign this? [y/N] ")
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise RefusedError(Refusal("not-confirmed", "nothing was signed", hint=hint))


def _document(arguments: argparse.Namespace, proposal: Proposal) -> str:
    """The document that is meant where a signature is of one."""
    if arguments.document is None and len(proposal.documents) == 1:
        return next(iter(proposal.documents))
    if arguments.document not in proposal.documents:
        names = " or ".join(proposal.documents)
        raise UsageError("this change has other documents", code="value", expected=f"--document {names}")
    return str(arguments.document)


def _write_bytes_to_sign(
    arguments: argparse.Namespace, proposal: Proposal, change: KeyChange, directory: KeyDirectory, output: Output
) -> None:
    name = _document(arguments, proposal)
    given, change_file = arguments.detached_payload, arguments.change
    with Target(given, replaceable.nothing, inputs=(change_file,)) as target, target.writing() as sink:
        sink.write(covered(proposal, name))
    _tell(output, "sign", proposal, change, directory, file=str(target.path), document=name)


def _attaching(arguments: argparse.Namespace, proposal: Proposal, change: KeyChange) -> Adding:
    name, signature = _document(arguments, proposal), read_signature(arguments.attach)

    def add(proposal: Proposal) -> tuple[Proposal, list[str]]:
        attached, key_id = attach_to_proposal(proposal, change, name, signature)
        return attached, [key_id]

    return add


def _signing(arguments: argparse.Namespace, change: KeyChange, directory: KeyDirectory) -> Adding:
    signers = _signers(arguments, change, directory)

    def add(proposal: Proposal) -> tuple[Proposal, list[str]]:
        signed, used = sign_proposal(proposal, change, signers)
        if not used:
            raise _no_signer(signers, change)
        return signed, used

    return add


def _signers(arguments: argparse.Namespace, change: KeyChange, directory: KeyDirectory) -> list[CryptoSigner]:
    """The keys that were named, or those of the directory that the change needs; what cannot be opened is an error."""
    if arguments.key:
        return [open_signer(where, arguments) for where in arguments.key]
    wanted = dict.fromkeys(directory.key_file(need.by, key_id) for need in change.needs for key_id in need.key_ids)
    here = [path for path in wanted if path.is_file()]
    if not here:
        what = f"'{directory.private}' holds no key that this change needs"
        raise DeviceError(what, code="key", hint="name the private key with '--key'")
    return [load_signer(path.read_bytes(), str(path), arguments.passphrase) for path in here]


def _no_signer(signers: Sequence[CryptoSigner], change: KeyChange) -> RefusedError:
    known = ", ".join(dict.fromkeys(key_id[:ID_SHOWN] for need in change.needs for key_id in need.key_ids))
    found = ", ".join(signer.public_key.keyid[:ID_SHOWN] for signer in signers)
    return RefusedError(Refusal("wrong-key", "this change needs no signature by this key", known, found))
