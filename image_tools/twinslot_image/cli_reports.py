"""`twinslot-image reports`: files of reports in, a table out."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from twinslot.cli.arguments import Parser, whole_number
from twinslot.cli.output import Output
from twinslot.core.offer import Offered, parse_offers
from twinslot.core.text import printable
from twinslot_image import replaceable
from twinslot_image.cli_commands import say
from twinslot_image.outputs import Target
from twinslot_image.report_page import as_csv, as_html, as_json, counts, needs_a_look
from twinslot_image.report_read import collect, known_keys
from twinslot_image.report_table import DeviceLine, tabulate
from twinslot_image.repository_files import RepositoryDirectory, read_listed

if TYPE_CHECKING:
    _Verbs: TypeAlias = argparse._SubParsersAction[Parser]  # argparse has no public name for it

_LINES_MAX: Final = 50  # devices that are shown as text; files have all


def add_reports(verbs: _Verbs, anywhere: Parser) -> None:
    """`reports`."""
    reports = verbs.add_parser(
        "reports",
        parents=[anywhere],
        help="verify and tabulate what devices have reported",
        description="Read reports of devices, as a server or a stick has collected them, verify each by the key of its "
        "device, and say who runs what, whose update failed and why, who is silent, and which id is used by two keys. "
        "A report that came twice counts once. With '--keys' only devices count whose public part is there.",
        examples=(
            "twinslot-image reports collected --keys factory-keys",
            "twinslot-image reports collected --repository fleet --html reports.html --csv reports.csv",
        ),
    )
    reports.add_argument("place", nargs="+", type=Path, metavar="DIR|FILE", help="reports; directories with all below")
    keys = "public parts of devices ('twinslot device-key show'): a file or a directory; may be given again"
    reports.add_argument("--keys", action="append", default=[], type=Path, metavar="DIR|FILE", help=keys)
    text = "a repository: say who lacks a release whose wave has ended, and who runs a recalled one"
    reports.add_argument("--repository", type=Path, metavar="DIR", help=text)
    days = "days without a report after which a device counts as silent (default: 3)"
    reports.add_argument("--silence", type=whole_number(1, 3650), default=3, metavar="DAYS", help=days)
    reports.add_argument("--csv", type=Path, metavar="FILE", help="write the table there")
    reports.add_argument("--html", type=Path, metavar="FILE", help="write a page with plots there")
    reports.add_argument("--force", action="store_true", help="replace whatever stands where table and page go")
    reports.set_defaults(run=reports_verb)


def reports_verb(arguments: argparse.Namespace, output: Output) -> None:
    """`reports`."""
    now = datetime.now(UTC)
    inputs, force = [*arguments.place, *arguments.keys], arguments.force
    csv = arguments.csv and Target(arguments.csv, replaceable.table_of_reports, inputs=inputs, force=force)
    html = arguments.html and Target(arguments.html, replaceable.page, inputs=inputs, force=force)
    offered = _offered(arguments.repository) if arguments.repository else None
    collected = collect(arguments.place, known_keys(arguments.keys))
    table = tabulate(collected, now, timedelta(days=arguments.silence), offered)
    if csv:
        _put(csv, as_csv(table))
    if html:
        _put(html, as_html(table, now))
    lines = [f"{count} {what}" for what, count in counts(table) if count]
    lines += [f"release {name}: {count}" for name, count in table.releases.most_common()]
    lines += [f"failed, {reason}: {count}" for reason, count in table.reasons.most_common()]
    lines += [f"id '{device}' is used by {len(keys)} keys: {', '.join(keys)}" for device, keys in table.twins.items()]
    looked = [line for line in table.lines if needs_a_look(line)]
    lines += [_line(line) for line in looked[:_LINES_MAX]]
    if len(looked) > _LINES_MAX:
        lines.append(f"{len(looked) - _LINES_MAX} more with a finding; '--csv' has all")
    lines += [f"does not count: {name}: {why}" for name, why in list(table.refused.items())[:_LINES_MAX]]
    aside = next((target for target in (csv, html) if target and target.on_standard_output), None)
    say(arguments, output, as_json(table), [printable(line) for line in lines] or ["no reports"], aside)


def _put(target: Target, text: str) -> None:
    with target, target.writing() as sink:
        sink.write(text.encode())


def _line(line: DeviceLine) -> str:
    said = [f"runs {line.release}"]
    said += [f"last update {line.outcome}: {line.reason}"] if line.reason else []
    said += [f"failed checks {line.checks}"] if line.checks else []
    said += [f"silent since {line.last:%Y-%m-%d %H:%M} UTC"] if line.silent else []
    said += [f"the wave of {line.late} has ended without it"] if line.late else []
    said += ["what it runs is recalled"] if line.recalled else []
    return f"  {line.device or line.key[:16]}: {', '.join([*said, *line.broken])}"


def _offered(directory: Path) -> dict[str, Offered]:
    listed = read_listed(RepositoryDirectory(directory))
    return {name: parse_offers(document) for name, document in listed.documents().items()}
