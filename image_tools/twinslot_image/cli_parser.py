"""The whole command line of `twinslot-image`. The man page docs/man/twinslot-image.1 is held to it by a test."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from twinslot.cli.arguments import Parser, read, whole_number
from twinslot.core.manifest import SEQUENCE_MAX
from twinslot.image.wire_patch import PATCH_VERSION, PIECE_COLUMNS
from twinslot_image import PROGRAM, __version__, cli_blocks, cli_factory, cli_patch, cli_provision, cli_sign
from twinslot_image import cli_commands as commands
from twinslot_image.cli_parser_device import add_device
from twinslot_image.cli_parser_dossier import add_evidence
from twinslot_image.cli_parser_encryption import add_encryption, add_identity
from twinslot_image.cli_parser_keys import add_keys
from twinslot_image.cli_parser_release import add_provenance, add_sbom
from twinslot_image.cli_parser_repository import add_repository
from twinslot_image.cli_reports import add_reports

if TYPE_CHECKING:
    _Verbs: TypeAlias = argparse._SubParsersAction[Parser]  # argparse has no public name for it


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments; `run` is the function of the verb.

    Raises:
        UsageError: The command line is wrong.
        SystemExit: Help or the version was asked for and printed (0).
    """
    return read(make_parser(), argv, argparse.Namespace(json=False, quiet=False))


def make_parser() -> Parser:
    """The parser with every verb; `--json` and `--quiet` may stand before or after the verb."""
    parser = Parser(
        prog=PROGRAM,
        description="Make, sign and check Twinslot update images. 'twinslot-image help COMMAND' explains a command.",
        examples=(
            "twinslot-image keys init keys --roles engineering,clinical=2/3 --root 2/3",
            "twinslot-image build image.toml -o pump.twin",
            "twinslot-image sign pump.twin --role engineering --key keys/private/engineering.*.pem",
            "twinslot-image verify pump.twin --root keys/1.root.json --roles engineering",
        ),
    )
    _add_global(parser)
    parser.add_argument("-V", "--version", action="version", version=f"{PROGRAM} {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="COMMAND")
    anywhere = Parser(add_help=False)
    _add_global(anywhere)
    _add_skeletons(verbs, anywhere)
    add_keys(verbs, anywhere)
    _add_build(verbs, anywhere)
    add_sbom(verbs, anywhere)
    _add_sign(verbs, anywhere)
    add_provenance(verbs, anywhere)
    add_evidence(verbs, anywhere)
    add_encryption(verbs, anywhere)
    _add_deltas(verbs, anywhere)
    _add_readers(verbs, anywhere)
    _add_provision(verbs, anywhere)
    add_reports(verbs, anywhere)
    add_repository(verbs, anywhere)
    _add_factory(verbs, anywhere)
    add_device(verbs, anywhere)
    return parser


def _add_global(parser: argparse.ArgumentParser) -> None:
    """What every verb takes. No default here: a verb's would overwrite what was said before the verb."""
    absent = argparse.SUPPRESS
    parser.add_argument("--json", action="store_true", default=absent, help="print one JSON object per line")
    parser.add_argument("-q", "--quiet", action="store_true", default=absent, help="show no progress")


def _add_force(verb: Parser) -> None:
    """For every verb that writes a file which may be there already."""
    verb.add_argument("--force", action="store_true", help="replace whatever stands where the output goes")


def _add_skeletons(verbs: _Verbs, anywhere: Parser) -> None:
    init = verbs.add_parser(
        "init",
        parents=[anywhere],
        help="write a first image.toml and config.toml",
        description="Write a first image.toml, which 'build' reads, and the config.toml of a device that takes what is "
        "built, both with comments and to be edited.",
        examples=("twinslot-image init product",),
    )
    init.add_argument("directory", type=Path, metavar="DIR", help="where they go; made if need be")
    init.set_defaults(run=commands.init)


def _add_build(verbs: _Verbs, anywhere: Parser) -> None:
    build = verbs.add_parser(
        "build",
        parents=[anywhere],
        help="build an unsigned image from its description",
        description="Check the root file systems, pack the payloads and write an image without signatures.",
        examples=(
            "twinslot-image build image.toml -o pump.twin",
            "twinslot-image build image.toml -o pump.twin --release 2026.12 --sequence 43 --previous pump-2026.11.twin",
        ),
    )
    build.add_argument("description", type=Path, metavar="IMAGE.toml", help="what the image is made of")
    build.add_argument("-o", "--output", required=True, metavar="NAME.twin", help="where it goes")
    _add_force(build)
    build.add_argument("--release", metavar="NAME", help="overrides the description's")
    sequence = whole_number(1, SEQUENCE_MAX)
    build.add_argument("--sequence", type=sequence, metavar="N", help="overrides the description's")
    build.add_argument(
        "--source",
        action="append",
        type=_key_and_value,
        metavar="KEY=VALUE",
        help="overrides the description's [source]: commit, tag, build or builder; more than once for more keys",
    )
    build.add_argument(
        "--previous", type=Path, metavar="OLD.twin", help="the release before, from which the sequence must not jump"
    )
    build.add_argument(
        "--allow-jump", action="store_true", help="accept a sequence far above the last one; there is no way back"
    )
    build.set_defaults(run=commands.build)


def _key_and_value(text: str) -> tuple[str, str]:
    """`KEY=VALUE`; which keys there are, the description knows."""
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise argparse.ArgumentTypeError("KEY=VALUE")
    return key, value


def _add_sign(verbs: _Verbs, anywhere: Parser) -> None:
    sign = verbs.add_parser(
        "sign",
        parents=[anywhere],
        help="add a signature; once for each key",
        description="Add one signature to an image, with a key that is here or one that was made elsewhere. The "
        "payloads are not touched.",
        examples=(
            "twinslot-image sign pump.twin --role engineering --key engineering.pem",
            "twinslot-image sign pump.twin --detached-payload to-sign.bin",
            "twinslot-image sign pump.twin --role clinical --attach signature.bin",
        ),
    )
    sign.add_argument("image", type=Path, metavar="NAME.twin", help="the image")
    sign.add_argument("--role", metavar="ROLE", help="for which role; needed with --key and --attach")
    ways = sign.add_mutually_exclusive_group(required=True)
    key = "private key: in PEM, or where it is in a token (RFC 7512)"
    ways.add_argument("--key", metavar="FILE|env:VARIABLE|pkcs11:URI", help=key)
    ways.add_argument("--detached-payload", metavar="FILE", help="write the bytes to be signed elsewhere")
    ways.add_argument("--attach", type=Path, metavar="FILE", help="add a signature made elsewhere, raw or hex")
    what = "description whose [policy] must be met; without it a role that the image's own policy names cannot sign"
    sign.add_argument("--policy", type=Path, metavar="IMAGE.toml", help=what)
    add_identity(sign)
    _add_force(sign)
    sign.set_defaults(run=cli_sign.sign)


def _add_deltas(verbs: _Verbs, anywhere: Parser) -> None:
    patch = verbs.add_parser(
        "patch",
        parents=[anywhere],
        help="make a patch, for devices that run a known base",
        description="Make a patch, from which a device that runs OLD makes the payloads of NEW.twin. It is served "
        "beside the image, under the name that it gets in a directory.",
        examples=("twinslot-image patch pump-2026.10.twin pump.twin -o release/",),
    )
    patch.add_argument("old", type=Path, metavar="OLD", help="the base: an image, or the content of its partition")
    patch.add_argument("new", type=Path, metavar="NEW.twin", help="the image that the devices are to have")
    patch.add_argument("-o", "--output", required=True, metavar="FILE|DIR/", help="where it goes")
    patch.add_argument(
        "--format",
        type=int,
        choices=tuple(PIECE_COLUMNS),
        default=PATCH_VERSION,
        dest="newest",
        help="the newest format that the devices read (default: %(default)s)",
    )
    _add_force(patch)
    add_identity(patch)
    patch.set_defaults(run=cli_patch.patch)
    blocks = verbs.add_parser(
        "blocks",
        parents=[anywhere],
        help="make a block list, for devices that run any other release",
        description="Make a block list, from which a device that runs any other release learns which blocks it has "
        "already. It is served beside the image.",
        examples=("twinslot-image blocks pump.twin",),
    )
    blocks.add_argument("image", type=Path, metavar="NAME.twin", help="the image that the devices are to have")
    where = "where it goes (default: NAME.twinblocks beside the image)"
    blocks.add_argument("-o", "--output", metavar="FILE|DIR/", help=where)
    _add_force(blocks)
    add_identity(blocks)
    blocks.set_defaults(run=cli_blocks.blocks)


def _add_readers(verbs: _Verbs, anywhere: Parser) -> None:
    inspect = verbs.add_parser(
        "inspect",
        parents=[anywhere],
        help="show what an image, a patch or a block list says of itself",
        description="Show what an image, a patch or a block list says of itself, and who signed it. Nothing is "
        "verified: 'verify' does that.",
        examples=("twinslot-image inspect pump.twin", "twinslot-image inspect --json pump.twin"),
    )
    inspect.add_argument("image", type=Path, metavar="FILE", help="an image, a patch or a block list")
    inspect.set_defaults(run=commands.inspect)
    verify = verbs.add_parser(
        "verify",
        parents=[anywhere],
        help="check everything a device would, down to each group",
        description="Check an image as a device would: who signed it, the dates, each group and the digest of each "
        "whole payload.",
        examples=(
            "twinslot-image verify pump.twin --root keys/1.root.json --roles engineering,clinical",
            "twinslot-image verify pump.twin --root keys/1.root.json --role engineering --role clinical",
        ),
    )
    verify.add_argument("image", type=Path, metavar="NAME.twin", help="the image")
    verify.add_argument("--root", type=Path, required=True, metavar="ROOT.json", help="what the device trusts")
    verify.add_argument(
        "--targets",
        type=Path,
        metavar="TARGETS.json",
        help="the targets document that the device keeps, of the last image that it committed",
    )
    verify.add_argument(
        "--roles",
        "--role",
        action="append",
        required=True,
        metavar="ROLE,...",
        help="roles that must each have signed; may be given again",
    )
    add_identity(verify)
    verify.add_argument("--ignore-expiry", action="store_true", help="let expired documents pass, and name them")
    verify.set_defaults(run=commands.verify)
    extract = verbs.add_parser(
        "extract-attachment",
        parents=[anywhere],
        help="write an attachment to stdout or a file",
        description="Write an attachment whose digest matches the manifest. Who signed the image is not checked.",
        examples=("twinslot-image extract-attachment pump.twin release-notes.md -o notes.md",),
    )
    extract.add_argument("image", type=Path, metavar="NAME.twin", help="the image")
    extract.add_argument("name", metavar="ATTACHMENT", help="its name, as 'inspect' shows it")
    extract.add_argument("-o", "--output", metavar="FILE|DIR/", help="where it goes (default: standard output)")
    _add_force(extract)
    add_identity(extract)
    extract.set_defaults(run=commands.extract)


def _add_provision(verbs: _Verbs, anywhere: Parser) -> None:
    provision = verbs.add_parser(
        "provision",
        parents=[anywhere],
        help="make the first record and environment of a new device",
        description="Write the first record of a device that leaves the factory with this image in one slot, and its "
        "boot environment: as variables on standard output, or with '--environment' both copies into a disk image or "
        "onto a card.",
        examples=(
            "twinslot-image provision pump.twin --record record.sqlite > environment.txt",
            "twinslot-image provision pump.twin --record r.sqlite --environment card.img --fw-env-config fw_env.config",
        ),
    )
    provision.add_argument("image", type=Path, metavar="NAME.twin", help="the image")
    provision.add_argument("--slot", choices=["a", "b"], default="a", help="which slot holds it (default: %(default)s)")
    provision.add_argument("--record", required=True, metavar="FILE", help="the record to write")
    provision.add_argument(
        "--environment",
        type=Path,
        metavar="DISK",
        help="disk image or device that gets both copies of the environment, where fw_env.config says",
    )
    provision.add_argument(
        "--fw-env-config", type=Path, metavar="FILE", help="the device's fw_env.config; needed with --environment"
    )
    provision.add_argument(
        "--default-env", type=Path, metavar="FILE", help="the board's own variables, name=value lines"
    )
    _add_force(provision)
    provision.set_defaults(run=cli_provision.provision_device)


def _add_factory(verbs: _Verbs, anywhere: Parser) -> None:
    factory = verbs.add_parser(
        "factory",
        parents=[anywhere],
        help="make the whole disk of a new device",
        description="Make the disk of a new device as a file: partition table, boot loader, the image's payloads in "
        "slot a, a data partition with the first record, both copies of the boot environment. The image is verified as "
        "the device would, and the system in it is held to the board.",
        examples=(
            "twinslot-image factory pump.twin --board board.toml --root keys/1.root.json -o disk.img",
            "twinslot-image factory pump.twin --board b.toml --root keys/1.root.json -o disk.img --card card.img",
        ),
    )
    factory.add_argument("image", type=Path, metavar="NAME.twin", help="the image")
    factory.add_argument("--board", type=Path, required=True, metavar="BOARD.toml", help="where things go on its disk")
    factory.add_argument("--root", type=Path, required=True, metavar="ROOT.json", help="what the device trusts")
    factory.add_argument("-o", "--output", type=Path, required=True, metavar="DISK", help="the disk to make")
    factory.add_argument(
        "--card", type=Path, metavar="FILE", help="the card to make, where the environment has one of its own"
    )
    _add_force(factory)
    add_identity(factory)
    factory.set_defaults(run=cli_factory.make_factory_disk)
