"""What policy over an image is told of this device: the same for an install and for a query."""

from __future__ import annotations

from collections.abc import Mapping

from twinslot.core.acceptance import DeviceFacts
from twinslot.engine.facts import Facts
from twinslot.payloads.base import PayloadPlace


def device_facts(
    facts: Facts,
    *,
    compatible: tuple[str, ...],
    checks: frozenset[str],
    hardware: str | None,
    variant: str | None,
    places: Mapping[str, PayloadPlace],
    room: Mapping[str, int],
) -> DeviceFacts:
    """Facts and local configuration, as `core.acceptance` asks for them.

    Args:
        facts: Of this device now.
        compatible: See `DeviceFacts`, for all others as well.
        checks: Known to local configuration.
        hardware: Of local configuration.
        variant: Of local configuration.
        places: Of the target slot, by payload.
        room: Bytes that each of them takes, which an install knows of those that it holds open. A query asks without
            opening them (`PayloadPlace.room`), since it must not keep an install out (S26).
    """
    known = facts.holds(facts.running)
    return DeviceFacts(
        compatible=compatible,
        room=room,
        checks=checks,
        floors=facts.floors,
        running=known.release if known else None,
        content={name: payload.digest for name, payload in known.payloads.items()} if known else {},
        on_trial=facts.on_trial,
        failed=facts.failed,
        hardware=hardware,
        variant=variant,
        payload_types={payload: place.type for payload, place in places.items()},
    )
