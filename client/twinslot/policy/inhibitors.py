"""Who says that the device is in use by a file in a directory below /run: gone with it, and with the boot.

A file that cannot be read says so too, and a directory that cannot be listed: what is not known to be free is in use.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from twinslot.core.inhibitors import FILE_LIMIT, WORDS, Inhibitor, of_file, shown

DIRECTORY: Final = Path("/run/twinslot/inhibit.d")
MANY: Final = 256  # files that are looked at
_TOO_MANY: Final = f"more than {MANY} files stand there, so that nobody knows what the others say"


# keeps: S20
def file_inhibitors(directory: Path = DIRECTORY) -> tuple[Inhibitor, ...]:
    """One for each file, sorted by name; hidden files, whose names begin with a dot, count for nothing."""
    try:
        paths = sorted(path for path in directory.iterdir() if not path.name.startswith("."))
    except FileNotFoundError:
        return ()
    except OSError as e:
        return (_unknown(str(directory), f"the directory cannot be listed ({e.strerror})"),)
    return (*_read(paths[:MANY]), *([_unknown(str(directory), _TOO_MANY)] if len(paths) > MANY else ()))


def _read(paths: list[Path]) -> Iterator[Inhibitor]:
    for path in paths:
        try:
            about = path.stat()
            if not stat.S_ISREG(about.st_mode):
                yield _unknown(path.name, "it is no regular file, so that nobody knows what it means")
                continue
            with path.open("rb") as file:
                yield of_file(path.name, file.read(FILE_LIMIT), about.st_mtime)
        except FileNotFoundError:
            if path.is_symlink():
                yield _unknown(path.name, "it is a link that leads nowhere, so that nobody knows what it means")
        except OSError as e:
            yield _unknown(path.name, f"the file cannot be read ({e.strerror})")


def _unknown(who: str, why: str) -> Inhibitor:
    return Inhibitor(shown(who), shown(why), frozenset(WORDS))
