"""Packing: the smallest encoding, in order, and the same bytes each time."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import struct
import termios
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from image_samples import ATTACHMENTS, FACTS, make_sample, sample_content
from independent_reader import read_image
from twinslot.core.bounds import GROUP_SIZE_DEFAULT, GROUP_SIZE_MAX
from twinslot.core.errors import ImageError
from twinslot_image.compose import AttachedFile, compose_manifest
from twinslot_image.pack import GROUPS_AIM, WINDOW, group_size_for, pack_payload
from twinslot_image.progress import ProgressLine, be_quiet, describe, size_text

KIB = 1024
CONTENT = st.builds(
    lambda parts, tail: b"".join(byte * size for byte, size in parts) + tail,
    st.lists(st.tuples(st.sampled_from([b"\0", b"a", b"xyz"]), st.integers(1, 9000)), max_size=5),
    st.binary(min_size=1, max_size=200),
)


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(st.sampled_from(["a", "b-2", "c.d"]), CONTENT, min_size=1), st.sampled_from([4, 8, 64]))
def test_whatever_is_packed_comes_out_of_a_reader_written_from_the_document_alone(
    payloads: dict[str, bytes], group: int
) -> None:
    contents = read_image(make_sample(payloads, group_size=group * KIB).data)
    assert contents.payloads == payloads
    assert contents.attachments == {a.name: a.data for a in ATTACHMENTS}
    assert contents.signed["version"] == FACTS.sequence


def test_building_twice_gives_the_same_bytes() -> None:
    """More groups than are in flight at once, on two threads."""
    payloads = {"rootfs": b"".join(sample_content(seed) for seed in range(WINDOW // 4))}
    assert make_sample(payloads).data == make_sample(payloads).data


@given(st.integers(1, 64 << 30))
def test_groups_are_no_larger_than_a_short_list_needs(size: int) -> None:
    found = group_size_for(size)
    groups = -(-size // found)
    assert found in (65536 << more for more in range(5))
    assert groups <= GROUPS_AIM or found == GROUP_SIZE_MAX
    assert found == GROUP_SIZE_DEFAULT or 2 * groups > GROUPS_AIM


def test_an_empty_payload_is_refused() -> None:
    with pytest.raises(ImageError, match="payload 'empty'"):
        pack_payload("empty", io.BytesIO(), io.BytesIO())


def test_two_parts_of_one_name_are_refused() -> None:
    packed = pack_payload("same", io.BytesIO(b"x"), io.BytesIO())
    with pytest.raises(ImageError, match="two parts of one name"):
        compose_manifest(FACTS, [packed], [AttachedFile("same", "text/plain", b"y")])


def test_progress_is_silent_for_what_is_quick_and_a_line_for_each_tenth_in_a_log(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    monkeypatch.setattr("twinslot_image.progress.time.monotonic", lambda: now[0])
    stream = io.StringIO()
    with ProgressLine("packing", 10, stream=stream) as progress:
        now[0] += 0.9
        progress.update(9)
    assert stream.getvalue() == ""
    with ProgressLine("packing", 10 * KIB * KIB, stream=stream) as progress:
        for done in range(41):
            now[0] += 1.5
            progress.update(done * KIB * KIB // 4)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 11
    assert lines[5] == "packing: 50 %, 5.0 MiB of 10.0 MiB, 162.5 KiB/s, 32 s left"
    assert not any(char in stream.getvalue() for char in "\r\x1b#")


def test_sizes_and_rates_are_for_people() -> None:
    assert [size_text(n) for n in (0, 1023, 1536, 3 * 1024**3)] == ["0 B", "1023 B", "1.5 KiB", "3.0 GiB"]
    assert describe("x", 512, 1024, 2.0) == "x: 50 %, 512 B of 1.0 KiB, 256 B/s, 2 s left"
    assert describe("x", 512, 0, 0.0) == "x, 512 B"
    assert describe("x", 5, 20, 1.0, "files") == "x: 25 %, 5 of 20 files, 3 s left"
    assert describe("x", 1024, 1024, 2.0) == "x: 100 %, 1.0 KiB of 1.0 KiB, 512 B/s"


@pytest.mark.parametrize("columns", [80, 50, 20, 0])
def test_a_line_is_never_wider_than_the_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("twinslot_image.progress.time.monotonic", lambda: now[0])
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with os.fdopen(theirs, "w") as stream, ProgressLine("searching", 1 << 40, stream=stream) as progress:
        for step in range(20):
            now[0] += 0.7
            progress.update(step * 12_345_678_901)
    shown = ""
    with suppress(OSError):  # the other end is closed: EIO
        while True:
            shown += os.read(ours, 4096).decode()
    os.close(ours)
    lines = shown.split("\r\x1b[K")
    assert len(lines) > 10
    assert max(map(len, lines)) == min((columns or 80) - 1, max(map(len, lines)))
    assert "\n" not in shown
    assert lines[-1] == ""


def test_quiet_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("twinslot_image.progress.time.monotonic", lambda: now[0])
    stream = io.StringIO()
    be_quiet(True)
    try:
        with ProgressLine("packing", 10, stream=stream) as progress:
            now[0] += 5
            progress.update(9)
    finally:
        be_quiet(False)
    assert stream.getvalue() == ""
