"""Update servers of several kinds behind one face: what an operator does there, and what comes of it."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from fakes.hawkbit import FakeHawkbit, Module, serving
from simulation.image import SmallImage
from twinslot.core.errors import TwinslotError
from twinslot.fleet.relay import METHODS
from twinslot.fleet.server import RelayedServer
from twinslot.transport.http.options import HttpSettings
from twinslot.worker.relay import Relay
from twinslot.worker.relayed import RelayClient


class Site(Protocol):
    """A server with one target on it.

    Attributes:
        name: Of the kind of server.
        url: Of the server.
        tenant: hawkBit's.
        controller: The target's id.
        authorization: Kind and token.
        can: What this kind of server has: `cancel`, `soft`, `download-only`, `windows`, `confirmation`, `attributes`,
            `supersede`, `several files`, `several orders`, `management`.
    """

    name: str
    url: str
    tenant: str
    controller: str
    authorization: tuple[str, str]
    can: frozenset[str]

    def order(self, *images: SmallImage, kind: str = "forced", window: bool | None = None, weight: int = 1000) -> str:
        """Assign a release of these images, in one software module, to the target; the action's id.

        Args:
            images: An empty one stands for a file that is no image.
            kind: `forced`, `soft` or `downloadonly`.
            window: Whether a maintenance window is open; None: there is none.
            weight: Where there may be several orders, the weightiest comes first.
        """
        ...

    def status(self, action: str) -> str:
        """`running`, `finished`, `error`, `canceling`, `canceled`."""
        ...

    def said(self, action: str) -> list[str]:
        """What the device said of it, oldest first: DDI's word, and the result for `closed`."""
        ...

    def cancel(self, action: str) -> None:
        """Wish that the device stops."""
        ...

    def attributes(self) -> dict[str, str]:
        """What the server knows of the target."""
        ...

    def confirming(self) -> None:
        """From here on orders wait for consent."""
        ...

    def several(self) -> None:
        """From here on an order takes the place of no other."""
        ...

    def delete(self) -> None:
        """The target is gone."""
        ...

    def restore(self) -> None:
        """The target is as it was when it was made, with its token: the server has forgotten all since."""
        ...


class FakeSite:
    """The server on paper, over HTTP. Implements `Site`."""

    name, tenant = "fake", "DEFAULT"
    can = frozenset(
        {"cancel", "soft", "download-only", "windows", "confirmation", "attributes", "supersede"}
        | {"several files", "several orders"}
    )

    def __init__(self, hawkbit: FakeHawkbit, controller: str) -> None:
        self.hawkbit, self.controller, self.url = hawkbit, controller, hawkbit.url
        self.authorization = ("TargetToken", hawkbit.device(controller))

    def order(self, *images: SmallImage, kind: str = "forced", window: bool | None = None, weight: int = 1000) -> str:
        files = {f"{image.name}.twin": image.name.encode() for image in images} or {"notes.txt": b"no image"}
        version = "-".join(image.name for image in images) or "none"
        module = Module("pump-os", version, files)
        return str(self.hawkbit.assign(self.controller, module, kind=kind, window=window, weight=weight).number)

    def status(self, action: str) -> str:
        return self.hawkbit.action(int(action)).status

    def said(self, action: str) -> list[str]:
        entries = self.hawkbit.action(int(action)).entries
        return [f"{word} {result}" if word == "closed" else word for word, result, _, _ in entries]

    def cancel(self, action: str) -> None:
        self.hawkbit.action(int(action)).status = "canceling"

    def attributes(self) -> dict[str, str]:
        return dict(self.hawkbit.targets[self.controller].attributes)

    def confirming(self) -> None:
        self.hawkbit.confirmation = True

    def several(self) -> None:
        self.hawkbit.several = True

    def delete(self) -> None:
        del self.hawkbit.targets[self.controller]
        self.hawkbit.actions = []

    def restore(self) -> None:
        self.delete()
        self.hawkbit.device(self.controller)


@contextlib.contextmanager
def fake_site(controller: str) -> Iterator[FakeSite]:
    """On loopback."""
    hawkbit = FakeHawkbit()
    with serving(hawkbit):
        yield FakeSite(hawkbit, controller)


@contextlib.contextmanager
def relayed(site: Site, directory: Path) -> Iterator[RelayedServer]:
    """The server as the fleet process reaches it, the relay in a thread of this process."""
    kind, token = site.authorization
    file = directory / "token"
    file.write_text(token + "\n")
    file.chmod(0o400)
    settings = HttpSettings(
        schemes=("http",), credential_for=site.url, credential_kind=kind, credential_file=str(file), read_timeout=20
    )
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    relay = Relay(theirs, site.url, settings, METHODS)

    def serve() -> None:
        with contextlib.suppress(TwinslotError):  # it ends when we hang up
            relay.run()
        relay.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with ours:
            yield RelayedServer(RelayClient(ours), pause=0.0)
    finally:
        thread.join()
        theirs.close()
