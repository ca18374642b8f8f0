"""Which libraries the programs of a root file system need, and which of them are nowhere in it.

A library counts as there when a file or link of its name leads, inside the tree, to a program or library of the same
machine, word size and byte order, wherever it lies: how a loader searches differs between systems and programs
(ld.so(8)), and none finds what is nowhere.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Final

from twinslot.core.errors import Refusal
from twinslot_image.elf_links import Links

NAMED: Final = 10  # missing libraries that are named; the count is always given
USERS: Final = 3  # programs that are named for each

Reach = Callable[[str], Links | None]  # what a path in the tree leads to


@dataclass(frozen=True, slots=True)
class Linked:
    """Programs and libraries of one tree, gathered while it is walked.

    Attributes:
        files: What each ELF file links to, by its path from the root.
        links: Paths of symbolic links by their last part; they may be names of libraries.
    """

    files: dict[str, Links] = field(default_factory=dict)
    links: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def add_link(self, path: str) -> None:
        """A symbolic link was met."""
        self.links[path.rpartition("/")[2]].append(path)

    def providers(self, reach: Reach) -> dict[tuple[str, tuple[str, int, bool]], str]:
        """Path of a file by name and ABI, for every name that something needs and that is there."""
        found = {}
        by_name: dict[str, list[str]] = defaultdict(list)
        for path in sorted(self.files):
            by_name[path.rpartition("/")[2]].append(path)
        for name, abi in self._wanted():
            places = [name.lstrip("/")] if "/" in name else [*by_name.get(name, ()), *sorted(self.links.get(name, ()))]
            for place in places:
                links = self.files.get(place) or reach(place)
                if links is not None and links.abi == abi:
                    found[name, abi] = place
                    break
        return found

    def _wanted(self) -> set[tuple[str, tuple[str, int, bool]]]:
        each = self.files.values()
        needed = {(name, links.abi) for links in each for name in links.needed}
        return needed | {(links.interpreter, links.abi) for links in each if links.interpreter}

    # keeps: REQ-IMG-25
    def missing(self, reach: Reach, foreign: Iterable[str] = ()) -> dict[str, list[str]]:
        """Who needs each library that is nowhere in the tree.

        Args:
            reach: See `Reach`.
            foreign: Patterns of files, from the root without a slash, that are excused.
        """
        there, patterns = self.providers(reach), tuple(foreign)
        lacking: dict[str, list[str]] = defaultdict(list)
        for path, links in sorted(self.files.items()):
            if any(fnmatchcase(path, pattern) for pattern in patterns):
                continue
            for name in (*links.needed, *([links.interpreter] if links.interpreter else ())):
                if (name, links.abi) not in there:
                    lacking[name].append(path)
        return dict(sorted(lacking.items()))


def refusals(missing: Mapping[str, list[str]]) -> tuple[Refusal, ...]:
    """A reason for each missing library, naming it and who needs it; the first ten, and how many more."""
    return tuple(_refusal(library, users, len(missing)) for library, users in list(missing.items())[:NAMED])


def _refusal(library: str, users: list[str], count: int) -> Refusal:
    more = f" and {len(users) - USERS} more" if len(users) > USERS else ""
    what = "a library that a program needs is nowhere in the root file system"
    if count > NAMED:
        what = f"one of {count} libraries that programs need and that are nowhere in the root file system"
    found = f"nothing; needed by {', '.join(users[:USERS])}{more}"
    hint = "install the package that has it; 'foreign' excuses programs that are for another system"
    return Refusal("library-missing", what, library, found, hint)
