"""The description of an image: a typing mistake is found, and the right name offered."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from twinslot.core.errors import ImageError
from twinslot_image.build import build_time
from twinslot_image.description import (
    ATTACHMENT_KEYS,
    CHANGE_KEYS,
    ENCRYPTION_KEYS,
    FROM_KEYS,
    PAYLOAD_KEYS,
    SOURCE_KEYS,
    TOP_KEYS,
    Description,
    read_description,
)
from twinslot_image.gate.policy import POLICY_KEYS
from twinslot_image.toml_table import KINDS

GOOD = """
product = "Pump"
release = "2026.11"
sequence = 7
compatible = ["acme,pump-3"]
architecture = "arm64"
trust = "keys"
[payloads.rootfs]
file = "rootfs.ext4"
[payloads.firmware]
file = "firmware.bin"
check = "none"
[attachments."release-notes.md"]
file = "notes.md"
"""


def read(tmp_path: Path, text: str, **overrides: object) -> Description:
    file = tmp_path / "image.toml"
    file.write_text(text)
    return read_description(file, overrides)


def test_a_description_is_read_with_its_defaults(tmp_path: Path) -> None:
    found = read(tmp_path, GOOD)
    assert (found.product, found.release, found.sequence, found.epoch, found.type) == (
        "Pump",
        "2026.11",
        7,
        0,
        "feature",
    )
    assert (found.group_size, found.level, found.valid_days, found.expires) == (None, 9, 365, None)
    assert [(p.name, p.check, p.file) for p in found.payloads] == [
        ("firmware", "none", tmp_path / "firmware.bin"),
        ("rootfs", "rootfs", tmp_path / "rootfs.ext4"),
    ]
    assert [(a.name, a.media_type) for a in found.attachments] == [("release-notes.md", "text/markdown")]
    assert found.trust == tmp_path / "keys"


def test_the_command_line_stands_above_the_file(tmp_path: Path) -> None:
    found = read(tmp_path, GOOD, release="2026.12", sequence=8)
    assert (found.release, found.sequence) == ("2026.12", 8)


@pytest.mark.parametrize(
    ("old", "new", "near"),
    [
        ("compatible =", "compatable =", "compatible"),
        ("sequence = 7", "sequence = 7\nepoc = 1", "epoch"),
        ('file = "rootfs.ext4"', 'file = "rootfs.ext4"\nforeing = []', "foreign"),
        ('file = "notes.md"', 'file = "notes.md"\nmediatype = "a/b"', "media_type"),
        ("[payloads.firmware]", "[payload.firmware]", "payloads"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_name(tmp_path: Path, old: str, new: str, near: str) -> None:
    with pytest.raises(ImageError) as caught:
        read(tmp_path, GOOD.replace(old, new))
    text = str(caught.value)
    assert f"did you mean '{near}'?" in text


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ("sequence = 7", "", "sequence"),
        ("sequence = 7", "sequence = true", "sequence"),
        ("sequence = 7", 'sequence = "7"', "sequence"),
        ("sequence = 7", "sequence = 7\ngroup_size = 100000", "group_size"),
        ("sequence = 7", "sequence = 7\ngroup_size = 5000", "group_size"),
        ("sequence = 7", "sequence = 7\ngroup_size = 0", "group_size"),
        ("sequence = 7", "sequence = 7\ngroup_size = 2097152", "group_size"),
        ("sequence = 7", "sequence = 7\nlevel = 20", "level"),
        ("sequence = 7", "sequence = 7\nvalid_days = 0", "valid_days"),
        ("sequence = 7", "sequence = 7\nexpires = 2027-01-01T00:00:00", "expires"),
        ("sequence = 7", 'sequence = 7\ntype = "urgent"', "type"),
        ('architecture = "arm64"', "", "architecture"),
        ('architecture = "arm64"', 'architecture = "aarch64"', "architecture"),
        ('["acme,pump-3"]', "[1]", "compatible"),
        ('["acme,pump-3"]', "[]", "compatible"),
        ('["acme,pump-3"]', '["Acme"]', "compatible"),
        ('["acme,pump-3"]', '["a", "a"]', "compatible"),
        ('["acme,pump-3"]', str([f"a{number}" for number in range(65)]), "compatible"),
        ('product = "Pump"', 'product = ""', "product"),
        ('product = "Pump"', f'product = "{"x" * 65}"', "product"),
        ("sequence = 7", "sequence = 0", "sequence"),
        ("sequence = 7", "sequence = 9007199254740992", "sequence"),
        ("sequence = 7", "sequence = 7\nepoch = 2147483648", "epoch"),
        ("sequence = 7", "sequence = 7\nvalid_days = 3651", "valid_days"),
        ("sequence = 7", 'sequence = 7\nchecks = ["../sh"]', "checks"),
        ('file = "rootfs.ext4"', 'file = "rootfs.ext4"\nforeign = ["/usr/*"]', "payloads.rootfs.foreign"),
        ('file = "rootfs.ext4"', 'file = ""', "payloads.rootfs.file"),
        ('file = "notes.md"', 'file = "notes.md"\nmedia_type = "markdown"', "media_type"),
        ('[attachments."release-notes.md"]', "[attachments.rootfs]", "attachments"),
        ("[payloads.rootfs]", "[payloads.Rootfs]", "payloads"),
        ('check = "none"', 'check = "ext4"', "check"),
        ('file = "rootfs.ext4"', "", "file"),
        ('trust = "keys"', "", "trust"),
        ("[payloads.rootfs]", "[[payloads.rootfs]]", "payloads.rootfs"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(tmp_path: Path, old: str, new: str, where: str) -> None:
    with pytest.raises(ImageError, match=where) as caught:
        read(tmp_path, GOOD.replace(old, new))
    assert caught.value.code == "image.description"


def test_an_image_needs_a_payload_and_a_raw_one_no_architecture(tmp_path: Path) -> None:
    head = GOOD.split("[payloads", maxsplit=1)[0].replace('architecture = "arm64"', "")
    with pytest.raises(ImageError, match="payloads"):
        read(tmp_path, head)
    assert read(tmp_path, head + '[payloads.fw]\nfile = "x"\ncheck = "none"\n').architecture == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"= 1", "', line 1, column 1: invalid"),
        (b"a = 1\na = 2", "': a key is given twice"),
        (b"a = 1\nb = \xff", "', line 2: not UTF-8"),
        (b"\x00", "', line 1, column 1: invalid"),
        (b"a = 'b\n'", "', line 1, column 7: the line ends within a text"),
        (b"a = " + b"[" * 5000, "image.toml'"),
    ],
)
def test_what_is_no_toml_is_told_with_its_line(tmp_path: Path, text: bytes, message: str) -> None:
    (tmp_path / "image.toml").write_bytes(text)
    with pytest.raises(ImageError) as caught:
        read_description(tmp_path / "image.toml")
    assert str(tmp_path / "image.toml") in caught.value.message
    assert message in caught.value.message


def test_a_file_that_is_not_there_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(ImageError) as caught:
        read_description(tmp_path / "absent.toml")
    assert caught.value.message == f"there is no file '{tmp_path}/absent.toml'"


@pytest.mark.parametrize(
    ("old", "new", "near"),
    [
        ('release = "', 'relaese = "', "release"),
        ("sequence =", "sequense =", "sequence"),
        ("compatible =", "compatable =", "compatible"),
        ("trust =", "trusts =", "trust"),
        ('file = "rootfs.ext4"', 'fiel = "rootfs.ext4"', "file"),
    ],
)
def test_a_typing_mistake_in_a_required_key_is_found_as_one(tmp_path: Path, old: str, new: str, near: str) -> None:
    with pytest.raises(ImageError) as caught:
        read(tmp_path, GOOD.replace(old, new))
    assert caught.value.hint == f"did you mean '{near}'?"


@pytest.mark.parametrize(
    ("old", "new", "expected", "found"),
    [
        ("sequence = 7", 'sequence = "42"', "a whole number", '"42" (text)'),
        ("sequence = 7", "sequence = true", "a whole number", "true (true or false)"),
        ('release = "2026.11"', "release = 2026.11", "a text", "2026.11 (a number with a fraction)"),
        ('["acme,pump-3"]', "7", "a list", "7 (a whole number)"),
        ('["acme,pump-3"]', "[7]", "a list of texts", "7 (a whole number)"),
        ("sequence = 7", "sequence = 7\nexpires = 2027-11-01", KINDS[datetime], "2027-11-01 (a date or time)"),
        ("sequence = 7", "sequence = 0", "1 to 9007199254740991", "0"),
        ('trust = "keys"', "", "a text", None),
    ],
)
def test_a_value_of_another_kind_is_told_in_the_words_of_the_file(
    tmp_path: Path, old: str, new: str, expected: str, found: str | None
) -> None:
    with pytest.raises(ImageError) as caught:
        read(tmp_path, GOOD.replace(old, new))
    assert (caught.value.expected, caught.value.found) == (expected, found)


def test_one_device_type_may_stand_without_a_list(tmp_path: Path) -> None:
    assert read(tmp_path, GOOD.replace('["acme,pump-3"]', '"acme,pump-3"')).compatible == ("acme,pump-3",)


def test_the_page_lists_each_key_and_no_other() -> None:
    page = (Path(__file__).parents[2] / "docs/image-toml.md").read_text()
    listed = re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE)
    tables = {"payloads", "attachments"}
    below = (*PAYLOAD_KEYS, *ATTACHMENT_KEYS, *CHANGE_KEYS, *POLICY_KEYS, *FROM_KEYS, *SOURCE_KEYS, *ENCRYPTION_KEYS)
    assert sorted(listed) == sorted([*(set(TOP_KEYS) - tables), *below])


@pytest.mark.parametrize(("was", "now"), [("raw", "none"), ("rootfs", "rootfs")])
def test_a_description_of_before_says_kind_instead_of_check(tmp_path: Path, was: str, now: str) -> None:
    former = read(tmp_path, GOOD.replace('check = "none"', f'kind = "{was}"'))
    assert former == read(tmp_path, GOOD.replace('check = "none"', f'check = "{now}"'))
    with pytest.raises(ImageError, match=r"'payloads\.firmware\.kind' is wrong"):
        read(tmp_path, GOOD.replace('check = "none"', f'check = "{now}"\nkind = "{was}"'))


def test_expires_is_turned_to_utc(tmp_path: Path) -> None:
    found = read(tmp_path, GOOD.replace("sequence = 7", "sequence = 7\nexpires = 2027-01-01T01:00:00+01:00"))
    assert found.expires == datetime(2027, 1, 1, tzinfo=UTC)


def test_the_build_time_may_be_given_from_outside() -> None:
    assert build_time({"SOURCE_DATE_EPOCH": "86400"}) == datetime(1970, 1, 2, tzinfo=UTC)
    assert build_time({}).microsecond == 0
    for text in ("", "soon", "9" * 30, "-1", "253402300799"):
        with pytest.raises(ImageError, match="SOURCE_DATE_EPOCH"):
            build_time({"SOURCE_DATE_EPOCH": text})


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("sequence = 7", "sequence = 7\nexpires = 9999-12-31T23:59:59-12:00", "the years 1 to 9999"),
        ("sequence = 7", "sequence = 7\nexpires = 0001-01-01T00:00:00+12:00", "the years 1 to 9999"),
        ("sequence = 7", "sequence = 7\nsequence = 8", "line 5, column 13: a key is given twice"),
        ("sequence = 7", f"sequence = {'9' * 5000}", "a number of thousands of digits"),
        ("sequence = 7", f"sequence = {'[' * 5000}{']' * 5000}", "nested too deeply"),
        ("Pump", "Pu\0mp", "the control character U+0000 in a text"),
        ("[payloads.firmware]", "[payloads.rootfs]", "table '[payloads.rootfs]' is there twice"),
        ('architecture = "arm64"', "", "expected 'amd64 or arm64"),
    ],
)
def test_what_is_wrong_is_said_without_the_parsers_own_language(tmp_path: Path, old: str, new: str, says: str) -> None:
    with pytest.raises(ImageError) as caught:
        read(tmp_path, GOOD.replace(old, new))
    assert says in f"{caught.value.message}: expected '{caught.value.expected}'"


def test_a_byte_order_mark_of_an_editor_is_no_mistake(tmp_path: Path) -> None:
    assert read(tmp_path, "\ufeff" + GOOD.replace("\n", "\r\n")) == read(tmp_path, GOOD)
