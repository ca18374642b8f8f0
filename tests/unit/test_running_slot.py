from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinslot.core.errors import DeviceError
from twinslot.core.model import SlotName
from twinslot.storage.mounts import Device, closure, parse_mountinfo
from twinslot.storage.running_slot import running_slot

A, B = SlotName.A, SlotName.B
SLOTS = {A: {"rootfs": Path("/dev/disk/by-partlabel/slot_a")}, B: {"rootfs": Path("/dev/disk/by-partlabel/slot_b")}}
NUMBERS = {
    "/dev/disk/by-partlabel/slot_a": (179, 2),
    "/dev/disk/by-partlabel/slot_b": (179, 3),
    "/dev/mmcblk0p3": (179, 3),
}


def lookup(path: Path) -> Device | None:
    return NUMBERS.get(str(path))


def line(device: str, point: str = "/", fstype: str = "ext4", source: str = "/dev/root", options: str = "rw") -> str:
    return f"25 1 {device} / {point} ro,relatime shared:1 - {fstype} {source} {options}\n"


def test_the_device_of_the_root_mount_decides() -> None:
    found = running_slot(SLOTS, line("0:5", "/proc", "proc", "proc") + line("179:3"), lookup)
    assert found.require() is B
    assert found.devices == {(179, 3)}
    assert found.disagreements == ()


def test_the_topmost_root_mount_counts() -> None:
    table = line("0:2", fstype="rootfs", source="rootfs") + line("179:3") + line("179:2")
    assert running_slot(SLOTS, table, lookup).slot is A


@pytest.mark.verifies("S1")
def test_command_line_and_environment_never_decide_but_are_reported() -> None:
    found = running_slot(SLOTS, line("179:2"), lookup, cmdline="quiet twinslot.slot=b\n", environment="b")
    assert found.slot is A
    assert found.disagreements == (
        "the kernel command line says slot 'b', but 'a' runs",
        "the boot environment says slot 'b', but 'a' runs",
    )


def test_agreement_is_no_disagreement() -> None:
    found = running_slot(SLOTS, line("179:2"), lookup, cmdline="twinslot.slot=a", environment="a")
    assert found.disagreements == ()


@pytest.mark.verifies("S1")
def test_a_foreign_root_is_no_slot_even_if_everything_else_says_so() -> None:
    found = running_slot(SLOTS, line("8:1"), lookup, cmdline="twinslot.slot=a", environment="a")
    assert found.slot is None
    assert found.devices == {(8, 1)}
    with pytest.raises(DeviceError, match="no configured slot is on 8:1") as caught:
        found.require()
    assert caught.value.code == "device.running-slot"


def test_a_verity_root_is_traced_to_the_partition_below() -> None:
    found = running_slot(SLOTS, line("253:0"), lookup, lambda device: frozenset({device, (179, 3)}))
    assert found.slot is B
    assert found.devices == {(253, 0), (179, 3)}


def test_an_overlay_root_is_looked_through_and_says_so() -> None:
    table = line("179:3", "/run/lower", source="/dev/mmcblk0p3") + line(
        "0:30", fstype="overlay", source="overlay", options="rw,lowerdir=/run/extra:/run/lower,upperdir=/run/up"
    )
    found = running_slot(SLOTS, table, lookup)
    assert found.slot is B
    assert "the root mount is an overlay" in found.evidence
    assert "its lowest layer is '/run/lower'" in found.evidence


OTHER = line("179:2", "/run/extra", source="/dev/other")
LOWEST = {
    # As the kernel writes them: blank, tab, newline, backslash, comma and equals sign are octal.
    "one-for-each-layer": ("rw,lowerdir+=/run/extra,lowerdir+=/run/lower,upperdir=/run/up", "/run/lower"),
    "one-alone": ("rw,lowerdir+=/run/lower,upperdir=/run/up,workdir=/run/w", "/run/lower"),
    "with-data-layers": ("ro,lowerdir+=/run/lower,datadir+=/run/extra", "/run/lower"),
    "data-behind-two-colons": ("ro,lowerdir=/run/lower::/run/extra", "/run/lower"),
    "two-data-layers": ("ro,lowerdir=/run/extra:/run/lower::/run/extra::/run/extra", "/run/lower"),
    "a-directory-below-the-mount": ("ro,lowerdir=/run/extra:/run/lower/usr/root", "/run/lower"),
    "a-name-that-only-begins-so": ("ro,lowerdir=/run/extra:/run/lower2", None),
    "a-blank": (r"ro,lowerdir=/run/extra:/run/my\040lower", "/run/my\\040lower"),
    "a-comma": (r"ro,lowerdir=/run/extra:/run/a\054b", "/run/a,b"),
    "a-comma-with-a-backslash": (r"ro,lowerdir=/run/extra:/run/a\134\054b", "/run/a,b"),
    "a-colon-with-a-backslash": (r"ro,lowerdir=/run/extra:/run/a\134:b", "/run/a:b"),
    "a-colon-in-a-layer-of-its-own": (r"ro,lowerdir+=/run/extra,lowerdir+=/run/a:b", "/run/a:b"),
    "a-backslash": (r"ro,lowerdir=/run/extra:/run/a\134\134b", "/run/a\\134b"),
    "an-equals-sign": (r"ro,lowerdir=/run/extra:/run/a\075b,index=off", "/run/a=b"),
    "a-byte-that-is-no-text": ("ro,lowerdir=/run/extra:/run/\udcff", "/run/\udcff"),
    "a-line-separator": ("ro,lowerdir=/run/extra:/run/\u2028", "/run/\u2028"),
    "no-lower-layer": ("rw,upperdir=/run/up", None),
}


@pytest.mark.verifies("S1")
@pytest.mark.parametrize("name", LOWEST)
def test_the_lowest_layer_of_an_overlay_decides_however_the_kernel_writes_it(name: str) -> None:
    options, point = LOWEST[name]
    table = OTHER + (line("179:3", point) if point else line("179:3", "/run/lower"))
    table += line("0:30", fstype="overlay", source="overlay", options=options)
    assert running_slot(SLOTS, table, lookup).slot is (B if point else None)


def test_an_overlay_over_an_overlay_is_looked_through_twice() -> None:
    table = OTHER + line("179:3", "/run/lower")
    table += line("0:29", "/run/middle", fstype="overlay", source="o", options="ro,lowerdir=/run/extra:/run/lower")
    table += line("0:30", fstype="overlay", source="o", options="rw,lowerdir+=/run/middle,upperdir=/run/up")
    assert running_slot(SLOTS, table, lookup).slot is B


def test_overlays_that_name_each_other_end_undecided() -> None:
    table = line("0:29", "/run/middle", fstype="overlay", source="o", options="ro,lowerdir=/run/other")
    table += line("0:31", "/run/other", fstype="overlay", source="o", options="ro,lowerdir=/run/middle")
    table += line("0:30", fstype="overlay", source="o", options="rw,lowerdir=/run/middle")
    assert running_slot(SLOTS, table, lookup).slot is None


def test_of_two_mounts_in_one_place_the_topmost_holds_the_layer() -> None:
    table = line("179:2", "/run/lower") + line("179:3", "/run/lower")
    table += line("0:30", fstype="overlay", source="o", options="rw,lowerdir=/run/lower")
    assert running_slot(SLOTS, table, lookup).slot is B


@pytest.mark.verifies("S1")
@pytest.mark.parametrize("separator", ["\u2028", "\x0b", "\x0c", "\x1c", "\x85", "\r"])
def test_no_path_of_a_mount_makes_a_line_of_its_own(separator: str) -> None:
    forged = line("179:2").rstrip("\n").replace("25 1", "99 1")
    table = line("179:3") + line("0:40", f"/home/user/x{separator}{forged.replace(' ', separator)}", "fuse", "x")
    table += line("0:41", f"/home/user/{separator}25", "fuse", "x")
    assert running_slot(SLOTS, table, lookup).slot is B
    assert len(parse_mountinfo(table)) == 3


def test_optional_fields_may_be_missing_or_many() -> None:
    rest = "- ext4 /dev/root rw\n"
    for fields in ("", "shared:1 ", "shared:1 master:2 propagate_from:3 unbindable "):
        assert running_slot(SLOTS, f"25 1 179:3 / / ro,relatime {fields}{rest}", lookup).slot is B, fields


def test_an_overlay_whose_layer_is_not_visible_is_undecided() -> None:
    table = line("179:3", "/data") + line("0:30", fstype="overlay", source="overlay", options="rw,lowerdir=/lower")
    found = running_slot(SLOTS, table, lookup, cmdline="twinslot.slot=b")
    assert found.slot is None
    assert "its lowest layer is '/lower', whose mount is not visible" in found.evidence


def test_btrfs_is_found_by_the_name_of_its_source() -> None:
    assert running_slot(SLOTS, line("0:27", fstype="btrfs", source="/dev/mmcblk0p3"), lookup).slot is B


@pytest.mark.parametrize(("fstype", "source"), [("nfs", "10.0.2.2:/root"), ("tmpfs", "none"), ("btrfs", "/dev/gone")])
def test_a_root_without_a_block_device_is_undecided(fstype: str, source: str) -> None:
    assert running_slot(SLOTS, line("0:27", fstype=fstype, source=source), lookup).slot is None


def test_both_slots_on_one_device_is_undecided() -> None:
    slots = {A: {"rootfs": Path("/dev/mmcblk0p3")}, B: SLOTS[B]}
    found = running_slot(slots, line("179:3"), lookup)
    assert found.slot is None
    assert "both slots name the device of the root mount" in found.evidence


def test_the_other_payloads_of_the_running_slot_are_forbidden_too() -> None:
    slots = {A: SLOTS[A], B: {"rootfs": Path("/dev/mmcblk0p3"), "boot": Path("/dev/disk/by-partlabel/slot_a")}}
    assert running_slot({B: slots[B]}, line("179:3"), lookup).devices == {(179, 3), (179, 2)}


def test_of_several_payloads_the_one_that_holds_the_root_is_named() -> None:
    beside = {A: {"assets": Path("/dev/a9")} | SLOTS[A], B: SLOTS[B] | {"voices": Path("/dev/b9")}}
    assert running_slot(beside, line("179:2"), lookup).root == "rootfs"
    assert running_slot(beside, line("8:1"), lookup).root == ""


def test_blanks_in_mount_points_are_unescaped() -> None:
    (mount,) = parse_mountinfo(line("8:1", "/a\\040b\\134c"))
    assert mount.point == "/a b\\c"


@given(st.text(max_size=300))
def test_any_mount_table_is_read_without_a_traceback(text: str) -> None:
    assert running_slot(SLOTS, text, lookup).slot in (A, B, None)


@given(st.lists(st.text(alphabet="0123456789:/ -\\\noverlayextlowdir=,", max_size=40), max_size=12))
def test_any_mangled_line_is_read_without_a_traceback(words: list[str]) -> None:
    assert running_slot(SLOTS, " ".join(words), lookup).slot in (A, B, None)


def test_a_ring_of_devices_ends() -> None:
    ring = {(1, 1): frozenset({(1, 2)}), (1, 2): frozenset({(1, 1)})}
    assert closure((1, 1), ring.__getitem__) == {(1, 1), (1, 2)}
