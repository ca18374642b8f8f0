"""What is refused in a root file system before anybody signs it."""

from __future__ import annotations

import gzip
import io
import lzma
import os
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from rootfs_samples import EXECUTABLE, RELOCATABLE, UNITS, elf_header, make_erofs, make_ext4, make_tree
from twinslot.core.errors import ImageError, Refusal, RefusedError
from twinslot_image.binaries import examine
from twinslot_image.elf import ARCHITECTURES
from twinslot_image.rootfs import check_rootfs


def mismatch(path: str, content: bytes, architecture: str = "arm64") -> str | None:
    return examine(path, io.BytesIO(content), architecture)[1]


@pytest.mark.parametrize(
    ("abi", "fits"),
    [
        ("arm64", {"arm64"}),
        ("amd64", {"amd64"}),
        ("x32", set()),
        ("armhf", {"armhf"}),
        ("armel", {"armel"}),
        ("arm-any-float", {"armhf", "armel"}),
        ("arm-oabi", set()),
        ("i386", {"i386"}),
        ("riscv64", {"riscv64"}),
        ("riscv64-soft", set()),
    ],
)
def test_each_abi_fits_its_architectures_and_no_other(abi: str, fits: set[str]) -> None:
    program = elf_header(abi, EXECUTABLE)
    assert {name for name in ARCHITECTURES if mismatch("usr/bin/program", program, name) is None} == fits


def test_the_other_byte_order_is_another_architecture() -> None:
    assert mismatch("usr/bin/program", elf_header("arm64", big=True)) == "EM_AARCH64, 64 bit, big endian"


def test_objects_are_not_run_but_kernel_modules_are_loaded() -> None:
    for name, checked in (("crt1.o", False), ("probe.bpf.o", False), ("driver.ko", True)):
        content = elf_header("bpf" if "bpf" in name else "amd64", RELOCATABLE)
        assert (mismatch(f"usr/lib/{name}", content) is not None) == checked


@pytest.mark.parametrize("length", range(4, 64, 3))
def test_a_cut_off_elf_file_is_named_damaged_and_no_traceback(length: int) -> None:
    assert "damaged ELF file" in str(mismatch("usr/bin/program", elf_header("arm64")[:length]))


needs_erofs = pytest.mark.skipif(shutil.which("mkfs.erofs") is None, reason="erofs-utils is not installed")


def reasons(image: Path, *foreign: str) -> tuple[Refusal, ...]:
    return check_rootfs(image, "arm64", foreign).reasons


@pytest.mark.verifies("REQ-IMG-09")
@pytest.mark.parametrize("make", [make_ext4, pytest.param(make_erofs, marks=needs_erofs)])
def test_a_good_root_file_system_passes_and_a_foreign_one_is_counted_and_named(tmp_path: Path, make: object) -> None:
    tree = make_tree(tmp_path / "tree")
    assert callable(make)
    assert reasons(make(tree, tmp_path / "good.img")) == ()
    for index in range(12):
        (tree / f"usr/bin/tool{index:02}").write_bytes(elf_header("amd64"))
    image = make(tree, tmp_path / "foreign.img")
    (reason,) = reasons(image)
    assert reason.code == "architecture"
    assert reason.message == "12 executables are not for this architecture"
    assert str(reason.found).count("EM_X86_64") == 10
    assert "usr/bin/tool09" in str(reason.found)
    assert str(reason.found).endswith("and 2 more")
    assert reasons(image, "usr/bin/tool*") == ()


def test_a_file_that_only_root_may_read_is_still_read(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    (tree / "usr/bin/hidden").write_bytes(elf_header("amd64"))
    (tree / "usr/bin/hidden").chmod(0)
    try:
        image = make_ext4(tree, tmp_path / "image")
    finally:
        (tree / "usr/bin/hidden").chmod(0o600)
    assert [reason.code for reason in reasons(image)] == ["architecture"]


def spoil(tree: Path, unit: str, how: str) -> None:
    link = tree / "etc/systemd/system/boot-complete.target.wants" / unit
    match how:
        case "missing":
            (tree / "usr/lib/systemd/system" / unit).unlink()
        case "disabled":
            link.unlink()
        case _:
            (tree / "etc/systemd/system" / unit).symlink_to("/dev/null")


@pytest.mark.verifies("REQ-IMG-09")
@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("how", ["missing", "disabled", "masked"])
def test_a_system_without_its_way_back_is_refused(tmp_path: Path, unit: str, how: str) -> None:
    tree = make_tree(tmp_path / "tree")
    spoil(tree, unit, how)
    (reason,) = reasons(make_ext4(tree, tmp_path / "image"))
    assert (reason.code, reason.expected) == (f"unit-{how}", unit)


def test_a_unit_that_only_a_link_to_the_build_host_stands_for_is_missing(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    place = tree / "usr/lib/systemd/system" / UNITS[0]
    place.unlink()
    place.symlink_to("/etc/hostname")
    (reason,) = reasons(make_ext4(tree, tmp_path / "image"))
    assert reason.code == "unit-missing"


@pytest.mark.parametrize("content", [b"", b"x" * 10, bytes(100_000), bytes(1080) + b"\x53\xef" + bytes(5000)])
def test_what_is_no_file_system_is_an_image_error(tmp_path: Path, content: bytes) -> None:
    image = tmp_path / "image"
    image.write_bytes(content)
    with pytest.raises(ImageError) as caught:
        check_rootfs(image, "arm64")
    assert caught.value.code in ("image.rootfs", "image.rootfs-damaged")


def test_a_file_system_that_is_no_system_is_an_image_error(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    with pytest.raises(ImageError, match="holds no root file system"):
        check_rootfs(make_ext4(tmp_path / "tree", tmp_path / "image"), "arm64")


def test_an_empty_unit_file_masks_it(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    (tree / "etc/systemd/system" / UNITS[1]).touch()
    (reason,) = reasons(make_ext4(tree, tmp_path / "image"))
    assert (reason.code, reason.found) == ("unit-masked", "an empty file")


MASKS = ["/dev/null", "../../../dev/null", "/dev/../dev/./null", "/etc/null", "/etc/nothing"]


@pytest.mark.parametrize("target", MASKS)
@pytest.mark.parametrize(
    ("link", "code"),
    [("{}", "unit-masked"), ("boot-complete.target.wants/{}", "unit-disabled")],
)
def test_whatever_systemd_takes_for_a_mask_is_one(tmp_path: Path, target: str, link: str, code: str) -> None:
    tree = make_tree(tmp_path / "tree")
    (tree / "etc/null").symlink_to("../dev/null")
    (tree / "etc/nothing").touch()
    place = tree / "etc/systemd/system" / link.format(UNITS[0])
    place.unlink(missing_ok=True)
    place.symlink_to(target.replace("../../../", "../../../../") if "wants" in link else target)
    (reason,) = reasons(make_ext4(tree, tmp_path / "image"))
    assert (reason.code, reason.expected) == (code, UNITS[0])


def test_the_unit_file_that_systemd_takes_first_decides(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    place = tree / "etc/systemd/system" / UNITS[0]
    place.symlink_to("/usr/local/nowhere.service")
    (reason,) = reasons(make_ext4(tree, tmp_path / "dangling"))
    assert reason.code == "unit-missing"
    place.unlink()
    place.symlink_to(f"/usr/lib/systemd/system/{UNITS[0]}")
    assert reasons(make_ext4(tree, tmp_path / "linked")) == ()
    (tree / "usr/local/lib/systemd/system").mkdir(parents=True)
    (tree / "usr/local/lib/systemd/system" / UNITS[1]).symlink_to("/dev/null")
    (masked,) = reasons(make_ext4(tree, tmp_path / "local"))
    assert masked.code == "unit-masked"


def test_links_stay_inside_the_image(tmp_path: Path) -> None:
    """An absolute link from `lib` or `etc/systemd` is the device's own, not the build host's."""
    tree = make_tree(tmp_path / "tree")
    (tree / "etc/systemd").rename(tree / "usr/etc-systemd")
    (tree / "etc/systemd").symlink_to("/usr/../usr/etc-systemd")
    assert reasons(make_ext4(tree, tmp_path / "image")) == ()


@pytest.mark.parametrize("pack", ["plain", "gz", "xz", "zst"])
@pytest.mark.parametrize(("abi", "refused"), [("arm64", False), ("amd64", True), ("armhf", True)])
def test_kernel_modules_are_checked_however_they_are_packed(pack: str, abi: str, refused: bool) -> None:
    module = elf_header(abi, RELOCATABLE) + os.urandom(100_000)
    zstd = zstandard.ZstdCompressor()
    packers: dict[str, Callable[[bytes], bytes]] = {"gz": gzip.compress, "xz": lzma.compress, "zst": zstd.compress}
    name = "usr/lib/modules/6.12/pump.ko" + ("" if pack == "plain" else f".{pack}")
    assert (mismatch(name, packers.get(pack, bytes)(module)) is not None) == refused


@pytest.mark.parametrize(
    "content", [b"", b"text", b"\xfd7zXZ\0xxxxx", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", gzip.compress(b"x", mtime=0)]
)
def test_a_module_that_cannot_be_unpacked_is_no_pass(content: bytes) -> None:
    assert mismatch("lib/modules/6.12/pump.ko.xz", content)


@pytest.mark.parametrize(
    "name", ["opt/drivers/pump.ko.xz", "lib/modules/6.12/pump.ko.bz2", "opt/pump.ko.lz4", "usr/lib/modules/x/empty.ko"]
)
def test_a_module_is_checked_wherever_it_is_and_never_passed_unread(name: str) -> None:
    assert mismatch(name, b"BZh9" if name.endswith("bz2") else b"")


def pe(machine: int, subsystem: int) -> bytes:
    """The headers of a PE file."""
    header = b"PE\0\0" + struct.pack("<H", machine) + bytes(18) + bytes(68) + struct.pack("<H", subsystem)
    return (b"MZ" + bytes(0x3A) + struct.pack("<I", 0x80)).ljust(0x80, b"\0") + header


def test_efi_programs_and_kernels_are_checked_and_windows_programs_are_not() -> None:
    assert mismatch("boot/efi/grubaa64.efi", pe(0xAA64, 10)) is None
    assert mismatch("boot/efi/grubx64.efi", pe(0x8664, 10)) == "EFI program for machine 0x8664"
    assert mismatch("usr/lib/python3/gui-64.exe", pe(0x8664, 2)) is None
    assert mismatch("boot/vmlinuz-6.12", bytes(0x38) + b"ARMd" + bytes(100)) is None
    assert mismatch("boot/vmlinuz-6.12", bytes(0x202) + b"HdrS" + bytes(100)) == "kernel for amd64 or i386"
    packed = gzip.compress(bytes(0x202) + b"HdrS" + bytes(100))
    assert mismatch("boot/vmlinuz-6.12", packed) == "kernel for amd64 or i386"
    assert mismatch("boot/vmlinuz.efi", lzma.compress(pe(0x8664, 10))) == "EFI program for machine 0x8664"
    assert mismatch("boot/initrd.img", gzip.compress(b"070701")) is None
    assert mismatch("boot/zImage", bytes(0x24) + b"\x18\x28\x6f\x01" + bytes(100)) == "kernel for armel or armhf"


@pytest.mark.verifies("REQ-IMG-09")
def test_what_was_looked_at_and_what_not_is_counted(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    for name, content in (
        ("usr/lib/modules/6.12/a.ko", elf_header("arm64", RELOCATABLE)),
        ("usr/lib/modules/6.12/b.ko.gz", gzip.compress(elf_header("arm64", RELOCATABLE))),
        ("usr/lib/crt1.o", elf_header("amd64", RELOCATABLE)),
        ("usr/lib/libx.a", b"!<arch>\n"),
        ("usr/share/dsp", elf_header("amd64")),
        ("boot/initrd.img", b"070701"),
    ):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(content)
    looked = check_rootfs(make_ext4(tree, tmp_path / "image"), "arm64", ("usr/share/*",)).looked
    assert looked.lines() == [
        "checked: 2 programs and libraries, 1 kernel module, 1 packed kernel module, 0 kernels and EFI programs",
        (
            "not looked at: 1 script, 1 object file, 1 static library, 1 initial RAM disk, 1 firmware file, "
            "1 file named in 'foreign', 3 other files"
        ),
    ]
    data = looked.as_dict()
    assert data["checked"] == {"programs": 2, "modules": 1, "packed_modules": 1, "boot_programs": 0}


def test_names_that_would_steer_a_terminal_are_shown_as_text(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    for name in (b"caf\xe9", b"esc\x1b[31m", b"new\nline", b"-rf", b"quo\"te'"):
        Path(os.fsdecode(os.fsencode(tree / "usr/bin") + b"/" + name)).write_bytes(elf_header("amd64"))
    (reason,) = reasons(make_ext4(tree, tmp_path / "image"))
    assert str(reason.found).isprintable()
    for shown in ("usr/bin/caf\\xe9 ", "esc\\x1b[31m", "new\\nline", "usr/bin/-rf", "quo\"te'"):
        assert shown in str(reason.found)


@needs_erofs
def test_a_compressed_erofs_is_refused_with_the_way_out(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    (tree / "usr/share").mkdir()
    (tree / "usr/share/text").write_text("The alarm is louder.\n" * 5000)
    subprocess.run(["mkfs.erofs", "-zlz4hc", tmp_path / "image", tree], check=True, capture_output=True)
    with pytest.raises(RefusedError, match="is compressed") as caught:
        check_rootfs(tmp_path / "image", "arm64")
    assert caught.value.code == "refused.rootfs-compressed"


@pytest.mark.parametrize(
    ("start", "name"),
    [(b"hsqs", "squashfs"), (b"\x1f\x8b", "gzip"), (bytes(512) + b"EFI PART", "partitions"), (b"\x89TWIN", "image")],
)
def test_what_people_name_by_mistake_is_called_by_its_name(tmp_path: Path, start: bytes, name: str) -> None:
    (tmp_path / "image").write_bytes(start.ljust(4096, b"\0"))
    with pytest.raises(ImageError, match=name):
        check_rootfs(tmp_path / "image", "arm64")
