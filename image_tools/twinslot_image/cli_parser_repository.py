"""The command line of `twinslot-image repository`."""

from __future__ import annotations

import argparse
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from twinslot.cli.arguments import Parser
from twinslot.core.waves import WHOLE
from twinslot_image import cli_repository

if TYPE_CHECKING:
    _Verbs: TypeAlias = argparse._SubParsersAction[Parser]  # argparse has no public name for it

_PLAN: Final = re.compile(r"([1-9][0-9]?)/([1-9][0-9]?)")
_SPREAD: Final = re.compile(r"([0-9]{1,5})([mhd])")
_SECONDS: Final = {"m": 60, "h": 3600, "d": 86_400}
_SHARE: Final = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,4})?)%")
_ROLES: Final = ("offers", "snapshot", "timestamp")


def add_repository(verbs: _Verbs, anywhere: Parser) -> None:
    """`repository` and its actions."""
    repository = verbs.add_parser(
        "repository",
        help="offer releases to devices by plain signed files",
        description="Keep a repository: signed files from which devices learn which release there is for them and when "
        "their turn comes. Any web server serves DIR/public.",
        examples=("twinslot-image repository init fleet", "twinslot-image repository publish fleet"),
    )
    actions = repository.add_subparsers(dest="action", required=True, metavar="ACTION")
    _add_init(actions, anywhere)
    add = _action(
        actions,
        anywhere,
        "add",
        "offer an image to the device types that it is for",
        "Copy an image, with the block list and the patches beside it, to DIR/public/images, and offer it to the "
        "device types that it names. Sign it first; devices hear of it with the next 'publish'.",
        ("twinslot-image repository add fleet pump-2026.11.twin",),
    )
    add.add_argument("image", type=Path, metavar="NAME.twin", help="the image")
    add.set_defaults(run=cli_repository.add)
    _add_wave(actions, anywhere)
    _add_halt(actions, anywhere)
    shown = _action(
        actions,
        anywhere,
        "list",
        "show what is offered, to whom and when",
        "Show each device type's releases with their waves, as they will be published. Nothing is changed.",
        ("twinslot-image repository list fleet", "twinslot-image repository list fleet --json"),
    )
    shown.set_defaults(run=cli_repository.show)
    _add_publish(actions, anywhere)


def _add_init(actions: _Verbs, anywhere: Parser) -> None:
    init = _action(
        actions,
        anywhere,
        "init",
        "make a repository and its keys",
        "Make the keys and first documents of a repository; images have keys of their own. Private keys go to "
        "DIR/keys/private, encrypted when TWINSLOT_KEY_PASSPHRASE is set. DIR/keys/1.root.json is what devices are "
        "made with. Only the keys of snapshot and timestamp need to be where 'publish' runs every few days.",
        ("twinslot-image repository init fleet", "twinslot-image repository init fleet --root 2/3 --targets 2/3"),
    )
    for role, what in (("root", "the root"), ("targets", "the targets document"), ("offers", "what is offered")):
        text = f"K of N keys sign {what} (default: 1/1)"
        init.add_argument(f"--{role}", type=_plan, default=(1, 1), metavar="K/N", help=text)
    init.set_defaults(run=cli_repository.init)


def _add_wave(actions: _Verbs, anywhere: Parser) -> None:
    wave = _action(
        actions,
        anywhere,
        "wave",
        "spread a release over waves",
        "Say which share of the devices may take a release from when on. Each device finds its own place, another one "
        "in each release; inside a wave the devices begin one after the other over SPREAD. Without waves all may "
        "take it at once. Earlier waves of the release are replaced.",
        (
            "twinslot-image repository wave fleet 2026.11 1%,2026-12-01T08:00:00Z,6h 99%,2026-12-08T08:00:00Z,5d",
            "twinslot-image repository wave fleet 2026.11",
        ),
    )
    wave.add_argument("release", metavar="RELEASE", help="its name")
    form = "share, start and, unless all begin at once, the time over which its devices begin (30m, 6h, 5d)"
    wave.add_argument("waves", nargs="*", type=_wave, metavar="SHARE%,START[,SPREAD]", help=form)
    wave.set_defaults(run=cli_repository.wave)


def _add_halt(actions: _Verbs, anywhere: Parser) -> None:
    halt = _action(
        actions,
        anywhere,
        "halt",
        "stop a release, or offer it again",
        "No device takes the release any more, as soon as it has heard; those that have it keep it.",
        (
            "twinslot-image repository halt fleet 2026.11 --reason 'alarm too quiet'",
            "twinslot-image repository halt fleet 2026.11 --undo",
        ),
    )
    halt.add_argument("release", metavar="RELEASE", help="its name")
    ways = halt.add_mutually_exclusive_group(required=True)
    ways.add_argument("--reason", type=_reason, metavar="TEXT", help="why; devices show it")
    ways.add_argument("--undo", action="store_true", help="offer it again")
    halt.set_defaults(run=cli_repository.halt)


def _add_publish(actions: _Verbs, anywhere: Parser) -> None:
    publish = _action(
        actions,
        anywhere,
        "publish",
        "sign what is offered and put it where the server reads it",
        "Sign what is offered and write DIR/public so that a reader always finds one whole state; copy it to a server "
        "in the same order, 'metadata/timestamp.json' last. Run it every few days even when nothing is new: that is "
        "how devices know that nothing is held back. What a device would refuse is not published.",
        ("twinslot-image repository publish fleet", "twinslot-image repository publish fleet --days timestamp=2"),
    )
    text = "how long a document is fresh: offers (90), snapshot (30), timestamp (7)"
    publish.add_argument("--days", action="append", type=_days, metavar="ROLE=N", help=text)
    publish.set_defaults(run=cli_repository.publish_all)


def _action(
    actions: _Verbs, anywhere: Parser, name: str, words: str, description: str, examples: tuple[str, ...]
) -> Parser:
    action = actions.add_parser(name, parents=[anywhere], help=words, description=description, examples=examples)
    action.add_argument("directory", type=Path, metavar="DIR", help="directory of the repository")
    return action


def _matched(pattern: re.Pattern[str], text: str, words: str) -> re.Match[str]:
    match = pattern.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(words)
    return match


def _plan(text: str) -> tuple[int, int]:
    match = _matched(_PLAN, text, "K/N, for example 2/3")
    least, count = int(match[1]), int(match[2])
    if least > count:
        raise argparse.ArgumentTypeError("at most as many signatures as keys")
    return least, count


def _wave(text: str) -> tuple[int, datetime, int]:
    share, _, rest = text.partition(",")
    start, _, spread = rest.partition(",")
    millionths = round(float(_matched(_SHARE, share, "a share such as 2.5%")[1]) * (WHOLE // 100))
    if not 0 < millionths <= WHOLE:
        raise argparse.ArgumentTypeError("a share above 0% and up to 100%")
    try:
        moment = datetime.fromisoformat(start)
    except ValueError as e:
        raise argparse.ArgumentTypeError("a start such as 2026-12-01T08:00:00Z") from e
    if moment.tzinfo is None:
        raise argparse.ArgumentTypeError("a start with its time zone, such as 2026-12-01T08:00:00Z")
    seconds = 0
    if spread:
        match = _matched(_SPREAD, spread, "a spread such as 30m, 6h or 5d")
        seconds = int(match[1]) * _SECONDS[match[2]]
    return millionths, moment.astimezone(UTC), seconds


def _days(text: str) -> tuple[str, int]:
    role, _, number = text.partition("=")
    if role not in _ROLES or not number.isascii() or not number.isdigit() or not 1 <= int(number) <= 3650:
        raise argparse.ArgumentTypeError(f"ROLE=N with a role of {', '.join(_ROLES)} and 1 to 3650 days")
    return role, int(number)


def _reason(text: str) -> str:
    return _matched(re.compile(r"[^\x00-\x1f\x7f]{1,200}"), text, "one line of text")[0]
