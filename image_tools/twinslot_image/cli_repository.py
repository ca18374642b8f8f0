"""`twinslot-image repository`: arguments in, a repository of plain files changed or published."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from twinslot.cli.output import Output
from twinslot.core.waves import WHOLE
from twinslot_image.build import build_time
from twinslot_image.cli_commands import say
from twinslot_image.file_kind import require_image, require_lasting
from twinslot_image.key_change import ONLINE_ROLES
from twinslot_image.key_files import makes_alone, one_at_a_time
from twinslot_image.repository_approvals import approve_release, withdraw_release
from twinslot_image.repository_files import ROLE, Listed, RepositoryDirectory, init_repository, read_listed
from twinslot_image.repository_offers import (
    add_release,
    dead_ends,
    halt_release,
    recall_release,
    set_barrier,
    set_waves,
)
from twinslot_image.repository_publish import publish


def init(arguments: argparse.Namespace, output: Output) -> None:
    """`repository init`."""
    directory = RepositoryDirectory(arguments.directory)
    plans = {"root": arguments.root, "targets": arguments.targets, ROLE: arguments.offers}
    plans |= dict.fromkeys(ONLINE_ROLES, (1, 1)) | dict(arguments.approver)
    with makes_alone(arguments.directory):
        made = init_repository(directory, plans, build_time(os.environ), arguments.passphrase)
    root = directory.keys.root_file(1)
    lines = [f"{path}: new key" for path in made]
    lines.append(f"{root}: give this to devices as 'repository.root'")
    say(arguments, output, {"keys": [str(path) for path in made], "root": str(root)}, lines)


def add(arguments: argparse.Namespace, output: Output) -> None:
    """`repository add`."""
    directory, image = RepositoryDirectory(arguments.directory), arguments.image
    require_lasting(image)
    require_image(image)
    with one_at_a_time(arguments.directory):
        manifest, files = add_release(directory, image)
    release = manifest.release
    for_whom = ", ".join(manifest.compatible)
    lines = [f"{release.name} (sequence {release.sequence}) for {for_whom}: {', '.join(files)}", _NOT_YET]
    data = {"release": release.name, "sequence": release.sequence, "compatible": list(manifest.compatible)}
    say(arguments, output, data | {"files": files}, lines)


_NOT_YET = "devices hear of it once it is published: 'twinslot-image repository publish'"


def wave(arguments: argparse.Namespace, output: Output) -> None:
    """`repository wave`."""
    with one_at_a_time(arguments.directory):
        count = set_waves(RepositoryDirectory(arguments.directory), arguments.release, arguments.waves)
    reach = sum(each.share for each in arguments.waves)
    number = len(arguments.waves)
    words = f"{number} wave{'' if number == 1 else 's'}" if number else "all devices at once"
    lines = [f"{arguments.release}: {words}"]
    if arguments.waves and reach < WHOLE:
        lines.append(f"the waves reach {reach / (WHOLE / 100):g} % of the devices; the others wait for one that does")
    data = {"release": arguments.release, "waves": len(arguments.waves), "types": count}
    say(arguments, output, data | {"reach": reach if arguments.waves else WHOLE}, [*lines, _NOT_YET])


def halt(arguments: argparse.Namespace, output: Output) -> None:
    """`repository halt`."""
    reason = arguments.reason or ""
    with one_at_a_time(arguments.directory):
        count = halt_release(RepositoryDirectory(arguments.directory), arguments.release, reason)
    words = f"halted: {reason}" if reason else "offered again"
    data = {"release": arguments.release, "halted": reason or None, "types": count}
    say(arguments, output, data, [f"{arguments.release}: {words}", _NOT_YET])


def approve(arguments: argparse.Namespace, output: Output) -> None:
    """`repository approve`."""
    directory, now = RepositoryDirectory(arguments.directory), build_time(os.environ)
    release, role, secret = arguments.release, arguments.role, arguments.passphrase
    words = {key: value for key in ("by", "meaning") if (value := getattr(arguments, key))}
    with one_at_a_time(arguments.directory):
        if arguments.undo:
            found = withdraw_release(directory, release, role, now, secret)
        else:
            found = approve_release(directory, release, role, arguments.wave, words, now, secret)
    share = f"for {found.reach / (WHOLE / 100):g} % of the devices" if found.reach else "no more"
    lines = [f"{release}: approved by {role} {share}; {found.signatures} of {found.threshold} signatures", _NOT_YET]
    data = {"release": release, "role": role, "reach": found.reach}
    say(arguments, output, data | {"signatures": found.signatures, "threshold": found.threshold}, lines)


def recall(arguments: argparse.Namespace, output: Output) -> None:
    """`repository recall`."""
    release, reason, successor = arguments.release, arguments.reason or "", arguments.successor
    with one_at_a_time(arguments.directory):
        count = recall_release(RepositoryDirectory(arguments.directory), release, reason, successor, arguments.sequence)
    words = f"recalled: {reason}" if reason else "not recalled any more"
    data = {"release": release, "recalled": reason or None, "successor": successor or None, "types": count}
    say(arguments, output, data, [f"{release}: {words}", _NOT_YET])


def barrier(arguments: argparse.Namespace, output: Output) -> None:
    """`repository barrier`."""
    made = not arguments.undo
    with one_at_a_time(arguments.directory):
        count = set_barrier(RepositoryDirectory(arguments.directory), arguments.release, barrier=made)
    words = "no device passes it by" if made else "devices may pass it by"
    data = {"release": arguments.release, "barrier": made, "types": count}
    say(arguments, output, data, [f"{arguments.release}: {words}", _NOT_YET])


def publish_all(arguments: argparse.Namespace, output: Output) -> None:
    """`repository publish`."""
    directory = RepositoryDirectory(arguments.directory)
    with one_at_a_time(arguments.directory):
        published = publish(directory, build_time(os.environ), arguments.passphrase, dict(arguments.days or ()))
    versions, expires = dict(published.fresh.versions), published.fresh.expires
    lines = [f"{directory.public / name}: written" for name in published.written]
    lines += [f"role '{role}' approves nothing new: {why}" for role, why in sorted(published.unapproved.items())]
    ends = dead_ends(read_listed(directory))
    lines += [f"dead end for {name}: no way leads on from {', '.join(names)}" for name, names in sorted(ends.items())]
    lines.append(f"timestamp version {versions['timestamp']}; publish again before {expires:%Y-%m-%d %H:%M} UTC")
    until = f"{expires.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    data: dict[str, Any] = {"versions": versions, "expires": until, "written": list(published.written)}
    say(arguments, output, data | {"unapproved": published.unapproved, "dead_ends": ends}, lines)


def show(arguments: argparse.Namespace, output: Output) -> None:
    """`repository list`."""
    listed = read_listed(RepositoryDirectory(arguments.directory))
    lines = [line for name in listed.names for line in _lines(name, listed)]
    data = {"offers": listed.offers, "recalls": listed.recalls, "dead_ends": dead_ends(listed)}
    say(arguments, output, data, lines or ["nothing is offered"])


def _lines(name: str, listed: Listed) -> Iterator[str]:
    yield f"{name}:"
    yield from map(_line, listed.offers.get(name, []))
    for each in listed.recalls.get(name, []):
        yield f"  {each['name']} (sequence {each['sequence']}) is recalled: {each['reason']}"
    for end in dead_ends(listed).get(name, []):
        yield f"  no way leads on from {end}"


def _line(offer: dict[str, Any]) -> str:
    return f"  {offer['name']} (sequence {offer['sequence']}), " + (
        ", ".join(_standing(offer)) or "all devices at once"
    )


def _standing(offer: dict[str, Any]) -> Iterator[str]:
    if halted := offer.get("halted"):
        yield f"halted: {halted}"
    if offer.get("barrier"):
        yield "barrier"
    now = datetime.now(UTC)
    for each in offer.get("waves", ()):
        start = datetime.fromisoformat(each["start"])
        words = f"{each['share'] / 10_000:g} % {'since' if start <= now else 'from'} {start:%Y-%m-%d %H:%M} UTC"
        more = [f"{key.replace('_', ' ')} {'+'.join(each[key])}" for key in _MORE if key in each]
        yield " ".join([words, *more, *([f"end {each['end']}"] if "end" in each else [])])


_MORE = ("rings", "networks", "approved_by")
