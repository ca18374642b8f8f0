"""The command line of `twinslot-image keys`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from twinslot.cli.arguments import Parser, whole_number
from twinslot_image import cli_key_change, cli_keys

if TYPE_CHECKING:
    _Verbs: TypeAlias = argparse._SubParsersAction[Parser]  # argparse has no public name for it


def add_keys(verbs: _Verbs, anywhere: Parser) -> None:
    """`keys` and its actions."""
    keys = verbs.add_parser(
        "keys",
        help="make, list and replace signing keys",
        description="Make, list and replace signing keys, and the documents that say which keys each role has.",
        examples=("twinslot-image keys init keys", "twinslot-image keys list keys"),
    )
    actions = keys.add_subparsers(dest="action", required=True, metavar="ACTION")
    _add_init(actions, anywhere)
    shown = _action(
        actions,
        anywhere,
        "list",
        "show each role's keys, and whose private keys are here",
        "Show for each role how many keys must sign, and for each key its id, its label, whether its private half is "
        "in the directory and whether it is current. Nothing is verified or changed.",
        ("twinslot-image keys list keys", "twinslot-image keys list keys --json"),
    )
    shown.set_defaults(run=cli_keys.list_keys)
    rotate = _action(
        actions,
        anywhere,
        "rotate",
        "replace every key of a role, and renew the dates",
        "Replace every key of a role by new ones and renew the dates. As many of the private keys of root and targets "
        "as must sign have to be in DIR/private. Nothing is written unless everything can be.",
        ("twinslot-image keys rotate keys clinical", "twinslot-image keys rotate keys clinical --public hsm.pem"),
    )
    rotate.add_argument("role", metavar="ROLE", help="root, targets, or one of the signing roles")
    rotate.add_argument(
        "--public",
        action="append",
        default=[],
        metavar="FILE|pkcs11:URI",
        help="a key from outside instead of one that is made here: its public half in PEM, or in a token; "
        "may be given again",
    )
    rotate.set_defaults(run=cli_keys.rotate_keys)
    _add_changes(actions, anywhere)
    _add_ceremony(actions, anywhere)


def _add_init(actions: _Verbs, anywhere: Parser) -> None:
    init = _action(
        actions,
        anywhere,
        "init",
        "make root, targets and role keys and the documents that name them",
        "Make keys for root, targets and each role, and the documents that name them. Private keys go to DIR/private, "
        "encrypted when TWINSLOT_KEY_PASSPHRASE is set. DIR/1.root.json is what devices are made with.",
        (
            "twinslot-image keys init keys --roles engineering,clinical=2/3 --root 2/3",
            "twinslot-image keys init keys --roles clinical=1/2 --public clinical=hsm.pem",
        ),
    )
    init.add_argument(
        "--roles",
        "--role",
        action="append",
        metavar="ROLE[=K/N],...",
        help="roles; K of N keys must sign, 1/1 unless given; may be given again (default: engineering,clinical)",
    )
    least = "default: 1/1; 2/3, or one more than the highest K of a role, when a role has a K above 1"
    init.add_argument("--root", metavar="K/N", help=f"root keys; K not below that of any role ({least})")
    init.add_argument("--targets", metavar="K/N", help="keys that sign who may sign, likewise (default: as --root)")
    init.add_argument(
        "--public",
        action="append",
        default=[],
        metavar="ROLE=FILE|pkcs11:URI",
        help="one of the role's N keys from outside: its public half in PEM, or in a token; may be given again",
    )
    init.set_defaults(run=cli_keys.init_keys)


def _add_changes(actions: _Verbs, anywhere: Parser) -> None:
    for name in ("add", "enrol"):
        _add_adding(actions, anywhere, name)
    remove = _action(
        actions,
        anywhere,
        "remove",
        "take keys out of a role",
        "Take keys out of a role, of a person who left or of a module that was lost. Images built afterwards carry the "
        "change.",
        ("twinslot-image keys remove keys clinical 4c1f86a9cc1e8dab",),
    )
    remove.add_argument("role", metavar="ROLE", help="root, targets, or one of the signing roles")
    remove.add_argument("key", nargs="+", metavar="KEY", help="the key's id or the first digits of it, or its label")
    remove.set_defaults(run=cli_keys.remove_keys)
    _add_threshold(remove)


def _add_adding(actions: _Verbs, anywhere: Parser, name: str) -> None:
    add = _action(
        actions,
        anywhere,
        name,
        "put keys that were made elsewhere into a role",
        "Put keys into a role that were made in a hardware module or on another person's machine: Ed25519, ECDSA on "
        "P-256 or P-384, or RSA of 3072 to 4096 bits. A key is named by its public half in PEM, or by a PKCS #11 URI; "
        "then it has to show that it signs. 'enrol' and 'add' are one.",
        (
            f"twinslot-image keys {name} keys clinical hsm.pem --threshold 2",
            f"twinslot-image keys {name} keys clinical 'pkcs11:token=release;object=clinical'",
        ),
    )
    add.add_argument("role", metavar="ROLE", help="root, targets, or one of the signing roles")
    where = "its public half in PEM, whose name is its label; or where it is in a token"
    add.add_argument("public", nargs="+", metavar="PUBLIC.pem|pkcs11:URI", help=where)
    _add_threshold(add)
    add.set_defaults(run=cli_keys.add_keys)


def _add_ceremony(actions: _Verbs, anywhere: Parser) -> None:
    propose = _action(
        actions,
        anywhere,
        "propose",
        "write a change of keys as a file, for others to sign",
        "Write a change of a role's keys or threshold, of the date alone, or of which roles there are, as a file that "
        "travels to those who must sign it. DIR needs no private key, and is not changed.",
        (
            "twinslot-image keys propose keys clinical --remove bob --add eve.pem -o change.json",
            "twinslot-image keys propose keys root -o new-date.json",
            "twinslot-image keys propose keys security --add-role 1/2 --add ann.pem --add ben.pem -o change.json",
        ),
    )
    propose.add_argument("role", metavar="ROLE", help="root, targets, one of the signing roles, or a new one")
    add, remove = "a key that joins, as with 'enrol'; may be given again", "a key that leaves: its id, or label"
    propose.add_argument("--add", action="append", default=[], metavar="PUBLIC.pem|pkcs11:URI", help=add)
    propose.add_argument("--remove", action="append", default=[], metavar="KEY", help=remove)
    _add_threshold(propose)
    new = "ROLE is new, and K of the N keys that '--add' names must sign"
    propose.add_argument("--add-role", metavar="K/N", help=new)
    propose.add_argument("--remove-role", action="store_true", help="ROLE goes")
    propose.add_argument("-o", "--output", required=True, metavar="CHANGE.json", help="where it goes")
    propose.add_argument("--force", action="store_true", help="replace whatever stands where the output goes")
    propose.set_defaults(run=cli_key_change.propose)
    _add_signing(actions, anywhere)


def _add_signing(actions: _Verbs, anywhere: Parser) -> None:
    """What becomes of a change that was proposed."""
    sign = _action(
        actions,
        anywhere,
        "sign",
        "see what a change of keys changes, and sign it",
        "Show what the file changes in the documents of DIR, ask, and add the signatures of the private keys that are "
        "here. It may be signed in turn, or in copies that 'finish' puts together.",
        (
            "twinslot-image keys sign keys change.json",
            "twinslot-image keys sign keys change.json --key /media/stick/root.pem --yes",
        ),
    )
    sign.add_argument("change", type=Path, metavar="CHANGE.json", help="the file that 'propose' made")
    key = "private key in PEM, or in a token (default: those in DIR/private); may be given again"
    ways = sign.add_mutually_exclusive_group()
    ways.add_argument("--key", action="append", default=[], metavar="FILE|env:VARIABLE|pkcs11:URI", help=key)
    ways.add_argument("--detached-payload", metavar="FILE", help="write the bytes to be signed elsewhere")
    ways.add_argument("--attach", type=Path, metavar="FILE", help="add a signature made elsewhere, raw or hex")
    which = "of which new document, where a change has two; with --detached-payload and --attach"
    sign.add_argument("--document", choices=["root", "targets"], help=which)
    sign.add_argument("--yes", action="store_true", help="sign without being asked")
    sign.set_defaults(run=cli_key_change.sign)
    finish = _action(
        actions,
        anywhere,
        "finish",
        "put a change that enough have signed into force",
        "Check the signatures as a device would, and write the new documents into DIR. Everybody does so in their own "
        "directory. Nothing is written unless everything can be.",
        (
            "twinslot-image keys finish keys change.json",
            "twinslot-image keys finish keys ann.json ben.json",
        ),
    )
    finish.add_argument("change", nargs="+", type=Path, metavar="CHANGE.json", help="the file, or signed copies of it")
    finish.set_defaults(run=cli_key_change.finish)


def _add_threshold(verb: Parser) -> None:
    least = "how many must sign from now on (default: as before)"
    verb.add_argument("--threshold", type=whole_number(1, 32), metavar="K", help=least)


def _action(
    actions: _Verbs, anywhere: Parser, name: str, help_: str, description: str, examples: Sequence[str]
) -> Parser:
    parser = actions.add_parser(name, parents=[anywhere], help=help_, description=description, examples=examples)
    parser.add_argument("directory", type=Path, metavar="DIR", help="the key directory")
    if name not in ("propose", "finish"):  # these need no private key
        where = "where private keys are and go, so that DIR holds public parts only (default: DIR/private)"
        parser.add_argument("--private", type=Path, metavar="PLACE", help=where)
    return parser
