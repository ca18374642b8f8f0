"""Break each safety rule by one small patch; the rule's test must notice.

Each patch in this folder begins with two lines; a requirement's id may stand for a rule's number:

    Rule: S5 first group written last
    Test: tests/simulation/test_power_cuts.py::test_name

The patch is applied to a copy of the tree, the test is run there, and it must fail. A mutant that survives is printed
and makes the exit status 1; so does a patch that no longer applies.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PARTS = ("bench", "bootloader_hooks", "client", "docs", "image_tools", "qemu", "systemd", "tests", "pyproject.toml")
RULES = set(re.findall(r"^### (S\d+) ", (ROOT / "docs/safety.md").read_text(), flags=re.MULTILINE))


@dataclass(frozen=True)
class Mutant:
    """One way of breaking a rule."""

    patch: Path
    rule: str
    test: str

    @staticmethod
    def read(patch: Path) -> Mutant:
        """From the patch's first lines."""
        lines = dict(line.split(": ", 1) for line in patch.read_text().splitlines()[:2])
        return Mutant(patch, lines["Rule"], lines["Test"])


@contextlib.contextmanager
def copied_tree() -> Iterator[Path]:
    """A copy of what the tests need."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as directory:
        tree = Path(directory)
        tree.chmod(0o755)  # workers run as nobody and must find the copy, not the installed project
        for part in PARTS:
            source = ROOT / part
            if source.is_dir():
                shutil.copytree(source, tree / part, ignore=shutil.ignore_patterns("__pycache__"), symlinks=True)
            else:
                shutil.copy(source, tree / part)
        yield tree


def run_tests(tree: Path, tests: Iterable[str]) -> subprocess.CompletedProcess[str]:
    """pytest in the copy, which must win over the installed project."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    paths = os.pathsep.join(str(tree / part) for part in ("client", "image_tools", "qemu", "tests"))
    environment = os.environ | {"PYTHONPATH": paths, "TWINSLOT_SEEDS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, cwd=tree, capture_output=True, text=True, env=environment, timeout=900)


def survives(mutant: Mutant) -> str:
    """Why the mutant is a problem; empty when its test noticed."""
    with copied_tree() as tree:
        apply = ["patch", "-p1", "--forward", "--fuzz=0", "-i", str(mutant.patch)]
        applied = subprocess.run(apply, cwd=tree, capture_output=True, text=True)
        if applied.returncode:
            return f"does not apply: {applied.stdout.strip()}"
        result = run_tests(tree, mutant.test.split())
    if result.returncode == 0:
        return "survives"
    return "" if result.returncode == 1 else f"the test did not run: {result.stdout[-500:]}"


def main() -> int:
    """Run all, or those named on the command line."""
    mutants = [Mutant.read(patch) for patch in sorted(HERE.glob("*.patch"))]
    if names := sys.argv[1:]:
        mutants = [m for m in mutants if any(name in m.patch.name for name in names)]
        if not mutants:
            sys.exit(f"no patch in {HERE} has a name with one of: {', '.join(names)}")
    else:
        missing = RULES - {m.rule.split()[0] for m in mutants}
        if missing:
            print("rules without a mutant:", ", ".join(sorted(missing, key=lambda rule: int(rule[1:]))))
    with copied_tree() as tree:  # a test that fails anyway would kill every mutant
        whole = run_tests(tree, sorted({test for mutant in mutants for test in mutant.test.split()}))
    if whole.returncode:
        print(f"the tests fail without any mutant:\n{whole.stdout[-3000:]}")
        return 1
    with ThreadPoolExecutor(2) as pool:
        problems = list(pool.map(survives, mutants))
    for mutant, problem in zip(mutants, problems, strict=True):
        print(f"{'FAILED' if problem else 'killed':7} {mutant.patch.name:45} {mutant.rule} {problem}")
    killed = sum(not problem for problem in problems)
    print(f"{killed} of {len(mutants)} mutants killed")
    return 0 if killed == len(mutants) else 1


if __name__ == "__main__":
    sys.exit(main())
