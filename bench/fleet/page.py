"""The page of a simulated fleet: every figure comes from the report of a run."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from bench.fleet.scenario import DAY, HOUR, FleetScenario
from twinslot_image.svg_plot import steps

PAGE: Final = "fleet.md"


def write_page(scenario: FleetScenario, found: Mapping[str, Any], directory: Path) -> None:
    """Write the page and the plots beside it."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, plot in plots(found).items():
        (directory / f"fleet-{name}.svg").write_text(plot + "\n")
    (directory / PAGE).write_text(page(scenario, found))


def plots(found: Mapping[str, Any]) -> dict[str, str]:
    """SVG by name."""
    series = found["series"]
    both = {"A": series["A"], "B": series["B"]}
    return {
        "devices": steps("Share of the fleet that has begun a release", both, "hours"),
        "requests": steps("Requests per second, the highest of each hour", {"requests": series["requests"]}, "hours"),
        "bandwidth": steps(
            "Megabytes per second of images, the highest of each hour",
            {"bandwidth": [(x, y / 1e6) for x, y in series["bandwidth"]]},
            "hours",
        ),
        "halt": steps("Share of the devices online that know of the halt", {"know": series["halt"]}, "hours"),
    }


def page(scenario: FleetScenario, found: Mapping[str, Any]) -> str:
    """As Markdown."""
    parts = [_opening(scenario), _story(scenario), _outcome(scenario, found), _pictures(found), _shares(found)]
    parts += [_cost(found), _lessons()]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _prose(text: str) -> list[str]:
    return [*textwrap.wrap(" ".join(text.split()), 120, break_long_words=False, break_on_hyphens=False), ""]


def _opening(scenario: FleetScenario) -> list[str]:
    return [
        "# A fleet at the scale of the internet, simulated",
        "",
        *_prose(
            """Printed by `python -m bench.fleet --docs docs`; no figure here comes from anywhere else. A small fleet
            runs in the tests (`tests/unit/test_bench_fleet.py`)."""
        ),
        *_prose(
            f"""{scenario.devices:,} devices over {scenario.days} days, in discrete events. Each decision is made by the
            code that runs on the devices: `core/offer.py:parse_offers` and `core/offer.py:choose` (with waves, places
            and halts), `core/policy.py:decide`, `core/backoff.py:pause_after` and `core/backoff.py:left_of`, and
            which time it is by `trust/verdict.py:TrustTime` and `core/waves.py:wave_time`. numpy keeps the books. There
            is no network and no slot: what a poll and an update cost is said below."""
        )[:-1],
    ]


def _story(scenario: FleetScenario) -> list[str]:
    low, more = scenario.poll
    return [
        "## The story",
        "",
        f"- Devices ask each {low / HOUR:g} h and up to {more / HOUR:g} h more, each in its own rhythm.",
        f"- An update fetches {scenario.image / 1e6:g} MB (a patch) at {scenario.rate / 1e3:g} kB/s.",
        f"- {scenario.offline:.0%} are away for half a day to four days at some time.",
        f"- {scenario.skewed:.0%} have a clock that is wrong by up to twelve hours, {scenario.dead:.1%} have none.",
        f"- Somebody uses {scenario.in_use:.0%} when they would begin, so that policy has them wait.",
        f"- Release A bricks {scenario.bricks:.0%}. Its waves are 1 %, 9 % and 90 %; after the first one's end",
        f"  silence counts as failure, and {scenario.halted / HOUR:g} h after its publication it is halted.",
        "- Release B follows on day 5: 1 %, 19 % and 80 %.",
        f"- The maker publishes each {scenario.publishes / HOUR:g} h, whether anything is new or not.",
        f"- On day {scenario.outage[0] / DAY:.0f} the server is away for {scenario.outage[1] / HOUR:g} h.",
    ]


def _outcome(scenario: FleetScenario, found: Mapping[str, Any]) -> list[str]:
    halt, hit, finished, requests = found["halt"], found["hit"], found["finished"], found["requests"]
    n = scenario.devices
    rows = [
        ("devices that had begun A before they knew of the halt", f"{hit['began']:,} ({hit['began'] / n:.2%})"),
        ("of these bricked", f"{hit['bricked']:,} ({hit['share']:.3%} of all; {hit['unhalted']:,} without waves)"),
        ("half of the devices online knew of the halt after", f"{halt['half'] / 60:.0f} min"),
        ("99 % of them", f"{halt['most'] / 60:.0f} min"),
        ("the last one that was online", f"{halt['last'] / 60:.0f} min"),
        ("devices that began A after the halt was published", f"{halt['began_after']:,}"),
        ("most requests in one second", f"{requests['peak']:,}"),
        ("most requests per second over a minute", f"{requests['peak_minute']:,.0f}"),
        ("requests per second, mean", f"{requests['mean']:,.0f}"),
        ("most bandwidth for images", f"{found['bandwidth']['peak'] / 1e6:,.1f} MB/s"),
        ("metadata, the most over a minute", f"{found['metadata']['peak_minute'] / 1e3:,.0f} kB/s"),
        ("metadata, the median second", f"{found['metadata']['quiet'] / 1e3:,.0f} kB/s"),
        ("devices without a clock, and how many of them had begun B at the end", _of_dead(finished)),
        ("devices that had begun B at the end", f"{finished['began']:,} ({finished['began'] / n:.2%})"),
    ]
    waiting = [f"- {count:,}: {why}" for why, count in finished["waiting"].items()]
    table = [f"| {what} | {value} |" for what, value in rows]
    return ["## What came of it", "", "| | |", "|---|---|", *table, "", "Why the others had not:", "", *waiting]


def _of_dead(finished: Mapping[str, Any]) -> str:
    return f"{finished['dead']:,}, {finished['dead_began']:,}"


def _pictures(found: Mapping[str, Any]) -> list[str]:
    words = {
        "devices": "Share of the fleet that has begun a release",
        "requests": "Requests per second",
        "bandwidth": "Bandwidth for images",
        "halt": "Devices that know of the halt",
    }
    return [f"![{words[name]}](fleet-{name}.svg)" for name in plots(found)]


def _shares(found: Mapping[str, Any]) -> list[str]:
    lines = ["## Shares", "", "By the places that the devices' own code draws:", ""]
    lines += ["| release | wave | plan | share | off by | began |", "|---|---|---|---|---|---|"]
    for release, waves in found["waves"].items():
        for number, wave in enumerate(waves, 1):
            plan, share, off = wave["plan"], wave["share"], wave["off"]
            lines.append(f"| {release} | {number} | {plan:.0%} | {share:.4%} | {off:.4%} | {wave['began']:,} |")
    return lines


def _cost(found: Mapping[str, Any]) -> list[str]:
    return [
        "## What the run took",
        "",
        *_prose(
            f"""{found["decisions"]:,} decisions by the devices' own code, {found["processor_seconds"]:,.0f} s of one
            processor, {found["seconds"]:,.0f} s on a machine with other work, {found["memory"] / 2**20:,.0f} MiB."""
        )[:-1],
    ]


def _lessons() -> list[str]:
    return [
        "## What it showed",
        "",
        *_prose(
            """A device without a clock believes that it is when its system was built (S16). Its waves go by the time at
            which the repository was last published, so its turn comes with the first timestamp that was signed after
            it: how often the maker publishes is how late such a device can be, and it is never early. The last
            devices to know of a halt are those that asked just before it: the longest pause between two polls is the
            bound, and who wants it shorter has the timer come oftener."""
        )[:-1],
    ]
