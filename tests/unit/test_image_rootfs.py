"""What is refused in a root file system before anybody signs it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from rootfs_samples import EXECUTABLE, RELOCATABLE, UNITS, elf_header, make_erofs, make_ext4, make_tree
from twinslot.core.errors import BundleError, DeviceError
from twinslot_image.elf import ARCHITECTURES, find_mismatch
from twinslot_image.rootfs import check_rootfs


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
def test_each_abi_fits_its_architectures_and_no_other(tmp_path: Path, abi: str, fits: set[str]) -> None:
    file = tmp_path / "program"
    file.write_bytes(elf_header(abi, EXECUTABLE))
    assert {name for name in ARCHITECTURES if find_mismatch(file, name) is None} == fits


def test_the_other_byte_order_is_another_architecture(tmp_path: Path) -> None:
    file = tmp_path / "program"
    file.write_bytes(elf_header("arm64", big=True))
    assert find_mismatch(file, "arm64") == "EM_AARCH64, 64 bit, big endian"


def test_objects_are_not_run_but_kernel_modules_are_loaded(tmp_path: Path) -> None:
    for name, checked in (("crt1.o", False), ("probe.bpf.o", False), ("driver.ko", True)):
        file = tmp_path / name
        file.write_bytes(elf_header("bpf" if "bpf" in name else "amd64", RELOCATABLE))
        assert (find_mismatch(file, "arm64") is not None) == checked


@pytest.mark.parametrize("length", range(4, 64, 3))
def test_a_cut_off_elf_file_is_named_damaged_and_no_traceback(tmp_path: Path, length: int) -> None:
    file = tmp_path / "program"
    file.write_bytes(elf_header("arm64")[:length])
    assert "damaged ELF file" in str(find_mismatch(file, "arm64"))


needs_erofs = pytest.mark.skipif(shutil.which("mkfs.erofs") is None, reason="erofs-utils is not installed")


@pytest.mark.parametrize("make", [make_ext4, pytest.param(make_erofs, marks=needs_erofs)])
def test_a_good_root_file_system_passes_and_a_foreign_one_is_counted_and_named(tmp_path: Path, make: object) -> None:
    tree = make_tree(tmp_path / "tree")
    assert callable(make)
    assert check_rootfs(make(tree, tmp_path / "good.img"), "arm64") == ()
    for index in range(12):
        (tree / f"usr/bin/tool{index:02}").write_bytes(elf_header("amd64"))
    image = make(tree, tmp_path / "foreign.img")
    (reason,) = check_rootfs(image, "arm64")
    assert reason.code == "architecture"
    assert reason.message == "12 executables are not for this architecture"
    assert str(reason.found).count("EM_X86_64") == 10
    assert "usr/bin/tool09" in str(reason.found)
    assert str(reason.found).endswith("and 2 more")
    assert check_rootfs(image, "arm64", ("usr/bin/tool*",)) == ()


def test_a_file_that_nobody_may_read_is_still_read(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    (tree / "usr/bin/hidden").write_bytes(elf_header("amd64"))
    (tree / "usr/bin/hidden").chmod(0)
    try:
        image = make_ext4(tree, tmp_path / "image")
    finally:
        (tree / "usr/bin/hidden").chmod(0o600)
    assert [reason.code for reason in check_rootfs(image, "arm64")] == ["architecture"]


def spoil(tree: Path, unit: str, how: str) -> None:
    link = tree / "etc/systemd/system/boot-complete.target.wants" / unit
    match how:
        case "missing":
            (tree / "usr/lib/systemd/system" / unit).unlink()
        case "disabled":
            link.unlink()
        case _:
            (tree / "etc/systemd/system" / unit).symlink_to("/dev/null")


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("how", ["missing", "disabled", "masked"])
def test_a_system_without_its_way_back_is_refused(tmp_path: Path, unit: str, how: str) -> None:
    tree = make_tree(tmp_path / "tree")
    spoil(tree, unit, how)
    (reason,) = check_rootfs(make_ext4(tree, tmp_path / "image"), "arm64")
    assert (reason.code, reason.expected) == (f"unit-{how}", unit)


def test_a_unit_that_only_a_link_to_the_build_host_stands_for_is_missing(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    place = tree / "usr/lib/systemd/system" / UNITS[0]
    place.unlink()
    place.symlink_to("/etc/hostname")
    (reason,) = check_rootfs(make_ext4(tree, tmp_path / "image"), "arm64")
    assert reason.code == "unit-missing"


@pytest.mark.parametrize("content", [b"", b"x" * 10, bytes(100_000), bytes(1080) + b"\x53\xef" + bytes(5000)])
def test_what_is_no_file_system_is_a_bundle_error(tmp_path: Path, content: bytes) -> None:
    image = tmp_path / "image"
    image.write_bytes(content)
    with pytest.raises(BundleError) as caught:
        check_rootfs(image, "arm64")
    assert caught.value.code == "bundle.rootfs"


def test_a_file_system_that_is_no_system_is_a_bundle_error(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    with pytest.raises(BundleError, match="holds no root file system"):
        check_rootfs(make_ext4(tmp_path / "tree", tmp_path / "image"), "arm64")


def test_a_missing_program_is_named_with_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = make_ext4(make_tree(tmp_path / "tree"), tmp_path / "image")
    monkeypatch.setitem(os.environ, "PATH", str(tmp_path))
    with pytest.raises(DeviceError, match="e2fsprogs"):
        check_rootfs(image, "arm64")
