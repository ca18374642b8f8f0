"""What a root file system consists of: read from real databases and programs, checked by the standard's own schema."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import sqlite3
import struct
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from rootfs_samples import make_erofs, make_ext4, make_tree
from sbom_samples import APK, OPKG, make_dpkg_tree, make_program_tree, make_rpm, put
from twinslot_image.cli import main

needs_rpm = pytest.mark.skipif(shutil.which("rpmbuild") is None, reason="rpm is not installed")
SPDX2 = {
    "spdxVersion": "SPDX-2.3",
    "packages": [
        {
            "name": "zlib",
            "versionInfo": "1.3.1",
            "licenseDeclared": "Zlib",
            "externalRefs": [{"referenceType": "purl", "referenceLocator": "pkg:generic/zlib@1.3.1"}],
        },
        {"name": "image", "licenseDeclared": "NOASSERTION"},
    ],
}
SPDX3 = {
    "@context": "https://spdx.org/rdf/3.0.1/spdx-context.jsonld",
    "@graph": [{"type": "software_Package", "name": "zlib", "software_packageVersion": "1.3.1"}, {"type": "Person"}],
}


def assert_schema_is_kept(text: str) -> None:
    """CycloneDX's own; its library takes a second to import, which those that only collect need not spend."""
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None


def bill(rootfs: Path, *options: object) -> dict[str, Any]:
    """The bill of a tree, valid by the schema of CycloneDX."""
    out = rootfs.parent / "sbom.cdx.json"
    assert main(["sbom", str(rootfs), "-o", str(out), "--force", *map(str, options)]) == 0
    text = out.read_text()
    assert_schema_is_kept(text)
    whole: dict[str, Any] = json.loads(text)
    return whole


def components(whole: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["bom-ref"]: each for each in whole["components"]}


def needs(whole: dict[str, Any], reference: str) -> list[str]:
    return next(each.get("dependsOn", []) for each in whole["dependencies"] if each["ref"] == reference)


def properties(component: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["value"] for each in component["properties"]}


def test_packages_of_dpkg_are_listed_with_source_and_needs_and_removed_ones_are_not(tmp_path: Path) -> None:
    whole = bill(make_dpkg_tree(tmp_path / "tree"))
    found = components(whole)
    assert found.keys() == {"deb:libpump1:1:2.0-3:arm64", "deb:pump-tools:2.0-3:all", "pypi:pump-client:1.4"}
    library = found["deb:libpump1:1:2.0-3:arm64"]
    assert library["purl"] == "pkg:deb/pumpos/libpump1@1:2.0-3?arch=arm64&distro=pumpos-13&upstream=pump%402.0"
    assert properties(library)["twinslot:source"] == "pump 2.0"
    assert needs(whole, "deb:pump-tools:2.0-3:all") == ["deb:libpump1:1:2.0-3:arm64"]
    assert properties(found["pypi:pump-client:1.4"])["twinslot:package"] == "deb:pump-tools:2.0-3:all"
    assert found["pypi:pump-client:1.4"]["licenses"] == [{"license": {"id": "Apache-2.0"}}]
    assert whole["metadata"]["component"]["name"] == "Pump OS"


def test_packages_of_apk_and_opkg_are_listed(tmp_path: Path) -> None:
    put(tmp_path / "alpine", "lib/apk/db/installed", APK)
    alpine = bill(tmp_path / "alpine")
    assert components(alpine).keys() == {"apk:busybox:1.37.0-r12:aarch64", "apk:musl:1.2.5-r9:aarch64"}
    assert needs(alpine, "apk:busybox:1.37.0-r12:aarch64") == ["apk:musl:1.2.5-r9:aarch64"]
    put(tmp_path / "yocto", "var/lib/opkg/status", OPKG)
    assert components(bill(tmp_path / "yocto")).keys() == {
        "opkg:base-files:3.0.14-r0:qemuarm64",
        "opkg:netbase:6.4-r0:all",
    }


@needs_rpm
def test_a_package_that_rpm_installed_is_listed_with_its_epoch(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    put(tree, "etc/os-release", "ID=fedora\nVERSION_ID=43\n")
    make_rpm(tmp_path / "rpm", tree)
    found = components(bill(tree))
    assert found.keys() == {"rpm:pump:2:3.1-4:noarch"}
    assert found["rpm:pump:2:3.1-4:noarch"]["purl"] == (
        "pkg:rpm/fedora/pump@2:3.1-4?arch=noarch&distro=fedora-43&upstream=pump%403.1-4"
    )


@pytest.mark.parametrize("name", ["Packages", "Packages.db"])
def test_a_database_of_rpm_in_an_older_form_is_refused_and_not_taken_for_an_empty_one(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path / "tree", f"var/lib/rpm/{name}", "whatever")
    assert main(["sbom", str(tmp_path / "tree")]) == 3
    assert "rpmdb --rebuilddb" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("var/lib/dpkg/status", "no field\n"),
        ("var/lib/dpkg/status", " goes on from nothing\n"),
        ("var/lib/dpkg/status", "Version: 1\nStatus: install ok installed\n"),
        ("var/lib/dpkg/status", "Package: a\nStatus: install ok installed\n"),
        ("var/lib/dpkg/status", "Package: a b\nVersion: 1\n"),
        ("var/lib/opkg/status", "Package: a\n"),
        ("lib/apk/db/installed", "P:a\nno line\n"),
        ("lib/apk/db/installed", "V:1\n"),
        ("var/lib/rpm/rpmdb.sqlite", "no database"),
        ("var/lib/rpm/rpmdb.sqlite", ""),
        ("usr/lib/python3/a-1.dist-info/METADATA", "Version: 1\n"),
        ("usr/lib/python3/a-1.egg-info", "Name: a\n"),
    ],
)
def test_a_damaged_database_is_refused_by_name_and_nothing_is_written(
    tmp_path: Path, path: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path / "tree", path, text)
    assert main(["--json", "sbom", str(tmp_path / "tree"), "-o", str(tmp_path / "out.json")]) == 3
    error = json.loads(capsys.readouterr().out)
    assert (error["code"], error["exit_status"]) == ("image.package-database", 3)
    assert path in error["message"]
    assert not (tmp_path / "out.json").exists()


@pytest.mark.parametrize("state", ["unpacked", "half-configured", "half-installed", "triggers-pending"])
def test_a_package_whose_files_are_there_is_listed_before_it_is_configured(tmp_path: Path, state: str) -> None:
    status = f"Package: pump\nStatus: install ok {state}\nVersion: 1\nArchitecture: all\n"
    put(tmp_path / "tree", "var/lib/dpkg/status", status)
    assert components(bill(tmp_path / "tree")).keys() == {"deb:pump:1:all"}


@pytest.mark.parametrize("there", ["directory", "pipe", "link to nowhere", "link to itself"])
@pytest.mark.parametrize("path", ["var/lib/dpkg/status", "lib/apk/db/installed", "usr/lib/sysimage/rpm/rpmdb.sqlite"])
def test_a_database_that_is_no_file_is_not_taken_for_an_empty_one(
    tmp_path: Path, path: str, there: str, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "tree" / path
    place.parent.mkdir(parents=True)
    if there == "directory":
        place.mkdir()
    elif there == "pipe":
        os.mkfifo(place)
    else:
        place.symlink_to(place.name if there == "link to itself" else "/nowhere")
    assert main(["--json", "sbom", str(tmp_path / "tree")]) == 3
    error = json.loads(capsys.readouterr().out)
    assert (error["code"], error["expected"]) == ("image.package-database", "a file")


def test_packages_that_stand_in_the_journal_of_an_rpm_database_alone_are_listed(tmp_path: Path) -> None:
    place = tmp_path / "tree/usr/lib/sysimage/rpm"
    place.mkdir(parents=True)
    tags = ((1000, b"pump\0"), (1001, b"3.1\0"), (1002, b"4\0"))
    entries = b"".join(struct.pack(">IIII", tag, 6, at * 8, 1) for at, (tag, _) in enumerate(tags))
    header = struct.pack(">II", 3, 24) + entries + b"".join(text.ljust(8, b"\0") for _, text in tags)
    writer = sqlite3.connect(tmp_path / "rpmdb.sqlite")
    writer.execute("PRAGMA journal_mode = WAL")
    writer.execute("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, blob BLOB NOT NULL)")
    writer.execute("INSERT INTO Packages VALUES (1, ?)", (header,))
    writer.commit()
    for name in ("rpmdb.sqlite", "rpmdb.sqlite-wal"):  # as a build leaves them that was ended while RPM wrote
        shutil.copyfile(tmp_path / name, place / name)
    writer.close()
    assert components(bill(tmp_path / "tree")).keys() == {"rpm:pump:3.1-4"}


def test_programs_are_listed_with_digest_build_id_and_the_libraries_that_they_need(tmp_path: Path) -> None:
    whole = bill(make_program_tree(tmp_path / "tree"))
    program = components(whole)["file:/usr/bin/true"]
    notes = subprocess.run(
        ["readelf", "-n", tmp_path / "tree/usr/bin/true"], capture_output=True, text=True, check=True
    )
    assert f"Build ID: {properties(program)['twinslot:build-id']}" in notes.stdout
    assert any("libc" in path for path in needs(whole, "file:/usr/bin/true"))


@pytest.mark.verifies("REQ-IMG-25")
def test_a_library_that_a_program_needs_and_the_tree_lacks_is_refused_naming_both(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = make_program_tree(tmp_path / "tree")
    (library,) = tree.rglob("libc.so.6")
    library.unlink()
    assert main(["--json", "sbom", str(tree), "-o", str(tmp_path / "out.json")]) == 4
    (reason,) = json.loads(capsys.readouterr().out)["reasons"]
    assert (reason["code"], reason["expected"]) == ("refused.library-missing", "libc.so.6")
    assert "usr/bin/true" in reason["found"]
    assert not (tmp_path / "out.json").exists()
    assert main(["sbom", str(tree), "--foreign", "usr/bin/*", "-o", str(tmp_path / "out.json")]) == 0


@pytest.mark.verifies("REQ-IMG-25")
def test_a_library_of_another_machine_or_a_link_to_nowhere_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = make_program_tree(tmp_path / "tree")
    (library,) = tree.rglob("libc.so.6")
    content = bytearray(library.read_bytes())
    content[18:20] = (243).to_bytes(2, "little")  # e_machine: RISC-V
    library.write_bytes(content)
    (tree / "etc/libc.so.6").symlink_to("/usr/lib/absent")
    assert main(["sbom", str(tree)]) == 4
    assert "libc.so.6" in capsys.readouterr().err
    library.unlink()
    shutil.copy(Path("/", library.relative_to(tree)), library.with_name("real.so"))
    (tree / "etc/libc.so.6").unlink()
    (tree / "etc/libc.so.6").symlink_to(f"/{library.with_name('real.so').relative_to(tree)}")
    assert main(["sbom", str(tree), "-o", str(tmp_path / "out.json")]) == 0


def pack_tar(tree: Path, out: Path) -> Path:
    with tarfile.open(out, "w") as archive:
        archive.add(tree, ".")
    return out


def pack_gzip(tree: Path, out: Path) -> Path:
    out.write_bytes(gzip.compress(pack_tar(tree, out.with_suffix(".plain")).read_bytes()))
    return out


def pack_zstd(tree: Path, out: Path) -> Path:
    out.write_bytes(zstandard.compress(pack_tar(tree, out.with_suffix(".plain")).read_bytes()))
    return out


def make_large_ext4(tree: Path, out: Path) -> Path:
    return make_ext4(tree, out, "16M")


@pytest.mark.parametrize("pack", [pack_tar, pack_gzip, pack_zstd, make_large_ext4, make_erofs])
def test_a_tree_has_the_same_bill_wherever_it_stands(tmp_path: Path, pack: Callable[[Path, Path], Path]) -> None:
    tree = make_dpkg_tree(make_program_tree(tmp_path / "tree"))
    (tree / "usr/bin/hard").hardlink_to(tree / "usr/bin/true")
    plain, packed = bill(tree), bill(pack(tree, tmp_path / "packed"))
    assert packed["components"] == plain["components"]
    assert packed["dependencies"] == plain["dependencies"]
    assert "hashes" not in plain["metadata"]["component"]
    assert packed["metadata"]["component"]["hashes"]


@pytest.mark.parametrize("left", [1536, 2000, -1024, -512])
def test_an_archive_that_was_cut_is_refused_and_no_shorter_bill_is_made(
    tmp_path: Path, left: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with tarfile.open(tmp_path / "whole.tar", "w") as archive:
        archive.add(make_dpkg_tree(tmp_path / "tree"), ".")
        end = archive.offset
    (tmp_path / "cut.tar").write_bytes((tmp_path / "whole.tar").read_bytes()[: left if left > 0 else end + left])
    assert main(["--json", "sbom", str(tmp_path / "cut.tar")]) == 3
    assert json.loads(capsys.readouterr().out)["code"] == "image.rootfs-damaged"


def test_an_archive_with_a_damaged_head_in_the_middle_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with tarfile.open(tmp_path / "rootfs.tar", "w") as archive:
        for name in ("etc/a", "etc/b", "var/lib/dpkg/status"):
            archive.addfile(tarfile.TarInfo(name))
    data = bytearray((tmp_path / "rootfs.tar").read_bytes())
    data[512 + 148] ^= 1  # in the checksum of the second head
    (tmp_path / "rootfs.tar").write_bytes(data)
    assert main(["--json", "sbom", str(tmp_path / "rootfs.tar")]) == 3
    assert json.loads(capsys.readouterr().out)["code"] == "image.rootfs-damaged"


def test_the_same_tree_gives_the_same_bytes_and_another_tree_another_serial_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    tree = make_dpkg_tree(tmp_path / "tree")
    first = bill(tree)
    assert bill(tree) == first
    assert "timestamp" not in first["metadata"]
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    dated = bill(tree)
    assert dated["metadata"]["timestamp"] == "2023-11-14T22:13:20Z"
    assert dated["serialNumber"] == first["serialNumber"]
    assert bill(tree, "--release", "2")["serialNumber"] != first["serialNumber"]


def archive_of_documents(path: Path) -> Path:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        data = json.dumps(SPDX2).encode()
        info = tarfile.TarInfo("recipe.spdx.json")
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    path.write_bytes(zstandard.compress(out.getvalue()))
    return path


@pytest.mark.parametrize("form", ["2", "3", "archive"])
def test_packages_that_an_spdx_document_names_are_listed_too(tmp_path: Path, form: str) -> None:
    given = tmp_path / "given"
    if form == "archive":
        archive_of_documents(given)
    else:
        given.write_text(json.dumps(SPDX2 if form == "2" else SPDX3))
    found = components(bill(make_dpkg_tree(tmp_path / "tree"), "--spdx", given))
    assert found["spdx:zlib:1.3.1"]["version"] == "1.3.1"
    assert len(found) == 4


@pytest.mark.parametrize("text", ["", "[]", "{", "{}", '{"spdxVersion": "SPDX-2.3", "packages": 5}', "[" * 100_000])
def test_what_is_no_spdx_document_is_refused(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    given = put(tmp_path, "given", text)
    (tmp_path / "tree").mkdir()
    assert main(["--json", "sbom", str(tmp_path / "tree"), "--spdx", str(given)]) == 3
    assert json.loads(capsys.readouterr().out)["code"] == "image.sbom"


def test_a_bill_replaces_a_bill_but_no_other_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree = make_dpkg_tree(tmp_path / "tree")
    out = put(tmp_path, "out.json", "{}")
    assert main(["sbom", str(tree), "-o", str(out)]) == 4
    assert "is no bill of materials" in capsys.readouterr().err
    out.unlink()
    assert main(["sbom", str(tree), "-o", str(out)]) == 0
    assert main(["sbom", str(tree), "-o", str(out)]) == 0


@pytest.mark.parametrize("content", [b"", b"\x1f\x8b\x08 no gzip", b"x" * 4096])
def test_what_is_no_tree_is_refused(tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tree").write_bytes(content)
    assert main(["sbom", str(tmp_path / "tree")]) == 3
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.skipif(not shutil.which("mksquashfs"), reason="needs squashfs-tools")
def test_a_squashfs_is_refused_with_what_makes_a_directory_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, tree = tmp_path / "rootfs.squashfs", make_dpkg_tree(tmp_path / "tree")
    subprocess.run(["mksquashfs", tree, image, "-quiet", "-no-progress"], check=True, capture_output=True)
    assert main(["sbom", str(image)]) == 3
    assert "'unsquashfs -d DIR FILE' unpacks it" in capsys.readouterr().err
    subprocess.run(["unsquashfs", "-d", tmp_path / "again", image], check=True, capture_output=True)
    assert main(["sbom", str(tmp_path / "again")]) == 0


def built(tmp_path: Path, *, more: str = "", check: str = "") -> int:
    (tmp_path / "image.toml").write_text(
        'product = "Pump"\nrelease = "2026.11"\nsequence = 1\ncompatible = "acme,pump"\narchitecture = "amd64"\n'
        f'trust = "keys"\n{more}\n[payloads.rootfs]\nfile = "rootfs.ext4"\n{check}\n'
    )
    return main(["build", str(tmp_path / "image.toml"), "-o", str(tmp_path / "pump.twin")])


@pytest.fixture
def product(tmp_path: Path) -> Path:
    tree = make_dpkg_tree(make_tree(tmp_path / "tree", "amd64"))
    make_ext4(tree, tmp_path / "rootfs.ext4", "8M")
    assert main(["keys", "init", str(tmp_path / "keys"), "--roles", "engineering"]) == 0
    return tmp_path


@pytest.mark.verifies("REQ-IMG-26")
def test_build_attaches_the_bill_of_its_root_file_system_bound_to_the_payload(
    product: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert built(product, more='sbom = "auto"') == 0
    capsys.readouterr()
    assert main(["--json", "inspect", str(product / "pump.twin")]) == 0
    image = json.loads(capsys.readouterr().out)["image"]
    (attachment,) = image["attachments"]
    assert (attachment["name"], attachment["type"]) == ("sbom.cdx.json", "sbom")
    out = product / "out.json"
    assert main(["extract-attachment", str(product / "pump.twin"), "sbom.cdx.json", "-o", str(out)]) == 0
    whole = json.loads(out.read_text())
    assert_schema_is_kept(out.read_text())
    about = whole["metadata"]["component"]
    assert (about["name"], about["version"]) == ("Pump", "2026.11")
    assert about["hashes"] == [{"alg": "SHA-256", "content": image["payloads"][0]["sha256"]}]


def test_build_names_the_packages_of_an_spdx_document_too(product: Path) -> None:
    put(product, "given.json", json.dumps(SPDX2))
    assert built(product, more='sbom = "auto"\nspdx = "given.json"') == 0
    out = product / "out.json"
    assert main(["extract-attachment", str(product / "pump.twin"), "sbom.cdx.json", "-o", str(out)]) == 0
    assert "spdx:zlib:1.3.1" in components(json.loads(out.read_text()))


def test_an_spdx_document_without_a_bill_to_be_made_is_refused(
    product: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(product, "given.json", json.dumps(SPDX2))
    assert built(product, more='spdx = "given.json"') == 3
    assert "'spdx' is wrong" in capsys.readouterr().err


def test_a_bill_of_no_root_file_system_is_refused(product: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert built(product, more='sbom = "auto"', check='check = "none"') == 3
    assert "'sbom' is wrong" in capsys.readouterr().err


def test_a_name_that_the_bill_is_to_have_is_refused_before_anything_is_packed(
    product: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(product, "mine", "{}")
    assert built(product, more='sbom = "auto"\n[attachments."sbom.cdx.json"]\nfile = "mine"') == 3
    assert "sbom.cdx.json" in capsys.readouterr().err


@pytest.mark.verifies("REQ-IMG-25")
def test_build_refuses_a_root_file_system_that_lacks_a_library(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = make_tree(make_program_tree(tmp_path / "tree"), "amd64", exist_ok=True)
    for library in tree.rglob("libc.so.6"):
        library.unlink()
    make_ext4(tree, tmp_path / "rootfs.ext4", "16M")
    assert main(["keys", "init", str(tmp_path / "keys"), "--roles", "engineering"]) == 0
    capsys.readouterr()
    assert built(tmp_path) == 4
    assert "expected 'libc.so.6', found 'nothing; needed by usr/bin/true'" in capsys.readouterr().err
