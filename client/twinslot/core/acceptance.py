"""Does this device want this release? Pure policy over a manifest whose signatures were already verified.

Every reason is given at once, not the first one, so that a release engineer fixes them in one round. What needs a look
at the device (target mounted, lock held) is the engine's; what needs keys or dates is `trust.verify`'s.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from twinslot.core.bounds import GROUP_SIZE_MAX
from twinslot.core.change import Demands, unmet
from twinslot.core.errors import Refusal
from twinslot.core.manifest import EPOCH_MAX, SEQUENCE_MAX, Manifest
from twinslot.core.model import PARTITION, Floors, Release


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """What is true of this device now, gathered by the engine.

    Attributes:
        compatible: Names of this device type, from local configuration; one match is enough.
        room: Payload name to bytes that its place in the target slot takes; exactly these payloads must come.
        checks: Names of the health checks that local configuration knows (S11).
        floors: The higher of environment and record (S8).
        running: The release of the running slot; None when it is not known.
        content: SHA-256 of what the running slot holds, 64 hex digits by payload; empty when it is not known.
        on_trial: The running system is not committed yet (S7).
        failed: Sequences that rolled back here (S13).
        hardware: This device's hardware revision; None when local configuration names none.
        variant: Its variant, likewise.
        payload_types: Type of each payload's place, by payload; what is not named here is a partition.
    """

    compatible: tuple[str, ...]
    room: Mapping[str, int]
    checks: frozenset[str] = frozenset()
    floors: Floors = field(default_factory=Floors)
    running: Release | None = None
    content: Mapping[str, str] = field(default_factory=dict)
    on_trial: bool = False
    failed: frozenset[int] = frozenset()
    hardware: str | None = None
    variant: str | None = None
    payload_types: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AcceptancePolicy:
    """What the operator or the configuration allows.

    Attributes:
        reinstall: Take the release that runs already.
        retry: Take a release that rolled back here before.
        group_size: Bytes; the largest group that this device decodes.
        demands: What the image must say of the change that it is.
    """

    reinstall: bool = False
    retry: bool = False
    group_size: int = GROUP_SIZE_MAX
    demands: Demands = field(default_factory=Demands)


def check(manifest: Manifest, facts: DeviceFacts, policy: AcceptancePolicy) -> tuple[Refusal, ...]:
    """Every reason against this release, in a fixed order; empty means welcome."""
    return (
        *_check_state(facts),
        *_check_device_type(manifest, facts),
        *unmet(manifest.change, policy.demands),
        *_check_payloads(manifest, facts, policy),
        *_check_age(manifest, facts, policy),
        *_check_from(manifest, facts),
        *_check_room(manifest, facts),
        *_check_health(manifest, facts),
    )


# keeps: S7
def _check_state(facts: DeviceFacts) -> Iterator[Refusal]:
    if facts.on_trial:
        hint = "wait for its health checks, or run 'twinslot commit' or 'twinslot rollback'"
        yield Refusal("on-trial", "the running system is on trial and needs the other slot to go back to", hint=hint)


def _check_device_type(manifest: Manifest, facts: DeviceFacts) -> Iterator[Refusal]:
    if not set(facts.compatible) & set(manifest.compatible):
        expected, found = ", ".join(facts.compatible) or "(none configured)", ", ".join(manifest.compatible)
        yield Refusal("compatible", "the image is for another device type", expected, found)
    yield from _check_narrowing(
        "hardware", "the image is for another hardware revision", facts.hardware, manifest.hardware
    )
    yield from _check_narrowing(
        "variant", "the image is for another variant of the device", facts.variant, manifest.variants
    )


# keeps: S11
def _check_narrowing(key: str, what: str, own: str | None, named: tuple[str, ...]) -> Iterator[Refusal]:
    """An image that names some is for these alone; a device that does not know what it is could be another."""
    if named and own not in named:
        hint = None if own else f"set 'device.{key}' in the configuration"
        yield Refusal(key, what, own or "(none configured)", ", ".join(named), hint)


# keeps: S11
def _check_payloads(manifest: Manifest, facts: DeviceFacts, policy: AcceptancePolicy) -> Iterator[Refusal]:
    known = ", ".join(sorted(facts.room))
    for payload in manifest.payloads:
        if payload.type != (own := facts.payload_types.get(payload.name, PARTITION)):
            what = f"payload '{payload.name}' is of a type that its place on this device is not for"
            yield Refusal("payload-type", what, own, payload.type)
        size = facts.room.get(payload.name)
        if size is None:
            yield Refusal("payload-unknown", "this device has no place for a payload", known, payload.name)
        elif payload.size > size:
            what = f"payload '{payload.name}' is larger than its place"
            yield Refusal("payload-size", what, f"at most {size} bytes", f"{payload.size} bytes")
        if payload.group_size > policy.group_size:
            what = f"the groups of payload '{payload.name}' are too large for this device"
            yield Refusal("group-size", what, f"at most {policy.group_size} bytes", f"{payload.group_size} bytes")
    for name in sorted(facts.room.keys() - {payload.name for payload in manifest.payloads}):
        yield Refusal("payload-missing", "the image lacks a payload that this device needs", name, "nothing")


# keeps: S13
def _check_age(manifest: Manifest, facts: DeviceFacts, policy: AcceptancePolicy) -> Iterator[Refusal]:
    release, floors = manifest.release, facts.floors
    if release.sequence < floors.sequence:
        what = f"release '{release.name}' is a downgrade: sequence"
        yield Refusal("downgrade", what, f"at least {floors.sequence}", str(release.sequence))
    if release.epoch < floors.epoch:
        what = f"release '{release.name}' is below the security epoch"
        yield Refusal("epoch", what, f"at least {floors.epoch}", str(release.epoch))
    if facts.running and release.sequence == facts.running.sequence:
        yield from _check_same(manifest, facts, policy)
    if release.sequence in facts.failed and not policy.retry:
        what = f"release '{release.name}', sequence {release.sequence}, rolled back on this device before"
        yield Refusal("failed-before", what, hint="see 'twinslot history'; use '--retry' to try it again")


def _check_from(manifest: Manifest, facts: DeviceFacts) -> Iterator[Refusal]:
    """Where it is not known what runs, the floor says it: it is the sequence that was committed last."""
    running = facts.running.sequence if facts.running else facts.floors.sequence
    if manifest.taken_from is not None and running not in manifest.taken_from:
        what = f"release '{manifest.release.name}' cannot follow the running release: its sequence"
        hint = "install a release between the two first"
        yield Refusal("from", what, str(manifest.taken_from), str(running), hint)


def _check_same(manifest: Manifest, facts: DeviceFacts, policy: AcceptancePolicy) -> Iterator[Refusal]:
    """Of one sequence there is one content: what is remembered of it, such as that it failed, would be of both."""
    release = manifest.release
    differ = [each for each in manifest.payloads if facts.content.get(each.name, each.digest) != each.digest]
    if differ:
        what = f"sequence {release.sequence} is installed and running with another payload '{differ[0].name}'"
        hint = "give the image a sequence of its own; '--reinstall' writes only the same content again"
        yield Refusal("other-content", what, facts.content[differ[0].name], differ[0].digest, hint)
    elif not policy.reinstall:
        what = f"release '{release.name}', sequence {release.sequence}, is installed and running"
        yield Refusal("already-installed", what, hint="use '--reinstall' to write it again")


# keeps: S8
def _check_room(manifest: Manifest, facts: DeviceFacts) -> Iterator[Refusal]:
    """A release takes at most half of the numbers that are left: else one mistyped number is the device's last."""
    release, floors = manifest.release, facts.floors
    numbers = (
        ("sequence", release.sequence, floors.sequence, SEQUENCE_MAX),
        ("security epoch", release.epoch, floors.epoch, EPOCH_MAX),
    )
    for name, found, floor, largest in numbers:
        if found > (most := floor + (largest - floor + 1) // 2):
            what = f"the {name} of release '{release.name}' leaves too few numbers for later releases"
            yield Refusal("number-room", what, f"at most {most}", str(found), f"build it with a smaller {name}")


# keeps: S11
def _check_health(manifest: Manifest, facts: DeviceFacts) -> Iterator[Refusal]:
    for name in sorted(set(manifest.checks) - facts.checks):
        yield Refusal(
            "check-unknown",
            "the image requires a health check that this device does not have",
            ", ".join(sorted(facts.checks)) or "(none configured)",
            name,
        )
