"""What an image must say of itself to be taken: the part of the configuration that is about its change."""

from __future__ import annotations

import dataclasses

from twinslot.config.fields import option
from twinslot.core.change import WORD, Demands
from twinslot.core.errors import DeviceError


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AcceptanceConfig:
    """What an image must say, in its signed manifest, of the change that it is."""

    classes: tuple[str, ...] = option(
        'Classes of change that are taken, e.g. ["security", "corrective"]; absent: any, and images that say none.',
        default=(),
    )
    market: str = option(
        'Market that this device is in, e.g. "eu"; an image must name it. Absent: it need not.', default=""
    )
    regulatory: tuple[str, ...] = option(
        'Schemes of which an image must have a number, e.g. ["510k"]; absent: none.', default=()
    )

    @property
    def demands(self) -> Demands:
        """As policy over an image asks for it."""
        return Demands(self.classes, self.market, self.regulatory)


def check_acceptance(acceptance: AcceptanceConfig) -> None:
    """A word that no image can have would close the device to every image.

    Raises:
        DeviceError: `device.config-value`.
    """
    market = (acceptance.market,) if acceptance.market else ()
    for key, names in (("classes", acceptance.classes), ("market", market), ("regulatory", acceptance.regulatory)):
        for name in names:
            if not WORD.fullmatch(name):
                expected = "1 to 64 of a-z 0-9 . _ -, the first a letter or digit"
                raise DeviceError(f"'acceptance.{key}' is wrong", code="config-value", expected=expected, found=name)
