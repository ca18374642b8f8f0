"""The command line of `twinslot-image repository`."""

from __future__ import annotations

import argparse
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from twinslot.cli.arguments import Parser, whole_number
from twinslot.core.approvals import approvals_path
from twinslot.core.manifest import NAME, SEQUENCE_MAX
from twinslot.core.offer import WAVES_MAX
from twinslot.core.waves import WHOLE
from twinslot_image import cli_repository
from twinslot_image.key_change import TOP_ROLES
from twinslot_image.repository_offers import TIME, PlannedWave

if TYPE_CHECKING:
    _Verbs: TypeAlias = argparse._SubParsersAction[Parser]  # argparse has no public name for it

_PLAN: Final = re.compile(r"([1-9][0-9]?)/([1-9][0-9]?)")
_SPREAD: Final = re.compile(r"([0-9]{1,5})([mhd])")
_SECONDS: Final = {"m": 60, "h": 3600, "d": 86_400}
_SHARE: Final = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,4})?)%")
_LISTS: Final = {"approved-by": "approved_by", "network": "networks", "ring": "rings"}
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
    _add_approve(actions, anywhere)
    _add_halt(actions, anywhere)
    _add_recall(actions, anywhere)
    _add_barrier(actions, anywhere)
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
    approver = "a role that approves waves, signed by K of its N keys; may be given again"
    init.add_argument("--approver", action="append", default=[], type=_approver, metavar="ROLE[=K/N]", help=approver)
    init.set_defaults(run=cli_repository.init)


def _add_wave(actions: _Verbs, anywhere: Parser) -> None:
    wave = _action(
        actions,
        anywhere,
        "wave",
        "spread a release over waves",
        "Say which share of the devices may take a release from when on. Each device finds its own place, another one "
        "in each release; inside a wave the devices begin one after the other over SPREAD. Without waves all may "
        "take it at once. Earlier waves of the release are replaced. A wave may say more: approved-by=ROLE (it waits "
        "for 'repository approve'), end=TIME (by then its devices must have told of their success), network=CLASS (it "
        "is for devices that have such a network), ring=NAME (devices that are pinned to it); with + between several.",
        (
            "twinslot-image repository wave fleet 2026.11 1%,2026-12-01T08:00:00Z,6h 99%,2026-12-08T08:00:00Z,5d",
            "twinslot-image repository wave fleet 2026.11 1%,2026-12-01T08:00:00Z,6h,approved-by=clinical,ring=ward-7",
            "twinslot-image repository wave fleet 2026.11",
        ),
    )
    wave.add_argument("release", metavar="RELEASE", help="its name")
    form = "share, start and, unless all begin at once, the time over which its devices begin (30m, 6h, 5d)"
    wave.add_argument("waves", nargs="*", type=_wave, metavar="SHARE%,START[,SPREAD][,KEY=VALUE]...", help=form)
    wave.set_defaults(run=cli_repository.wave)


def _add_halt(actions: _Verbs, anywhere: Parser) -> None:
    halt = _action(
        actions,
        anywhere,
        "halt",
        "stop a release, or offer it again",
        "No device takes the release any more, as soon as it has heard, and drops "
        "it where it waits to be started; those that run it keep it.",
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


def _add_approve(actions: _Verbs, anywhere: Parser) -> None:
    approve = _action(
        actions,
        anywhere,
        "approve",
        "approve a release for its waves, as a role",
        "Sign, with the keys of a role, that a release may go to the devices of its waves up to WAVE, or to all. Where "
        "several keys must sign, each holder gives the same command on the same file, DIR/approvals/ROLE.json. Devices "
        "hear of it with the next 'publish'.",
        (
            "twinslot-image repository approve fleet 2026.11 --role clinical --wave 1 --by 'A. Meyer'",
            "twinslot-image repository approve fleet 2026.11 --role clinical --undo",
        ),
    )
    approve.add_argument("release", metavar="RELEASE", help="its name")
    approve.add_argument("--role", required=True, metavar="ROLE", help="as which role")
    approve.add_argument(
        "--wave",
        type=whole_number(1, WAVES_MAX),
        default=0,
        metavar="N",
        help="up to this wave (default: for all devices)",
    )
    approve.add_argument("--by", type=_reason, metavar="NAME", help="who approves")
    approve.add_argument("--meaning", type=_reason, metavar="TEXT", help="what was looked at")
    approve.add_argument("--undo", action="store_true", help="take the approval back")
    approve.set_defaults(run=cli_repository.approve)


def _add_recall(actions: _Verbs, anywhere: Parser) -> None:
    recall = _action(
        actions,
        anywhere,
        "recall",
        "say that a release must not run, or that it may again",
        "Say that a release must not run. No device takes it any more, as after 'halt'; one that runs it says so at "
        "once, in its audit, in status and doctor, and as its own configuration says goes back or takes the successor.",
        (
            "twinslot-image repository recall fleet 2026.10 --reason 'alarm too quiet' --successor 2026.11",
            "twinslot-image repository recall fleet 2026.09 --sequence 9 --reason 'alarm too quiet'",
            "twinslot-image repository recall fleet 2026.10 --undo",
        ),
    )
    recall.add_argument("release", metavar="RELEASE", help="its name")
    ways = recall.add_mutually_exclusive_group(required=True)
    ways.add_argument("--reason", type=_reason, metavar="TEXT", help="why; devices show it")
    ways.add_argument("--undo", action="store_true", help="lift the recall")
    recall.add_argument("--successor", default="", metavar="RELEASE", help="what takes its place")
    text = "of a release that was never offered here; every device type is meant"
    recall.add_argument("--sequence", type=whole_number(1, SEQUENCE_MAX), default=0, metavar="N", help=text)
    recall.set_defaults(run=cli_repository.recall)


def _add_barrier(actions: _Verbs, anywhere: Parser) -> None:
    barrier = _action(
        actions,
        anywhere,
        "barrier",
        "make a release one that no device passes by",
        "From an older release no device goes to one behind the barrier: it takes the barrier first.",
        (
            "twinslot-image repository barrier fleet 2026.11",
            "twinslot-image repository barrier fleet 2026.11 --undo",
        ),
    )
    barrier.add_argument("release", metavar="RELEASE", help="its name")
    barrier.add_argument("--undo", action="store_true", help="let devices pass it by again")
    barrier.set_defaults(run=cli_repository.barrier)


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


def _approver(text: str) -> tuple[str, tuple[int, int]]:
    role, _, plan = text.partition("=")
    if role in (*TOP_ROLES, *_ROLES) or not NAME.fullmatch(approvals_path(role)):
        raise argparse.ArgumentTypeError("a role of its own: lower-case letters, digits and '._-'")
    return role, _plan(plan) if plan else (1, 1)


def _wave(text: str) -> PlannedWave:
    share, *rest = text.split(",")
    start, *rest = rest or [""]
    spread = rest.pop(0) if rest and "=" not in rest[0] else ""
    more = dict(_more(part) for part in rest)
    millionths = round(float(_matched(_SHARE, share, "a share such as 2.5%")[1]) * (WHOLE // 100))
    if not (0 if "rings" in more else 1) <= millionths <= WHOLE:
        raise argparse.ArgumentTypeError("a share above 0% and up to 100%; 0% for a wave of rings alone")
    seconds = 0
    if spread:
        match = _matched(_SPREAD, spread, "a spread such as 30m, 6h or 5d")
        seconds = int(match[1]) * _SECONDS[match[2]]
    return PlannedWave(millionths, _time(start, "a start"), seconds, more)


def _more(text: str) -> tuple[str, object]:
    key, _, value = text.partition("=")
    if key == "end":
        return key, _time(value, "an end").strftime(TIME)
    if key not in _LISTS or not value:
        raise argparse.ArgumentTypeError(f"KEY=VALUE with a key of {', '.join(sorted((*_LISTS, 'end')))}")
    return _LISTS[key], sorted(set(value.split("+")))


def _time(text: str, what: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as e:
        raise argparse.ArgumentTypeError(f"{what} such as 2026-12-01T08:00:00Z") from e
    if moment.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{what} with its time zone, such as 2026-12-01T08:00:00Z")
    return moment.astimezone(UTC)


def _days(text: str) -> tuple[str, int]:
    role, _, number = text.partition("=")
    if role not in _ROLES or not number.isascii() or not number.isdigit() or not 1 <= int(number) <= 3650:
        raise argparse.ArgumentTypeError(f"ROLE=N with a role of {', '.join(_ROLES)} and 1 to 3650 days")
    return role, int(number)


def _reason(text: str) -> str:
    return _matched(re.compile(r"[^\x00-\x1f\x7f]{1,200}"), text, "one line of text")[0]
