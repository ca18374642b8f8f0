"""docs/benchmarks.md and its plots, from the report alone: `python -m bench.document REPORT DIR`."""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from bench.plot import Bar, bars

Report = Mapping[str, Any]
Row = Mapping[str, Any]

# Reports of bench.formats that are kept; of these architectures only patches are measured.
PATCHES: Final = tuple(Path(__file__).with_name(f"{name}.json") for name in ("armhf", "amd64"))

_TITLES: Final = {
    "full-file": "Full install from a file",
    "full-http": "Full install over HTTP",
    "security": "Security update, layout shifted, known base",
    "onefile": "One 20 kB file changed, known base",
    "unknown-base": "Security update, unknown base",
    "erofs": "Security update in erofs images, for the record",
    "large": "A sparse image of gigabytes",
}
_PLOTS: Final = (  # work, figure, title, unit, scale, bound
    ("full-file", "ratio", "Full install from a file: wall over the floor", "x", 1.0, 1.3),
    ("full-http", "ratio", "Full install over HTTP: wall over the floor", "x", 1.0, 1.7),
    ("full-http", "memory", "Full install over HTTP: peak private memory, MiB", " MiB", float(1 << 20), 50.0),
    ("security", "fetched", "Security update, known base: fetched, MB", " MB", 1e6, None),
    ("unknown-base", "fetched", "Security update, unknown base: fetched, MB", " MB", 1e6, None),
)
_HOW: Final = """\
Written by `make bench` from `build/bench/report.json`; not by hand.

Every figure is of one run on one machine. Absolute seconds say little beyond it; ratios within the run do. Rounds are
interleaved: each round measures every client once, in a rotating order. A figure is the median, with the smallest and
largest round in brackets where there was more than one.

- **floor**: a program that only decodes, hashes, writes and flushes, with the codec and hash that Twinslot uses. It
  checks nothing before it writes, and reads nothing back.
- **wall**: from the start of the command until it has ended and what it wrote is on the medium.
- **CPU**: user and system time of the whole process tree.
- **memory**: peak of private memory (`Private_Clean` and `Private_Dirty` of smaps_rollup) summed over the process
  tree.
- **fetched**: for HTTP, what a counting server sent, headers included; for a file, its size.
- **written**: bytes of data that the slot's loop device took. `BLKZEROOUT` carries no data and is told apart in the
  report.
- After every round the page cache is dropped and the target read and hashed. A round counts only if it holds the new
  image.
"""


_PATCHES: Final = """\
Bytes of a patch from the old to the new image, by `python -m bench.formats --rivals`; exact on any machine. The reports
with the versions and digests of what changed are `bench/armhf.json` and `bench/amd64.json`. `security` is Debian 12 and
its security archive; `point` is Debian 12 with what its archive of updates held before the point release, and the point
release; `unstable` is testing and unstable ([decision 74](decisions/0074-references-in-armhf-and-amd64.md)). Format 1
is the patch of before references were followed; at most 0.85 of it was asked. xdelta3 is for the whole image. The
others are for each file that changed: they say nothing of new files or of where files lie, and hold no digests, so they
stand beside ours without its digests.
"""


def write(report: Report, directory: Path) -> None:
    """Write benchmarks.md and benchmarks/*.svg below a directory; other files there stay."""
    plots = plot_files(report)
    (directory / "benchmarks").mkdir(parents=True, exist_ok=True)
    for name, text in plots.items():
        (directory / "benchmarks" / name).write_text(text)
    (directory / "benchmarks.md").write_text(page(report, list(plots)))


def page(report: Report, plots: list[str]) -> str:
    """The page as Markdown."""
    parts = ["# Benchmarks\n", _HOW]
    if report["quick"]:
        parts.append("**This is a quick run on small images: its figures show that the bench works, no more.**\n")
    parts += [_goals(report), _machine(report), _pairs(report)]
    for work, title in _TITLES.items():
        rows = [row for row in report["rows"] if row["work"] == work]
        if rows:
            parts.append(f"## {title}\n")
            parts += [f"![{title}](benchmarks/{name})\n" for name in plots if name.startswith(f"{work}.")]
            parts.append(_table(rows))
            parts.append(_commands(rows))
    parts += [_board(report), _making(report), patches(), _start(report), _sampler(report), _packages(report)]
    return "\n".join(part for part in parts if part)


def plot_files(report: Report) -> dict[str, str]:
    """SVG by file name."""
    files = {}
    for work, name, title, unit, scale, bound in _PLOTS:
        items = []
        for row in report["rows"]:
            if row["work"] != work or name not in row["figures"] or row["peer"].startswith("floor"):
                continue
            median, low, high = (row["figures"][name][key] / scale for key in ("median", "low", "high"))
            items.append(Bar(row["peer"], median, low, high, f"{_short(median)}{unit}", row["peer"] == "twinslot"))
        if items:
            files[f"{work}.{name}.svg"] = bars(title, items, bound)
    return files


def _goals(report: Report) -> str:
    lines = ["## Where it stands\n", "| goal | at most | found | |", "|---|---:|---:|---|"]
    for goal in report["goals"]:
        met = {True: "reached", False: "**not reached**", None: "not measured"}[goal["met"]]
        numbers = [
            f"{_short(goal[key])} {goal['unit']}" if goal[key] is not None else "-" for key in ("bound", "found")
        ]
        lines.append(f"| {goal['what']} | {numbers[0]} | {numbers[1]} | {met} |")
    return "\n".join(lines) + "\n"


def _machine(report: Report) -> str:
    machine = report["machine"]
    memory = machine["memory"] / (1 << 30)
    return (
        f"## The machine\n\n{machine['cores']} cores of {machine['cpu']}, {memory:.0f} GiB, Linux {machine['kernel']}, "
        f"{machine['system']}, Python {machine['python']}; loop devices with direct I/O over files. Load before the "
        f"run {machine['load_before']:.1f}, after it {machine['load_after']:.1f}. Made {machine['made']} from commit "
        f"`{machine['commit'][:12]}`; {report['rounds']} interleaved rounds.\n"
    )


def _pairs(report: Report) -> str:
    security, onefile = report["pairs"]["security"], report["pairs"]["onefile"]
    in_use, size = security["in_use"]["old"] / (1 << 20), security["size"] / (1 << 20)
    return (
        f"## The images\n\nDebian {security['suite']} for {security['architecture']}, "
        f"{len(security['packages']['old'])} packages, ext4 of {size:.0f} MiB with {in_use:.0f} MiB in use. The update "
        f"takes {len(security['changed'])} packages from the security archive: "
        f"{security['differs']['4096'] / 1e6:.1f} MB of 4 KiB blocks differ in place, "
        f"{security['differs']['65536'] / 1e6:.1f} MB of 64 KiB groups. The other pair differs in one file of "
        f"{onefile['file_size'] / 1000:.0f} kB: {onefile['differs']['4096'] / 1e3:.0f} kB of blocks, "
        f"{onefile['differs']['65536'] / 1e3:.0f} kB of groups.\n"
    )


_COLUMNS: Final[tuple[tuple[str, str, Callable[[float], str]], ...]] = (
    ("wall", "wall, s", lambda value: f"{value:.2f}"),
    ("ratio", "over the floor", lambda value: f"{value:.2f}"),
    ("cpu", "CPU, s", lambda value: f"{value:.2f}"),
    ("memory", "memory, MiB", lambda value: f"{value / (1 << 20):.1f}"),
    ("fetched", "fetched, kB", lambda value: f"{value / 1e3:.1f}"),
    ("requests", "requests", lambda value: f"{value:.0f}"),
    ("written", "written, MB", lambda value: f"{value / 1e6:.1f}"),
)


def _table(rows: list[Row]) -> str:
    columns = [column for column in _COLUMNS if any(column[0] in row["figures"] for row in rows)]
    lines = ["| client | " + " | ".join(title for _, title, _ in columns) + " |"]
    lines.append("|---|" + "---:|" * len(columns))
    for row in rows:
        if row["figures"]:
            cells = [_cell(row["figures"].get(name), show) for name, _, show in columns]
            lines.append(f"| {row['peer']} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(found: Mapping[str, float] | None, show: Callable[[float], str]) -> str:
    if found is None:
        return "-"
    median, low, high = (show(found[key]) for key in ("median", "low", "high"))
    return median if low == high else f"{median} ({low}-{high})"


def _commands(rows: list[Row]) -> str:
    lines = []
    for row in rows:
        lines.append(f"- **{row['peer']}** ({row['version']}): " + (_code(row["command"]) if "command" in row else ""))
        if row.get("note"):
            lines.append(f"  {row['note']}.")
        if row.get("unable"):
            lines.append(f"  Cannot do it here: {_inline(row['unable'])}")
    return "\n".join(lines) + "\n"


def _code(text: str) -> str:
    return f"`{_inline(text)}`" if "`" not in text else f"`` {_inline(text)} ``"


def _inline(text: str) -> str:
    """One line, and nothing in it that Markdown would read."""
    return " ".join(text.split()).replace("|", "\\|")


def _board(report: Report) -> str:
    """What was measured on the emulated board: seconds there are the emulator's, bytes are a device's."""
    board = report.get("board")
    if not board:
        return ""
    lines = [f"## On the emulated board\n\n{board['board']}, {board['note']}.\n"]
    lines += ["| install | wall, s | fetched, kB | written, MB |", "|---|---:|---:|---:|"]
    for one in board["installs"]:
        numbers = f"{one['seconds']:.1f} | {one['fetched'] / 1e3:.1f} | {one['written'] / 1e6:.1f}"
        lines.append(f"| {one['what']} | {numbers} |")
    return "\n".join(lines) + "\n"


def _making(report: Report) -> str:
    rows = [row for row in report["rows"] if row.get("made")]
    if not rows:
        return ""
    lines = ["## Making what is fetched\n", "| client | for | wall, s | CPU, s | memory, MiB | size, kB |"]
    lines.append("|---|---|---:|---:|---:|---:|")
    for row in rows:
        made = row["made"]
        numbers = (
            f"{made['wall']:.1f} | {made['cpu']:.1f} | {made['memory'] / (1 << 20):.0f} | {row['product'] / 1e3:.1f}"
        )
        lines.append(f"| {row['peer']} | {row['work']} | {numbers} |")
    return "\n".join(lines) + "\n"


def patches() -> str:
    """Patches of other architectures, from `PATCHES`."""
    told = [one for path in PATCHES for one in json.loads(path.read_text())]
    tools = [f"{one['name']} {one['version']}" for one in told[0]["rivals"]]
    versions = sorted({row["newest"] for row in told[0]["formats"]})
    names = [
        "pair",
        "groups, KiB",
        *(f"format {version}" for version in versions),
        "last over first",
        "without digests",
        *tools,
    ]
    lines = [f"| {' | '.join(names)} |", "|---|" + "---:|" * (len(names) - 1)]
    for one in told:
        by_size = itertools.groupby(one["formats"], lambda row: row["group_size"])
        lines += [_patch_row(one, list(rows)) for _, rows in by_size]
    return f"## Patches of other architectures\n\n{_PATCHES}\n" + "\n".join(lines) + "\n"


def _patch_row(one: Row, formats: list[Row]) -> str:
    last, ours = formats[-1], [f"{row['size']:,}" for row in formats]
    others = [f"{size:,}" for size in (last["size"] - last["digests"], *(row["size"] for row in one["rivals"]))]
    cells = [
        f"{one['pair']}, {one['updates']}",
        f"{last['group_size'] // 1024}",
        *ours,
        f"{last['ratio']:.2f}",
        *others,
    ]
    return f"| {' | '.join(cells)} |"


def _start(report: Report) -> str:
    more = report["start"]["more"]
    if not more:
        return ""
    said = {
        kind: f"{1e3 * more[kind]['median']:.0f} ms ({1e3 * more[kind]['low']:.0f}-{1e3 * more[kind]['high']:.0f})"
        for kind in more
    }
    return (
        f"## Start\n\n`{report['start']['command']}` takes {said['cold']} more than `{report['start']['beside']}` when "
        f"the page cache holds none of the files, {said['warm']} more when it holds them.\n"
    )


def _sampler(report: Report) -> str:
    walls = {row["peer"]: row["figures"] for row in report["rows"] if row["work"] == "full-file" and row["figures"]}
    if not {"floor", "floor, unsampled"} <= walls.keys():
        return ""
    share = 100 * walls["floor"]["sampler"]["median"]
    with_it, without = walls["floor"]["wall"]["median"], walls["floor, unsampled"]["wall"]["median"]
    return (
        f"## What measuring costs\n\nThe sampler takes {share:.1f} % of one core while the floor runs. The floor takes "
        f"{with_it:.2f} s with it and {without:.2f} s without.\n"
    )


def _packages(report: Report) -> str:
    security = report["pairs"]["security"]
    versions = {side: {one["name"]: one["version"] for one in security["packages"][side]} for side in ("old", "new")}
    lines = ["## Packages that the security update changes\n", "| package | old | new |", "|---|---|---|"]
    for name in security["changed"]:
        old, new = (versions[side].get(name, "-") for side in ("old", "new"))
        lines.append(f"| {name} | {old} | {new} |")
    return "\n".join(lines) + "\n\nAll packages with their hashes stand in the report.\n"


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def main(argv: list[str] | None = None) -> int:
    """Write the page anew."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.document", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("report", type=Path)
    parser.add_argument("directory", type=Path)
    arguments = parser.parse_args(argv)
    write(json.loads(arguments.report.read_text()), arguments.directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
