"""One payload on its way: what the device holds is taken from there, and only the rest is fetched.

Whatever is taken, from the target itself, from the running slot or from the worker, is hashed by the sink before it
counts. What turns out to be something else is fetched in a second round. Nothing here knows the payload's type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from twinslot.core.bitset import bits_where, ones
from twinslot.core.errors import DeviceError, ImageError, Refusal, RefusedError
from twinslot.core.manifest import Payload
from twinslot.core.stream import GroupPart, ImageStream, ListPart, Part
from twinslot.payloads.base import PayloadSink
from twinslot.payloads.local_content import LocalContent
from twinslot.payloads.plan import ContentSource, Plan, make_plan
from twinslot.storage.known_lists import KnownList

PROBES = 64  # groups that are looked at before the whole target is: the first wanted ones, and others spread over it

OnBytes = Callable[[int], None]  # told how many more bytes are in their place


@dataclass(frozen=True, slots=True)
class Known:
    """What both slots are said to hold of a payload; None: no list says it.

    Attributes:
        running: What the running slot holds.
        target: What the target held before it was wiped.
    """

    running: KnownList | None
    target: KnownList | None


def begin_payload(
    payload: Payload,
    sink: PayloadSink,
    local: LocalContent,
    known: Known,
    part: ListPart,
    moved: OnBytes,
    *,
    remote: bool,
    insist: bool = False,
) -> PayloadInstall:
    """Take the plain list, see what is here of the payload, and leave that in its place.

    Args:
        payload: From the verified manifest.
        sink: Of its target, wiped.
        local: What the device has.
        known: What the lists say.
        part: The list as it came.
        moved: Told of progress; what it raises ends the job.
        remote: Fetching costs more than looking for what may be in the target although no list says so.
        insist: Policy: what the device holds must do; nothing is fetched in its place.

    Raises:
        ImageError: It is not the list that was signed.
    """
    sink.take_list(part.data)
    sink.lasting = remote
    plan = make_plan(payload, part.data, known.running, known.target)
    unknown = known.target is None or known.target.group_size != payload.group_size
    del known  # the plan has what was needed of the lists
    install = PayloadInstall(payload, sink, local, plan, moved, insist=insist)
    if unknown:
        install.look_around(remote=remote)
    install.offer_first()
    return install


class PayloadInstall:
    """Fills one place. Owns nothing. Made by `begin_payload` once the payload's list was taken.

    Args:
        payload: From the verified manifest.
        sink: Of its target; it has the list.
        local: What the device has.
        plan: Where each group is said to be.
        moved: Told of progress; what it raises ends the job.
        insist: Policy: what the device holds must do; nothing is fetched in its place.
    """

    def __init__(
        self, payload: Payload, sink: PayloadSink, local: LocalContent, plan: Plan, moved: OnBytes, *, insist: bool
    ) -> None:
        self._payload, self._sink, self._local, self._plan = payload, sink, local, plan
        self._moved, self._insist = moved, insist

    def take(self, part: GroupPart) -> None:
        """Take a group of a source that sends all of them."""
        if self._sink.has(part.index):  # it was found here before it came
            self._sink.next_is(part.index)
            self._moved(0)
            return
        look = part.index < self._payload.groups and self._plan.way(part.index) is ContentSource.KEEP
        self._sink.take_group(part.index, part.data, look=look)
        self._moved(len(part.data))

    def fetch(self, stream: ImageStream, parts: Iterator[Part]) -> None:
        """Bring every group to its place, asking the stream for those that are nowhere on this device.

        Raises:
            ImageError: The worker sent something else than was asked for.
            RefusedError: `refused.delta`: what the device held is damaged, and policy wants no other way.
        """
        missing = self._round(stream, parts, self._plan.wanted(), first=True)
        if missing and self._insist:
            raise no_delta(f"{sum(1 for _ in ones(missing))} groups of payload '{self._payload.name}'")
        if missing:
            self._round(stream, parts, missing, first=False)
        stream.want(self._payload.name, b"")

    def _round(self, stream: ImageStream, parts: Iterator[Part], wanted: bytes, *, first: bool) -> bytes:
        """Ask once, and walk over the payload; returns what is still missing, as bits."""
        if wanted:
            stream.want(self._payload.name, wanted)
        self._sink.expect(ones(wanted))
        failed = bytearray(self._payload.groups)
        for index in range(self._payload.groups):
            if self._sink.has(index):
                continue
            fetched = self._plan.way(index) is ContentSource.FETCH
            if not (self._take_next(parts, may_miss=first) if fetched else self._find(index)):
                failed[index] = 1
                self._plan.put(index, ContentSource.FETCH)
                self._moved(0)
            else:
                self._moved(self._payload.group_length(index))
        return bits_where(self._payload.groups, lambda index: bool(failed[index]))

    def _take_next(self, parts: Iterator[Part], *, may_miss: bool) -> bool:
        """The next group from the worker; False: it could not make it of what the device holds."""
        part = next(parts, None)
        if not isinstance(part, GroupPart) or part.payload != self._payload.name:
            raise ImageError(f"a group of payload '{self._payload.name}' was asked for", code="order", found=part)
        if not part.data and may_miss:
            self._sink.next_is(part.index)
            return False
        self._sink.take_group(part.index, part.data)
        if part.index == 0 and self._sink.lasting:
            self._local.keep_first(self._payload.name, bytes(part.data))
        return True

    def _find(self, index: int) -> bool:
        """Take a group from where the plan says that it is; what cannot be read is not there."""
        plan, sink, size = self._plan, self._sink, self._payload.group_size
        length = self._payload.group_length(index)
        match plan.way(index):
            case ContentSource.KEEP:
                return sink.keep(index)
            case ContentSource.ZERO:
                sink.zero(index)
                return True
            case ContentSource.COPY:
                return sink.copy(index, self._running_holds(plan.place(index) * size, length))
            case ContentSource.MOVE:
                return sink.copy(index, sink.read(plan.place(index))[:length])
            case ContentSource.FETCH:
                return False

    def _running_holds(self, offset: int, length: int) -> bytes:
        try:
            return self._local.readers[self._payload.name].read(offset, length)
        except DeviceError as e:
            if e.code != "device.read":
                raise
            return b""

    def look_around(self, *, remote: bool) -> None:
        """Leave in its place what the target holds although no list says so: all of it is hashed if that may pay.

        Args:
            remote: Fetching costs more than a few probes.
        """
        if self._local.unfinished or (remote and self._probe()):
            self._look_over()

    def _probe(self) -> bool:
        """Whether the target, of which no list is known, holds anything of use where it would be.

        An install goes upwards, so one that was cut short left the first groups that it wanted.
        """
        wanted = [index for index in range(1, self._payload.groups) if self._plan.way(index) is ContentSource.FETCH]
        spread = wanted[:: max(1, len(wanted) * 4 // (PROBES * 3))]
        return any(self._keep(index) for index in [*wanted[: PROBES // 4], *spread])

    def _look_over(self) -> None:
        """Hash all of the target: what is in its place stays there."""
        for index in range(1, self._payload.groups):
            if self._plan.way(index) is not ContentSource.ZERO and not self._sink.has(index):
                self._keep(index)

    def _keep(self, index: int) -> bool:
        if self._sink.has(index):
            return True
        before, place = self._plan.way(index), self._plan.place(index)
        self._plan.put(index, ContentSource.KEEP)
        if kept := self._find(index):
            self._moved(self._payload.group_length(index))
        else:
            self._plan.put(index, before, place)
            self._moved(0)
        return kept

    def offer_first(self) -> None:
        """The first group may have stood there before the wipe, or have come before the power went."""
        if self._plan.way(0) is not ContentSource.FETCH:
            return
        early = self._local.first(self._payload.name)
        if self._sink.keep(0) or (early and self._sink.copy(0, early)):
            self._plan.put(0, ContentSource.KEEP)
            self._moved(self._payload.group_length(0))


def no_delta(found: str) -> RefusedError:
    """Policy wants an update made of what the device holds, and that did not do."""
    return RefusedError(
        Refusal(
            "delta",
            "the update cannot be made from what this device holds",
            "every group as the lists and the patch say",
            found,
            "set 'on_failure' in '[delta]' to 'full', or install from a file",
        )
    )
