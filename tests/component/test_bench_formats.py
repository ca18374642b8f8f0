"""The bench's table of patches by format, and package lists of a mirror that is out of step."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pytest

from bench.formats import FORMATS, measure
from bench.packages import TRIES, update_lists
from bench.pairs import Pair
from rootfs_samples import make_ext4, make_tree
from twinslot_lab.errors import BuildError

pytestmark = pytest.mark.slow


def test_a_pair_has_a_row_for_each_format_and_each_says_what_it_really_is(tmp_path: Path) -> None:
    content = random.Random(1).randbytes(200_000)
    for name, program in (("old", content), ("new", content[:90_000] + b"something else" + content[90_000:])):
        tree = make_tree(tmp_path / f"{name}.tree")
        (tree / "program").write_bytes(program)
        make_ext4(tree, tmp_path / f"{name}.img")
    (tmp_path / "work").mkdir()
    rows = list(measure(Pair("security", tmp_path, {}), 65_536, tmp_path / "work", name="arm64", updates="suite"))
    assert [row.newest for row in rows] == list(FORMATS)
    assert rows[0].version == 1
    assert rows[0].ratio == 1.0
    for row in rows:
        assert row.version <= row.newest
        assert row.size == (tmp_path / f"work/{row.newest}.twinpatch").stat().st_size
        assert row.ratio == row.size / rows[0].size
        assert 0 < row.digests < row.size
        assert row.line().startswith(f"| arm64 | suite | 64 | {row.newest} | {row.version} | {row.size:,} |")


def mirror(folder: Path, *, in_step: bool) -> list[str]:
    """apt's options for a mirror in a folder, whose list of packages fits its Release file or does not."""
    place = folder / "mirror/dists/stable/main/binary-arm64"
    place.mkdir(parents=True)
    packages = b"Package: a\nVersion: 1\nArchitecture: arm64\nFilename: a.deb\nSize: 1\n\n"
    (place / "Packages").write_bytes(packages if in_step else packages + b"\n")
    digest = hashlib.sha256(packages).hexdigest()
    lines = [f" {digest} {len(packages)} main/binary-arm64/Packages"]
    head = ["Suite: stable", "Codename: stable", "Architectures: arm64", "Components: main", "SHA256:"]
    (place.parents[1] / "Release").write_text("\n".join([*head, *lines]) + "\n")
    (folder / "lists/partial").mkdir(parents=True)
    (folder / "status").touch()
    (folder / "sources.list").write_text(f"deb [trusted=yes] file:{folder}/mirror stable main\n")
    settings = {
        "Dir::State": folder,
        "Dir::State::status": folder / "status",
        "Dir::State::lists": folder / "lists",
        "Dir::Cache": folder,
        "Dir::Etc::sourcelist": folder / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "APT::Sandbox::User": "root",
        "APT::Architecture": "arm64",
        "APT::Architectures::": "arm64",
        "Acquire::Languages": "none",
    }
    return [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]


def test_lists_that_fit_their_signed_file_are_taken(tmp_path: Path) -> None:
    update_lists(mirror(tmp_path, in_step=True), pause=0)
    assert list((tmp_path / "lists").glob("*Release"))


def test_a_mirror_out_of_step_is_tried_again_and_then_told_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(BuildError) as caught:
        update_lists(mirror(tmp_path, in_step=False), pause=0)
    assert caught.value.message.startswith(f"no package lists after {TRIES} tries: Failed to fetch ")
    assert "\n" not in str(caught.value)
    assert "--updates suite" in str(caught.value.hint)
    assert capsys.readouterr().err.count("more tries") == TRIES - 1
