"""What the command line takes from its process: who it is, where a device is asked, the clock. Tests give another."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from twinslot.app.local import LocalUpdater
from twinslot.app.updater import DeviceUpdater, Updater
from twinslot.core.errors import DeviceError, Refusal, RefusedError

if TYPE_CHECKING:
    from twinslot.config.options import Config

_log = logging.getLogger(__name__)


def _load(root: str) -> Config:
    from twinslot.config.options import load

    return load(root)


def _over_the_bus() -> Updater:
    with _bus_library():
        from twinslot.bus.client.client import connect
    return connect()


def _serve(config: Config, root: str) -> int:
    from twinslot.service import run

    with _bus_library():
        return run(config, root)


@dataclass(frozen=True)
class Host:
    """This process and this machine, unless another is given.

    Attributes:
        is_root: Whether this process may change the device by itself.
        config: Reads the configuration below a directory.
        local: The device, asked in this process.
        service: The device, asked over the bus; the caller closes it.
        serve: Is the service until it is idle, with the configuration and where it stands; returns an exit status.
        monotonic: Seconds that only rise.
        pause: Waits so many seconds, for a fault to pass.
    """

    is_root: Callable[[], bool] = lambda: os.geteuid() == 0
    config: Callable[[str], Config] = _load
    local: Callable[[Config], DeviceUpdater] = LocalUpdater
    service: Callable[[], Updater] = _over_the_bus
    serve: Callable[[Config, str], int] = _serve
    monotonic: Callable[[], float] = time.monotonic
    pause: Callable[[float], None] = time.sleep


def require_root(
    host: Host,
    why: str = "only root may change the device in this process",
    hint: str = "use 'sudo', or leave out '--no-service'",
) -> None:
    """Refuse early, instead of failing at the first device.

    Raises:
        RefusedError: `refused.not-root`.
    """
    if not host.is_root():
        raise RefusedError(Refusal("not-root", why, hint=hint))


@contextlib.contextmanager
def updater(arguments: argparse.Namespace, host: Host, config: Config) -> Iterator[Updater]:
    """The device as the caller wants it asked: over the bus, or with `--no-service` in this process.

    Raises:
        RefusedError: `refused.not-root`.
    """
    if arguments.no_service:
        require_root(host)
    with contextlib.closing(host.local(config) if arguments.no_service else host.service()) as found:
        yield found


def config_on_trial(host: Host, arguments: argparse.Namespace) -> Config:
    """The configuration, or what of it a trial needs: a fault in the rest is told, and ends no good trial."""
    try:
        return host.config(arguments.config_root)
    except DeviceError as e:
        if not e.code.startswith("device.config-"):
            raise
        from twinslot.config.trial import load_for_trial

        config, faults = load_for_trial(arguments.config_root)
        for fault in faults:
            _log.error("going on without a part of the configuration: %s", fault)
        return config


@contextlib.contextmanager
def _bus_library() -> Iterator[None]:
    """A rescue system may lack the library of the bus.

    Raises:
        DeviceError: `device.bus`.
    """
    try:
        yield
    except ModuleNotFoundError as e:
        hint = "install python3-dbus-next, or use '--no-service'"
        raise DeviceError("the bus cannot be used", code="bus", found=f"no library '{e.name}'", hint=hint) from e
