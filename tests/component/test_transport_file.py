"""Files, pipes and what happens to them while they are read."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from twinslot.core.errors import ImageError, TransportError
from twinslot.transport import file
from twinslot.transport.file import DescriptorSource

DATA = random.Random(4).randbytes(1_000_003)
WRONG = ImageError("group 3: digest", code="group", expected="a", found="b")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "x.twin"
    path.write_bytes(DATA)
    return path


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)


def test_a_file_is_read_to_its_end_in_bounded_pieces(path: Path) -> None:
    with path.open("rb") as image:
        chunks = list(DescriptorSource(image.fileno()).chunks())
    assert b"".join(chunks) == DATA
    assert max(map(len, chunks)) == file.CHUNK


def test_a_pipe_is_read_until_its_writer_is_gone(pipe: tuple[int, int]) -> None:
    def pour() -> None:
        with os.fdopen(pipe[1], "wb") as writer:
            writer.write(DATA)

    thread = threading.Thread(target=pour)
    thread.start()
    assert b"".join(DescriptorSource(pipe[0]).chunks()) == DATA
    thread.join()


def test_a_silent_pipe_gives_signs_of_life(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file, "TICK", 0.02)
    chunks = DescriptorSource(pipe[0]).chunks()
    assert [next(chunks) for _ in range(3)] == [b"", b"", b""]
    os.write(pipe[1], b"now")
    assert next(chunk for chunk in chunks if chunk) == b"now"
    os.close(pipe[1])
    assert not any(chunks)


def test_a_pipe_that_does_not_block_is_waited_for_without_spinning(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    os.set_blocking(pipe[0], False)

    def late() -> None:
        os.write(pipe[1], b"late")
        os.close(pipe[1])

    reads: list[bytes] = []

    def read(descriptor: int, size: int) -> bytes:
        reads.append(b"in vain")
        reads[-1] = real(descriptor, size)
        return reads[-1]

    real = os.read
    monkeypatch.setattr("twinslot.transport.file.os.read", read)
    timer = threading.Timer(0.5, late)
    timer.start()
    assert b"".join(DescriptorSource(pipe[0]).chunks()) == b"late"
    assert reads == [b"late", b""]
    timer.join()


def test_a_directory_is_no_image(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(TransportError, match="Is a directory") as error:
            list(DescriptorSource(descriptor).chunks())
    finally:
        os.close(descriptor)
    assert error.value.code == "transport.read"


def test_a_descriptor_for_writing_only_is_a_transport_error(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as out, pytest.raises(TransportError):
        list(DescriptorSource(out.fileno()).chunks())


def test_an_error_in_a_file_that_was_rewritten_is_explained(path: Path) -> None:
    with path.open("rb") as image:
        source = DescriptorSource(image.fileno())
        chunks = source.chunks()
        next(chunks)
        with path.open("r+b") as other:
            other.seek(500_000)
            other.write(b"other")
        error = source.explain(WRONG)
    assert error.code == "image.changed"
    assert "copy it to its place first" in str(error)
    assert str(WRONG) in str(error)


@pytest.mark.parametrize("change", [b"", DATA + b"more"])
def test_a_file_that_is_cut_or_still_growing_is_explained(path: Path, change: bytes) -> None:
    with path.open("rb") as image:
        source = DescriptorSource(image.fileno())
        path.write_bytes(change)
        assert source.explain(WRONG).code == "image.changed"


def test_an_error_in_a_file_that_stayed_is_left_alone(path: Path) -> None:
    with path.open("rb") as image:
        source = DescriptorSource(image.fileno())
        list(source.chunks())
        os.utime(path, ns=(1, path.stat().st_mtime_ns))  # reading it changes nothing but the time of reading
        assert source.explain(WRONG) is WRONG


def test_an_error_in_a_pipe_is_left_alone(pipe: tuple[int, int]) -> None:
    source = DescriptorSource(pipe[0])
    os.close(pipe[1])
    list(source.chunks())
    assert source.explain(WRONG) is WRONG
