"""The disk of a new device, made by one command, and read back by the tools of the operating system."""

from __future__ import annotations

import json
import random
import re
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootfs_samples import make_erofs, make_tree
from twinslot.core.errors import TwinslotError
from twinslot.core.model import SlotName
from twinslot.storage.record.record import Record
from twinslot_image.cli import main
from twinslot_image.factory.board import DISK_KEYS, ENVIRONMENT_KEYS, FIRMWARE_KEYS, FactoryBoard, read_board

MIB = 1 << 20
IMAGE = """
product = "Pump"
release = "1.0"
sequence = 7
type = "feature"
compatible = ["acme,pump-3"]
architecture = "arm64"
trust = "keys"
expires = 2099-01-01T00:00:00Z
[payloads.rootfs]
file = "rootfs.erofs"
[payloads.voices]
file = "voices.bin"
check = "none"
"""
CONFIG = """
[device]
compatible = "acme,pump-3"
[trust]
roles = ["engineering"]
[slots.a]
rootfs = "/dev/disk/by-partlabel/slot_a"
voices = "/dev/disk/by-partlabel/voices_a"
[slots.b]
rootfs = "/dev/disk/by-partlabel/slot_b"
voices = "/dev/disk/by-partlabel/voices_b"
"""
BOARD = """
[disk]
first_mib = 2
slot_mib = 3
data_mib = 8
beside = { voices = 1 }
[environment]
device = "/dev/mmcblk0"
offsets = [0x40000, 0x80000]
size = 0x4000
default = "default-env.txt"
"""
FIRMWARE = b"boot loader " * 1000


def make_bench(bench: Path) -> Path:
    """Keys, a system that trusts them, a signed image of it, and a board."""
    assert main(["keys", "init", str(bench / "keys"), "--roles", "engineering"]) == 0
    tree = make_tree(bench / "tree")
    (tree / "usr/lib/twinslot").mkdir(parents=True)
    (tree / "usr/lib/twinslot/config.toml").write_text(CONFIG)
    (tree / "usr/lib/twinslot/root.json").write_bytes((bench / "keys/1.root.json").read_bytes())
    (tree / "etc/fw_env.config").write_text("/dev/mmcblk0 0x40000 0x4000\n/dev/mmcblk0 0x80000 0x4000\n")
    (tree / "usr/lib/model.bin").write_bytes(random.Random(1).randbytes(MIB))
    (bench / "voices.bin").write_bytes(bytes(range(256)) * 100)
    (bench / "image.toml").write_text(IMAGE)
    (bench / "board.toml").write_text(BOARD)
    (bench / "default-env.txt").write_text("bootlimit=3\n")
    (bench / "spl.bin").write_bytes(FIRMWARE)
    pack(bench)
    return bench


def pack(bench: Path, *, sign: bool = True) -> None:
    make_erofs(bench / "tree", bench / "rootfs.erofs")
    assert main(["build", str(bench / "image.toml"), "-o", str(bench / "pump.twin"), "--force"]) == 0
    [key] = (bench / "keys/private").glob("engineering.*.pem")
    if sign:
        assert main(["sign", str(bench / "pump.twin"), "--role", "engineering", "--key", str(key)]) == 0


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bench that nobody changes."""
    return make_bench(tmp_path_factory.mktemp("bench"))


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    return make_bench(tmp_path)


def factory(bench: Path, disk: Path, *more: str) -> int:
    command = ["factory", str(bench / "pump.twin"), "--board", str(bench / "board.toml")]
    return main([*command, "--root", str(bench / "keys/1.root.json"), "-o", str(disk), *more])


def partitions(disk: Path) -> dict[str, tuple[int, int]]:
    """What sfdisk reads: name -> start and size in bytes."""
    done = subprocess.run(["/usr/sbin/sfdisk", "--json", disk], capture_output=True, check=True)
    found = json.loads(done.stdout)["partitiontable"]["partitions"]
    return {each.get("name", each["node"][-1]): (each["start"] * 512, each["size"] * 512) for each in found}


def content(disk: Path, place: tuple[int, int]) -> bytes:
    with disk.open("rb") as file:
        file.seek(place[0])
        return file.read(place[1])


def printed(disk: Path, folder: Path) -> dict[str, str]:
    """The environment, by the real tool."""
    config = folder / "here.txt"
    (link := folder / "disk").unlink(missing_ok=True)
    link.symlink_to(disk)  # whose name has no blanks
    config.write_text(f"{link} 0x40000 0x4000\n{link} 0x80000 0x4000\n")
    done = subprocess.run(["fw_printenv", "-c", config], capture_output=True, text=True, check=True)
    return dict(line.split("=", 1) for line in done.stdout.splitlines())


def test_a_disk_holds_all_that_a_device_leaves_the_factory_with(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    disk = tmp_path / "a disk.img"
    assert factory(made, disk, "--json") == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (told["file"], told["release"], told["roles"]) == (str(disk), "1.0", ["engineering"])
    found = partitions(disk)
    assert list(found) == ["slot_a", "slot_b", "data", "voices_a", "voices_b"]
    for name, source in (("slot_a", "rootfs.erofs"), ("voices_a", "voices.bin")):
        whole = (made / source).read_bytes()
        assert content(disk, found[name]) == whole.ljust(found[name][1], b"\0")
    for name in ("slot_b", "voices_b"):
        assert not content(disk, found[name]).strip(b"\0")
    variables = printed(disk, tmp_path)
    assert variables["bootlimit"] == "3", "the board's own"
    assert (variables["slot"], variables["slot_a"], variables["slot_b"]) == ("a", "good", "bad")
    assert variables["ts_sequence"] == "7"


def asked(command: str, image: Path) -> str:
    """What debugfs answers; files that it dumps go beside the image."""
    argv = ["/usr/sbin/debugfs", "-R", command, str(image)]
    done = subprocess.run(argv, cwd=image.parent, capture_output=True, text=True, check=True)
    return done.stdout


def test_the_disk_of_an_encrypted_image_is_made_by_who_has_a_key_and_holds_it_in_plain(
    bench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("line", "other"):
        assert main(["recipients", "new", str(bench / f"{name}.pem")]) == 0
    with (bench / "image.toml").open("a") as file:
        file.write('[encryption]\nrecipients = ["line.pub.pem"]\n')
    pack(bench)
    disk = tmp_path / "disk.img"
    capsys.readouterr()
    assert factory(bench, disk) == 4
    assert "--identity" in capsys.readouterr().err
    assert factory(bench, disk, "--identity", str(bench / "other.pem")) == 4
    assert not disk.exists()
    assert factory(bench, disk, "--identity", str(bench / "line.pem")) == 0
    places = partitions(disk)
    for name, packed in (("slot_a", "rootfs.erofs"), ("voices_a", "voices.bin")):
        assert content(disk, places[name]).startswith((bench / packed).read_bytes())


def test_the_data_partition_is_whole_and_its_record_knows_the_release_and_is_roots_alone(
    made: Path, tmp_path: Path
) -> None:
    assert factory(made, tmp_path / "disk.img") == 0
    data = tmp_path / "data.img"
    data.write_bytes(content(tmp_path / "disk.img", partitions(tmp_path / "disk.img")["data"]))
    subprocess.run(["/usr/sbin/e2fsck", "-f", "-n", data], check=True, capture_output=True)
    asked("dump lib/twinslot/record.sqlite record.sqlite", data)
    about = asked("stat lib/twinslot/record.sqlite", data)
    assert re.search(r"Mode:\s+0600\b", about)
    assert re.search(r"User:\s+0\s+Group:\s+0\b", about)
    with Record(tmp_path, lambda: "2026-11-01T00:00:00Z", "first") as record:
        slot = record.slot(SlotName.A)
        assert slot
        assert slot.release.name == "1.0"
        assert set(slot.payloads) == {"rootfs", "voices"}


def test_the_same_inputs_give_the_same_bytes(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        assert factory(made, tmp_path / name / "disk.img") == 0
    assert (tmp_path / "one/disk.img").read_bytes() == (tmp_path / "two/disk.img").read_bytes()


def test_a_card_of_its_own_gets_the_environment_and_the_disk_none_of_it(made: Path, tmp_path: Path) -> None:
    board = tmp_path / "board.toml"
    board.write_text(BOARD.replace("size = 0x4000", "size = 0x4000\ncard_mib = 1").replace("default =", "#"))
    disk, card = tmp_path / "disk.img", tmp_path / "card.img"
    command = ["factory", str(made / "pump.twin"), "--board", str(board), "--root", str(made / "keys/1.root.json")]
    assert main([*command, "-o", str(disk)]) == 2
    assert not disk.exists()
    assert main([*command, "-o", str(disk), "--card", str(card)]) == 0
    assert card.stat().st_size == MIB
    assert printed(card, tmp_path)["slot_a"] == "good"
    assert not content(disk, (0x40000, 0x80000)).strip(b"\0")


def test_a_board_that_starts_from_its_disk_has_the_boot_loader_where_it_looks(bench: Path, tmp_path: Path) -> None:
    config = CONFIG.replace("by-partlabel/slot_a", "by-partuuid/0000beef-01")
    config = config.replace("by-partlabel/slot_b", "by-partuuid/0000beef-02")
    config = re.sub("voices = .*\n", "", config)
    (bench / "tree/usr/lib/twinslot/config.toml").write_text(config)
    (bench / "image.toml").write_text(IMAGE.partition("[payloads.voices]")[0])
    pack(bench)
    board = BOARD.replace("beside = { voices = 1 }", 'table = "dos"\nid = 0xbeef')
    (bench / "board.toml").write_text(board + '[firmware]\nfile = "spl.bin"\noffset = 0x2000\n')
    assert factory(bench, tmp_path / "disk.img") == 0
    assert content(tmp_path / "disk.img", (0x2000, len(FIRMWARE))) == FIRMWARE
    assert list(partitions(tmp_path / "disk.img")) == ["1", "2", "3"]
    assert printed(tmp_path / "disk.img", tmp_path)["slot"] == "a"


def in_tree(path: str, old: str, new: str) -> Callable[[Path], None]:
    def change(bench: Path) -> None:
        file = bench / "tree" / path
        file.write_text(file.read_text().replace(old, new))
        pack(bench)

    return change


def in_board(old: str, new: str) -> Callable[[Path], None]:
    def change(bench: Path) -> None:
        assert old in BOARD
        (bench / "board.toml").write_text(BOARD.replace(old, new))

    return change


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        (in_tree("usr/lib/twinslot/root.json", "}", "} "), 4, "trusts another root document"),
        (in_tree("etc/fw_env.config", "0x80000", "0x90000"), 4, "has the environment elsewhere"),
        (in_tree("etc/fw_env.config", "/dev", "dev"), 4, "does not describe an environment"),
        (in_tree("usr/lib/twinslot/config.toml", "voices_b", "voices_c"), 4, "has other partitions for slot b"),
        (in_tree("usr/lib/twinslot/config.toml", "acme,pump-3", "acme,pump-4"), 4, "no device that the image is for"),
        (in_tree("usr/lib/twinslot/config.toml", "engineering", "clinical"), 4, "clinical"),
        (in_tree("usr/lib/twinslot/config.toml", "[trust]", "[thrust]"), 6, "trust"),
        (lambda bench: pack(bench, sign=False), 4, "expected '1 valid signature', found '0'"),
        (in_board("slot_mib = 3", "slot_mib = 1"), 4, "payload 'rootfs' is larger than its partition"),
        (in_board("voices = 1", "noises = 1"), 4, "other payloads than the board has partitions"),
        (in_board("slot_mib", "slot_mb"), 3, "did you mean 'slot_mib'?"),
        (in_board("data_mib = 8", ""), 3, "'disk.data_mib' is missing"),
        (in_board("0x80000]", "0x42000]"), 3, "the copies of the environment overlap something"),
        (in_board("first_mib = 2", "size_mib = 4"), 3, "the partitions do not fit on the disk"),
        (in_board("[0x40000", "[0x400"), 3, "overlaps the partition table"),
        (in_board("default-env.txt", "no-such.txt"), 6, "no-such.txt"),
        (in_board("size = 0x4000", 'size = 0x4000\n[firmware]\nfile = "spl.bin"\noffset = 0x3f000'), 3, "firmware"),
        (lambda bench: (bench / "board.toml").write_text("[disk"), 3, "at the end of a table declaration"),
        (lambda bench: (bench / "pump.twin").write_text("no image"), 3, "no .twin image"),
    ],
)
def test_what_would_be_no_device_that_takes_updates_is_not_made(
    bench: Path, capsys: pytest.CaptureFixture[str], change: Callable[[Path], None], status: int, said: str
) -> None:
    change(bench)
    before = sorted(bench.iterdir())
    capsys.readouterr()
    assert factory(bench, bench / "disk.img") == status
    told = capsys.readouterr().err
    assert said in told
    assert "Traceback" not in told
    assert sorted(bench.iterdir()) == before, "no disk, no temporary file"


def test_all_reasons_are_told_at_once(bench: Path, capsys: pytest.CaptureFixture[str]) -> None:
    in_tree("etc/fw_env.config", "0x80000", "0x90000")(bench)
    in_tree("usr/lib/twinslot/root.json", "}", "} ")(bench)
    in_board("voices = 1", "voices = 1, noises = 1")(bench)
    assert factory(bench, bench / "disk.img") == 4
    told = capsys.readouterr().err
    assert told.count("twinslot-image: ") >= 4


@pytest.mark.slow
def test_a_disk_that_is_there_is_replaced_only_by_force(made: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk.img"
    disk.write_text("the last one of its kind")
    assert factory(made, disk) == 4
    assert disk.read_text() == "the last one of its kind"
    assert factory(made, disk, "--force") == 0
    assert partitions(disk)
    assert factory(made, Path("/dev/null")) == 6
    assert factory(made, made / "pump.twin", "--force") == 4, "an input is never the output"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 70), 1 << 70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from(["disk", "environment", "firmware", *DISK_KEYS, *ENVIRONMENT_KEYS, *FIRMWARE_KEYS])
WHOLE = tomllib.loads(BOARD)


@given(table=st.sampled_from(["disk", "environment", "firmware"]), key=KEYS, value=VALUES)
def test_a_description_of_a_board_is_read_or_refused_whatever_stands_in_it(
    tmp_path_factory: pytest.TempPathFactory, table: str, key: str, value: object
) -> None:
    data = {**WHOLE, table: {**WHOLE.get(table, {}), key: value}}
    path = tmp_path_factory.getbasetemp() / "board.toml"
    path.write_text(in_toml(data))
    found: FactoryBoard | TwinslotError
    try:
        found = read_board(path)
    except TwinslotError as e:
        found = e
    assert found.layout.disk.size() > 0 if isinstance(found, FactoryBoard) else found.code == "image.description"


def in_toml(data: dict[str, object]) -> str:
    """Tables as TOML: what cannot stand there is left out."""

    def text(value: object) -> str:
        match value:
            case bool():
                return str(value).lower()
            case dict():
                return "{" + ", ".join(f"{json.dumps(k)} = {text(v)}" for k, v in value.items() if v is not None) + "}"
            case list():
                return "[" + ", ".join(text(each) for each in value if each is not None) + "]"
            case float():
                return repr(value) if "e" not in repr(value) else "1.5"
            case _:
                return json.dumps(value)

    return "".join(f"{json.dumps(key)} = {text(value)}\n" for key, value in data.items() if value is not None)
