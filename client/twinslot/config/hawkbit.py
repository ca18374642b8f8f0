"""`[hawkbit]`: the server that gives this device its orders."""

# ruff: noqa: RUF009 - `option` makes dataclass fields, it does not make values
from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from twinslot.config.fields import option

TOKENS: Final[Mapping[str, str]] = {"target-token": "TargetToken", "gateway-token": "GatewayToken", "certificate": ""}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HawkbitConfig:
    """The hawkBit server that gives this device its orders, if one does."""

    url: str = option("Address of the server, https://HOST; absent: none is asked.", default="")
    tenant: str = option("hawkBit's tenant.", default="DEFAULT")
    controller: Path = option(
        "File whose first line is this device's id at the server.", default=Path("/etc/machine-id")
    )
    authentication: str = option(
        "How this device shows who it is: by a token of its own, by one of the whole fleet, or by `http.client_cert`.",
        default="target-token",
        choices=tuple(TOKENS),
    )
    token: Path = option(
        "File with the token, for the user `twinslot-relay` alone (mode 0400); it goes to this server and no other.",
        default=Path("/etc/twinslot/hawkbit.token"),
    )
    downloads: tuple[str, ...] = option(
        "Hosts beside the server's own from which images may come, when the server says so; they get no token.",
        default=(),
    )
    soft: str = option(
        "What an order leads to that is not forced: `write` leaves it to an operator to activate it.",
        default="install",
        choices=("install", "write"),
    )
    confirmation: str = option(
        "What this device answers where the server asks for consent; `wait`: somebody answers there.",
        default="wait",
        choices=("confirm", "deny", "wait"),
    )
    tries: int = option(
        "Installs that network, device or power may end before the action has failed.",
        default=5,
        unit="tries",
        low=1,
        high=1000,
    )
    attributes: Mapping[str, str] = option(
        'What the server is told of this device beside what Twinslot tells: name = "value".',
        factory=lambda: types.MappingProxyType({}),
    )

    @property
    def credential(self) -> dict[str, str]:
        """The fields of a relay's settings that say what goes to whom."""
        if not self.url or not (kind := TOKENS[self.authentication]):
            return {}
        return {"credential_for": self.url, "credential_kind": kind, "credential_file": str(self.token)}
