"""Inhibitors that callers of the service hold: a descriptor each, as logind gives them.

Of each stands in a directory below /run a pipe with a name, whose writing end the holder has, and beside it who it is
and why. It is held for as long as somebody has that end open, whatever becomes of the service, which need not run
meanwhile; the kernel closes it with its holder. Anybody can find that out: reading a pipe that nobody can write to
gives its end.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from twinslot.core.errors import DeviceError, Refusal, RefusedError
from twinslot.core.inhibitors import FILE_LIMIT, WORDS, Inhibitor, parse_what, shown
from twinslot.core.origin import Origin

DIRECTORY: Final = Path("/run/twinslot/inhibitors")
EACH: Final = 16  # that one user may hold at one time
ALL: Final = 64  # that are held at one time; root's do not count
_SUFFIX: Final = ".ref"
_TEXTS: Final = ("who", "why", "what")


@dataclass(frozen=True, slots=True)
class HeldInhibitors:
    """The directory.

    Attributes:
        directory: Of it.
    """

    directory: Path = DIRECTORY

    def hold(self, inhibitor: Inhibitor, origin: Origin) -> int:
        """Begin one.

        Returns:
            A descriptor, the caller's to close: the device counts as in use until all copies of it are closed.

        Raises:
            RefusedError: `refused.too-many-inhibitors`.
            DeviceError: `device.inhibitors`: there is no place for it.
        """
        user = -1 if origin.uid is None else origin.uid
        try:
            self._remove_ended()
            self._require_few(user)
            return self._make(inhibitor, user)
        except OSError as e:
            what = f"'{self.directory}' cannot be used"
            raise DeviceError(
                what, code="inhibitors", found=e.strerror, hint="systemd-tmpfiles makes /run/twinslot"
            ) from e

    # keeps: S20
    def inhibitors(self) -> tuple[Inhibitor, ...]:
        """Those that are held now, in the order in which they were begun."""
        try:
            return tuple(self._told(path) for path in self._pipes() if _is_held(path))
        except OSError as e:
            why = f"the directory cannot be listed ({e.strerror})"
            return (Inhibitor(shown(str(self.directory)), shown(why), frozenset(WORDS), "bus"),)

    def _pipes(self) -> list[Path]:
        """One for each, whether it is held or not.

        Raises:
            OSError: The directory cannot be listed.
        """
        try:
            found = [path for path in self.directory.iterdir() if path.suffix == _SUFFIX and path.stem.isdecimal()]
        except FileNotFoundError:
            return []
        return sorted(found, key=lambda path: int(path.stem))

    def _told(self, pipe: Path) -> Inhibitor:
        said = _read(pipe)
        who, why, what = (str(said.get(name, "")) for name in _TEXTS)
        name, words = shown(who or f"inhibitor {pipe.stem}"), parse_what(what)
        return Inhibitor(name, shown(why or "not known"), words, "bus", _begun(pipe))

    def _remove_ended(self) -> None:
        """Remove those that nobody holds any more.

        Raises:
            OSError: They cannot be removed.
        """
        for pipe in self._pipes():
            if not _is_held(pipe):
                pipe.unlink(missing_ok=True)
                pipe.with_suffix(".json").unlink(missing_ok=True)

    def _require_few(self, user: int) -> None:
        users = [each for each in (_read(pipe).get("uid") for pipe in self._pipes()) if each != 0]
        if user != 0 and (len(users) >= ALL or users.count(user) >= EACH):
            hint = "close the descriptor of another one first"
            found = f"{users.count(user)} of this user, {len(users)} of all"
            expected = f"at most {EACH} of one user, {ALL} of all"
            raise RefusedError(
                Refusal("too-many-inhibitors", "too many inhibitors are held already", expected, found, hint)
            )

    def _make(self, inhibitor: Inhibitor, user: int) -> int:
        """The pipe comes last: what has none counts for nothing.

        Raises:
            OSError: As the system says it.
        """
        self.directory.mkdir(0o755, exist_ok=True)
        number = 1 + max((int(pipe.stem) for pipe in self._pipes()), default=0)
        pipe = self.directory / f"{number}{_SUFFIX}"
        about = pipe.with_suffix(".json")
        said = {"who": inhibitor.who, "why": inhibitor.why, "what": ":".join(sorted(inhibitor.what)), "uid": user}
        about.write_text(json.dumps(said) + "\n")
        about.chmod(0o644)
        os.mkfifo(pipe)
        pipe.chmod(0o644)
        with _opened(pipe):  # without a reader the other end does not open
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)


@contextlib.contextmanager
def _opened(pipe: Path) -> Iterator[int]:
    """The reading end.

    Raises:
        OSError: It cannot be opened.
    """
    descriptor = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


# keeps: S20
def _is_held(pipe: Path) -> bool:
    """Whether somebody has the writing end; what cannot be looked at is held."""
    try:
        with _opened(pipe) as descriptor:
            return os.read(descriptor, 1) != b""
    except FileNotFoundError:
        return False
    except OSError:  # no bytes yet, and somebody who could write some; or it cannot be told
        return True


def _begun(pipe: Path) -> float | None:
    """When it was made: reading a pipe changes no time of it, and nobody writes."""
    try:
        return pipe.stat().st_mtime
    except OSError:
        return None


def _read(pipe: Path) -> dict[str, object]:
    try:
        with pipe.with_suffix(".json").open("rb") as file:
            found = json.loads(file.read(FILE_LIMIT))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
