"""Two pairs of root file systems, an old and a new one each: `python -m bench.pairs DIR [--quick]`.

`security`: Debian 12 for arm64 (or `--architecture`) as released, and the same packages from the security archive of
today. Packages of other sizes shift all that is laid out behind. Other sides by `--updates`, for an architecture whose
security archive is out of step: `suite`, the suite's own updates alone; `point`, what that archive of updates held
before the point release, and the point release; `unstable`, testing and unstable of today.
`onefile`: one text file of 20 kB was edited.
Nothing of a package is run. Documentation and translations are left out, as devices do.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.filesystem import EPOCH, bytes_in_use, erofs, ext4
from bench.packages import ARCHITECTURE, ARCHITECTURES, FULL, QUICK, UPDATE, UPDATES, UPDATES_HELP, Archive, Package
from twinslot_lab.cache import cached, fingerprint
from twinslot_lab.command import BUILD, run
from twinslot_lab.errors import BuildError

HOME: Final = BUILD / "bench"
RECIPE: Final = 2  # rises with every change of how the images are made
DROPPED: Final = ("doc", "doc-base", "man", "locale", "info", "lintian", "bug", "gtk-doc", "help")
EDITED_SIZE: Final = 20_000  # bytes, about; of the file that `onefile` edits
EDITED: Final = Path("etc/product/limits.conf")


@dataclass(frozen=True)
class Pair:
    """Two images of one size, and where they come from.

    Attributes:
        name: `security` or `onefile`.
        directory: Holds the old and the new image.
        facts: For the report: packages, versions, bytes in use.
        suffix: Of the images' names.
    """

    name: str
    directory: Path
    facts: dict[str, Any]
    suffix: str = "img"

    @property
    def old(self) -> Path:
        """The image that a device runs."""
        return self.directory / f"old.{self.suffix}"

    @property
    def new(self) -> Path:
        """The image that it is to have."""
        return self.directory / f"new.{self.suffix}"


def make_pairs(*, quick: bool, architecture: str = ARCHITECTURE, updates: str = UPDATE) -> dict[str, Pair]:
    """Both pairs, from the cache or made anew.

    Args:
        quick: A smaller set of packages: 96 MiB instead of 512.
        architecture: One of `ARCHITECTURES`.
        updates: One of `UPDATES`.

    Raises:
        BuildError: A program failed or a package could not be fetched.
    """
    suites = UPDATES[updates]
    suffix = ("" if architecture == ARCHITECTURE else f"-{architecture}") + ("" if updates == UPDATE else f"-{updates}")
    old = Archive(HOME / f"apt-old{suffix}", suites.old, architecture, earlier=suites.earlier)
    new = Archive(HOME / f"apt-new{suffix}", suites.new, architecture)
    names = [suites.renamed.get(name, name) for name in (QUICK if quick else FULL)] + list(suites.more)
    lists = {"old": old.closure(names), "new": new.closure(names)}
    key = fingerprint(RECIPE, quick, {side: [p.sha256 for p in packages] for side, packages in lists.items()})

    def make(directory: Path) -> None:
        for side, archive in (("old", old), ("new", new)):
            _unpack(archive.fetch(lists[side]), directory / f"{side}.tree")
        _make_images(directory, size_mib=96 if quick else 512)
        (directory / "facts.json").write_text(
            json.dumps(_facts(lists, directory, suites.old[0], architecture), indent=1)
        )

    kind = "quick" if quick else "full"
    directory = cached(f"pairs-{kind}{suffix}", key, make, base=HOME)
    facts = json.loads((directory / "facts.json").read_text())
    return {name: Pair(name, directory / name, facts[name]) for name in ("security", "onefile")}


def _unpack(archives: list[Path], tree: Path) -> None:
    """All files of all packages, in the order of their names; where two have one file, the later wins."""
    tree.mkdir()
    for archive in sorted(archives, key=lambda path: path.name):
        run("dpkg-deb", "-x", archive, tree)
    for name in DROPPED:
        shutil.rmtree(tree / "usr/share" / name, ignore_errors=True)
    _write_edited(tree, edited=False)


def _make_images(directory: Path, size_mib: int) -> None:
    for name in ("security", "onefile"):
        (directory / name).mkdir()
    for side in ("old", "new"):
        ext4(directory / f"{side}.tree", directory / f"security/{side}.img", size_mib)
        erofs(directory / f"{side}.tree", directory / f"security/{side}.erofs")
    shutil.rmtree(directory / "new.tree")
    (directory / "onefile/old.img").hardlink_to(directory / "security/old.img")
    _write_edited(directory / "old.tree", edited=True)
    ext4(directory / "old.tree", directory / "onefile/new.img", size_mib)
    shutil.rmtree(directory / "old.tree")


def _write_edited(tree: Path, *, edited: bool) -> None:
    """The product's own settings; an edit changes every 25th line, the length and the date."""
    lines = []
    for number in range(EDITED_SIZE // 40):
        value = (number * 7919 + 17) % 9973
        changed = edited and number % 25 == 0
        lines.append(f"limit.{number:04} = {value:5}  # unit {number % 7}" + (" (revised)" if changed else ""))
    path = tree / EDITED
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line:<39}\n" for line in lines))
    _set_time(path, EPOCH + (86_400 if edited else 0))
    _set_time(path.parent, EPOCH)
    _set_time(path.parent.parent, EPOCH)
    _set_time(tree, EPOCH)


def _set_time(path: Path, seconds: int) -> None:
    os.utime(path, (seconds, seconds))


def _facts(lists: dict[str, tuple[Package, ...]], directory: Path, suite: str, architecture: str) -> dict[str, Any]:
    versions = {side: {p.name: p.version for p in packages} for side, packages in lists.items()}
    names = versions["old"].keys() | versions["new"].keys()
    changed = sorted(name for name in names if versions["old"].get(name) != versions["new"].get(name))
    common = {"suite": suite, "architecture": architecture, "size": (directory / "security/old.img").stat().st_size}
    packages = {side: [p.as_dict() for p in found] for side, found in lists.items()}
    in_use = {side: bytes_in_use(directory / f"security/{side}.img") for side in ("old", "new")}
    security = common | {"changed": changed, "in_use": in_use, "packages": packages}
    return {"security": security, "onefile": common | {"file": str(EDITED), "file_size": EDITED_SIZE}}


def main(argv: list[str] | None = None) -> int:
    """Put both pairs into a directory: DIR/security/old.img and new.img, DIR/onefile/old.img and new.img."""
    parser = argparse.ArgumentParser(prog="python -m bench.pairs", description=main.__doc__)
    parser.add_argument("directory", type=Path, metavar="DIR")
    parser.add_argument("--quick", action="store_true", help="a smaller set of packages")
    parser.add_argument("--architecture", choices=ARCHITECTURES, default=ARCHITECTURE, help="of the packages")
    parser.add_argument("--updates", choices=UPDATES, default=UPDATE, help=UPDATES_HELP)
    arguments = parser.parse_args(argv)
    try:
        pairs = make_pairs(quick=arguments.quick, architecture=arguments.architecture, updates=arguments.updates)
    except BuildError as e:
        sys.stderr.write(f"bench.pairs: {arguments.architecture}: {e}\n")
        return 1
    for pair in pairs.values():
        out = arguments.directory / pair.name
        out.mkdir(parents=True, exist_ok=True)
        for image in sorted(pair.directory.iterdir()):
            run("cp", "--sparse=always", image, out / image.name)
            print(out / image.name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
