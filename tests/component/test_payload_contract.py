"""One contract for every type of payload: a payload counts whole and as signed, or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fakes import payload_rigs
from fakes.payload_rigs import Rig, SimulatedPartition
from simulation.disk import SimulatedDisk
from simulation.image import GROUP, SmallImage
from simulation.power import Power, PowerCut
from twinslot.core.errors import DeviceError, ImageError
from twinslot.core.model import StoredPayload
from twinslot.payloads.base import PayloadSink, PayloadTarget
from twinslot.payloads.select import HANDLERS
from twinslot.storage.blockdev import BlockTarget

NEW, OLD = SmallImage("2.0", 2, groups=6), SmallImage("1.0", 1, groups=6)
PAYLOAD = NEW.manifest.payload("rootfs")
STORED = StoredPayload(PAYLOAD.size, PAYLOAD.group_size, PAYLOAD.digest)

Step = Callable[[PayloadSink], None]

CLOCK = itertools.count(0.0, 0.001).__next__  # a millisecond from look to look


def _parameters() -> Iterator[object]:
    for factory in (each for factories in payload_rigs.TYPES.values() for each in factories):
        name = factory.__name__
        yield pytest.param(factory, id=name, marks=[pytest.mark.root] if name in payload_rigs.NEEDS_ROOT else [])


@pytest.fixture(params=_parameters())
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    """A place of each type."""
    with contextlib.ExitStack() as stack:
        yield request.param(tmp_path, stack)


@contextlib.contextmanager
def opened(rig: Rig) -> Iterator[PayloadTarget]:
    target = rig.place.open_target()
    try:
        yield target
    finally:
        target.close()


def sink_of(target: PayloadTarget) -> PayloadSink:
    return target.sink(PAYLOAD, None, CLOCK)


def group(image: SmallImage, index: int) -> bytes:
    return image.content[index * GROUP : (index + 1) * GROUP]


def steps(image: SmallImage = NEW) -> list[Step]:
    """All that is asked of a sink, in its order; of one that takes another image, the same."""
    return [
        lambda sink: sink.wipe(),
        lambda sink: sink.take_list(image.plain_list),
        *((lambda sink, index=index: sink.take_group(index, group(image, index))) for index in range(6)),
        lambda sink: sink.read_back(lambda _: None),
        lambda sink: sink.finish(),
    ]


def install(rig: Rig, image: SmallImage = NEW) -> None:
    with opened(rig) as target:
        sink = target.sink(image.manifest.payload("rootfs"), None, CLOCK)
        for step in steps(image):
            step(sink)
    rig.place.switch()
    rig.place.commit()


def is_whole(found: bytes, image: SmallImage = NEW) -> bool:
    """The payload, and nothing but zeros behind it."""
    size = len(image.content)
    return found[:size] == image.content and not any(found[size:])


def test_every_type_of_the_table_has_a_rig() -> None:
    assert HANDLERS.keys() <= payload_rigs.TYPES.keys(), "add it to tests/fakes/payload_rigs.py"


def test_it_ends_as_signed_with_nothing_behind_it_and_is_found_again(rig: Rig) -> None:
    install(rig, OLD)
    install(rig)
    assert is_whole(rig.found())
    with contextlib.closing(rig.place.open_source()) as source:
        assert source.read(0, PAYLOAD.size) == NEW.content
    with opened(rig) as target:
        assert target.size >= PAYLOAD.size
        assert target.digest(STORED, lambda _: None) == PAYLOAD.digest


def test_each_call_that_may_be_done_twice_leaves_the_same(rig: Rig) -> None:
    twice = ("wipe", "read_back", "finish")
    with opened(rig) as target:
        sink = sink_of(target)
        for step in steps():
            step(sink)
            if any(name in step.__code__.co_names for name in twice):
                step(sink)
    for call in (rig.place.switch, rig.place.commit):
        call()
        call()
    assert is_whole(rig.found())
    rig.place.revert()
    rig.place.revert()


@pytest.mark.verifies("S5")
@pytest.mark.parametrize("done", range(10))
def test_left_between_any_two_calls_nothing_counts_and_a_new_sink_ends_as_signed(rig: Rig, done: int) -> None:
    install(rig, OLD)
    with opened(rig) as target:
        sink = sink_of(target)
        for step in steps()[:done]:
            step(sink)
    if done == 0:
        assert is_whole(rig.found(), OLD)
    elif done < len(steps()):
        assert not rig.found()
    rig.place.revert()
    install(rig)
    assert is_whole(rig.found())


@pytest.mark.verifies("S5")
def test_a_power_cut_inside_any_call_of_the_medium_leaves_all_or_nothing(tmp_path: Path) -> None:
    """Of the partition: its disk in the simulation loses, keeps or tears what was not flushed."""
    cut = 0
    while True:
        cut += 1
        directory = tmp_path / str(cut)
        directory.mkdir()
        rig = SimulatedPartition(directory)
        install(rig, OLD)
        rig.disk.power = Power(cut, seed=1)
        with contextlib.suppress(PowerCut), opened(rig) as target:
            sink = sink_of(target)
            for step in steps():
                step(sink)
        if not rig.disk.power.off:
            break
        rig.disk.lose_power()
        rig.disk.power = Power()
        found = rig.found()
        assert not found or is_whole(found) or is_whole(found, OLD), f"cut {cut}"
        install(rig)
        assert is_whole(rig.found()), f"cut {cut}"
    assert cut > 15


@pytest.mark.parametrize("offset", [0, 100, GROUP + 7, PAYLOAD.size - 1])
def test_a_byte_that_changes_on_the_medium_is_found_past_every_cache(rig: Rig, offset: int) -> None:
    install(rig)
    rig.damage(offset)
    with opened(rig) as target:
        assert target.digest(STORED, lambda _: None) != PAYLOAD.digest


@pytest.mark.parametrize("offset", [GROUP + 7, PAYLOAD.size - 1])
def test_a_medium_that_returns_something_else_does_not_pass_the_read_back(
    rig: Rig, offset: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind: Any = SimulatedDisk if isinstance(rig, SimulatedPartition) else BlockTarget
    read = kind.read_direct

    def forgetful(self: object, start: int, length: int) -> bytes:
        data = bytearray(read(self, start, length))
        if start <= offset < start + length:
            data[offset - start] ^= 1
        return bytes(data)

    with opened(rig) as target:
        sink = sink_of(target)
        for step in steps()[:-2]:
            step(sink)
        monkeypatch.setattr(kind, "read_direct", forgetful)
        with pytest.raises(DeviceError) as error:
            sink.read_back(lambda _: None)
    assert error.value.code == "device.read-back"
    assert not rig.found()


@pytest.mark.verifies("S2")
def test_a_source_that_lies_gets_nothing_written(rig: Rig) -> None:
    with opened(rig) as target:
        sink = sink_of(target)
        sink.wipe()
        with pytest.raises(ImageError, match="not the one that was signed"):
            sink.take_list(OLD.plain_list)
        sink.take_list(NEW.plain_list)
        with pytest.raises(ImageError, match="came twice"):
            sink.take_list(NEW.plain_list)
        with pytest.raises(ImageError, match="not the one that was signed"):
            sink.take_group(0, group(OLD, 0))
        with pytest.raises(ImageError, match="out of order"):
            sink.take_group(4, group(NEW, 4))
        assert not sink.copy(2, group(OLD, 2))
        assert not sink.keep(2)
        assert not any(sink.has(index) for index in range(7))
        with pytest.raises(ImageError, match="ends early"):
            sink.read_back(lambda _: None)
        assert sink.written == sink.copied == sink.skipped == 0
    assert not rig.found()


def test_what_the_place_held_is_kept_and_what_is_held_elsewhere_is_copied(rig: Rig) -> None:
    install(rig)
    with opened(rig) as target:
        sink = sink_of(target)
        sink.wipe()
        sink.take_list(NEW.plain_list)
        assert all(sink.keep(index) for index in range(4))
        assert sink.read(2) == group(NEW, 2)
        assert sink.copy(4, group(NEW, 4))
        sink.expect([5])
        sink.take_group(5, group(NEW, 5))
        assert (sink.copied, sink.skipped) == (GROUP, 4 * GROUP)
        sink.read_back(lambda _: None)
        sink.finish()
        assert sink.plain_list == NEW.plain_list
    assert is_whole(rig.found())


def test_groups_of_zeros_are_made_where_other_bytes_stood(rig: Rig) -> None:
    content = group(NEW, 0) + bytes(2 * GROUP) + group(NEW, 3)
    groups = [content[at : at + GROUP] for at in range(0, len(content), GROUP)]
    plain_list = b"".join(hashlib.sha256(each).digest() for each in groups)
    whole, of_list = hashlib.sha256(content).hexdigest(), hashlib.sha256(plain_list).hexdigest()
    payload = replace(PAYLOAD, size=len(content), groups=4, digest=whole, plain_list=of_list)
    install(rig, OLD)
    with opened(rig) as target:
        sink = target.sink(payload, None, CLOCK)
        sink.wipe()
        sink.take_list(plain_list)
        for index, data in enumerate(groups):
            if any(data):
                assert sink.copy(index, data)
            else:
                sink.zero(index)
        sink.read_back(lambda _: None)
        sink.finish()
    rig.place.switch()
    found = rig.found()
    assert found[: len(content)] == content
    assert not any(found[len(content) :])
