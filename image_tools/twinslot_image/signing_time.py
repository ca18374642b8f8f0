"""When something is signed by a person, and who says so."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from twinslot.core.errors import Refusal, RefusedError

SYNCHRONISED: Final = "system clock, synchronised with a time server"
FREE: Final = "system clock, not synchronised"
EARLIEST: Final = datetime(2026, 1, 1, tzinfo=UTC)  # this program is younger than that, so a right clock shows more
_TIME_ERROR: Final = 5  # adjtimex(2): the clock is not synchronised
_TIMEX: Final = 512  # bytes; struct timex has 208 on 64-bit Linux (linux/timex.h)


@dataclass(frozen=True, slots=True)
class SigningTime:
    """A time in UTC with whole seconds, and where it is from."""

    time: datetime
    source: str


# keeps: REQ-EVI-06
def clock() -> datetime:
    """This machine's clock, in UTC and whole seconds, for what is dated by it.

    Raises:
        RefusedError: `refused.clock`: it is before `EARLIEST`, as that of a machine whose clock nobody has set.
    """
    now = datetime.now(UTC).replace(microsecond=0)
    if now < EARLIEST:
        raise _refused("the clock of this machine is not set", f"a time after {EARLIEST:%Y-%m-%d}", now)
    return now


def signing_time() -> SigningTime:
    """This machine's clock, and whether the kernel says that a time server keeps it.

    Raises:
        RefusedError: `refused.clock`.
    """
    state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX))
    source = SYNCHRONISED if 0 <= state < _TIME_ERROR else FREE
    return SigningTime(clock(), source)


# keeps: REQ-EVI-01
def refuse_before(time: datetime, built: datetime) -> None:
    """Nobody signs what is not built yet: a clock that says so is wrong.

    Raises:
        RefusedError: `refused.clock`.
    """
    if time < built:
        what = "the clock of this machine is behind the image"
        raise _refused(what, f"a time after it was built, {built:%Y-%m-%d %H:%M:%S} UTC", time)


def _refused(what: str, expected: str, found: datetime) -> RefusedError:
    hint = "set the clock, or wait for its time server: 'timedatectl' shows both"
    return RefusedError(Refusal("clock", what, expected, f"{found:%Y-%m-%d %H:%M:%S} UTC", hint))
