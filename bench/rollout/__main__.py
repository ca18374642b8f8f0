"""`python -m bench.rollout [--hawkbit URL]`: live the story on a server, or print the page (`--docs`)."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import hawkbit_server
from hawkbit_site import Management

from bench.rollout.operator import HawkbitOperator, prefix_of
from bench.rollout.page import write_page
from bench.rollout.scenario import RolloutScenario
from bench.rollout.story import RolloutStory

REPORTS = Path("build/bench")


def main(argv: list[str] | None = None) -> int:
    """Live the story, and tell."""
    parser = argparse.ArgumentParser(prog="python -m bench.rollout", description=__doc__)
    standard = RolloutScenario()
    parser.add_argument("--hawkbit", default="", metavar="URL", help="a server that runs (default: one of our own)")
    parser.add_argument("--pid", type=int, default=0, help="its process, for its memory")
    parser.add_argument("--version", default=hawkbit_server.VERSION, help="its version, for the page")
    parser.add_argument("--devices", type=int, default=standard.devices, metavar="N")
    parser.add_argument("--groups", type=int, default=standard.groups, metavar="N")
    parser.add_argument("--limit", type=float, default=standard.limit, metavar="SECONDS", help="of one rollout")
    parser.add_argument("--docs", type=Path, metavar="DIR", help="only print the page of the reports that there are")
    arguments = parser.parse_args(argv)
    if arguments.docs:
        write_page([json.loads(path.read_text()) for path in sorted(REPORTS.glob("rollout-*.json"))], arguments.docs)
        return 0
    scenario = replace(standard, devices=arguments.devices, groups=arguments.groups, limit=arguments.limit)
    with _server(arguments.hawkbit, arguments.pid) as (url, pid):
        management = Management(url)
        operator, prefix = HawkbitOperator(management), prefix_of(management)
        found = RolloutStory(scenario, operator, prefix, lambda: resident(pid)).run()
    found["server"] = arguments.version
    path = REPORTS / f"rollout-{arguments.version}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n")
    end = found["end"]
    sys.stdout.write(f"{len(end['lost'])} lost, {len(end['false']) + len(found['books']['false'])} false: {path}\n")
    return 0 if not (end["lost"] or end["false"] or found["books"]["false"]) else 1


@contextlib.contextmanager
def _server(url: str, pid: int) -> Iterator[tuple[str, int]]:
    """Address and process of a server."""
    if url:
        yield url, pid
        return
    with tempfile.TemporaryDirectory() as directory, hawkbit_server.running(Path(directory)) as found:
        yield found.url, found.pid


def resident(pid: int) -> int:
    """Bytes that a process holds in memory; 0: not known."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return int(text.partition("VmRSS:")[2].split()[0]) * 1024


if __name__ == "__main__":
    sys.exit(main())
