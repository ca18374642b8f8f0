"""What any user may know of the record: a small file beside the database, replaced whole after each save.

The database is root's alone, since a reader's lock on it holds up whoever saves (S27). This file has what `status` and
`history` show, and nothing waits for its readers. Nothing is decided by it: it may be missing, stale after a full disk,
or cut short by lost power, and the next save replaces it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from twinslot.core import stored
from twinslot.core.errors import DeviceError
from twinslot.core.model import Floors, SlotName, SlotRecord
from twinslot.core.transaction import Transaction

log = logging.getLogger(__name__)

FILE_NAME: Final = "status.json"
HISTORY: Final = 50  # transactions; `twinslot history` shows 20 unless told otherwise
_LIMIT: Final = 1 << 20  # bytes; 50 transactions are some 100 kB, and more with many health checks
_TAIL: Final = b"]}\n"


# keeps: S27
def publish(directory: Path, slots: Mapping[str, str], history: Sequence[str], meta: Mapping[str, Any]) -> None:
    """Write the file whole, readable for all. A failure is logged: nothing depends on it.

    Of a history that is too long for readers, the oldest transactions are left out.

    It is not flushed: after a power cut the old one, the new one or a damaged one stands there.

    Args:
        directory: Where the database stands.
        slots: By name, each a JSON object as it stands in the record.
        history: Transactions, newest first, each a JSON object as it stands in the record.
        meta: `floors`, `failed`, `generation`, `documents`, `retired`; JSON-ready.
    """
    parts = ", ".join(f"{json.dumps(name)}: {body}" for name, body in slots.items())
    head = f'{{"meta": {json.dumps(meta)}, "slots": {{{parts}}}, "history": ['.encode()
    text = head + b", ".join(_that_fit(history, _LIMIT - len(head) - len(_TAIL))) + _TAIL
    try:
        _write(directory, text)
    except OSError as e:
        log.warning("'%s' cannot be written: %s", directory / FILE_NAME, e.strerror)


def _that_fit(bodies: Sequence[str], room: int) -> Iterator[bytes]:
    for body in map(str.encode, bodies):
        room -= len(body) + 2  # with comma and blank
        if room < 0:
            return
        yield body


def is_stale(directory: Path, database: Path) -> bool:
    """The file is missing, was cut short by lost power, or the database was saved after it."""
    try:
        status = (directory / FILE_NAME).stat()
        return status.st_size == 0 or status.st_mtime_ns < database.stat().st_mtime_ns
    except OSError:
        return True


def _write(directory: Path, data: bytes) -> None:
    """Replace the file whole.

    Raises:
        OSError: As the system says it; the caller names what was meant.
    """
    fresh = directory / f"{FILE_NAME}.new"
    fresh.unlink(missing_ok=True)  # whatever a cut left there: a pipe would be waited for, a link written through
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        os.fchmod(fd, 0o644)  # whatever the umask
        if os.write(fd, data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fresh.rename(directory / FILE_NAME)
    except OSError:
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise
    finally:
        os.close(fd)


class Published:
    """The file, read once. Answers as `Record` does, of what the last save published.

    Args:
        directory: Where the database stands.

    Raises:
        DeviceError: `device.record-missing`: there is no such file; `device.record`: it cannot be read.
    """

    def __init__(self, directory: Path) -> None:
        path = directory / FILE_NAME
        try:
            with path.open("rb") as file:
                facts = json.loads(file.read(_LIMIT))
            self._history = [Transaction.from_dict(body) for body in facts["history"]]
            slots = facts["slots"].items()
            self._slots = {stored.word(SlotName, name): stored.read(SlotRecord, body) for name, body in slots}
            meta = facts["meta"]
            self._floors = stored.read(Floors, meta["floors"])
            self._failed = {int(sequence): str(reason) for sequence, reason in meta["failed"].items()}
            self._generation = int(meta["generation"])
            self._documents = {str(name): str(text) for name, text in meta["documents"].items()}
            self._retired = meta.get("retired") is True  # older files have no such key
        except FileNotFoundError as e:
            raise DeviceError(
                f"there is no record at '{path}'", code="record-missing", hint="has the device booted once?"
            ) from e
        except OSError as e:
            raise DeviceError(f"the record '{path}' cannot be read", code="record", found=e.strerror) from e
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
            raise DeviceError(
                f"the record '{path}' cannot be read", code="record", hint="'twinslot boot' writes it anew"
            ) from e

    def close(self) -> None:
        """Holds nothing."""

    def current(self) -> Transaction | None:
        """The open transaction, if there is one; not one that a newer client began for a slot of its own (S18)."""
        opened = (each for each in self._history if each.outcome is None and stored.is_known(each.target))
        return next(opened, None)

    def history(self, limit: int = HISTORY) -> list[Transaction]:
        """Transactions, newest first."""
        return self._history[:limit]

    def slot(self, name: SlotName) -> SlotRecord | None:
        """What the record knows of a slot."""
        return self._slots.get(name)

    def floors(self) -> Floors:
        """The floors as the record has them."""
        return self._floors

    def failed(self) -> dict[int, str]:
        """Releases that rolled back here, with the reason."""
        return dict(self._failed)

    def document(self, name: str) -> str | None:
        """A trust document kept by name, or the last verified date; nothing of it is secret."""
        return self._documents.get(name)

    def generation(self) -> int:
        """Highest generation of the boot environment that the record has seen."""
        return self._generation

    def is_retired(self) -> bool:
        """The device was taken out of service."""
        return self._retired
