"""Signed update images on demand: the device's own system with a change."""

from __future__ import annotations

import hashlib
import inspect
from pathlib import Path

from twinslot_lab.demo import FACTORY
from twinslot_lab.errors import LabError
from twinslot_lab.release import Change, Image, LabRelease, ReleaseTeam

_STEP = 10  # between the sequences of two releases


class ImageFactory:
    """Makes images for one device, signed by every role that it asks for. Each call is a later release.

    Args:
        team: Builds and signs them; caches them by what they are made of.
    """

    def __init__(self, team: ReleaseTeam) -> None:
        self._team = team
        self._sequence = FACTORY.sequence

    @property
    def installed(self) -> Image:
        """What the device holds when it leaves the factory."""
        return self._team.image(FACTORY)

    def __call__(
        self,
        name: str = "2.0",
        change: Change | None = None,
        *,
        sequence: int | None = None,
        epoch: int = 0,
        motor: str = "ready",
        marker: str = "",
    ) -> Image:
        """One image; from the cache or built (half a minute).

        Args:
            name: Of the release, for people.
            change: Is given the root file system as a directory and may do anything to it.
            sequence: Orders releases; by default each call is later than the one before.
            epoch: Security epoch.
            motor: For the emulated product: what the motor controller answers; all but `ready` fails the check.
            marker: Names `change` for the cache. By default the file that defines it does.

        Raises:
            BuildError: It could not be built.
            LabError: `change` is a function within a function; what it does cannot be told from its file.
        """
        self._sequence = sequence if sequence is not None else self._sequence + _STEP
        if change is not None and not marker:
            marker = marker_of(change)
        return self._team.image(LabRelease(name, self._sequence, motor, epoch, change, marker))

    def raw(self, content: bytes, name: str = "9.0", *, sequence: int = 90) -> Image:
        """A signed image whose payload is not a system but any bytes: quick to install, nothing to boot.

        For what happens before a start: damaged media, bad networks, wrong clocks.
        """
        return self._team.raw_image(LabRelease(name, sequence), content)


class ReadyImages:
    """The same for a real board: images that its own release team made, in a folder.

    Args:
        folder: `NAME.twin` and `NAME.img` for each release, and `installed.img`, which is in slot a.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def installed(self) -> Image:
        """What the device holds."""
        return self._image("installed")

    def __call__(self, name: str = "2.0", change: Change | None = None, **_: object) -> Image:
        """The image of that name.

        Raises:
            LabError: There is none, or it was to be changed.
        """
        if change is not None:
            raise LabError("the images of a real board are not made here, so they cannot be changed")
        if not (self._folder / f"{name}.twin").is_file():
            raise LabError(
                f"there is no '{self._folder / name}.twin'", hint="'images' in the board's file names a folder"
            )
        return self._image(name)

    def _image(self, name: str) -> Image:
        return Image(LabRelease(name, 0), self._folder / f"{name}.twin", self._folder / f"{name}.img")


def marker_of(change: Change) -> str:
    """A name for what a function does: its name, and the digest of the whole file that it stands in.

    Raises:
        LabError: It depends on more than its file.
    """
    closure = inspect.getclosurevars(change).nonlocals if inspect.isfunction(change) else {"": change}
    if closure:
        raise LabError("this change depends on more than its file", hint="give the image a marker=")
    source = Path(inspect.getfile(change)).read_bytes()
    return f"{change.__qualname__}-{hashlib.sha256(source).hexdigest()[:16]}"
