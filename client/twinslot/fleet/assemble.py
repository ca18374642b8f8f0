"""Puts the edges of a run together, from the configuration."""

from __future__ import annotations

import logging
import random
import re
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from twinslot.app.updater import Updater
from twinslot.config.options import Config
from twinslot.core.backoff import Moment, left_of
from twinslot.core.errors import DeviceError
from twinslot.fleet.ddi import Home, home
from twinslot.fleet.decide import Wishes
from twinslot.fleet.run import FleetRun, Setting
from twinslot.fleet.server import RelayedServer
from twinslot.fleet.state import FleetState, read_state, write_state
from twinslot.storage.lock import this_boot
from twinslot.worker.relayed import RelayClient

log = logging.getLogger(__name__)

# hawkBit takes any text of 1 to 256 characters without spaces; a slash makes a target that it cannot serve.
_CONTROLLER: Final = re.compile(r"[A-Za-z0-9._:@+-]{1,256}")


def run_once(config: Config, relay: socket.socket, connect: Callable[[], Updater]) -> None:
    """One run, as far as it is due.

    Args:
        config: Of this device.
        relay: The way to the server; the caller's to close.
        connect: Gives a connection to the service.

    Raises:
        TwinslotError: What went wrong; the state has it already.
    """
    setting = _setting(config, _home(config))
    state = read_state(config.record.directory, setting.home.url)
    under_way = any(not each.closed for each in state.actions)
    if left_of(state.pause, setting.moment) or (not under_way and left_of(state.sleep, setting.moment)):
        return

    def save(state: FleetState) -> None:
        write_state(config.record.directory, state)

    save(state)  # before anything is begun, since an order must not be begun that could not be remembered
    _, error = FleetRun(setting, connect, RelayedServer(RelayClient(relay)), save).run(state)
    if error is not None:
        raise error


def _home(config: Config) -> Home:
    hawkbit = config.hawkbit
    return home(hawkbit.url, hawkbit.tenant, _controller(hawkbit.controller), hawkbit.downloads)


def _controller(path: Path) -> str:
    """This device's id.

    Raises:
        DeviceError: `device.controller`: there is none.
    """
    try:
        with path.open("rb") as file:
            text = file.read(4096).partition(b"\n")[0].decode("ascii", "replace").strip()
    except OSError as e:
        what = f"'{path}' with this device's id cannot be read"
        raise DeviceError(what, code="controller", found=e.strerror, hint="see 'hawkbit.controller'") from e
    if not _CONTROLLER.fullmatch(text):
        expected = "1 to 256 letters, digits or ._:@+- in its first line"
        raise DeviceError(f"'{path}' holds no id for a server", code="controller", expected=expected, found=text[:80])
    return text


def _setting(config: Config, at: Home) -> Setting:
    hawkbit = config.hawkbit
    return Setting(
        home=at,
        wishes=Wishes(hawkbit.soft, hawkbit.tries),
        confirmation=hawkbit.confirmation,
        compatible=config.device.compatible,
        attributes=dict(hawkbit.attributes),
        moment=Moment(time.time(), this_boot(), time.clock_gettime(time.CLOCK_BOOTTIME)),
        jitter=random.random(),  # noqa: S311 - spreading load, not a secret
    )
