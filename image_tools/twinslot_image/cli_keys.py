"""`twinslot-image keys`: arguments in, the key directory changed or shown."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

from twinslot.cli.output import Output
from twinslot.core.errors import Refusal, RefusedError, UsageError
from twinslot.core.manifest import NAME
from twinslot.core.text import printable
from twinslot_image import PASSPHRASE, keys
from twinslot_image.build import build_time
from twinslot_image.key_files import ID_SHOWN, KeyDirectory, makes_alone, one_at_a_time
from twinslot_image.key_list import describe_keys, render_keys
from twinslot_image.key_source import PublicKey, open_publics

DEFAULT_ROLES: Final = "engineering,clinical"
_PLAN: Final = re.compile(r"([1-9][0-9]?)/([1-9][0-9]?)")
_OWN_ROLES: Final = ("root", "targets", "snapshot", "timestamp")


def words(given: Iterable[str], option: str) -> list[str]:
    """The names of a list option, which may be given again and may hold several with commas between.

    Raises:
        RefusedError: `refused.role-name`: an empty name.
    """
    found = [word.strip() for each in given for word in each.split(",")]
    if not all(found):
        raise RefusedError(Refusal("role-name", f"'{option}' holds an empty name", found=",".join(given)))
    return found


def init_keys(arguments: argparse.Namespace, output: Output) -> None:
    """`keys init`."""
    public: dict[str, list[str]] = {}
    for each in arguments.public:
        role, separator, where = each.partition("=")
        if not separator:
            raise UsageError("'--public' needs role and file", code="value", expected="ROLE=FILE", found=each)
        public.setdefault(role, []).append(where)
    roles = _roles(arguments.roles or [DEFAULT_ROLES])
    top = plan_of(arguments.root, "--root") if arguments.root else keys.default_plan(k for k, _ in roles.values())
    plans = {"root": top, "targets": plan_of(arguments.targets, "--targets") if arguments.targets else top}
    if strangers := sorted(public.keys() - plans.keys() - roles.keys()):
        known = ", ".join((*plans, *roles))
        raise UsageError("'--public' names a role that is not made", code="value", expected=known, found=strangers[0])
    given = {role: open_publics(places, arguments) for role, places in public.items()}
    labels = {each.key.keyid: each.label for found in given.values() for each in found}
    wanted = plans | roles
    made = {name: keys.RolePlan(n, least, *_halves(given.get(name, ()))) for name, (least, n) in wanted.items()}
    with makes_alone(arguments.directory):
        change = keys.init_keys(
            arguments.directory,
            {name: made[name] for name in roles},
            made["root"],
            build_time(os.environ),
            arguments.passphrase,
            targets=made["targets"],
            labels=labels,
            private=arguments.private,
        )
    root = KeyDirectory(arguments.directory).root_file(1)
    more = [f"{root}: give this to devices as their trusted root"]
    _tell(arguments, output, change, [_locked(arguments)] * bool(change.made) + more)


def rotate_keys(arguments: argparse.Namespace, output: Output) -> None:
    """`keys rotate`."""
    found = open_publics(arguments.public, arguments)
    public, signers = _halves(found)
    with one_at_a_time(arguments.directory):
        change = keys.rotate_keys(
            arguments.directory,
            arguments.role,
            build_time(os.environ),
            arguments.passphrase,
            public=public,
            signers=signers,
            labels={each.key.keyid: each.label for each in found},
            private=arguments.private,
        )
    _tell(
        arguments,
        output,
        change,
        [f"{path}: new key" for path in change.made] + [_locked(arguments)] * bool(change.made),
    )


def add_keys(arguments: argparse.Namespace, output: Output) -> None:
    """`keys add`."""
    found = open_publics(arguments.public, arguments)
    public, signers = _halves(found)
    with one_at_a_time(arguments.directory):
        change = keys.change_role(
            arguments.directory,
            arguments.role,
            build_time(os.environ),
            arguments.passphrase,
            add=public,
            signers=signers,
            threshold=arguments.threshold,
            labels={each.key.keyid: each.label for each in found},
            private=arguments.private,
        )
    lines = [f"key {each.key.keyid[:ID_SHOWN]} ({each.label}), {each.key.scheme}: added" for each in found]
    _tell(arguments, output, change, lines)


def remove_keys(arguments: argparse.Namespace, output: Output) -> None:
    """`keys remove`."""
    with one_at_a_time(arguments.directory):
        change = keys.change_role(
            arguments.directory,
            arguments.role,
            build_time(os.environ),
            arguments.passphrase,
            remove=arguments.key,
            threshold=arguments.threshold,
            private=arguments.private,
        )
    _tell(arguments, output, change, [f"key {name}: removed" for name in arguments.key])


def list_keys(arguments: argparse.Namespace, output: Output) -> None:
    """`keys list`."""
    data = describe_keys(arguments.directory, arguments.private)
    if output.as_json:
        output.line({"type": "keys"} | data)
    else:
        output.text(map(printable, render_keys(data)))


def _tell(arguments: argparse.Namespace, output: Output, change: keys.Change, lines: Sequence[str]) -> None:
    """What was made and signed, which keys did not sign, and the documents as they are now."""
    data = describe_keys(arguments.directory, arguments.private)
    if output.as_json:
        result: dict[str, Any] = {"type": "result", "command": f"keys {arguments.action}"}
        made = {"made": [str(path) for path in change.made], "missing": list(change.missing)}
        output.line(result | made | {"encrypted": bool(arguments.passphrase)} | data)
        return
    newest = {document["type"]: document for document in data["documents"]}
    dates = [f"{d['type']} version {d['version']}, until {d['expires'][:10]}" for d in newest.values()]
    missing = [f"not signed by this key, which is not needed: {why}" for why in change.missing]
    output.text(map(printable, [*lines, *missing, *dates]))


def _locked(arguments: argparse.Namespace) -> str:
    state = "encrypted" if arguments.passphrase else f"NOT encrypted: set {PASSPHRASE} to encrypt them"
    where = KeyDirectory(arguments.directory, arguments.private).private
    return f"{arguments.directory}: private keys in '{where}', {state}"


def _halves(found: Sequence[PublicKey]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """The public halves of keys from outside, and what signs with those of them that are in a token here."""
    return tuple(each.key for each in found), tuple(each.signer for each in found if each.signer is not None)


def _roles(given: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Name to threshold and number of keys."""
    roles: dict[str, tuple[int, int]] = {}
    for part in words(given, "--roles"):
        name, separator, plan = part.partition("=")
        check_role_name(name)
        if name in roles:
            raise RefusedError(Refusal("role-name", f"role '{name}' is given twice"))
        roles[name] = plan_of(plan if separator else "1/1", "--roles")
    return roles


def check_role_name(name: str) -> None:
    """One that a device reads.

    Raises:
        RefusedError: `refused.role-name`.
    """
    if not NAME.fullmatch(name) or name in _OWN_ROLES:
        what, form = f"'{name}' cannot be the name of a role", "1 to 64 lower-case letters, digits and . _ -"
        hint = f"{', '.join(_OWN_ROLES)} are names of other documents"
        raise RefusedError(Refusal("role-name", what, form, hint=hint))


def plan_of(text: str, option: str) -> tuple[int, int]:
    """Threshold and number of keys, from `K/N`.

    Raises:
        RefusedError: `refused.threshold-form`.
    """
    match = _PLAN.fullmatch(text)
    if not match or int(match[1]) > int(match[2]):
        what = f"'{option}' says how many keys of how many must sign"
        raise RefusedError(Refusal("threshold-form", what, "K/N, K not above N", text))
    return int(match[1]), int(match[2])
