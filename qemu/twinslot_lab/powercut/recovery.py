"""After a cut: power comes back, and the board is watched until nothing is left to do."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from twinslot_lab.agent import Hello
from twinslot_lab.deadline import Deadline
from twinslot_lab.errors import BoardError, GuestError, LabError
from twinslot_lab.powercut import account
from twinslot_lab.powercut.account import Account
from twinslot_lab.product import Product
from twinslot_lab.qemu_board import QemuBoard

_START, _REST = 900.0, 1200.0  # seconds; many times what they take, since a busy machine is no defect of the device
NONSENSE = (LookupError, TypeError, ValueError, AttributeError)  # what comes of reading other answers than were due
_AT_REST = "systemctl is-active --quiet twinslot-boot.service && twinslot --json status"


@dataclass(frozen=True, slots=True)
class Boot:
    """One start. `digest` is SHA-256 of what runs, read by the guest past its cache; empty: it left before."""

    slot: str
    digest: str
    seconds: float


@dataclass
class Recovery:
    """What happened until the board came to rest.

    Attributes:
        boots: The starts, in order.
        account: What it says at rest; None: it never came to rest.
        failure: Why not.
    """

    boots: list[Boot] = field(default_factory=list)
    account: Account | None = None
    failure: str = ""

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        told = self.account.as_dict() if self.account else None
        return {"boots": [asdict(boot) for boot in self.boots], "account": told, "failure": self.failure}


def recover(board: QemuBoard, sizes: Mapping[str, int]) -> Recovery:
    """Switch on and watch.

    Args:
        board: Off.
        sizes: Slot -> bytes of the image that it should hold.
    """
    found = Recovery()
    try:
        began = time.monotonic()
        board.power_on()
        watch(board, sizes, found, began)
    except LabError as e:
        found.failure = str(e)
    except NONSENSE as e:
        found.failure = f"its answers make no sense: {e!r}"
    return found


def watch(board: QemuBoard, sizes: Mapping[str, int], found: Recovery, began: float) -> None:
    """From a start that is under way to rest.

    Raises:
        BoardError: It does not start, or never comes to rest.
    """
    hello = board.agent.wait_hello(Deadline(_START * board.timeout_factor, "the guest is up"))
    rest = Deadline(_REST * board.timeout_factor, "the device comes to rest")
    while True:
        seconds = round(time.monotonic() - began, 1)
        found.boots.append(Boot(hello.slot, _measure(board, hello, sizes), seconds))
        try:
            if board.agent.hello == hello:
                rest.poll(functools.partial(_at_rest, board), every=1.0)
                found.account = account.ask(board)
                return
        except BoardError:
            if board.agent.hello in (None, hello):
                raise
        hello, began = board.agent.hello or hello, time.monotonic()  # by itself, which is part of some stories


def _measure(board: QemuBoard, hello: Hello, sizes: Mapping[str, int]) -> str:
    """The digest of what runs; empty if the device left it before."""
    try:
        return Product(board).digest_of_root(sizes[hello.slot])
    except GuestError:
        return ""
    except BoardError:
        if board.agent.hello == hello:
            raise
        return ""


def _at_rest(board: QemuBoard) -> bool:
    """No try is counted, and the client has nothing under way. `written` waits for an operator.

    What else this status says may be half of before: it looks at the environment, then at the record, and a commit may
    end in between.
    """
    if board.card.variables().get("upgrade_available") != "0":
        return False
    said = board.run("sh", "-c", _AT_REST, timeout=600)
    return said.exit == 0 and json.loads(said.stdout).get("state") in ("idle", "written")
