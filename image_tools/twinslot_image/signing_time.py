"""When something is signed by a person, and who says so."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from twinslot.core.errors import Refusal, RefusedError

SYNCHRONISED: Final = "system clock, synchronised with a time server"
FREE: Final = "system clock, not synchronised"
_TIME_ERROR: Final = 5  # adjtimex(2): the clock is not synchronised
_TIMEX: Final = 512  # bytes; struct timex has 208 on 64-bit Linux (linux/timex.h)


@dataclass(frozen=True, slots=True)
class SigningTime:
    """A time in UTC with whole seconds, and where it is from."""

    time: datetime
    source: str


def signing_time() -> SigningTime:
    """This machine's clock, and whether the kernel says that a time server keeps it."""
    state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX))
    source = SYNCHRONISED if 0 <= state < _TIME_ERROR else FREE
    return SigningTime(datetime.now(UTC).replace(microsecond=0), source)


# keeps: REQ-EVI-01
def refuse_before(time: datetime, built: datetime) -> None:
    """Nobody signs what is not built yet: a clock that says so is wrong.

    Raises:
        RefusedError: `refused.clock`.
    """
    if time < built:
        raise RefusedError(
            Refusal(
                "clock",
                "the clock of this machine is behind the image",
                f"a time after it was built, {built:%Y-%m-%d %H:%M:%S} UTC",
                f"{time:%Y-%m-%d %H:%M:%S} UTC",
                "set the clock, or wait for its time server: 'timedatectl' shows both",
            )
        )
