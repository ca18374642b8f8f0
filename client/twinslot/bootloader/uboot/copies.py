"""The raw copies of the boot environment at one moment, and what they mean."""

from __future__ import annotations

import errno
from typing import Final

from twinslot.bootloader.base import CopyState, Environment, EnvironmentCopy, Place
from twinslot.bootloader.uboot import rawenv
from twinslot.bootloader.uboot.medium import Medium
from twinslot.core.circumstance import is_shortage, shortage
from twinslot.core.errors import DeviceError

READS: Final = 3  # tries before a copy counts as unreadable


# keeps: S6
def read_copies(medium: Medium) -> Environment:
    """Read and judge every place, past the page cache.

    Raises:
        DeviceError: `device.env-gone`: nothing could be read; `device.env-size`; `device.resources`: this process lacks
            what it needs to read.
    """
    places = medium.places
    raw: list[bytes | None] = []
    faults: list[OSError] = []
    for index in range(len(places)):
        try:
            raw.append(_whole(_read(medium, index), places[index]))
        except OSError as e:
            if is_shortage(e):  # the copy may be as good as any: to go on without it could be to decide by an older one
                raise shortage(f"the boot environment's copy {places[index]} cannot be read now", e) from e
            raw.append(None)
            faults.append(e)
    if len(faults) == len(places):
        raise DeviceError(
            "no copy of the boot environment can be read",
            code="env-gone",
            expected=", ".join(map(str, places)),
            found=faults[0].strerror,
        ) from faults[0]
    redundant = len(places) > 1
    decoded = [None if data is None else rawenv.decode(data, redundant=redundant) for data in raw]
    if all(copy is None for copy in decoded):
        _explain_loss(medium, raw)
    return _environment(places, raw, decoded)


def _read(medium: Medium, index: int) -> bytes:
    """One place; an error of the medium that does not come again is none."""
    for _ in range(READS - 1):
        try:
            return medium.read(index)
        except OSError as e:
            if e.errno != errno.EIO:
                raise
    return medium.read(index)


def _whole(data: bytes, place: Place) -> bytes:
    if len(data) < place.size:
        raise OSError(None, f"{place} ends after {len(data)} of {place.size} bytes")
    return data


def _environment(
    places: tuple[Place, ...], raw: list[bytes | None], decoded: list[rawenv.RawCopy | None]
) -> Environment:
    serials = [None if copy is None else copy.flags or 0 for copy in decoded]
    now = rawenv.current(serials[0], serials[1] if len(serials) > 1 else None)
    copies = []
    for index, copy in enumerate(decoded):
        if copy is None:
            state = CopyState.UNREADABLE if raw[index] is None else CopyState.CORRUPT
            copies.append(EnvironmentCopy(str(places[index]), state))
        else:
            state = CopyState.CURRENT if index == now else CopyState.OLDER
            copies.append(EnvironmentCopy(str(places[index]), state, copy.flags, copy.variables))
    return Environment({} if now is None else copies[now].variables, tuple(copies), tuple(raw))


def _explain_loss(medium: Medium, raw: list[bytes | None]) -> None:
    """Lost, or only looked at with the wrong size? Then a write would land where U-Boot does not look."""
    places = medium.places
    for index, place in enumerate(places):
        if raw[index] is None:
            continue
        others = [p.offset - place.offset for p in places if p.device == place.device and p.offset > place.offset]
        try:
            data = medium.read(index, min([rawenv.SIZE_LIMIT, *others]))
        except OSError:
            continue
        fits = rawenv.fitting_size(data)
        if fits is not None and fits != (place.size, len(places) > 1):
            size, redundant = fits
            kind = "" if redundant == (len(places) > 1) else ", redundant" if redundant else ", not redundant"
            raise DeviceError(
                f"U-Boot wrote {place} with another size",
                code="env-size",
                expected=f"{place.size:#x}",
                found=f"{size:#x}{kind}",
                hint="fw_env.config must say what CONFIG_ENV_SIZE and the board's configuration say",
            )
