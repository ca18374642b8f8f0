"""The patch as a release engineer makes it and as a device uses it: the command, the file, a fetch that is cut."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from image_samples import make_sample
from twinslot.core.errors import ImageError
from twinslot.core.manifest import parse_manifest
from twinslot.image.groups import check_plain_list
from twinslot.image.patch import PatchDecoder, parse_patch_head
from twinslot.worker.sources.patch import patch_url
from twinslot_image.cli import main
from twinslot_image.compose import read_front
from twinslot_image.patch_search import SAMPLE_ABOVE, PatchSearch
from twinslot_image.patch_sources import read_content

pytestmark = pytest.mark.slow

GROUP = 65536


def payload(seed: int, moved: int) -> bytes:
    """Two mebibytes: a program whose latter half moves, and noise that is new each time."""
    source = random.Random(1)
    words = [source.randbytes(8) for _ in range(2000)]
    program = b"".join(source.choices(words, k=200_000))
    return program[:700_000] + bytes(moved) + program[700_000:] + random.Random(seed).randbytes(300_000)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two images, the content of the older one, and the patch between them."""
    shelf = tmp_path_factory.mktemp("shelf")
    for name, content in (("old", payload(1, 4096)), ("new", payload(2, 12345))):
        (shelf / f"{name}.twin").write_bytes(make_sample({"rootfs": content}, group_size=GROUP).data)
        (shelf / f"{name}.img").write_bytes(content)
    assert main(["patch", str(shelf / "old.twin"), str(shelf / "new.twin"), "-o", str(shelf / "patch")]) == 0
    return shelf


def test_a_device_makes_the_new_payload_from_its_base_the_patch_and_the_manifest(shelf: Path) -> None:
    with (shelf / "new.twin").open("rb") as image:
        wanted = parse_manifest(read_front(image).manifest).payload("rootfs")
    data, base = (shelf / "patch").read_bytes(), read_content("rootfs", shelf / "old.img", GROUP)
    head = parse_patch_head(data)
    part = head.payload("rootfs")
    assert part.plain_list == wanted.plain_list
    assert part.base == base.digest
    new_list = check_plain_list(wanted, part.new_plain_list(base.plain_list))
    slot = bytearray((shelf / "old.img").read_bytes()[: wanted.size].ljust(wanted.size, b"\0"))
    descriptor = os.open(shelf / "old.img", os.O_RDONLY)
    decoder = PatchDecoder(part, new_list, lambda offset, length: os.pread(descriptor, length, offset))
    for index, plain in decoder.groups([data[head.length :]]):
        assert plain is not None
        slot[index * GROUP : index * GROUP + len(plain)] = plain
    os.close(descriptor)
    assert slot == (shelf / "new.img").read_bytes()
    assert len(data) < 310_000, "the noise, and little more"


def test_a_patch_for_another_image_does_not_complete_the_list(shelf: Path) -> None:
    other = parse_manifest(make_sample({"rootfs": payload(3, 0)}, group_size=GROUP).manifest_bytes).payload("rootfs")
    part = parse_patch_head((shelf / "patch").read_bytes()).payload("rootfs")
    base = read_content("rootfs", shelf / "old.img", GROUP)
    assert part.plain_list != other.plain_list
    with pytest.raises(ImageError, match="plain list of payload 'rootfs'"):
        check_plain_list(other, part.new_plain_list(base.plain_list))


def test_a_fetch_that_was_cut_anywhere_repeats_one_piece_at_most(shelf: Path) -> None:
    data = (shelf / "patch").read_bytes()
    head = parse_patch_head(data)
    part = head.payload("rootfs")
    base = (shelf / "old.img").read_bytes()
    new_list = part.new_plain_list(read_content("rootfs", shelf / "old.img", GROUP).plain_list)
    decoder = PatchDecoder(part, new_list, lambda offset, length: base[offset : offset + length])
    assert len(part.pieces) > 3
    for cut in range(head.length, len(data), 40_000):
        got = list[int]()
        groups = decoder.groups([data[head.length : cut]])
        with pytest.raises(ImageError, match="ends inside its piece"):
            got.extend(index for index, plain in groups if plain is not None)
        again = next(number for number, piece in enumerate(part.pieces) if piece.first >= len(got))
        start = part.pieces[again].offset
        assert cut - start <= GROUP, "bytes that are fetched twice"
        got += [index for index, plain in decoder.groups([data[start:]], first=again) if plain is not None]
        assert got == [changed.index for changed in part.changed]


def test_the_command_says_the_same_to_people_and_programs_and_inspect_repeats_it(
    shelf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", "--json", str(shelf / "patch")]) == 0
    data = json.loads(capsys.readouterr().out)["patch"]
    again = ["patch", "--json", str(shelf / "old.img"), str(shelf / "new.twin"), "-o", str(shelf / "again")]
    assert main(again) == 0
    result = {"type": "result", "command": "patch", "file": str(shelf / "again"), "patch": data}
    result |= {"base": "'old.img'", "release": "2026.11", "image_size": (shelf / "new.twin").stat().st_size}
    assert json.loads(capsys.readouterr().out) == result
    assert (shelf / "again").read_bytes() == (shelf / "patch").read_bytes()
    assert data["size"] == (shelf / "patch").stat().st_size
    assert data["payloads"][0]["changed"] > 10
    assert main(["inspect", str(shelf / "patch")]) == 0
    text = capsys.readouterr().out
    assert f"from base    {data['payloads'][0]['base']}" in text
    assert "A patch is not signed" in text


def test_in_a_directory_it_gets_the_name_that_devices_look_for(shelf: Path, tmp_path: Path) -> None:
    assert main(["patch", str(shelf / "old.img"), str(shelf / "new.twin"), "-o", str(tmp_path)]) == 0
    digest = hashlib.sha256((shelf / "old.img").read_bytes()).hexdigest()
    name = patch_url("http://server/releases/new.twin", digest).rpartition("/")[2]
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == (shelf / "patch").read_bytes()


def test_a_patch_that_is_cut_short_is_named_by_inspect(shelf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shelf / "short").write_bytes((shelf / "patch").read_bytes()[:-1])
    assert main(["inspect", str(shelf / "short")]) == 3
    assert "the length of the patch: expected" in capsys.readouterr().err


def test_mistakes_end_with_a_status_and_a_sentence_and_leave_nothing(
    shelf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "damaged.twin").write_bytes((shelf / "new.twin").read_bytes()[:-5000])
    (tmp_path / "empty.img").write_bytes(b"")
    out = str(tmp_path / "out")
    for old, new, status, sentence in (
        (shelf / "old.twin", tmp_path / "damaged.twin", 3, "the image ends inside the 'groups' section"),
        (tmp_path / "empty.img", shelf / "new.twin", 3, "is empty"),
        (tmp_path / "missing", shelf / "new.twin", 6, "there is no file"),
        (shelf / "old.twin", shelf / "old.img", 3, "is no .twin image"),
        (shelf / "patch", shelf / "new.twin", 3, "is neither an image nor what a partition holds (it is a patch)"),
    ):
        assert main(["patch", str(old), str(new), "-o", out]) == status
        assert sentence in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["damaged.twin", "empty.img"]


def test_other_commands_do_without_numpy(shelf: Path) -> None:
    code = "import sys; sys.modules['numpy'] = None; from twinslot_image.cli import main; sys.exit(main(sys.argv[1:]))"
    program: list[str | Path] = [sys.executable, "-W", "error", "-c", code]
    look = subprocess.run([*program, "inspect", shelf / "patch"], capture_output=True, text=True, check=False)
    assert (look.returncode, look.stderr) == (0, "")
    command = [*program, "patch", shelf / "old.twin", shelf / "new.twin", "-o", shelf / "x"]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    assert made.returncode == 6
    assert "'patch' needs NumPy" in made.stderr


def test_people_read_from_which_release_to_which_and_what_is_saved(
    shelf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["patch", str(shelf / "old.twin"), str(shelf / "new.twin"), "-o", str(tmp_path / "patch")]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert re.search(r"patch: 2026\.11 -> 2026\.11: 2\d\d\.\d KiB instead of 9\d\d\.\d KiB$", first)


@pytest.mark.parametrize("size", [300_000, 8_000_000])
def test_a_patch_that_saves_nothing_is_refused_and_a_large_one_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    noise = random.Random(3)
    (tmp_path / "base.img").write_bytes(noise.randbytes(1 << 20))
    (tmp_path / "new.twin").write_bytes(make_sample({"rootfs": noise.randbytes(size)}, group_size=GROUP).data)
    if size > SAMPLE_ABOVE:
        monkeypatch.setattr(PatchSearch, "recipes", None)
    command = ["patch", str(tmp_path / "base.img"), str(tmp_path / "new.twin"), "-o", f"{tmp_path}/release/"]
    assert main(command) == 4
    assert "base.img' is no smaller than the image itself" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base.img", "new.twin"]


def test_a_base_that_has_a_tenth_is_worth_a_patch(tmp_path: Path) -> None:
    noise = random.Random(4)
    content = noise.randbytes(2_400_000)
    (tmp_path / "base.img").write_bytes(noise.randbytes(1_000_001) + content[1_000_000:1_300_000])
    (tmp_path / "new.twin").write_bytes(make_sample({"rootfs": content}, group_size=GROUP).data)
    assert main(["patch", str(tmp_path / "base.img"), str(tmp_path / "new.twin"), "-o", str(tmp_path / "patch")]) == 0
    assert (tmp_path / "patch").stat().st_size < 2_150_000
