"""What an operator does at a real hawkBit: targets, releases and rollouts, by the management API."""

from __future__ import annotations

import itertools
import urllib.error
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from hawkbit_site import Management

BATCH: Final = 100  # targets of one call
_KEY: Final = "fleet-gateway-key"
_WORDS: Final = {"notstarted": "waiting", "scheduled": "waiting"}


@dataclass(frozen=True, slots=True)
class RolloutLook:
    """How far a rollout is.

    Attributes:
        status: The server's word: `ready`, `running`, `paused`, `finished`.
        states: Devices by state: `waiting`, `running`, `finished`, `error`, `cancelled`.
        groups: The server's word for each group, in order.
    """

    status: str
    states: dict[str, int]
    groups: tuple[str, ...]


class RolloutOperator(Protocol):
    """Whoever runs a server.

    Attributes:
        url: Of the server.
        tenant: hawkBit's.
        authorization: Kind and token of every device.
    """

    url: str
    tenant: str
    authorization: tuple[str, str]

    def prepare(self, names: Sequence[str]) -> None:
        """Make these targets."""
        ...

    def roll_out(self, release: str, prefix: str, groups: int, success: int, error: int) -> int:
        """Begin a rollout of a release to targets whose names begin so; its id."""
        ...

    def look(self, rollout: int) -> RolloutLook:
        """How far it is."""
        ...

    def orders(self, name: str) -> dict[str, str]:
        """Status of each order of a target, by its id: `running`, `finished`, `error`, `canceled`, ..."""
        ...


class HawkbitOperator:
    """On a real hawkBit. Implements `RolloutOperator`."""

    tenant = "DEFAULT"
    authorization = ("GatewayToken", _KEY)

    def __init__(self, management: Management) -> None:
        self.url, self._management = management.url, management
        management.configure("authentication.gatewaytoken.enabled", value=True)
        management.configure("authentication.gatewaytoken.key", value=_KEY)

    def prepare(self, names: Sequence[str]) -> None:
        """See `RolloutOperator`."""
        for at in range(0, len(names), BATCH):
            batch = [{"controllerId": name, "name": name} for name in names[at : at + BATCH]]
            self._management.call("POST", "targets", batch)

    def roll_out(self, release: str, prefix: str, groups: int, success: int, error: int) -> int:
        """See `RolloutOperator`."""
        call, name = self._management.call, {"name": prefix, "version": release, "type": "os"}
        (module,) = call("POST", "softwaremodules", [name])
        self._management.upload(module["id"], f"{release}.twin", release.encode())
        (found,) = call("POST", "distributionsets", [name | {"modules": [{"id": module["id"]}]}])
        rollout = {
            "name": f"{prefix}-{release}",
            "distributionSetId": found["id"],
            "targetFilterQuery": f"controllerId=={prefix}*",
            "amountGroups": groups,
            "type": "forced",
            "successCondition": {"condition": "THRESHOLD", "expression": str(success)},
            "successAction": {"action": "NEXTGROUP", "expression": ""},
            "errorCondition": {"condition": "THRESHOLD", "expression": str(error)},
            "errorAction": {"action": "PAUSE", "expression": ""},
        }
        return int(call("POST", "rollouts", rollout)["id"])

    def look(self, rollout: int) -> RolloutLook:
        """See `RolloutOperator`; a rollout that is ready is started."""
        path = f"rollouts/{rollout}"
        found = self._management.call("GET", path)
        if found["status"] == "ready":
            self._management.call("POST", f"{path}/start")
        states: Counter[str] = Counter()
        for word, count in (found.get("totalTargetsPerStatus") or {}).items():
            states[_WORDS.get(word, word)] += count
        groups = self._management.call("GET", f"{path}/deploygroups?limit=500&sort=id:ASC")["content"]
        return RolloutLook(found["status"], dict(states), tuple(each["status"] for each in groups))

    def orders(self, name: str) -> dict[str, str]:
        """See `RolloutOperator`."""
        actions = self._management.call("GET", f"targets/{name}/actions?limit=50")["content"]
        return {str(each["id"]): self._status(name, each) for each in actions}

    def _status(self, name: str, action: dict[str, Any]) -> str:
        status = str(action["status"])
        if status != "finished":
            return "running" if status == "pending" else status
        # An old server says `finished` of all that is over, and of what has not begun: that has no entry yet.
        path = f"targets/{name}/actions/{action['id']}/status?sort=id:DESC&limit=1"
        entries = self._management.call("GET", path)["content"]
        return str(entries[0]["type"]) if entries else "scheduled"


def prefix_of(management: Management) -> str:
    """A beginning of names that no target has yet."""
    for number in itertools.count(1):
        try:
            management.call("GET", f"targets/fleet{number}-0000")
        except urllib.error.HTTPError:
            return f"fleet{number}"
    raise AssertionError
