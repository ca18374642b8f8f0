"""A private key as a file of root's: whole or not there, and never replaced.

It is written and flushed under a name of its own, then gets its name by link(2), which replaces nothing; the directory
is flushed before anything is said of it. A power cut leaves the key whole or not at all, and perhaps the name of its
own, which `forget_fresh` removes.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Final

from twinslot.storage.sync import make_directory, sync_directory

TRIES: Final = 10  # at once, each against another process that makes a key in the same moment
PRIVATE: Final = 0o400  # of a private key's file


def place(path: Path, data: bytes) -> bool:
    """Store a new private key; False: there is a file already, and it stays. After True it survives a power cut.

    Raises:
        OSError: As the system says it; the caller names what was meant.
    """
    make_directory(path.parent, 0o755)
    fresh = write_fresh(path, data, PRIVATE)
    try:
        os.link(fresh, path)
    except FileExistsError:
        return False
    except FileNotFoundError:  # somebody else made the key meanwhile, and took ours for what a power cut had left
        if not path.exists():
            raise
        return False
    finally:
        fresh.unlink(missing_ok=True)
    sync_directory(path.parent)
    return True


def overwrite(path: Path, data: bytes, mode: int) -> None:
    """Write a file whole, in the place of the one that is there. Afterwards it survives a power cut.

    Raises:
        OSError: As the system says it; the caller names what was meant.
    """
    for left in range(TRIES, 0, -1):
        fresh = write_fresh(path, data, mode)
        try:
            fresh.rename(path)
            break
        except FileNotFoundError:  # somebody who does the same took it for what a power cut had left
            if left == 1:
                raise
        finally:
            fresh.unlink(missing_ok=True)
    sync_directory(path.parent)


def write_fresh(path: Path, data: bytes, mode: int) -> Path:
    """A flushed file beside this one, without a name that counts.

    Raises:
        OSError: As the system says it; the caller names what was meant.
    """
    descriptor, name = tempfile.mkstemp(prefix=_prefix(path), dir=path.parent)  # mode 0600 from the first moment
    with open(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fchmod(descriptor, mode)
        os.fsync(descriptor)
    return Path(name)


def forget_fresh(path: Path) -> None:
    """Remove what a power cut left: a key that nobody was told of, or a second name of the one that counts.

    Raises:
        OSError: As the system says it; the caller names what was meant.
    """
    for left in path.parent.glob(f"{_prefix(path)}*"):
        left.unlink(missing_ok=True)


def _prefix(path: Path) -> str:
    return f".{path.name}-"
