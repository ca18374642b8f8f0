"""The page of rollouts on real servers: every figure comes from the reports of runs."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from bench.rollout.scenario import RolloutScenario
from twinslot_image.svg_plot import steps

PAGE: Final = "fleet-hawkbit.md"
_ROLLOUTS: Final = ("good", "bad")
Report = Mapping[str, Any]


def write_page(reports: Sequence[Report], directory: Path) -> None:
    """Write the page and the plots beside it; one plot of devices and one of requests for each server."""
    directory.mkdir(parents=True, exist_ok=True)
    for found in reports:
        for name, plot in plots(found).items():
            (directory / name).write_text(plot + "\n")
    (directory / PAGE).write_text(page(reports))


def plots(found: Report) -> dict[str, str]:
    """SVG by file name."""
    series: dict[str, list[tuple[float, float]]] = {}
    for rollout in _ROLLOUTS:
        for at, states in found["rollouts"][rollout]["series"]:
            for state in ("finished", "error"):
                series.setdefault(f"{rollout}: {state}", []).append((at * 60, states.get(state, 0)))
    requests = {"requests": [(at * 60, rate) for at, rate in found["requests"]["series"]]}
    title = f"hawkBit {found['server']}: devices by state; minutes along the axis"
    return {
        _plot(found, "devices"): _minutes(steps(title, series, "hours")),
        _plot(found, "requests"): _minutes(
            steps(f"hawkBit {found['server']}: requests per second, over ten seconds each", requests, "hours")
        ),
    }


def _minutes(plot: str) -> str:
    """The axis that the plot takes for hours has minutes."""
    return re.sub(r">(\d+) h<", r">\1 min<", plot)


def _plot(found: Report, name: str) -> str:
    return f"fleet-hawkbit-{found['server']}-{name}.svg"


def page(reports: Sequence[Report]) -> str:
    """As Markdown."""
    parts = [_opening(reports[0]), *(_server(found) for found in reports), _lessons()]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _prose(text: str) -> list[str]:
    return textwrap.wrap(" ".join(text.split()), 120, break_long_words=False, break_on_hyphens=False)


def _opening(found: Report) -> list[str]:
    s = RolloutScenario(**{k: v for k, v in found["scenario"].items() if k not in ("good", "bad")})
    good, bad = (found["rollouts"][name]["release"] for name in _ROLLOUTS)
    return [
        "# A fleet at a real hawkBit",
        "",
        *_prose(
            """Printed by `python -m bench.rollout --docs docs` from the reports of `make fleet`; no figure here comes
            from anywhere else. A small fleet runs in the tests (`tests/component/test_bench_rollout.py`)."""
        ),
        "",
        *_prose(
            f"""{s.devices:,} devices. Each has the client of a server as devices have it (`fleet/run.py:FleetRun` with
            all that it uses, HTTP over a relay); its engine is simulated behind the same interface
            (`app/updater.py:Updater`), so no image is fetched. For a device {s.speed:g} seconds pass in one of the
            server's, so that its timer, its pauses and the server's sleep come {s.speed:g} times as often."""
        ),
        "",
        f"- A device looks each {s.timer:g} s and up to {s.spread:g} s more (its own seconds); hawkBit says 300 s.",
        f"- {s.bad_network:.0%} have a network that loses {s.lossy:.0%} of what they ask, before or after the server",
        f"  has heard them; {s.cut:.0%} lose power, at {s.cuts:.0%} of their steps; {s.silent:.0%} never answer.",
        f"- A release goes out in {s.groups} groups. The next group begins when {s.success} % of the last one have",
        f"  committed; with more than {s.error} % of a group failed the server stops the rollout.",
        "- Then two releases, one after the other: "
        + " and ".join(f"{each['name']}, which fails on {each['fails']:.0%} of the devices" for each in (good, bad))
        + ".",
    ]


def _server(found: Report) -> list[str]:
    good, bad = (found["rollouts"][name] for name in _ROLLOUTS)
    requests, books, end = found["requests"], found["books"], found["end"]
    begun, rate = sum(bad["reached"].values()), f"{requests['mean']:.1f}, {requests['most']:.1f}"
    share = f"{begun / found['scenario']['devices']:.1%}"
    rows = [
        ("devices that answer, that never do", f"{found['devices']['answer']:,}, {found['devices']['never']:,}"),
        ("**devices lost**", f"**{len(end['lost'])}**"),
        ("**successes that were none**", f"**{len(end['false']) + len(books['false'])}**"),
        ("failures that were none", f"{len(end['unjust'])}"),
        ("good release: committed, rolled back", _reached(good)),
        ("good release: seconds, groups that ended", f"{good['seconds']:,.0f}, {good['groups'].count('finished')}"),
        ("bad release: the server's word", f"{bad['status']}, {bad['stopped']:,.0f} s after it began"),
        ("bad release: groups", ", ".join(bad["groups"])),
        ("bad release: devices that started it", f"{begun:,} ({share}): {_reached(bad)}"),
        ("power cuts, on so many devices", f"{books['cuts']:,}, {books['cut']:,}"),
        ("devices with a bad network", f"{books['bad networks']:,}"),
        ("runs that ended with an error, by its code", _counts(books["errors"])),
        ("requests, per second, most over ten seconds", f"{requests['all']:,}, {rate}"),
        ("requests by kind and status", _counts(requests["by"])),
        ("server's memory, the most", f"{found['memory'] / 2**20:,.0f} MiB" if found["memory"] else "not known"),
        ("seconds: targets made, fleet, whole run", ", ".join(f"{each:,.0f}" for each in found["seconds"].values())),
        ("orders at the end, the device's word: the server's", _counts(end["pairs"])),
    ]
    table = [f"| {what} | {value} |" for what, value in rows]
    pictures = [
        f"![Devices by state, hawkBit {found['server']}]({_plot(found, 'devices')})",
        f"![Requests per second, hawkBit {found['server']}]({_plot(found, 'requests')})",
    ]
    return [f"## hawkBit {found['server']}", "", "| | |", "|---|---|", *table, "", *pictures]


def _reached(rollout: Mapping[str, Any]) -> str:
    return ", ".join(f"{rollout['reached'].get(word, 0):,}" for word in ("committed", "rolled-back"))


def _counts(found: Mapping[str, int]) -> str:
    return "; ".join(f"{name} {count:,}" for name, count in found.items()) or "none"


def _lessons() -> list[str]:
    return [
        "## What it says",
        "",
        *_prose(
            """A device is lost when the server still waits at the end for an order that the device had read, or when
            its client ended with an error that nobody expected. A success is none when the device had not committed
            that release: compared when it is told, and again at the end. The server counts commits, so the first group
            of a bad release is the most that it can cost; who wants less makes the first group smaller. Devices that
            never answer keep a rollout `running`, not the next group from its begin."""
        ),
        "",
        *_prose(
            """A device with a bad network loses some request in most of its runs. Pauses grow only while the server
            does nothing that it is asked (`fleet/run.py`): if each such run made the next pause twice as long, a
            device that the server hears well enough would be away for hours, and the rollout would wait for its
            report."""
        ),
    ]
