"""Two processes that do not trust each other: whatever one says, the other gets a message or a `TwinslotError`."""

from __future__ import annotations

import array
import contextlib
import json
import os
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from image_samples import make_sample
from twinslot.core.errors import (
    CancelledError,
    DeviceError,
    ImageError,
    LifecycleError,
    Refusal,
    RefusedError,
    TransportError,
    TwinslotError,
)
from twinslot.core.notes import Note, Retry, Unused
from twinslot.core.stream import GroupPart, ListPart
from twinslot.worker import stream
from twinslot.worker.error_codec import REASONS_MAX, TEXT_MAX, read_error, write_error
from twinslot.worker.fetch import read_request
from twinslot.worker.launch import Worker
from twinslot.worker.liveness import BETWEEN, StallDetector
from twinslot.worker.notes import read_note, write_note
from twinslot.worker.protocol import (
    BASE_PREFIX,
    COUNT,
    GROUP_PREFIX,
    JSON_MAX,
    LIST_PREFIX,
    MAX,
    TRUST_LENGTH,
    Channel,
    Kind,
)
from twinslot.worker.sender import WorkerSender
from twinslot.worker.stream import WorkerStream

SAMPLE = make_sample()
FROM_WORKER = [Kind.HEAD, Kind.LIST, Kind.GROUP, Kind.END, Kind.FETCHED, Kind.VERDICT]


@contextlib.contextmanager
def channels(wait: float | None = 5.0) -> Iterator[tuple[Channel, socket.socket]]:
    """An end that speaks the protocol, and a raw one that may say anything."""
    ours, theirs = socket.socketpair()
    channel = Channel(ours, wait)
    try:
        yield channel, theirs
    finally:
        channel.close()
        theirs.close()


def say(raw: socket.socket, data: bytes) -> None:
    """Say it and hang up, without waiting for a listener."""

    def pour() -> None:
        with contextlib.suppress(OSError):
            raw.sendall(data)
            raw.shutdown(socket.SHUT_WR)

    threading.Thread(target=pour, daemon=True).start()


def frame(kind: int, payload: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack(">BI", kind, len(payload) if length is None else length) + payload


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@given(kind=st.sampled_from(list(Kind)), parts=st.lists(st.binary(max_size=300), max_size=4))
@example(kind=Kind.GROUP, parts=[bytes(16)] * 4)
@example(kind=Kind.SEALED, parts=[bytes(16)] * 4)
def test_a_frame_arrives_as_it_was_sent(kind: Kind, parts: list[bytes]) -> None:
    payload = b"".join(parts)
    if kind is Kind.ERROR or len(payload) > MAX[kind]:
        return
    with channels() as (channel, raw):
        Channel(raw).send(kind, *parts)
        received = channel.receive(*Kind)
    assert (received.kind, received.payload + received.content, received.descriptor) == (kind, payload, -1)
    assert bool(received.content) <= (kind in (Kind.GROUP, Kind.SEALED))


@given(cuts=st.lists(st.integers(0, 40), max_size=6))
def test_a_frame_in_pieces_is_the_same_frame(cuts: list[int]) -> None:
    data = frame(Kind.HEAD, bytes(range(35)))
    with channels() as (channel, raw):
        for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(data)], strict=True):
            raw.sendall(data[start:end])
        assert channel.receive(Kind.HEAD).payload == bytes(range(35))


@given(data=st.binary(max_size=400))
def test_noise_is_an_error_with_a_code(data: bytes) -> None:
    with channels() as (channel, raw):
        say(raw, data)
        with pytest.raises(TwinslotError) as error:
            list(iter(lambda: channel.receive(*FROM_WORKER), None))
    assert error.value.code in ("device.worker", "transport.worker-gone")


@pytest.mark.verifies("S9")
@pytest.mark.parametrize("kind", list(Kind))
def test_a_length_above_the_bound_is_refused_before_its_bytes_come(kind: Kind) -> None:
    with channels() as (channel, raw):
        raw.sendall(frame(kind, length=MAX[kind] + 1))
        with pytest.raises(DeviceError, match="not asked") as error:
            channel.receive(kind)
    assert error.value.found == f"kind {int(kind)}, {MAX[kind] + 1} bytes"


def test_a_kind_that_was_not_asked_for_is_refused() -> None:
    with channels() as (channel, raw):
        raw.sendall(frame(Kind.GROUP, bytes(100)))
        with pytest.raises(DeviceError) as error:
            channel.receive(Kind.HEAD)
    assert str(error.value).startswith("the other process sent what was not asked: expected 'HEAD of at most")


@pytest.mark.parametrize("cut", [0, 1, 4, 5, 30])
def test_an_end_in_the_middle_is_a_lost_worker(cut: int) -> None:
    with channels() as (channel, raw):
        say(raw, frame(Kind.HEAD, bytes(40))[:cut])
        with pytest.raises(TransportError) as error:
            channel.receive(Kind.HEAD)
    assert error.value.code == "transport.worker-gone"


def test_silence_ends_the_wait() -> None:
    with channels(wait=0.1) as (channel, _), pytest.raises(TransportError) as error:
        channel.receive(Kind.HEAD)
    assert str(error.value).startswith(
        "the other process sent nothing in time: expected 'a message within 0.1 seconds'"
    )


def test_dripping_does_not_stretch_the_wait() -> None:
    with channels(wait=0.3) as (channel, raw):
        stop = threading.Event()

        def drip() -> None:
            raw.sendall(frame(Kind.HEAD, length=1000))
            while not stop.wait(0.05):
                raw.sendall(b"x")

        thread = threading.Thread(target=drip)
        thread.start()
        with pytest.raises(
            TransportError, match="sent nothing in time"
        ):  # stretched, it would wait for the last drop and be content
            channel.receive(Kind.HEAD)
        stop.set()
        thread.join()


def test_an_end_that_does_not_listen_does_not_hold_us() -> None:
    with channels(wait=0.1) as (channel, _), pytest.raises(TransportError, match="sent nothing in time"):
        channel.send(Kind.GROUP, *[bytes(1 << 20)] * 100)


def test_closing_from_another_thread_ends_a_blocked_wait() -> None:
    with channels(wait=None) as (channel, _):
        timer = threading.Timer(0.1, channel.close)
        timer.start()
        with pytest.raises(TransportError) as error:
            channel.receive(Kind.HEAD)
        timer.join()
    assert error.value.code == "transport.worker-gone"


def send_with(raw: socket.socket, data: bytes, descriptors: list[int]) -> None:
    raw.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))])


def test_a_descriptor_rides_along_with_open_and_is_not_inherited() -> None:
    with channels() as (channel, raw):
        reader, writer = os.pipe()
        Channel(raw).send(Kind.OPEN, b"{}", descriptor=reader)
        received = channel.receive(Kind.OPEN)
        assert received.descriptor not in (-1, reader)
        assert not os.get_inheritable(received.descriptor)
        os.write(writer, b"image")
        assert os.read(received.descriptor, 10) == b"image"
        for descriptor in (reader, writer, received.descriptor):
            os.close(descriptor)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (frame(Kind.HEAD, b"x"), Kind.HEAD),  # the engine takes none at all
        (frame(Kind.HEAD, b"x"), Kind.OPEN),
        (frame(Kind.OPEN, length=JSON_MAX + 1), Kind.OPEN),
        (frame(Kind.OPEN)[:3], Kind.OPEN),
    ],
)
def test_descriptors_that_are_not_wanted_do_not_stay_open(data: bytes, expected: Kind) -> None:
    before = open_descriptors()
    with channels() as (channel, raw):
        send_with(raw, data, [0, 1, 2])
        raw.shutdown(socket.SHUT_WR)
        with contextlib.suppress(TwinslotError):
            channel.receive(expected)
        assert open_descriptors() == before + 2  # the pair itself
    assert open_descriptors() == before


def test_one_descriptor_is_taken_and_no_second() -> None:
    before = open_descriptors()
    with channels() as (channel, raw):
        send_with(raw, frame(Kind.OPEN, b"{}"), [0, 1, 2])
        received = channel.receive(Kind.OPEN)
        os.close(received.descriptor)
        assert open_descriptors() == before + 2


ERRORS: list[TwinslotError] = [
    ImageError("the 'manifest' section", code="truncated", expected="9 bytes", found="1 bytes", hint="ask again"),
    TransportError("no way", code="network"),
    DeviceError("broken"),
    LifecycleError("ours", code="reader"),
    RefusedError((Refusal("role", "role 'clinical'", "2", "1", "sign"), Refusal("expired", "old"))),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: e.family)
def test_an_error_crosses_the_border_unchanged(error: TwinslotError) -> None:
    with channels() as (channel, raw):
        Channel(raw).send_error(error)
        with pytest.raises(type(error)) as received:
            channel.receive(Kind.HEAD)
    assert received.value.as_dict() == error.as_dict()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
codes = st.sampled_from(["image.x", "refused", "refused.x", "cancelled", "cancelled.x", "device", "x.y", "", 7, None])
reports = st.fixed_dictionaries(
    {},
    optional={
        "code": codes | json_values,
        "message": json_values,
        "expected": json_values,
        "found": json_values,
        "hint": json_values,
        "reasons": json_values | st.lists(st.fixed_dictionaries({}, optional={"code": codes, "message": json_values})),
    },
)


@given(report=reports | json_values)
def test_any_report_becomes_an_error_that_can_be_shown(report: Any) -> None:
    error = read_error(json.dumps(report).encode())
    assert isinstance(error, TwinslotError)
    assert not isinstance(error, CancelledError), "only people cancel"
    assert str(error).isprintable()
    json.dumps(error.as_dict())


@given(data=st.binary(max_size=100))
def test_any_bytes_become_an_error(data: bytes) -> None:
    assert isinstance(read_error(data), TwinslotError)


def test_brackets_without_end_are_no_crash() -> None:
    assert read_error(b"[" * JSON_MAX).code == "device.worker"


def test_a_report_can_neither_steer_a_terminal_nor_flood_a_journal() -> None:
    report = {"code": "image.x", "message": "\x1b]0;owned\x07\r\nnext" + "y" * 10_000, "found": "\u202e"}
    error = read_error(json.dumps(report).encode())
    assert str(error).startswith("?]0;owned???next")
    assert len(str(error)) < TEXT_MAX + 30


def test_a_refusal_without_a_reason_is_not_one() -> None:
    for report in ({"code": "refused"}, {"code": "refused.x", "reasons": []}, {"code": "refused.x", "reasons": [1]}):
        assert read_error(json.dumps(report).encode()).code == "device.worker"


def test_what_is_too_long_to_send_is_cut_and_still_read() -> None:
    many = RefusedError(tuple(Refusal(f"r{n}", "m" * 5000, "e" * 5000, "f" * 5000) for n in range(100)))
    data = write_error(many, JSON_MAX)
    assert len(data) <= JSON_MAX
    error = read_error(data)
    assert isinstance(error, RefusedError)
    assert 1 <= len(error.reasons) <= REASONS_MAX
    assert len(write_error(ImageError("\U0001f480" * 100_000, code="x"), JSON_MAX)) <= JSON_MAX


@given(payload=st.binary(max_size=50) | json_values.map(lambda v: json.dumps(v).encode()))
def test_a_request_that_is_none_is_refused(payload: bytes) -> None:
    with pytest.raises(TwinslotError) as error:
        read_request(payload, -1)
    assert error.value.code in ("device.worker", "transport.url")


@pytest.mark.verifies("S18")
@pytest.mark.parametrize(
    "request_",
    [
        {"url": "http://h/"},
        {"limits": {"colour": 1}, "url": "http://h/", "http": {}},
        {"limits": {}, "url": "http://h/", "http": {"colour": 1}},
        {"limits": {}, "url": 7, "http": {}},
        {"limits": [], "url": "http://h/"},
    ],
)
def test_a_request_with_unknown_or_missing_words_is_refused(request_: dict[str, Any]) -> None:
    with pytest.raises(TwinslotError) as error:
        read_request(json.dumps(request_).encode(), -1)
    assert error.value.code in ("device.worker", "transport.url")


@contextlib.contextmanager
def stream_that_hears(*frames: bytes) -> Iterator[WorkerStream]:
    """A stream whose worker says exactly this."""
    with channels() as (channel, raw):
        say(raw, b"".join(frames))
        taken = WorkerStream(Worker(channel, None), {"limits": {}})
        yield taken
        taken.close()


def head(trust: bytes = b"trust", length: int | None = None) -> bytes:
    prefix = TRUST_LENGTH.pack(len(trust) if length is None else length)
    return frame(Kind.HEAD, prefix + trust + SAMPLE.manifest_bytes)


def group(number: int = 0, index: int = 0, fetched: int = 10, data: bytes = b"x") -> bytes:
    return frame(Kind.GROUP, GROUP_PREFIX.pack(number, index, fetched) + data)


def test_a_stream_hands_out_what_a_worker_says_and_counts() -> None:
    said = [frame(Kind.FETCHED, COUNT.pack(5)), head(), frame(Kind.LIST, LIST_PREFIX.pack(1, 0) + b"list")]
    said += [frame(Kind.FETCHED, COUNT.pack(9)), group(1, 3), frame(Kind.END, COUNT.pack(12))]
    with stream_that_hears(*said) as taken:
        assert taken.head().manifest == SAMPLE.manifest_bytes
        assert taken.fetched == 5
        names = [payload.name for payload in SAMPLE.manifest.payloads]
        parts = taken.parts(SAMPLE.manifest)
        assert next(parts) == ListPart(names[1], b"list")
        assert next(parts) == GroupPart(names[1], 3, b"x")
        assert taken.fetched == 10
        assert list(parts) == []
        assert taken.fetched == 12


@pytest.mark.parametrize(
    "said",
    [
        frame(Kind.HEAD, b""),
        frame(Kind.HEAD, b"abc"),
        head(length=2**32 - 1),
        head(length=len(SAMPLE.manifest_bytes) + 6),
        frame(Kind.HEAD, TRUST_LENGTH.pack(0) + bytes(MAX[Kind.PROCEED] + 1)),
        frame(Kind.FETCHED, b"1"),
        frame(Kind.FETCHED, COUNT.pack(2**64 - 1)),
        frame(Kind.FETCHED, COUNT.pack(7)) + frame(Kind.FETCHED, COUNT.pack(6)),
        group(),
        frame(Kind.VERDICT, b"{}"),
        frame(Kind.OPEN, b"{}"),
    ],
)
def test_a_worker_that_lies_before_the_head_is_found_out(said: bytes) -> None:
    with stream_that_hears(said) as taken:
        with pytest.raises(DeviceError) as error:
            taken.head()
    assert error.value.code == "device.worker"


@pytest.mark.parametrize(
    "said",
    [
        group(number=2),
        group(number=2**16 - 1),
        frame(Kind.GROUP, b"short"),
        frame(Kind.LIST, LIST_PREFIX.pack(9, 0) + b"list"),
        frame(Kind.LIST, b"12"),
        frame(Kind.END, b""),
        frame(Kind.END, b"1234567"),
        frame(Kind.END, COUNT.pack(2**63)),
        group(fetched=2**63),
        group(fetched=10) + group(fetched=9),
        head(),
        frame(Kind.PROCEED, b""),
    ],
)
def test_a_worker_that_lies_after_the_head_is_found_out(said: bytes) -> None:
    with stream_that_hears(head(), said) as taken:
        taken.head()
        with pytest.raises((DeviceError, ImageError)) as error:
            list(taken.parts(SAMPLE.manifest))
    assert error.value.code in ("device.worker", "image.order")


BASE = BASE_PREFIX.pack(0, 10, 4096, bytes(32)) + bytes(32)


@contextlib.contextmanager
def teller_that_hears(data: bytes, *, descriptor: bool = True) -> Iterator[WorkerSender]:
    """The worker's half, whose engine says this, with one descriptor."""
    with channels() as (channel, raw), open(os.devnull, "rb") as file:
        if descriptor:
            send_with(raw, data, [file.fileno()])
        else:
            say(raw, data)
        teller = WorkerSender(channel)
        yield teller
        teller.close()


@pytest.mark.parametrize("said", [BASE[:-33], BASE[:1], b"", BASE_PREFIX.pack(7, 10, 4096, bytes(32))])
def test_a_base_that_is_half_or_of_no_payload_is_refused_and_its_descriptor_closed(said: bytes) -> None:
    before = open_descriptors()
    with teller_that_hears(frame(Kind.BASE, said) + frame(Kind.PROCEED, SAMPLE.manifest_bytes)) as teller:
        with pytest.raises(DeviceError) as error:
            teller.proceed()
    assert error.value.code == "device.worker"
    assert open_descriptors() == before


def test_a_base_without_its_descriptor_is_refused() -> None:
    with teller_that_hears(frame(Kind.BASE, BASE), descriptor=False) as teller, pytest.raises(DeviceError) as error:
        teller.proceed()
    assert error.value.code == "device.worker"


@pytest.mark.parametrize("said", [b"", b"12"])
def test_half_a_wish_is_refused(said: bytes) -> None:
    with teller_that_hears(frame(Kind.WANT, said), descriptor=False) as teller, pytest.raises(DeviceError) as error:
        teller.want()
    assert error.value.code == "device.worker"


@given(data=st.lists(st.tuples(st.sampled_from([3, 11, 12]), st.binary(max_size=90)), max_size=4))
def test_whatever_an_engine_says_a_worker_goes_on_or_ends_with_a_declared_error(data: list[tuple[int, bytes]]) -> None:
    with teller_that_hears(b"".join(frame(kind, payload) for kind, payload in data), descriptor=False) as teller:
        with contextlib.suppress(TwinslotError):
            teller.proceed()
        with contextlib.suppress(TwinslotError):
            teller.want()


@pytest.mark.parametrize("note", [Retry("connection refused", 3, 11, 8.5), Unused("patch", "HTTP status 503")])
def test_a_note_crosses_the_border_unchanged(note: Note) -> None:
    heard: list[Note] = []
    said = [frame(Kind.FETCHED, COUNT.pack(0)), frame(Kind.NOTE, write_note(note)), head()]
    with stream_that_hears(*said) as taken:
        taken.listen(heard.append)
        taken.head()
        assert heard == [note]
        assert taken.unused == ((note,) if isinstance(note, Unused) else ())


@given(payload=st.binary(max_size=60) | json_values.map(lambda v: json.dumps({"kind": "retry", "found": v}).encode()))
def test_a_note_that_is_none_is_refused(payload: bytes) -> None:
    with pytest.raises(DeviceError) as error:
        read_note(payload)
    assert error.value.code == "device.worker"


def test_a_note_can_neither_steer_a_terminal_nor_flood_it() -> None:
    note = read_note(json.dumps({"kind": "unused", "what": "a\x1b[31m\r\n", "why": "x" * 5000}).encode())
    assert isinstance(note, Unused)
    assert note.what.isprintable()
    assert len(note.why) <= 200


def test_notes_without_end_are_found_out() -> None:
    said = [frame(Kind.NOTE, write_note(Unused(f"patch {n}", ""))) for n in range(50)]
    with stream_that_hears(frame(Kind.FETCHED, COUNT.pack(0)), *said) as taken, pytest.raises(DeviceError) as error:
        taken.head()
    assert error.value.code == "device.worker"


@given(
    data=st.lists(st.tuples(st.sampled_from([3, 4, 5, 6, 7, 10, 11, 12, 13, 14]), st.binary(max_size=40)), max_size=6)
)
def test_any_frames_after_the_head_end_in_parts_or_an_error(data: list[tuple[int, bytes]]) -> None:
    with stream_that_hears(head(), *(frame(kind, payload) for kind, payload in data)) as taken:
        taken.head()
        with contextlib.suppress(TwinslotError):
            for part in taken.parts(SAMPLE.manifest):
                assert isinstance(part, ListPart | GroupPart)


def test_a_worker_that_is_silent_after_its_first_sign_of_life_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "STALL", 0.1)
    with channels() as (channel, raw):
        raw.sendall(frame(Kind.FETCHED, COUNT.pack(0)))
        taken = WorkerStream(Worker(channel, None), {"limits": {}}, 0)
        with pytest.raises(TransportError) as error:
            taken.head()
        taken.close()
    assert error.value.code == "transport.worker-silent"


def test_a_download_may_be_silent_as_long_as_its_own_limits_say() -> None:
    http = {"connect_timeout": 20.0, "read_timeout": 60.0}
    assert stream._silence({"http": http}) == 600 + 6 * (8 * 20 + 60)


class Clock:
    """Seconds that pass when a test says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def live_on(pace: StallDetector, clock: Clock, a_second: int) -> None:
    """A sign of life each second, and so many bytes."""
    for second in range(10_000_000):
        clock.now = second
        pace.lives(second * a_second)


@pytest.mark.parametrize("a_second", [0, 1, 255])
def test_a_worker_that_says_for_ever_that_it_lives_is_left(a_second: int) -> None:
    clock = Clock()
    pace = StallDetector(100.0, 256, clock)
    with pytest.raises(TransportError) as error:
        live_on(pace, clock, a_second)
    assert error.value.code == "transport.too-slow"
    assert clock.now <= 100 / (1 - a_second / 256) + 1


def test_a_worker_that_counts_for_ever_without_bringing_anything_is_left() -> None:
    clock = Clock()
    pace = StallDetector(100.0, 256, clock)
    with pytest.raises(TransportError):
        live_on(pace, clock, 1_000_000)
    assert clock.now <= 100 + BETWEEN / 256 + 1


def test_a_slow_and_honest_worker_is_waited_for() -> None:
    clock = Clock()
    pace = StallDetector(100.0, 256, clock)
    for second in range(4096):  # a group of a MiB at the floor
        clock.now = second
        pace.lives(second * 256)
    pace.brought(1 << 20)
    clock.now += 99
    pace.lives(1 << 20)


def test_the_stream_hears_of_a_worker_that_only_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "PIPE", 0.3)
    with channels() as (channel, raw):
        stop = threading.Event()

        def live() -> None:
            with contextlib.suppress(OSError):
                while not stop.wait(0.02):
                    raw.sendall(frame(Kind.FETCHED, COUNT.pack(0)))

        thread = threading.Thread(target=live)
        thread.start()
        taken = WorkerStream(Worker(channel, None), {"limits": {}}, 0)
        with pytest.raises(TransportError, match="delivers no data"):
            taken.head()
        stop.set()
        thread.join()
        taken.close()


def test_a_worker_that_fetches_more_than_the_budget_is_left_before_it_brings_anything() -> None:
    ours, theirs = socket.socketpair()
    taken = WorkerStream(Worker(Channel(ours), None), {"url": "http://x/", "delta": {"budget": 1000}})
    try:
        say(theirs, frame(Kind.FETCHED, COUNT.pack(1000)) + frame(Kind.FETCHED, COUNT.pack(1001)) + head())
        with pytest.raises(TransportError) as error:
            taken.head()
        assert (error.value.code, error.value.found) == ("transport.budget", "1001 bytes")
    finally:
        taken.close()
        theirs.close()
