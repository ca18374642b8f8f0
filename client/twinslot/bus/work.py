"""What an install job does in its thread."""

from __future__ import annotations

import os

from twinslot.bus.job import Work
from twinslot.bus.world import World
from twinslot.core.errors import CancelledError
from twinslot.core.progress import Observer
from twinslot.core.transaction import Transaction
from twinslot.engine.cancellation import Cancellation
from twinslot.engine.install import InstallOptions


def install_work(world: World, source: str | int, options: InstallOptions, cancellation: Cancellation) -> Work:
    """The work of an install.

    Args:
        world: Engine and stream.
        source: URL, or a descriptor that the work owns: it is closed at the end in any case.
        options: See there.
        cancellation: May be set at any time, even before the work begins.
    """

    def work(observer: Observer) -> Transaction:
        try:
            return _install(world, source, options, observer, cancellation)
        finally:
            if isinstance(source, int):
                os.close(source)

    return work


def _install(
    world: World, source: str | int, options: InstallOptions, observer: Observer, cancellation: Cancellation
) -> Transaction:
    engine = world.engine()
    stream = world.stream(source)
    with cancellation.ending(stream):  # from here on, cancelling ends a read that waits
        if cancellation.is_set():
            stream.close()
            raise CancelledError("the install was cancelled", hint="install again at any time")
        return engine.install(stream, options, observer, cancellation)
