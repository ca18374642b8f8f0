"""OSTree: a static delta between two commits of the trees; it imports objects into a repository and writes no image."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from bench.peers.base import Bench, UnableError, UpdateJob, Work, debian_version, make_once, prepare


class Ostree:
    """`ostree static-delta apply-offline`."""

    name = "ostree"

    def __init__(self, bench: Bench) -> None:
        self._bench, self._home = bench, bench.home("ostree")

    def version(self) -> str:
        """Debian's."""
        return debian_version("ostree")

    def job(self, work: Work) -> UpdateJob:
        """A delta, into a repository that holds the old commit."""
        if work not in (Work.SECURITY, Work.ONEFILE):
            raise UnableError("measured with a static delta only, which needs a known base")
        pair = self._bench.pair(work)
        server, device = self._home / f"{pair.name}-server", self._home / f"{pair.name}-device"
        shutil.rmtree(device, ignore_errors=True)
        if not server.exists():
            prepare("ostree", f"--repo={server}", "init", "--mode=archive")
            for side, image in (("old", pair.old), ("new", pair.new)):
                with mounted(image, self._home / "mount") as tree:
                    words = [f"--branch={side}", f"--tree=dir={tree}", "--timestamp=2025-01-01T00:00:00Z"]
                    prepare("ostree", f"--repo={server}", "commit", "--no-bindings", *words)
        old, new = (prepare("ostree", f"--repo={server}", "rev-parse", side).strip() for side in ("old", "new"))
        delta = self._bench.public / f"{pair.name}.ostree-delta"
        words = [f"--from={old}", f"--to={new}", "--inline", "--min-fallback-size=0", f"--filename={delta}"]
        made = make_once(delta, "ostree", f"--repo={server}", "static-delta", "generate", *words)
        prepare("ostree", f"--repo={device}", "init", "--mode=bare")
        prepare("ostree", f"--repo={device}", "pull-local", server, old)

        def verify() -> bool:
            with contextlib.suppress(UnableError):
                prepare("ostree", f"--repo={device}", "fsck", new)
                return True
            return False

        return UpdateJob(
            ["ostree", f"--repo={device}", "static-delta", "apply-offline", str(delta)],
            local=(delta,),
            published=(delta,),
            verify=verify,
            made=made,
            note="imports objects, writes no image; verified by `ostree fsck`",
        )

    def close(self) -> None:
        """Nothing runs."""


@contextlib.contextmanager
def mounted(image: Path, at: Path) -> Iterator[Path]:
    """An image, mounted read-only."""
    at.mkdir(parents=True, exist_ok=True)
    prepare("mount", "-o", "ro,loop", image, at)
    try:
        yield at
    finally:
        prepare("umount", at)
