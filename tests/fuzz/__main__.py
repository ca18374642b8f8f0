"""`python tests/fuzz`: fuzz every parser that meets bytes from outside, each for its share of the time.

A finding ends the run with status 1; the input stays, and the command that repeats it is printed. Inputs that reach new
code are kept below build/fuzz/corpus and are where the next run begins, beside the seeds of targets.py.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
BUILD: Final = ROOT / "build/fuzz"
SLOWEST: Final = 25  # seconds that one input may take before it counts as a hang
MEMORY: Final = 1024  # MiB that a target may take
_RUNS: Final = re.compile(r"stat::number_of_executed_units:\s+(\d+)")
_KEPT: Final = re.compile(r"Test unit written to (\S+)")
sys.path[:0] = [str(ROOT / each) for each in ("client", "image_tools", "qemu", "tests", "tests/fuzz")]


@dataclass(frozen=True)
class Campaign:
    """What became of one target."""

    target: str
    seed: int
    seconds: int
    inputs: int
    finding: str = ""


def main() -> int:
    """The command line; 1 if there is a finding."""
    parser = argparse.ArgumentParser(prog="python tests/fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=120, help="for all targets together (120)")
    parser.add_argument("--seed", type=int, help="what chance begins with; without it the commit's")
    parser.add_argument("--target", action="append", help="only this one; may be given again")
    parser.add_argument("--repeat", type=Path, metavar="INPUT", help="run one target with one input, without fuzzing")
    parser.add_argument("--targets", default="targets", metavar="MODULE", help="the module with TARGETS (targets)")
    parser.add_argument("--report", type=Path, default=BUILD / "report.json", metavar="FILE")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments, rest = parser.parse_known_args()
    if arguments.child:
        return child(arguments.targets, arguments.child, rest)
    targets = importlib.import_module(arguments.targets).TARGETS
    names = arguments.target or sorted(targets)
    if arguments.repeat:
        targets[names[0]].run(arguments.repeat.read_bytes())
        return 0
    seed = commit_seed() if arguments.seed is None else arguments.seed
    seconds = max(1, arguments.seconds // len(names))
    done = [campaign(arguments.targets, name, seconds, seed) for name in names]
    arguments.report.parent.mkdir(parents=True, exist_ok=True)
    arguments.report.write_text(json.dumps([asdict(each) for each in done], indent=1) + "\n")
    for each in done:
        found = f" FOUND {each.finding}" if each.finding else ""
        print(f"{each.target:14} {each.inputs:10,} inputs in {each.seconds} s, seed {each.seed}{found}")
    print(f"{'all':14} {sum(each.inputs for each in done):10,} inputs; {arguments.report}")
    return 1 if any(each.finding for each in done) else 0


def commit_seed() -> int:
    """A number that changes with the commit, so that each run of the tests looks elsewhere."""
    done = subprocess.run(["git", "rev-parse", "--short=7", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return int(done.stdout.strip() or "1", 16)


def campaign(module: str, name: str, seconds: int, seed: int) -> Campaign:
    """Fuzz one target in a process of its own, as libFuzzer wants it."""
    target = importlib.import_module(module).TARGETS[name]
    corpus, artifacts = BUILD / "corpus" / name, BUILD / "findings"
    for folder in (corpus, artifacts):
        folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
        seeds = Path(scratch, "seeds")
        seeds.mkdir()
        for number, data in enumerate(target.seeds()):
            (seeds / str(number)).write_bytes(data)
        argv = [
            sys.executable,
            str(Path(__file__).parent),
            "--targets",
            module,
            "--child",
            name,
            str(corpus),
            str(seeds),
        ]
        options = {
            "max_total_time": seconds,
            "seed": seed,
            "max_len": target.longest,
            "timeout": SLOWEST,
            "rss_limit_mb": MEMORY,
            "print_final_stats": 1,
            "artifact_prefix": f"{artifacts}/{name}-",
        }
        argv += [f"-{key}={value}" for key, value in options.items()]
        environment = os.environ | {"TMPDIR": scratch, "PYTHONHASHSEED": "0"}
        done = subprocess.run(argv, capture_output=True, text=True, errors="replace", env=environment)
    inputs = int(found[1]) if (found := _RUNS.search(done.stderr)) else 0
    finding = ""
    if done.returncode:
        print(done.stdout[-3000:], done.stderr[-3000:], sep="\n", file=sys.stderr)
        finding = kept[1] if (kept := _KEPT.search(done.stderr)) else f"exit status {done.returncode}"
        print(f"repeat it with: python tests/fuzz --target {name} --repeat {finding}", file=sys.stderr)
    return Campaign(name, seed, seconds, inputs, finding)


def child(module: str, name: str, options: list[str]) -> int:
    """libFuzzer's loop over one target; the client is compiled with counters first."""
    import atheris

    with atheris.instrument_imports(include=["twinslot", "twinslot_image", module]):
        target = importlib.import_module(module).TARGETS[name]
    for seed in target.seeds():
        target.run(seed)  # what is made once is made now, not within the first input
    atheris.Setup([sys.argv[0], *options], lambda data: target.run(bytes(data)))
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
