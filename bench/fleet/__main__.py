"""`python -m bench.fleet [--devices N]`: simulate, write build/bench/fleet.json, and with `--docs` page and plots."""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from pathlib import Path

from bench.fleet.page import plots, write_page
from bench.fleet.scenario import FleetScenario
from bench.fleet.simulate import simulated

REPORT = Path("build/bench/fleet.json")


def main(argv: list[str] | None = None) -> int:
    """Simulate and tell."""
    parser = argparse.ArgumentParser(prog="python -m bench.fleet", description=__doc__)
    parser.add_argument("--devices", type=int, default=1_000_000, metavar="N", help="how many (default: a million)")
    parser.add_argument("--seed", type=int, default=FleetScenario().seed, metavar="N", help="of all draws")
    parser.add_argument("--report", type=Path, default=REPORT, metavar="FILE", help=f"figures (default: {REPORT})")
    parser.add_argument("--docs", type=Path, metavar="DIR", help="write fleet.md and its plots there")
    arguments = parser.parse_args(argv)
    scenario = FleetScenario(devices=arguments.devices, seed=arguments.seed)
    began, work = time.monotonic(), time.process_time()
    found = simulated(scenario)
    found |= {"seconds": time.monotonic() - began, "processor_seconds": time.process_time() - work}
    found["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    arguments.report.parent.mkdir(parents=True, exist_ok=True)
    arguments.report.write_text(json.dumps(found, indent=1) + "\n")
    if arguments.docs:
        write_page(scenario, found, arguments.docs)
    sys.stdout.write(f"{len(plots(found))} plots; figures: {arguments.report}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
