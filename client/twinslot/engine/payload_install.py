"""One payload on its way: what the device holds is taken from there, and only the rest is fetched.

Whatever is taken, from the target itself, from the running slot or from the worker, is hashed by the writer before it
counts. What turns out to be something else is fetched in a second round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from twinslot.core.bitset import bits_where, ones
from twinslot.core.errors import DeviceError, ImageError, Refusal, RefusedError
from twinslot.core.manifest import Payload
from twinslot.engine.local_content import LocalContent
from twinslot.payloads.partition.plan import ContentSource, Plan, make_plan
from twinslot.payloads.partition.writer import PayloadWriter
from twinslot.storage.known_lists import KnownList
from twinslot.transport.base import GroupPart, ImageStream, ListPart, Part

PROBES = 64  # groups that are looked at before the whole target is: the first wanted ones, and others spread over it

Moved = Callable[[int], None]  # told how many more bytes are in their place


class PayloadInstall:
    """Fills one partition. Owns nothing.

    Args:
        payload: From the verified manifest.
        writer: Of its partition, wiped.
        holdings: What the device has.
        target: What the target was said to hold before it was wiped.
        moved: Told of progress; what it raises ends the job.
        insist: Policy: what the device holds must do; nothing is fetched in its place.
    """

    def __init__(
        self,
        payload: Payload,
        writer: PayloadWriter,
        holdings: LocalContent,
        target: KnownList | None,
        moved: Moved,
        *,
        insist: bool = False,
    ) -> None:
        self._payload, self._writer, self._holdings, self._target = payload, writer, holdings, target
        self._moved, self._insist = moved, insist
        self._running: KnownList | None = None
        self._plan: Plan | None = None

    def prepare(self, running: KnownList | None) -> None:
        """Hear what the running slot holds."""
        self._running = running

    def take_list(self, part: ListPart, *, remote: bool) -> None:
        """Take the plain list, and see what is here of it.

        Args:
            part: As it came.
            remote: Fetching costs more than looking for what may be in the target although no list says so.

        Raises:
            ImageError: It is not the list that was signed.
        """
        self._writer.take_list(part.data)
        self._writer.lasting = remote
        self._plan = make_plan(self._payload, part.data, self._running, self._target)
        unknown = self._target is None or self._target.group_size != self._payload.group_size
        self._running = self._target = None  # the plan has what was needed of them
        if unknown and (self._holdings.unfinished or (remote and self._probe())):
            self._look_over()
        self._offer_first()

    def take(self, part: GroupPart) -> None:
        """Take a group of a source that sends all of them."""
        plan, writer = self._need_plan(), self._writer
        if writer.has(part.index):  # it was found here before it came
            writer.next_is(part.index)
            self._moved(0)
            return
        look = part.index < self._payload.groups and plan.way(part.index) is ContentSource.KEEP
        writer.take_group(part.index, part.data, look=look)
        self._moved(len(part.data))

    def fetch(self, stream: ImageStream, parts: Iterator[Part]) -> None:
        """Bring every group to its place, asking the stream for those that are nowhere on this device.

        Raises:
            ImageError: The worker sent something else than was asked for.
            RefusedError: `refused.delta`: what the device held is damaged, and policy wants no other way.
        """
        wanted = self._need_plan().wanted()
        missing = self._round(stream, parts, wanted, first=True)
        if missing and self._insist:
            raise no_delta(f"{sum(1 for _ in ones(missing))} groups of payload '{self._payload.name}'")
        if missing:
            self._round(stream, parts, missing, first=False)
        stream.want(self._payload.name, b"")

    def _round(self, stream: ImageStream, parts: Iterator[Part], wanted: bytes, *, first: bool) -> bytes:
        """Ask once, and walk over the payload; returns what is still missing, as bits."""
        plan = self._need_plan()
        if wanted:
            stream.want(self._payload.name, wanted)
        self._writer.expect(ones(wanted))
        failed = bytearray(self._payload.groups)
        for index in range(self._payload.groups):
            if self._writer.has(index):
                continue
            fetched = plan.way(index) is ContentSource.FETCH
            if not (self._take_next(parts, may_miss=first) if fetched else self._find(index)):
                failed[index] = 1
                plan.put(index, ContentSource.FETCH)
            else:
                self._moved(self._payload.group_length(index))
        return bits_where(self._payload.groups, lambda index: bool(failed[index]))

    def _take_next(self, parts: Iterator[Part], *, may_miss: bool) -> bool:
        """The next group from the worker; False: it could not make it of what the device holds."""
        part = next(parts, None)
        if not isinstance(part, GroupPart) or part.payload != self._payload.name:
            raise ImageError(f"a group of payload '{self._payload.name}' was asked for", code="order", found=part)
        if not part.data and may_miss:
            self._writer.next_is(part.index)
            return False
        self._writer.take_group(part.index, part.data)
        if part.index == 0 and self._writer.lasting:
            self._holdings.keep_first(self._payload.name, bytes(part.data))
        return True

    def _find(self, index: int) -> bool:
        """Take a group from where the plan says that it is; what cannot be read is not there."""
        plan, writer, size = self._need_plan(), self._writer, self._payload.group_size
        length = self._payload.group_length(index)
        match plan.way(index):
            case ContentSource.KEEP:
                return writer.keep(index)
            case ContentSource.ZERO:
                writer.zero(index)
                return True
            case ContentSource.COPY:
                return writer.copy(index, self._running_holds(plan.place(index) * size, length))
            case ContentSource.MOVE:
                return writer.copy(index, writer.read(plan.place(index))[:length])
            case ContentSource.FETCH:
                return False

    def _running_holds(self, offset: int, length: int) -> bytes:
        try:
            return self._holdings.readers[self._payload.name].read(offset, length)
        except DeviceError as e:
            if e.code != "device.read":
                raise
            return b""

    def _probe(self) -> bool:
        """Whether the target, of which no list is known, holds anything of use where it would be.

        An install goes upwards, so one that was cut short left the first groups that it wanted.
        """
        plan, groups = self._need_plan(), self._payload.groups
        wanted = [index for index in range(1, groups) if plan.way(index) is ContentSource.FETCH]
        spread = wanted[:: max(1, len(wanted) * 4 // (PROBES * 3))]
        return any(self._keep(index) for index in [*wanted[: PROBES // 4], *spread])

    def _look_over(self) -> None:
        """Hash all of the target: what is in its place stays there."""
        plan = self._need_plan()
        for index in range(1, self._payload.groups):
            if plan.way(index) is not ContentSource.ZERO and not self._writer.has(index):
                self._keep(index)

    def _keep(self, index: int) -> bool:
        if self._writer.has(index):
            return True
        plan = self._need_plan()
        before, place = plan.way(index), plan.place(index)
        plan.put(index, ContentSource.KEEP)
        if kept := self._find(index):
            self._moved(self._payload.group_length(index))
        else:
            plan.put(index, before, place)
            self._moved(0)
        return kept

    def _offer_first(self) -> None:
        """The first group may have stood there before the wipe, or have come before the power went."""
        plan, writer = self._need_plan(), self._writer
        early = self._holdings.first(self._payload.name) if plan.way(0) is ContentSource.FETCH else b""
        if plan.way(0) is ContentSource.FETCH and (writer.keep(0) or (early and writer.copy(0, early))):
            plan.put(0, ContentSource.KEEP)
            self._moved(self._payload.group_length(0))

    def _need_plan(self) -> Plan:
        if self._plan is None:
            raise ImageError(f"a group of payload '{self._payload.name}' came before its list", code="order")
        return self._plan


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
