"""The whole command line. The man page docs/man/twinslot.1 is held to this parser by a test."""

from __future__ import annotations

import argparse
import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from twinslot import __version__
from twinslot.cli import help as cli_help
from twinslot.cli.arguments import Parser, Switch, anchored, nonce_of, read, since, until, whole_number

if TYPE_CHECKING:
    _Verbs: TypeAlias = argparse._SubParsersAction["Parser"]  # argparse has no public name for it

_GLOBAL: Final = {"json": False, "no_service": False, "config_root": "/"}


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The arguments, typed as the parser declares them.

    Raises:
        UsageError: The command line is wrong.
        SystemExit: Help or the version was asked for and printed (0).
    """
    given = sys.argv[1:] if argv is None else argv
    return read(_parser(), given, argparse.Namespace(**_GLOBAL))


@functools.cache
def _parser() -> Parser:
    """One for the process."""
    return make_parser()


def make_parser() -> Parser:
    """The parser with every verb; global options may stand before or after the verb."""
    anywhere = _global_options()
    parser = Parser(
        prog="twinslot",
        description=f"{cli_help.TOP} For systemd units alone: {', '.join(cli_help.UNITS)}.",
        examples=cli_help.EXAMPLES,
    )
    _add_global(parser)
    parser.add_argument("-V", "--version", action="version", version=f"twinslot {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="COMMAND", title="commands")
    _add_changing(verbs, anywhere)
    _add_looking(verbs, anywhere)
    _add_units(verbs, anywhere)
    for verb, explained in cli_help.VERBS.items():
        verbs.choices[verb].explain(explained.description, explained.examples)
    return parser


def _global_options() -> Parser:
    """What every verb takes, too."""
    parser = Parser(add_help=False)
    _add_global(parser)
    return parser


def _add_global(parser: argparse.ArgumentParser) -> None:
    """No defaults here: a verb's would overwrite what was said before the verb."""
    absent = argparse.SUPPRESS
    parser.add_argument("--json", action="store_true", default=absent, help="print one JSON object per line")
    parser.add_argument(
        "--no-service", action="store_true", default=absent, help="do it in this process, without the bus (needs root)"
    )
    parser.add_argument(
        "--config-root",
        metavar="DIR",
        default=absent,
        help="read the configuration below DIR (default: /); paths inside it stay as they are",
    )


def _add_changing(verbs: _Verbs, anywhere: Parser) -> None:
    install = verbs.add_parser("install", parents=[anywhere], help="write an image into the slot that does not run")
    install.add_argument("image", metavar="FILE|URL|-", help="the image; - is standard input")
    install.add_argument(
        "--dry-run",
        action="store_true",
        help="only say whether it would be taken, and what fetched; needs root",
    )
    install.add_argument(
        "--no-activate", dest="activate", action="store_false", help="write only; 'twinslot activate' does the rest"
    )
    _add_reboot(install)
    install.add_argument("--retry", action="store_true", help="accept a release that rolled back here; recorded")
    install.add_argument("--reinstall", action="store_true", help="accept the release that runs; recorded")
    install.add_argument("--ignore-expiry", action="store_true", help="accept expired documents; recorded")
    activate = verbs.add_parser("activate", parents=[anywhere], help="start the written slot at the next boot")
    _add_reboot(activate)
    for verb in (install, activate):
        verb.add_argument("--outside-window", action="store_true", help="wait for no window; recorded")
    verbs.add_parser("cancel", parents=[anywhere], help="drop an update that was not booted yet, or stop an install")
    approve = verbs.add_parser("approve", parents=[anywhere], help="agree to the update that waits")
    approve.add_argument("release", metavar="RELEASE", help="its name, as 'twinslot status' shows it")
    hold = verbs.add_parser("hold", parents=[anywhere], help="put the update that waits off")
    hold.add_argument("--until", metavar="TIME", type=until, required=True, help="a time, or 15m, 2h, 3d from now")
    again = verbs.add_parser("continue", parents=[anywhere], help="ask policy again for an update that waits")
    again.add_argument(
        "--if-waiting", action="store_true", help="it is fine when another command is at the device (for the timer)"
    )
    commit = verbs.add_parser("commit", parents=[anywhere], help="keep the system on trial, after its health checks")
    commit.add_argument("--force", metavar="REASON", type=_reason, help="run no checks; the reason is recorded")
    commit.add_argument("--if-trial", action="store_true", help="do nothing without a trial (for the systemd unit)")
    rollback = verbs.add_parser("rollback", parents=[anywhere], help="leave the trial, or try the other slot again")
    rollback.add_argument("--reason", metavar="TEXT", default="", help="why; it is recorded")
    rollback.add_argument(
        "--no-reboot", dest="reboot", action="store_false", help="only make the other slot the next to boot"
    )


def _add_reboot(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--reboot", action=Switch, help="reboot into the trial (default: 'install.reboot')")


def _add_looking(verbs: _Verbs, anywhere: Parser) -> None:
    verbs.add_parser("status", parents=[anywhere], help="show slots, releases, and what is under way")
    info = verbs.add_parser("info", parents=[anywhere], help="show an image, and whether this device would take it")
    info.add_argument("image", nargs="?", metavar="FILE|URL|-", help="the image; - is standard input")
    info.add_argument("--running", action="store_true", help="show what came with the release that runs instead")
    info.add_argument("--waiting", action="store_true", help="show what came with the update that waits instead")
    what = "print this attachment instead, by its name or type"
    info.add_argument("--attachment", metavar="NAME|TYPE", help=what)
    history = verbs.add_parser("history", parents=[anywhere], help="show past updates, newest first")
    number = whole_number(1, 1_000_000)
    history.add_argument("-n", "--number", metavar="N", type=number, default=20, help="how many (default: 20)")
    log = verbs.add_parser("log", parents=[anywhere], help="show what was done here, by whom, and what was refused")
    log.add_argument("-n", "--number", metavar="N", type=number, help="the newest N rows (default: 20, or all)")
    words = "rows from this number or time on, or of the last 15m, 2h, 3d"
    log.add_argument("--since", metavar="N|TIME", type=since, help=words)
    log.add_argument("-f", "--follow", action="store_true", help="go on with rows as they come")
    poll = verbs.add_parser("poll", parents=[anywhere], help="ask the repository what there is for this device")
    place = "a copy of it in this directory, e.g. on a stick, instead of the one configured"
    poll.add_argument("directory", metavar="DIR", nargs="?", type=Path, help=place)
    due = "ask nobody without a repository, or while the server wants to be left alone (for the timer)"
    poll.add_argument("--if-due", action="store_true", help=due)
    report = verbs.add_parser("report", parents=[anywhere], help="tell the maker what became of updates, signed")
    told = "do nothing without a destination, or while the server wants to be left alone (for the timer)"
    report.add_argument("--if-due", action="store_true", help=told)
    report.add_argument("-o", "--output", type=Path, metavar="DIR", help="write it into this directory instead")
    figures = verbs.add_parser("metrics", parents=[anywhere], help="print figures for a monitoring system")
    figures.add_argument("-o", "--output", type=Path, metavar="FILE", help="replace this file by them instead, whole")
    verbs.add_parser("scrub", parents=[anywhere], help="read the slot to go back to, and say whether it is sound")
    _add_audit(verbs, anywhere)
    retire = verbs.add_parser("retire", parents=[anywhere], help="take this device out of service, for good")
    retire.add_argument("--reason", metavar="TEXT", type=_reason, required=True, help="why; it is recorded")
    retire.add_argument("--yes", action="store_true", help="mean it: nothing of this can be undone")
    explain = verbs.add_parser("explain", parents=[anywhere], help="replay an update from its rows, by the table")
    explain.add_argument("transaction", metavar="ID", help="of the update, its first digits, or 'last'")
    attest = verbs.add_parser("attest", parents=[anywhere], help="say, signed, what runs, what ran and what is wrong")
    nonce = "of whoever asks: 2 to 128 hex digits that come back in the answer"
    attest.add_argument("--nonce", metavar="HEX", type=nonce_of, help=nonce)
    verbs.add_parser("doctor", parents=[anywhere], help="find what is wrong with what updates depend on")
    key = verbs.add_parser(
        "device-key", parents=[anywhere], help="show the public part of this device's own key, or make it"
    )
    key.add_argument("action", choices=("show", "init"), help="show it, or make it where there is none")
    key = verbs.add_parser(
        "decryption-key", parents=[anywhere], help="show the public half of the key for encrypted images, or make it"
    )
    key.add_argument("action", choices=("show", "init"), help="show it, or make it where there is none")


def _add_audit(verbs: _Verbs, anywhere: Parser) -> None:
    audit = verbs.add_parser(
        "audit", parents=[anywhere], help="give the audit away signed, verify such a file, or seal it"
    )
    audit.add_argument("action", choices=("export", "verify", "seal"), help="what to do")
    where = "where it goes (default: standard output); with 'verify' the file to verify"
    audit.add_argument("file", metavar="FILE", nargs="?", type=Path, help=where)
    key = "public part of the device's key, with 'verify'; again for a key before it"
    audit.add_argument("--key", metavar="PEM", type=Path, action="append", help=key)
    anchor = "an end of the audit that is known from before, with 'verify'; may be given again"
    audit.add_argument("--anchor", metavar="NUMBER-HASH", type=anchored, action="append", help=anchor)


def _add_units(verbs: _Verbs, anywhere: Parser) -> None:
    verbs.add_parser("boot", parents=[anywhere])  # no help: it is not in the list
    check = verbs.add_parser("check", parents=[anywhere], help="run the health checks; on trial, a failed one ends it")
    check.add_argument("--if-trial", action="store_true", help="run none without a trial (for the systemd unit)")
    verbs.add_parser("watch", parents=[anywhere])
    verbs.add_parser("service", parents=[anywhere])


def _reason(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("a reason is expected; it is recorded")
    return text
