"""The boot environment as the client's engine sees it, on the model's card."""

from __future__ import annotations

from collections.abc import Mapping

from twinslot.bootloader.base import CopyState, Environment, EnvironmentCopy
from twinslot.bootloader.env_lines import make_script
from twinslot.core.errors import DeviceError
from twinslot.core.model import UBOOT, LoaderTraits
from twinslot_lab.crash.bootmodel import DEFAULT, Card


class CardBootloader:
    """Implements `bootloader.base.Bootloader` on the model's card; every write lands.

    Args:
        card: What stands there.
    """

    def __init__(self, card: Card) -> None:
        self.card = card

    def describe(self) -> LoaderTraits:
        """The model is U-Boot's."""
        return UBOOT

    def read(self) -> Environment:
        """Both copies."""
        copies = []
        for index, copy in enumerate(self.card.copies):
            state = CopyState.CURRENT if index == self.card.now else CopyState.OLDER
            found = state if copy.good else CopyState.CORRUPT
            copies.append(EnvironmentCopy(f"copy {index}", found, copy.flags, copy.variables))
        return Environment(self.card.variables, tuple(copies))

    def write(self, changes: Mapping[str, str], since: Environment | None = None) -> Environment:  # noqa: ARG002
        """One decision."""
        make_script(changes)
        if self.card.now < 0:
            raise DeviceError("both copies of the boot environment are lost", code="env-lost")
        return self._put(dict(self.card.variables) | dict(changes))

    def settle(self, since: Environment | None = None) -> Environment:  # noqa: ARG002
        """The same for the other copy, if it differs."""
        return self.read() if self.read().settled else self.write({})

    def reset(self, changes: Mapping[str, str], since: Environment | None = None) -> Environment:  # noqa: ARG002
        """Both copies anew."""
        self._put(dict(DEFAULT) | dict(changes))
        return self.write({})

    def _put(self, variables: Mapping[str, str]) -> Environment:
        now = self.card.now
        flags = self.card.copies[now].flags if now >= 0 else 0
        kept = {name: value for name, value in variables.items() if value}
        self.card = self.card.put(1 if now == 0 else 0, kept, flags + 1)
        return self.read()
