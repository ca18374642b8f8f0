"""What the engine asks of a boot loader.

The boot contract (docs/boot-contract.md) is about named variables that change together. A `Bootloader` stores them so
that a set of changes lands whole or not at all, and says what really stands on the medium.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from twinslot.core.model import LoaderTraits


class CopyState(enum.StrEnum):
    """What one raw copy of the environment turned out to be."""

    CURRENT = "current"  # good CRC and the newer flags byte: this one counts
    OLDER = "older"  # good CRC, the one that the next write replaces
    CORRUPT = "corrupt"  # CRC mismatch
    UNREADABLE = "unreadable"  # the device could not be read


@dataclass(frozen=True, slots=True)
class Place:
    """Where one copy stands: device, and offset and size in bytes."""

    device: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.device} at {self.offset:#x}"


@dataclass(frozen=True, slots=True)
class EnvironmentCopy:
    """One raw copy, as read past the page cache.

    Attributes:
        place: Device and offset, for people.
        state: What it turned out to be.
        flags: The serial byte, 0 to 255; None when not redundant or unreadable.
        variables: Its contents; empty unless the CRC is good.
    """

    place: str
    state: CopyState
    flags: int | None = None
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Environment:
    """What the boot environment says, with the evidence.

    Attributes:
        variables: Those of the current copy; empty when both copies are lost.
        copies: Each raw copy.
        raw: The bytes of each copy, None for one that cannot be read: what the next write is judged by (S4). Empty
            where a backend judges by the variables alone.
    """

    variables: Mapping[str, str]
    copies: tuple[EnvironmentCopy, ...]
    raw: tuple[bytes | None, ...] = field(default=(), repr=False, compare=False)

    @property
    def lost(self) -> bool:
        """No copy is good: U-Boot runs on its built-in default."""
        return all(copy.state in (CopyState.CORRUPT, CopyState.UNREADABLE) for copy in self.copies)

    @property
    def settled(self) -> bool:
        """All copies are good and say the same."""
        good = all(copy.state in (CopyState.CURRENT, CopyState.OLDER) for copy in self.copies)
        return good and all(dict(copy.variables) == dict(self.variables) for copy in self.copies)


class Bootloader(Protocol):
    """The boot environment. Not thread safe; the caller holds the update lock (S17).

    What changes it looks at every copy before and after (S4). The look before is not taken where the caller hands in
    `since`: what his last call returned, while nobody else could write. The look after always goes to the medium.
    """

    def describe(self) -> LoaderTraits:
        """What the boot loader itself does of the boot contract's section 3; the same at each call.

        Raises:
            DeviceError: A hook could not be run, or what it says cannot be used (`device.env-hook`).
        """
        ...

    def read(self) -> Environment:
        """Read every copy raw, past any cache.

        Raises:
            DeviceError: No copy could be read at all, or the configuration does not fit the medium (`device.env-*`).
        """
        ...

    def write(self, changes: Mapping[str, str], since: Environment | None = None) -> Environment:
        """Take one decision: change these variables in ONE redundant write, then check both raw copies.

        An empty value removes a variable. Power may vanish inside: then the environment is the old one or the new
        one. Returns what stands there afterwards. With both copies lost it first needs `reset`.

        Raises:
            DeviceError: The write did not land as asked. The old decision still stands.
        """
        ...

    def settle(self, since: Environment | None = None) -> Environment:
        """Write the current variables once more, so that the other copy agrees (S4); does nothing when it does.

        Raises:
            DeviceError: As for `write`.
        """
        ...

    def reset(self, changes: Mapping[str, str], since: Environment | None = None) -> Environment:
        """Both copies are lost: write the product's default environment with these changes to both.

        Raises:
            DeviceError: No default is configured, or the write did not land.
        """
        ...


class ConfiguredBootloader(Bootloader, Protocol):
    """One that local configuration names. What `doctor` asks of it, beside what the engine does, changes nothing."""

    def places(self) -> tuple[Place, ...]:
        """Where on block devices the copies stand; none: the boot loader keeps them in its own way.

        Raises:
            DeviceError: What says where they stand cannot be read or used (`device.env-config`).
        """
        ...

    def exposed(self, below: Callable[[Path], Path]) -> Iterator[tuple[Path, str]]:
        """Files through which other users could hold up a decision (S27): each, and a clause that says why.

        Args:
            below: Finds a file of the system that is looked at.
        """
        ...
