"""What a board was made of: read from apt's lists, dpkg's status and a source package, and kept in the cache."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import waits
from twinslot_lab import inputs, jsonfile
from twinslot_lab.command import run
from twinslot_lab.description import BoardDescription, load
from twinslot_lab.errors import LabError

STATUS = """Package: systemd
Status: install ok installed
Version: 257.8-1
Conffiles:
 /etc/systemd/system.conf 0123
Description: system and service manager
 .
 Package: not-one

Package: gone
Status: deinstall ok config-files
Version: 1.0

Package: old
Status: install ok installed
Version: 0.9
"""
PACKAGES = """Package: systemd
Version: 257.8-1
SHA256: aa

Package: linux-image-6.12.1-arm64
Version: 6.12.1-1
SHA256: bb

Package: busybox-static
Version: 1:1.37
SHA256: cc
"""
RELEASE = """-----BEGIN PGP SIGNED MESSAGE-----
Hash: SHA512

Origin: Debian
Suite: stable
Codename: trixie
Date: Sat, 12 Sep 2026 07:55:41 UTC
SHA256:
 0 0 main/binary-arm64/Packages
"""
DSC = """-----BEGIN PGP SIGNED MESSAGE-----
Hash: SHA256

Format: 3.0 (quilt)
Source: u-boot
Version: 2023.01+dfsg-2
Files:
 0 1 u-boot.orig.tar.xz

-----BEGIN PGP SIGNATURE-----

abc
-----END PGP SIGNATURE-----
"""


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    folder = tmp_path / "lists"
    folder.mkdir()
    (folder / "x_main_Packages").write_text(PACKAGES)
    (folder / "x_InRelease").write_text(RELEASE)
    return folder


def test_what_is_installed_in_the_base_has_version_and_hash_and_what_is_not_known_says_so(
    tmp_path: Path, lists: Path
) -> None:
    tar = tmp_path / "base.tar"
    with tarfile.open(tar, "w") as archive:
        entry = tarfile.TarInfo("./var/lib/dpkg/status")
        entry.size = len(STATUS)
        archive.addfile(entry, io.BytesIO(STATUS.encode()))
    run("gzip", "-k", lists / "x_main_Packages")  # apt keeps its lists compressed
    (lists / "x_main_Packages").unlink()
    found = inputs._base(tar, lists)
    assert found["packages"] == {
        "systemd": {"version": "257.8-1", "sha256": "aa"},
        "old": {"version": "0.9", "sha256": None},
    }
    assert found["sha256"] == hashlib.sha256(tar.read_bytes()).hexdigest()
    (archive_told,) = found["archives"]
    assert (archive_told["Codename"], archive_told["Date"]) == ("trixie", "Sat, 12 Sep 2026 07:55:41 UTC")


def test_the_kernel_is_named_by_its_package_and_must_be_in_the_lists(tmp_path: Path, lists: Path) -> None:
    modules = tmp_path / "tree/usr/lib/modules/6.12.1-arm64"
    modules.mkdir(parents=True)
    found = inputs._kernel(load(), tmp_path, lists)
    assert found["packages"]["linux-image-6.12.1-arm64"] == {"version": "6.12.1-1", "sha256": "bb"}
    modules.rename(modules.with_name("6.13-arm64"))
    with pytest.raises(LabError, match=r"do not name linux-image-6\.13-arm64"):
        inputs._kernel(load(), tmp_path, lists)


def test_a_source_package_is_named_with_the_digest_of_each_file(tmp_path: Path, lists: Path) -> None:
    (tmp_path / "apt").mkdir()
    lists.rename(tmp_path / "apt/lists")
    source = tmp_path / "source.dsc"
    source.mkdir()
    (source / "u-boot.dsc").write_text(DSC)
    (source / "u-boot.orig.tar.xz").write_bytes(b"x")
    found = inputs._firmware(tmp_path)
    assert found["source"] == {"package": "u-boot", "version": "2023.01+dfsg-2"}
    assert found["files"]["u-boot.orig.tar.xz"] == hashlib.sha256(b"x").hexdigest()


def test_what_a_cache_tells_is_worked_out_once_and_again_for_another_format(tmp_path: Path) -> None:
    assert inputs._kept(tmp_path, lambda: {"packages": {}})["cache"] == tmp_path.name
    assert inputs._kept(tmp_path, lambda: pytest.fail("it was kept"))["packages"] == {}
    (tmp_path / "inputs.json").write_text('{"format": 0}')
    assert inputs._kept(tmp_path, lambda: {"packages": {"a": {}}})["packages"] == {"a": {}}


def test_a_report_takes_what_was_written_down_and_asks_only_for_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def collect(board: BoardDescription) -> dict[str, str]:
        asked.append(board.name)
        return {"base": f"of {board.name}"}

    monkeypatch.setattr(inputs, "collect", collect)
    file = tmp_path / "inputs.json"
    inputs.note(["virt-arm64"], file)
    assert inputs.gathered(["virt-arm64", "virt-armv7"], file) == {
        "virt-arm64": {"base": "of virt-arm64"},
        "virt-armv7": {"base": "of virt-armv7"},
    }
    assert list(inputs.gathered(["virt-armv7"], file)) == ["virt-armv7"]
    assert asked == ["virt-arm64", "virt-armv7"]


def test_two_boards_built_at_once_both_stand_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both_collect = threading.Barrier(2, timeout=waits.HANG)

    def collect(board: BoardDescription) -> dict[str, str]:
        both_collect.wait()
        return {"base": f"of {board.name}"}

    monkeypatch.setattr(inputs, "collect", collect)
    file, boards = tmp_path / "inputs.json", ["virt-arm64", "virt-armv7"]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda board: inputs.note([board], file), boards))
    assert list(json.loads(file.read_text())) == boards


def test_a_file_that_many_write_at_once_is_always_whole(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    reports = [{"cuts": list(range(1000 * size))} for size in range(8)]

    def write_and_read(report: object) -> bool:
        jsonfile.replace(file, report)
        return json.loads(file.read_text()) in reports

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(write_and_read, reports * 20))
    assert list(tmp_path.iterdir()) == [file]


@given(
    st.lists(
        st.dictionaries(
            st.from_regex(r"[A-Z][a-z]{0,9}", fullmatch=True),
            st.from_regex(r"[a-z0-9.:+-]{0,12}", fullmatch=True),
            min_size=1,
        ),
        max_size=5,
    )
)
def test_paragraphs_come_back_as_they_were_written(wanted: list[dict[str, str]]) -> None:
    text = "\n".join("".join(f"{name}: {value}\n more\n" for name, value in fields.items()) for fields in wanted)
    assert list(inputs.paragraphs(text)) == wanted


@given(st.text())
def test_no_text_breaks_the_reader(text: str) -> None:
    assert all(fields for fields in inputs.paragraphs(text))


@pytest.mark.board
def test_everything_of_the_real_board_has_a_version_and_a_hash(tmp_path: Path) -> None:
    found = inputs.note(["virt-arm64"], tmp_path / "inputs.json")["virt-arm64"]
    assert found == json.loads((tmp_path / "inputs.json").read_text())["virt-arm64"]
    packages = found["base"]["packages"] | found["kernel"]["packages"]
    assert {"systemd", "python3-tuf", "busybox-static"} <= set(packages)
    assert all(len(package["sha256"]) == 64 for package in packages.values() if package["sha256"])
    hashed = [name for name, package in packages.items() if package["sha256"]]
    assert len(hashed) > len(packages) // 2
    assert found["firmware"]["source"]["package"] == "u-boot"
    assert all(len(digest) == 64 for digest in found["firmware"]["files"].values())
