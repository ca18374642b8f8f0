"""`twinslot-image`: builds, signs, inspects and verifies update images. See docs/man/twinslot-image.1."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from twinslot import __version__
from twinslot.core.errors import DeviceError, TwinslotError
from twinslot_image import cli_blocks, cli_patch
from twinslot_image import cli_commands as commands
from twinslot_image.stop import Stopped, stopping_by_signals

EXIT_PIPE = 141  # 128 + SIGPIPE


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status is documented in the man page."""
    try:
        with stopping_by_signals():
            return _run(make_parser().parse_args(argv))
    except Stopped as e:
        name = signal.Signals(e.number).name
        print(f"twinslot-image: stopped by {name}; an output is as it was before, or whole", file=sys.stderr)
        return e.exit_status


def _run(arguments: argparse.Namespace) -> int:
    try:
        arguments.run(arguments)
        sys.stdout.flush()
    except TwinslotError as e:
        return _report(e, as_json=getattr(arguments, "json", False))
    except BrokenPipeError:
        # Whoever read our output has had enough; nothing may be written at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_PIPE
    except OSError as e:
        found = e.strerror or str(e)
        what = f"cannot use '{e.filename}'" if e.filename is not None else "the system refused"
        return _report(DeviceError(what, code="file", found=found), as_json=getattr(arguments, "json", False))
    return 0


def _report(error: TwinslotError, *, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"error": error.as_dict()}, indent=2))
    print(f"twinslot-image: {error}", file=sys.stderr)
    return error.exit_status


def make_parser() -> argparse.ArgumentParser:
    """The whole command line; also read by the man page's test."""
    parser = argparse.ArgumentParser(prog="twinslot-image", description="Make and check Twinslot update images.")
    parser.add_argument("--version", action="version", version=f"twinslot-image {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="COMMAND")
    _add_keys(verbs)
    _add_build(verbs)
    _add_sign(verbs)
    _add_patch(verbs)
    _add_blocks(verbs)
    _add_readers(verbs)
    return parser


def _add_keys(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    keys = verbs.add_parser("keys", help="make and replace signing keys")
    actions = keys.add_subparsers(dest="action", required=True, metavar="ACTION")
    init = actions.add_parser("init", help="make root, targets and role keys and the documents that name them")
    init.add_argument("directory", type=Path, metavar="DIR")
    init.add_argument(
        "--roles",
        default="engineering,clinical",
        metavar="ROLE[=K/N],...",
        help="roles; K of N keys must sign, 1/1 unless given (default: %(default)s)",
    )
    init.add_argument("--root", default="1/1", metavar="K/N", help="root keys (default: %(default)s)")
    init.set_defaults(run=commands.init_keys)
    rotate = actions.add_parser("rotate", help="replace every key of a role, and renew the dates")
    rotate.add_argument("directory", type=Path, metavar="DIR")
    rotate.add_argument("role", metavar="ROLE", help="root, targets, or one of the signing roles")
    rotate.set_defaults(run=commands.rotate_keys)


def _add_build(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    build = verbs.add_parser("build", help="build an unsigned image from its description")
    build.add_argument("description", type=Path, metavar="IMAGE.toml")
    build.add_argument("-o", "--output", required=True, metavar="NAME.twin")
    _add_force(build)
    build.add_argument("--release", help="overrides the description's")
    build.add_argument("--sequence", type=int, help="overrides the description's")
    build.set_defaults(run=commands.build)


def _add_force(verb: argparse.ArgumentParser) -> None:
    """For every verb that writes a file which may be there already."""
    verb.add_argument("--force", action="store_true", help="replace whatever stands where the output goes")


def _add_sign(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    sign = verbs.add_parser("sign", help="add a signature; again for each role")
    sign.add_argument("image", type=Path, metavar="NAME.twin")
    sign.add_argument("--role", metavar="ROLE", help="for which role; needed with --key and --attach")
    ways = sign.add_mutually_exclusive_group(required=True)
    ways.add_argument("--key", metavar="FILE|env:VARIABLE", help="private key in PEM")
    ways.add_argument("--detached-payload", metavar="FILE", help="write the bytes to be signed elsewhere")
    ways.add_argument("--attach", type=Path, metavar="FILE", help="add a signature made elsewhere, raw or hex")
    _add_force(sign)
    sign.set_defaults(run=commands.sign)


def _add_patch(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    patch = verbs.add_parser("patch", help="make a patch, for devices that run a known base")
    patch.add_argument("old", type=Path, metavar="OLD", help="the base: an image, or the content of its partition")
    patch.add_argument("new", type=Path, metavar="NEW.twin", help="the image that the devices are to have")
    patch.add_argument("-o", "--output", required=True, metavar="FILE|DIR/", help="where it goes")
    _add_force(patch)
    patch.add_argument("--json", action="store_true")
    patch.set_defaults(run=cli_patch.patch)


def _add_blocks(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    blocks = verbs.add_parser("blocks", help="make a block list, for devices that run any other release")
    blocks.add_argument("image", type=Path, metavar="NAME.twin", help="the image that the devices are to have")
    where = "where it goes (default: NAME.twinblocks beside the image)"
    blocks.add_argument("-o", "--output", metavar="FILE|DIR/", help=where)
    _add_force(blocks)
    blocks.add_argument("--json", action="store_true")
    blocks.set_defaults(run=cli_blocks.blocks)


def _add_readers(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    inspect = verbs.add_parser("inspect", help="show what an image, a patch or a block list says of itself")
    inspect.add_argument("image", type=Path, metavar="FILE", help="an image, a patch or a block list")
    inspect.add_argument("--json", action="store_true")
    inspect.set_defaults(run=commands.inspect)
    verify = verbs.add_parser("verify", help="check everything a device would, down to each group")
    verify.add_argument("image", type=Path, metavar="NAME.twin")
    verify.add_argument("--root", type=Path, required=True, metavar="ROOT.json", help="what the device trusts")
    verify.add_argument("--roles", required=True, metavar="ROLE,...", help="roles that must each have signed")
    verify.add_argument("--ignore-expiry", action="store_true", help="let expired documents pass, and name them")
    verify.add_argument("--json", action="store_true")
    verify.set_defaults(run=commands.verify)
    extract = verbs.add_parser("extract-attachment", help="write an attachment to stdout or a file")
    extract.add_argument("image", type=Path, metavar="NAME.twin")
    extract.add_argument("name", metavar="ATTACHMENT")
    extract.add_argument("-o", "--output", metavar="FILE|DIR/", help="where it goes (default: standard output)")
    _add_force(extract)
    extract.set_defaults(run=commands.extract)
    provision = verbs.add_parser("provision", help="make the first record and environment of a new device")
    provision.add_argument("image", type=Path, metavar="NAME.twin")
    provision.add_argument("--slot", choices=["a", "b"], default="a", help="which slot holds it (default: %(default)s)")
    provision.add_argument("--record", required=True, metavar="FILE", help="the record to write")
    _add_force(provision)
    provision.set_defaults(run=commands.provision_device)
