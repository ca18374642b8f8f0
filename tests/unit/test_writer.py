"""A payload on its way into a partition: nothing unverified is written, and an unfinished slot does not load."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from simulation.disk import SimulatedDisk
from simulation.image import GROUP, SmallImage
from twinslot.core.errors import DeviceError, ImageError
from twinslot.core.model import StoredPayload
from twinslot.payloads.partition.on_medium import digest_on
from twinslot.payloads.partition.writer import PayloadWriter

IMAGE = SmallImage("1.0", 1, groups=6)
PAYLOAD = IMAGE.manifest.payload("rootfs")
SIZE = 8 * GROUP


@pytest.fixture
def disk() -> SimulatedDisk:
    disk = SimulatedDisk("slot", SIZE)
    disk.fill(b"\xee" * SIZE)
    return disk


def groups() -> list[bytes]:
    return [IMAGE.content[at : at + GROUP] for at in range(0, len(IMAGE.content), GROUP)]


def written(disk: SimulatedDisk, *, last: bool = True) -> PayloadWriter:
    """A writer that took everything, or everything but the last group."""
    writer = PayloadWriter(disk, PAYLOAD)
    writer.wipe()
    writer.take_list(IMAGE.plain_list)
    for index, group in enumerate(groups()[: None if last else -1]):
        writer.take_group(index, group)
    return writer


def test_whole_and_in_order_it_ends_as_signed_with_a_zero_tail(disk: SimulatedDisk) -> None:
    writer = written(disk)
    writer.read_back(lambda _: None)
    assert not any(disk.content()[:GROUP]), "the first group is not there before the rest was read back"
    writer.finish()
    assert disk.content() == IMAGE.content.ljust(SIZE, b"\0")


@pytest.mark.verifies("S2")
def test_a_worker_that_lies_about_the_list_writes_nothing(disk: SimulatedDisk) -> None:
    writer = PayloadWriter(disk, PAYLOAD)
    with pytest.raises(ImageError, match="not the one that was signed"):
        writer.take_list(bytes(len(IMAGE.plain_list)))
    with pytest.raises(ImageError, match="out of order"):
        writer.take_group(0, groups()[0])
    assert disk.content() == b"\xee" * SIZE


def test_a_worker_that_says_its_list_for_ever_is_left() -> None:
    writer = PayloadWriter(SimulatedDisk("slot", SIZE), PAYLOAD)
    writer.take_list(IMAGE.plain_list)
    with pytest.raises(ImageError, match="came twice") as error:
        writer.take_list(IMAGE.plain_list)
    assert error.value.code == "image.order"


@pytest.mark.verifies("S2")
@pytest.mark.parametrize("index", [0, 1, 5])
def test_a_worker_that_lies_about_a_group_does_not_get_it_written(disk: SimulatedDisk, index: int) -> None:
    writer = PayloadWriter(disk, PAYLOAD)
    writer.take_list(IMAGE.plain_list)
    for number in range(index):
        writer.take_group(number, groups()[number])
    evil = b"evil" * 1024
    with pytest.raises(ImageError, match=f"group {index} .* is not the one that was signed"):
        writer.take_group(index, evil)
    assert b"evil" not in disk.content()


@pytest.mark.parametrize("index", [1, 6, 2**31])
def test_a_group_out_of_order_is_refused(disk: SimulatedDisk, index: int) -> None:
    writer = PayloadWriter(disk, PAYLOAD)
    writer.take_list(IMAGE.plain_list)
    with pytest.raises(ImageError, match="out of order"):
        writer.take_group(index, groups()[1])


@pytest.mark.verifies("S5")
def test_a_group_that_never_came_leaves_the_slot_unloadable(disk: SimulatedDisk) -> None:
    with pytest.raises(ImageError, match="ends early: expected '6 groups', found '5 groups'"):
        written(disk, last=False).read_back(lambda _: None)
    assert not any(disk.content()[:GROUP])


class Worn(SimulatedDisk):
    """A medium of which a page cannot be read before it is written again."""

    worn = 0

    def read_direct(self, offset: int, length: int) -> bytes:
        if offset <= self.worn < offset + length:
            raise DeviceError(f"cannot read 'slot' at byte {self.worn}", code="read", found="Input/output error")
        return super().read_direct(offset, length)

    def write(self, offset: int, data: bytes | memoryview) -> None:
        self.worn = -1 if offset <= self.worn < offset + len(data) else self.worn
        super().write(offset, data)


@pytest.mark.parametrize("old", [b"\0", b"\xee"])
@pytest.mark.parametrize("page", [0, 3])
def test_a_first_group_that_cannot_be_read_is_mended_by_the_wipe(page: int, old: bytes) -> None:
    disk, group = Worn("slot", 8 * 4 * GROUP), 4 * GROUP
    disk.fill(old * disk.size)
    disk.worn = page * GROUP
    writer = PayloadWriter(disk, replace(PAYLOAD, size=6 * group, group_size=group))
    writer.wipe()
    assert disk.worn == -1
    assert disk.content() == bytes(group) + old * (disk.size - group)
    names = [call.split()[0] for call in disk.power.trace]
    if old != b"\0" and page:
        assert names.index("flush") < len(names) - 1 - names[::-1].index("write"), "the superblock's sector goes first"


class Forgetful(SimulatedDisk):
    """A medium that answers every write and changes one byte later."""

    where = 0

    def read_direct(self, offset: int, length: int) -> bytes:
        data = bytearray(super().read_direct(offset, length))
        if offset <= self.where < offset + length:
            data[self.where - offset] ^= 1
        return bytes(data)


@pytest.mark.verifies("S5")
@pytest.mark.parametrize("where", [0, 100, GROUP + 7, len(IMAGE.content) - 1, len(IMAGE.content) + 1, SIZE - 1])
def test_a_medium_that_changes_one_byte_anywhere_is_noticed(where: int) -> None:
    disk = Forgetful("slot", SIZE)
    disk.where = where

    def write_all() -> None:
        writer = written(disk)
        writer.read_back(lambda _: None)
        writer.finish()

    with pytest.raises(DeviceError) as error:
        write_all()
    assert error.value.code in ("device.read-back", "device.tail")


def test_an_image_whose_groups_and_whole_disagree_is_blamed_not_the_medium(disk: SimulatedDisk) -> None:
    writer = PayloadWriter(disk, replace(PAYLOAD, digest="0" * 64))
    writer.wipe()
    writer.take_list(IMAGE.plain_list)
    for index, group in enumerate(groups()):
        writer.take_group(index, group)
    with pytest.raises(ImageError, match="other content than its manifest says"):
        writer.read_back(lambda _: None)


@pytest.mark.verifies("S14")
def test_a_slot_is_found_again_by_its_digest_and_its_tail_counts(disk: SimulatedDisk) -> None:
    writer = written(disk)
    writer.read_back(lambda _: None)
    writer.finish()
    stored = StoredPayload(len(IMAGE.content), GROUP, hashlib.sha256(IMAGE.content).hexdigest())
    assert digest_on(disk, stored, lambda _: None) == stored.digest
    disk.write(SIZE - GROUP, b"\1" * GROUP)
    with pytest.raises(DeviceError, match="not zero after its payload"):
        digest_on(disk, stored, lambda _: None)
