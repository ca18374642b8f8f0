"""`python -m twinslot_lab`: see cli_parser.py and docs/man/twinslot-lab.1."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from twinslot.cli.output import Output
from twinslot.core.errors import TwinslotError
from twinslot_lab import progress
from twinslot_lab.build import build_board
from twinslot_lab.cli_parser import PROGRAM, parse
from twinslot_lab.errors import BuildError, LabError
from twinslot_lab.progress import say

_BUILD, _RELEASES = 5, 6  # firmware, base, kernel, system, board; the package, keys, three releases, the factory's


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; 0 if it worked, 1 with one sentence on stderr if not, 2 if the command line is wrong."""
    try:
        arguments = parse(sys.argv[1:] if argv is None else argv)
        return VERBS[arguments.verb](arguments)
    except SystemExit as e:  # help or version, or a signal
        return e.code if isinstance(e.code, int) else 1
    except TwinslotError as e:
        Output(as_json=False, program=PROGRAM).error(e, e.exit_status)
        return e.exit_status
    except LabError as e:
        if isinstance(e, BuildError) and e.output:
            sys.stderr.write(f"{e.output}\n")
        say(f"failed: {e}")
        return 1


def _build(words: argparse.Namespace) -> int:
    with progress.shown(_BUILD):
        files = build_board(words.board, debs=words.deb)
    sys.stdout.write(f"{files.folder}\n")
    return 0


def _boot(words: argparse.Namespace) -> int:
    from twinslot_lab.interactive import boot

    with progress.shown(_BUILD):
        files = build_board(words.board, debs=words.deb)
    with tempfile.TemporaryDirectory(prefix="board-") as folder:
        boot(files, Path(folder))
    return 0


def _prepare(words: argparse.Namespace) -> int:
    from twinslot_lab import demo
    from twinslot_lab.release import ReleaseTeam

    with progress.shown(_BUILD + _RELEASES):
        files = build_board(words.board)
        team = ReleaseTeam(words.board)
        team.factory(demo.FACTORY)
        for release in (demo.GOOD, demo.BAD):
            team.image(release)
    sys.stdout.write(f"{files.folder}\n")
    return 0


def _demo(words: argparse.Namespace) -> int:
    from twinslot_lab import demo

    with progress.shown(0):
        demo.main(words.board)
    return 0


def _stories(_words: argparse.Namespace) -> int:
    from twinslot_lab.powercut import sample

    with progress.shown(0):
        sample.live_all()
    return 0


def _try(words: argparse.Namespace) -> int:
    from twinslot_lab.try_device import cli

    return cli.run(words)


def _crash(words: argparse.Namespace) -> int:
    from twinslot_lab.crash import cli

    return cli.run(words)


def _powercut(words: argparse.Namespace) -> int:
    from twinslot_lab.powercut import cli

    return cli.run(words)


def _matrix(words: argparse.Namespace) -> int:
    from twinslot_lab.matrix import cli

    return cli.run(words)


VERBS: Final[Mapping[str, Callable[[argparse.Namespace], int]]] = {
    "try": _try,
    "build": _build,
    "boot": _boot,
    "prepare": _prepare,
    "demo": _demo,
    "stories": _stories,
    "crash": _crash,
    "powercut": _powercut,
    "matrix": _matrix,
}


if __name__ == "__main__":
    sys.exit(main())
