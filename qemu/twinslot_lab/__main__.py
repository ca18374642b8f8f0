"""`python -m twinslot_lab build` makes a board; `boot` starts one with its console here; `demo` shows the main job.

`prepare` makes what the tests of a board begin with: the board, and the releases of the main job, signed.
`stories` lives the updates that the power cuts of `make test` begin from (powercut/sample.py).
`crash` and `powercut` have options of their own (`crash --help`, `powercut --help`): every state that a power cut could
leave behind, and real cuts. `try` makes a device of this machine, without emulation (try_device/).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from twinslot_lab import __version__, progress
from twinslot_lab.build import BoardFiles, build_board
from twinslot_lab.errors import BuildError, LabError
from twinslot_lab.progress import say

_BUILD, _RELEASES = 5, 6  # firmware, base, kernel, system, board; the package, keys, three releases, the factory's
STEPS = {"build": _BUILD, "boot": _BUILD, "prepare": _BUILD + _RELEASES, "demo": 0, "stories": 0}  # 0: says it itself


def main() -> int:
    """The command line; 0 if it worked, 1 with one sentence on stderr if not."""
    parser = argparse.ArgumentParser(prog="python -m twinslot_lab", description=__doc__)
    parser.add_argument("-V", "--version", action="version", version=f"twinslot-lab {__version__}")
    parser.add_argument("verb", choices=["build", "prepare", "stories", "boot", "demo"])
    parser.add_argument("--board", default="virt-arm64", help="file name in qemu/boards, without .toml")
    parser.add_argument("--deb", action="append", default=[], type=Path, help="package to install in slot a")
    try:
        if sys.argv[1:2] == ["crash"]:
            from twinslot_lab.crash import cli

            return cli.main(sys.argv[2:])
        if sys.argv[1:2] == ["powercut"]:
            from twinslot_lab.powercut import cli as powercut

            return powercut.main(sys.argv[2:])
        if sys.argv[1:2] == ["matrix"]:
            from twinslot_lab.matrix import cli as matrix

            return matrix.main(sys.argv[2:])
        if sys.argv[1:2] == ["try"]:
            from twinslot_lab.try_device import cli as try_device

            return try_device.main(sys.argv[2:])
        arguments = parser.parse_args()
        with progress.shown(STEPS[arguments.verb]):
            files = _do(arguments)
        if files and arguments.verb == "boot":
            from twinslot_lab.interactive import boot

            with tempfile.TemporaryDirectory(prefix="board-") as folder:
                boot(files, Path(folder))
        elif files:
            sys.stdout.write(f"{files.folder}\n")
    except LabError as e:
        if isinstance(e, BuildError) and e.output:
            sys.stderr.write(f"{e.output}\n")
        say(f"failed: {e}")
        return 1
    return 0


def _do(arguments: argparse.Namespace) -> BoardFiles | None:
    """What the verb asks for; the board, where it is about one that is not started here."""
    if arguments.verb == "demo":
        from twinslot_lab import demo

        demo.main(arguments.board)
        return None
    if arguments.verb == "stories":
        from twinslot_lab.powercut import sample

        sample.live_all()
        return None
    files = build_board(arguments.board, debs=arguments.deb)
    if arguments.verb == "prepare":
        _make_releases(arguments.board)
    return files


def _make_releases(board: str) -> None:
    from twinslot_lab import demo
    from twinslot_lab.release import ReleaseTeam

    team = ReleaseTeam(board)
    team.factory(demo.FACTORY)
    for release in (demo.GOOD, demo.BAD):
        team.image(release)


if __name__ == "__main__":
    sys.exit(main())
