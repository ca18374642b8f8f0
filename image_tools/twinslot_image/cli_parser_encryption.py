"""The command line of `twinslot-image encrypt` and `twinslot-image recipients`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from twinslot.cli.arguments import Parser
from twinslot.crypto.keys import KINDS
from twinslot_image import cli_encryption
from twinslot_image.description import CIPHER_DEFAULT, CIPHERS, cipher_name

if TYPE_CHECKING:
    _Verbs: TypeAlias = argparse._SubParsersAction[Parser]  # argparse has no public name for it


def add_encryption(verbs: _Verbs, anywhere: Parser) -> None:
    """`encrypt`, `recipients` and its actions."""
    encrypt = verbs.add_parser(
        "encrypt",
        parents=[anywhere],
        help="encrypt an image that is not signed yet",
        description="Encrypt everything behind the manifest of an image that was built in plain, for one recipient or "
        "more. The manifest says so from then on, so this comes before signing.",
        examples=("twinslot-image encrypt pump.twin --recipient fleet.pub.pem",),
    )
    encrypt.add_argument("image", type=Path, metavar="NAME.twin", help="the image, which is replaced")
    encrypt.add_argument(
        "--recipient",
        action="append",
        required=True,
        metavar="PUBLIC.pem",
        help="public key, X25519 or P-256, or the pkcs11: URI of one (P-256), of who can open it; may be given again",
    )
    default = cipher_name(CIPHER_DEFAULT)
    encrypt.add_argument("--cipher", choices=[*CIPHERS], default=default, help="how (default: %(default)s)")
    encrypt.set_defaults(run=cli_encryption.encrypt)
    recipients = verbs.add_parser(
        "recipients",
        help="make keys for encrypted images, and say who can open one",
        description="Make keys for encrypted images, and show or change who can open one. Payloads and signatures of "
        "the image are not touched.",
        examples=("twinslot-image recipients new fleet.pem", "twinslot-image recipients list pump.twin"),
    )
    _add_actions(recipients.add_subparsers(dest="action", required=True, metavar="ACTION"), anywhere)


def add_identity(verb: Parser) -> None:
    """For every verb that reads what stands behind the manifest of an image."""
    what = "private key of a recipient, or its pkcs11: URI, for an encrypted image"
    verb.add_argument("--identity", metavar="PRIVATE.pem", help=what)


def _add_actions(actions: _Verbs, anywhere: Parser) -> None:
    new = actions.add_parser(
        "new",
        parents=[anywhere],
        help="make a key pair",
        description="Make a key pair. The private key is encrypted when TWINSLOT_KEY_PASSPHRASE is set; a device needs "
        "it without.",
        examples=("twinslot-image recipients new fleet.pem",),
    )
    new.add_argument(
        "private", type=Path, metavar="PRIVATE.pem", help="where the private key goes; X.pub.pem beside it"
    )
    new.add_argument("--kind", choices=[*KINDS], default="x25519", help="(default: %(default)s)")
    new.set_defaults(run=cli_encryption.new_recipient)
    shown = actions.add_parser(
        "list",
        parents=[anywhere],
        help="show who can open an image",
        description="Show the key ids of those who can open an image. Nothing is verified.",
        examples=("twinslot-image recipients list pump.twin --json",),
    )
    shown.add_argument("image", type=Path, metavar="NAME.twin", help="the image")
    shown.set_defaults(run=cli_encryption.list_recipients)
    add = actions.add_parser(
        "add",
        parents=[anywhere],
        help="let another key open an image",
        description="Let another key open an encrypted image. Who adds one must be able to open it.",
        examples=("twinslot-image recipients add pump.twin device-7.pub.pem --identity fleet.pem",),
    )
    add.add_argument("image", type=Path, metavar="NAME.twin", help="the image, which is replaced")
    what = "public key, X25519 or P-256, or the pkcs11: URI of one (P-256)"
    add.add_argument("public", nargs="+", metavar="PUBLIC.pem", help=what)
    add_identity(add)
    add.set_defaults(run=cli_encryption.add)
    remove = actions.add_parser(
        "remove",
        parents=[anywhere],
        help="let a key open an image no longer",
        description="Take a recipient out of an image. Who opened it before may have kept what opens it: to lock out "
        "a key, build the next image without it.",
        examples=(
            "twinslot-image recipients remove pump.twin 3f9a0c61d2b47e85",
            "twinslot-image recipients remove pump.twin fleet.pub.pem",
        ),
    )
    remove.add_argument("image", type=Path, metavar="NAME.twin", help="the image, which is replaced")
    key = "key id, or how it begins; or the public key: a file in PEM or a PKCS #11 URI"
    remove.add_argument("key", nargs="+", metavar="KEY|PUBLIC.pem", help=key)
    remove.set_defaults(run=cli_encryption.remove)
