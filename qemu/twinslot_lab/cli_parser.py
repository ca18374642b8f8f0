"""The whole command line of the lab. The man page docs/man/twinslot-lab.1 is held to it by a test.

Nothing of the lab but the place of its results is imported here, so that help is there at once.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from twinslot.cli.arguments import Parser, read, whole_number
from twinslot_lab import __version__
from twinslot_lab.command import BUILD

if TYPE_CHECKING:
    _Verbs: TypeAlias = argparse._SubParsersAction[Parser]  # argparse has no public name for it

PROGRAM: Final = "python -m twinslot_lab"
STORIES: Final = ("whole", "short", "two-payloads")  # of `crash`
_MOST: Final = 1_000_000_000  # states, cuts and seeds
_JOBS: Final = 64


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments; `verb` says what to do.

    Raises:
        UsageError: The command line is wrong.
        SystemExit: Help or the version was asked for and printed (0).
    """
    return read(make_parser(), argv, argparse.Namespace())


def make_parser() -> Parser:
    """The parser with every verb."""
    parser = Parser(
        prog=PROGRAM,
        description=f"Boards to try updates on, and the campaigns that judge the client. '{PROGRAM} help COMMAND' "
        "explains a command.",
        examples=(f"{PROGRAM} try", f"{PROGRAM} demo", f"{PROGRAM} boot --board orangepi-pc"),
    )
    parser.add_argument("-V", "--version", action="version", version=f"twinslot-lab {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="COMMAND")
    for add in (_add_try, _add_boards, _add_crash, _add_powercut, _add_matrix):
        add(verbs)
    return parser


def _add_try(verbs: _Verbs) -> None:
    verb = verbs.add_parser(
        "try",
        help="make a device of this machine, without emulation",
        description="Make a device of loop devices and name spaces of this machine, show an update, a rollback and a "
        "power cut on it, and open a shell in it. Everything goes away in the end. Needs root.",
        examples=(f"{PROGRAM} try --story", f"{PROGRAM} try --json"),
    )
    verb.add_argument("--story", action="store_true", help="only the story, no shell")
    verb.add_argument("--json", action="store_true", help="the report on standard output, the story beside it")
    verb.add_argument("--folder", type=Path, default=BUILD / "try", help="where it works (default: %(default)s)")


_BOARDS: Final = (
    ("build", "build a board, or reuse it", "Build the board, or reuse it, and print the directory that it is in."),
    (
        "boot",
        "start a board with its console here",
        "Start the board with its console on this terminal; Ctrl-] leaves.",
    ),
    (
        "prepare",
        "build what the tests of a board begin with",
        "Build the board, and sign the releases of the main job.",
    ),
    ("demo", "show the main job on a board", "Show a good update that is kept, and a bad one that is left."),
)


def _add_boards(verbs: _Verbs) -> None:
    for name, summary, description in _BOARDS:
        verb = verbs.add_parser(
            name, help=summary, description=description, examples=(f"{PROGRAM} {name} --board virt-armv7",)
        )
        _add_board(verb)
        if name in ("build", "boot"):
            what = "package to install in slot a; may be given again"
            verb.add_argument("--deb", action="append", default=[], type=Path, metavar="FILE", help=what)
    verbs.add_parser(
        "stories",
        help="live the updates that the power cuts of 'make test' begin from",
        description="Live the updates from which the power cuts of 'make test' begin, two at once.",
        examples=(f"{PROGRAM} stories",),
    )


def _add_board(verb: Parser) -> None:
    what = "file name in qemu/boards, without .toml (default: %(default)s)"
    verb.add_argument("--board", default="virt-arm64", metavar="NAME", help=what)


def _add_crash(verbs: _Verbs) -> None:
    crash = verbs.add_parser(
        "crash",
        help="every state that a power cut could leave of an update",
        description="Record all that an update writes to the media, and judge the states that a power cut could leave.",
        examples=(f"{PROGRAM} crash explore --states 50000 --seed 2 --jobs 4",),
    )
    below = crash.add_subparsers(dest="action", required=True, metavar="COMMAND")
    story = (
        f"which update: {STORIES[0]} or {STORIES[1]} of a board, {STORIES[2]} of this machine (default: %(default)s)"
    )
    record = below.add_parser(
        "record",
        help="record an update",
        description="Live an update on drives that log each write, and print where the recording is.",
        examples=(f"{PROGRAM} crash record --story short",),
    )
    explore = below.add_parser(
        "explore",
        help="judge what a power cut could have left",
        description="Judge states that a power cut could have left; ends with 1 if one of them is bad.",
        examples=(f"{PROGRAM} crash explore --story two-payloads",),
    )
    for verb in (record, explore):
        verb.add_argument("--story", choices=STORIES, default=STORIES[0], help=story)
    explore.add_argument("--states", type=_up_to(1), default=14_000, metavar="N", help="about how many (%(default)s)")
    explore.add_argument("--seed", type=_up_to(0), default=0, metavar="N", help="draws them; the report names it (0)")
    explore.add_argument("--jobs", type=whole_number(1, _JOBS), default=2, metavar="N", help="processes (2)")


def _add_powercut(verbs: _Verbs) -> None:
    verb = verbs.add_parser(
        "powercut",
        help="cut the power of a board, many times",
        description="Cut the power of an emulated board at moments drawn by a seed, and tell what became of it. Ends "
        "with 1 if a device did not come back, with 130 when stopped; the same command then goes on.",
        examples=(f"{PROGRAM} powercut --cuts 100", f"{PROGRAM} powercut --seed 7 --only 12"),
    )
    verb.add_argument("--cuts", type=_up_to(0), default=20, metavar="N", help="how many, from number 0 on (20)")
    verb.add_argument("--seed", type=_up_to(0), default=1, metavar="N", help="draws the cuts (1)")
    _add_board(verb)
    verb.add_argument("--jobs", type=whole_number(1, _JOBS), default=2, metavar="N", help="boards at once (2)")
    verb.add_argument("--only", type=_up_to(0), metavar="N", help="this number alone, again")
    verb.add_argument("--docs", type=Path, metavar="DIR", help="add what is done to the ledger in this folder")


def _add_matrix(verbs: _Verbs) -> None:
    matrix = verbs.add_parser(
        "matrix",
        help="join requirements, code and test runs",
        description="Join requirements and risks with the code that keeps them and the test runs that verify them.",
        examples=(
            f"{PROGRAM} matrix print run.json --source client",
            f"{PROGRAM} matrix review REQ-1 --by 'A. Reader'",
        ),
    )
    where = "where they are (default: %(default)s)"
    matrix.add_argument("--requirements", type=Path, default=Path("requirements"), metavar="DIR", help=where)
    below = matrix.add_subparsers(dest="action", required=True, metavar="COMMAND")
    printing = below.add_parser(
        "print",
        help="join requirements, code and runs: matrix.html, .csv and .json",
        description="Write matrix.html, matrix.csv, matrix.json and matrix.reqif; ends with 1 if there is a fault.",
        examples=(f"{PROGRAM} matrix print run.json --source client --output build/matrix",),
    )
    printing.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="files that pytest --run-file wrote")
    printing.add_argument("--source", nargs="+", type=Path, default=[], metavar="PATH", help="code with marks")
    about = "what the runs are about"
    printing.add_argument("--subject", nargs="+", type=Path, default=[], metavar="PATH", help=about)
    printing.add_argument("--output", type=Path, default=Path("matrix"), metavar="DIR", help="where it goes (matrix)")
    printing.add_argument("--title", default="Traceability matrix", help="of the page")
    naming = below.add_parser(
        "subject",
        help="print the digest of what is tested",
        description="Print the SHA-256 of what runs are about, as they and the matrix have it.",
        examples=(f"{PROGRAM} matrix subject client",),
    )
    naming.add_argument("paths", nargs="+", type=Path, metavar="PATH", help=about)
    reviewing = below.add_parser(
        "review",
        help="say that the text of requirements or risks was read and is right",
        description="Say that the text of requirements or risks, as it is now, was read and is right.",
        examples=(f"{PROGRAM} matrix review REQ-1 RISK-2 --by 'A. Reader'",),
    )
    reviewing.add_argument("ids", nargs="+", metavar="ID", help="of a requirement or a risk")
    reviewing.add_argument("--by", required=True, metavar="NAME", help="who read it")


def _up_to(low: int) -> Callable[[str], int]:
    return whole_number(low, _MOST)
