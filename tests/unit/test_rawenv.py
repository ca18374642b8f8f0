from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import redundant
from twinslot.bootloader.base import Place
from twinslot.bootloader.uboot import rawenv
from twinslot.core.errors import DeviceError, LifecycleError

SIZE = 4096
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="=\0"), min_size=1, max_size=12).filter(
    lambda name: name != rawenv.ATTRIBUTES
)
VALUES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)
VARIABLES = st.dictionaries(NAMES, VALUES, max_size=12)
FLAGS = st.integers(0, 255)


def packed(data: bytes, flags: int = 1) -> bytes:
    return struct.pack("<IB", zlib.crc32(data), flags) + data


@given(variables=VARIABLES, flags=st.one_of(st.none(), FLAGS))
def test_what_is_encoded_is_decoded_again(variables: dict[str, str], flags: int | None) -> None:
    raw = rawenv.encode(variables, SIZE, flags)
    assert len(raw) == SIZE
    decoded = rawenv.decode(raw, redundant=flags is not None)
    assert decoded is not None
    assert (decoded.flags, decoded.variables) == (flags, variables)


@given(variables=VARIABLES, flags=FLAGS)
def test_a_second_implementation_builds_the_same_bytes(variables: dict[str, str], flags: int) -> None:
    assert rawenv.encode(variables, SIZE, flags) == redundant.pack(variables, flags, SIZE)


@given(variables=VARIABLES, at=st.integers(0, SIZE - 1), bit=st.integers(0, 7))
def test_one_flipped_bit_is_noticed_except_in_the_flags_byte(variables: dict[str, str], at: int, bit: int) -> None:
    raw = bytearray(rawenv.encode(variables, SIZE, 7))
    raw[at] ^= 1 << bit
    assert (rawenv.decode(bytes(raw)) is None) == (at != 4)


@given(raw=st.binary(max_size=200))
def test_any_bytes_are_a_copy_or_none(raw: bytes) -> None:
    rawenv.decode(raw)
    rawenv.decode(raw, redundant=False)
    rawenv.decode(packed(raw))


@given(data=st.binary(max_size=200))
def test_any_data_with_a_good_crc_is_read_without_a_traceback(data: bytes) -> None:
    decoded = rawenv.decode(packed(data))
    if not data:
        assert decoded is None
    else:
        assert decoded is not None
        assert decoded.flags == 1


@pytest.mark.parametrize(
    ("data", "variables"),
    [
        (b"\0\0", {}),
        (b"\0a=b\0\0", {}),
        (b"a=b\0\0c=d\0", {"a": "b"}),
        (b"a=b", {"a": "b"}),
        (b"junk\0a=b\0\0", {"a": "b"}),
        (b"=x\0a=b\0\0", {"a": "b"}),
        (b"a=1\0a=2\0\0", {"a": "2"}),
        (b"a=\0b==\0\0", {"a": "", "b": "="}),
        (b".flags=a:dr\0a=b\0\0", {"a": "b"}),
        (b"a=b\0\0" + b"\xff" * 50, {"a": "b"}),
    ],
)
def test_odd_contents_are_read_as_u_boot_reads_them(data: bytes, variables: dict[str, str]) -> None:
    decoded = rawenv.decode(packed(data))
    assert decoded is not None
    assert decoded.variables == variables


def test_what_does_not_fit_is_refused() -> None:
    fitting = {"a": "x" * (SIZE - 5 - 4)}  # name, equals sign, two NUL
    assert len(rawenv.encode(fitting, SIZE, 1)) == SIZE
    with pytest.raises(LifecycleError, match="does not fit"):
        rawenv.encode({"a": "x" * (SIZE - 5 - 3)}, SIZE, 1)


@pytest.mark.parametrize(("name", "value"), [("", "x"), ("a=b", "x"), ("a\0", "x"), ("a", "x\0y"), (".flags", "x")])
def test_what_cannot_stand_there_is_refused(name: str, value: str) -> None:
    with pytest.raises(LifecycleError):
        rawenv.encode({name: value}, SIZE, 1)


@pytest.mark.parametrize(
    ("first", "second", "counts"),
    [
        (1, 2, 1),
        (2, 1, 0),
        (255, 0, 1),
        (0, 255, 0),
        (254, 0, 0),  # only 255 to 0 wraps: U-Boot takes 254 for newer
        (0, 254, 1),
        (255, 1, 0),
        (7, 7, 0),
        (None, 0, 1),
        (0, None, 0),
        (None, None, None),
    ],
)
def test_the_copy_that_counts_is_the_one_u_boot_takes(
    first: int | None, second: int | None, counts: int | None
) -> None:
    assert rawenv.current(first, second) == counts


@given(first=st.one_of(st.none(), FLAGS), second=st.one_of(st.none(), FLAGS))
def test_a_second_implementation_takes_the_same_copy(first: int | None, second: int | None) -> None:
    copies = [None if flags is None else (flags, {"x": "y"}) for flags in (first, second)]
    assert rawenv.current(first, second) == redundant.which(copies)


@given(flags=FLAGS)
def test_a_copy_written_next_always_counts(flags: int) -> None:
    assert rawenv.current(flags, (flags + 1) % 256) == 1
    assert rawenv.current((flags + 1) % 256, flags) == 0


@given(size=st.integers(1, 64).map(lambda blocks: blocks * 512), flags=st.one_of(st.none(), FLAGS), tail=st.binary())
def test_the_size_with_which_u_boot_wrote_is_found(size: int, flags: int | None, tail: bytes) -> None:
    raw = rawenv.encode({"slot": "a"}, size, flags) + tail * 100
    assert rawenv.fitting_size(raw) == (size, flags is not None)


@pytest.mark.parametrize("raw", [b"", b"\xff" * 65536, bytes(65536), b"\xa5" * 1000])
def test_no_size_is_found_where_no_environment_is(raw: bytes) -> None:
    assert rawenv.fitting_size(raw) is None


CONFIG = "# device offset size\n/dev/mmcblk0 0x80000 0x4000\n\n/dev/mmcblk0\t0x84000 4000 0x200 32 # second\n"


def test_a_usual_configuration_is_read() -> None:
    places = rawenv.parse_config(CONFIG)
    assert places == (Place("/dev/mmcblk0", 0x80000, 0x4000), Place("/dev/mmcblk0", 0x84000, 0x4000))
    assert str(places[0]) == "/dev/mmcblk0 at 0x80000"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "one or two lines"),
        ("# only\n", "one or two lines"),
        ("/dev/x 0\n", "device, offset, size"),
        ("/dev/x zero 0x1000\n", "device, offset, size"),
        ("mmcblk0 0 0x1000\n", "absolute path"),
        ("/dev/x -0x1000 0x1000\n", "not negative"),
        ("/dev/x 0 -1\n", "hexadecimal size"),
        ("/dev/x 0xffffffffffffffff 0x1000\n", "not negative"),
        ("/dev/x 0 0\n", "hexadecimal size"),
        ("/dev/x 0 0x200000\n", "hexadecimal size"),
        ("/dev/x 0 0x1000\n/dev/x 0x1000 0x2000\n", "copies of one size"),
        ("/dev/x 0 0x1000\n/dev/x 0xfff 0x1000\n", "do not overlap"),
        ("/dev/x 0x1000 0x1000\n/dev/x 0x1000 0x1000\n", "do not overlap"),
        ("/dev/x 4096 8192\n/dev/x 20480 8192\n", "do not overlap"),
    ],
)
def test_a_wrong_configuration_says_what_was_expected(text: str, expected: str) -> None:
    with pytest.raises(DeviceError) as caught:
        rawenv.parse_config(text, "/etc/fw_env.config")
    assert caught.value.code == "device.env-config"
    assert expected in str(caught.value.expected)
    assert "/etc/fw_env.config" in caught.value.message


@given(st.text(alphabet="/devx 0123456789abcxX-#\n\t", max_size=80))
def test_any_configuration_is_read_or_refused_cleanly(text: str) -> None:
    try:
        places = rawenv.parse_config(text)
    except DeviceError:
        return
    assert all(place.offset >= 0 and place.size > 0 for place in places)
