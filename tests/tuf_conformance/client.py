#!/usr/bin/env python3
"""Three commands over the client's own refresh, for theupdateframework/tuf-conformance (its CLIENT-CLI.md).

The whole way is the device's: documents come through the fetching worker, are judged in the trust process, and are kept
by this one. What the suite wants otherwise is put right here: a file `root.json` with the newest root.

    make tuf-conformance SUITE=DIR
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path

from twinslot.core.errors import TwinslotError
from twinslot.repository.exchange import Exchange, content_of
from twinslot.repository.store import DocumentStore
from twinslot.trust.repository_messages import FoundTarget, RepositoryQuestion
from twinslot.trust.verdict import TrustTime
from twinslot.worker import launch
from twinslot.worker.file_fetcher import FileFetcher

ANCHOR = "roots/anchor"
FAST = {"connect_timeout": 5.0, "read_timeout": 5.0, "retries": 1, "retry_wait": 0.1}


class TargetError(Exception):
    """A target is not there, or not as announced."""


def init(options: argparse.Namespace) -> None:
    """The root as the device was built with it."""
    anchor = options.metadata_dir / ANCHOR
    anchor.parent.mkdir()
    for place in (anchor, options.metadata_dir / "root.json"):
        shutil.copyfile(options.trusted_root, place)


def refresh(options: argparse.Namespace, fetcher: FileFetcher, paths: list[str]) -> dict[str, FoundTarget | None]:
    """Refresh, and put the newest root where the suite looks for it."""
    now = datetime.now(UTC)
    question = RepositoryQuestion((options.metadata_dir / ANCHOR).read_bytes(), TrustTime(now, now, now), tuple(paths))
    store = DocumentStore(options.metadata_dir)
    url = options.metadata_url.rstrip("/") + "/"
    try:
        exchange = Exchange(url, store, fetcher, lambda: launch.start("verify"))
        return dict(exchange.refresh(question).targets)
    finally:
        roots = sorted((options.metadata_dir / "roots").glob("*.json"), key=lambda path: int(path.stem))
        if roots:
            shutil.copyfile(roots[-1], options.metadata_dir / "root.json")


def download(options: argparse.Namespace, fetcher: FileFetcher) -> None:
    """Each target in order; what is there already is not fetched again."""
    for path in options.target_name:
        found = refresh(options, fetcher, [path])[path]
        if found is None:
            raise TargetError(f"'{path}' is not among the targets")
        place = options.target_dir / hashlib.sha256(path.encode()).hexdigest()
        if place.exists() and matches(place.read_bytes(), found):
            continue
        base = options.target_base_url.rstrip("/") + "/"
        content = content_of(fetcher.get(base + found.file_path, found.length))
        if content is None or not matches(content, found):
            raise TargetError(f"'{path}' is not what was signed")
        place.write_bytes(content)


def matches(content: bytes, found: FoundTarget) -> bool:
    """Length and every digest."""
    return len(content) == found.length and all(
        hashlib.new(name, content).hexdigest() == digest for name, digest in found.hashes.items()
    )


def main() -> int:
    """0, or 1 and a sentence."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--metadata-url")
    parser.add_argument("--metadata-dir", type=Path, required=True)
    parser.add_argument("--target-name", action="append", default=[])
    parser.add_argument("--target-dir", type=Path)
    parser.add_argument("--target-base-url")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("init").add_argument("trusted_root", type=Path)
    commands.add_parser("refresh")
    commands.add_parser("download")
    options = parser.parse_args()
    fetcher = FileFetcher(launch.start, FAST)
    try:
        if options.command == "init":
            init(options)
        elif options.command == "refresh":
            refresh(options, fetcher, [])
        else:
            download(options, fetcher)
    except (TwinslotError, TargetError) as e:
        print(e, file=sys.stderr)
        return 1
    finally:
        fetcher.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
