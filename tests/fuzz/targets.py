"""What is fuzzed: one function for each parser that meets bytes from outside, and what it begins with.

A function takes any bytes, and lets through what the parser declares: `TwinslotError`, or what its docstring names.
Anything else is a finding, and so is a broken promise that it asserts.
"""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import socket
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np

import elf_samples
import image_samples
import independent_patch_reader
import patch_samples
import trust_samples
from twinslot.bootloader.uboot import rawenv
from twinslot.config.options import load
from twinslot.core.address import follow, parse_address
from twinslot.core.approvals import parse_approvals
from twinslot.core.attestation import ATTESTATION, KIND, anomalies, inventory_row, verify_attestation
from twinslot.core.audit_explain import account_of
from twinslot.core.audit_export import read_export, verify_export
from twinslot.core.boot_variables import read_state
from twinslot.core.canonical import encode, parse_document
from twinslot.core.device_key import PublicPart
from twinslot.core.envelope import loads, read_statement
from twinslot.core.errors import TransportError, TwinslotError
from twinslot.core.lifecycle import State
from twinslot.core.manifest import parse_manifest
from twinslot.core.model import Release, SlotName
from twinslot.core.offer import parse_offers
from twinslot.core.stored import read, write
from twinslot.core.transaction import Transaction
from twinslot.image import wire
from twinslot.image.events import Group
from twinslot.image.lzma2 import PackedError
from twinslot.image.patch import PatchDecoder
from twinslot.image.patch_head import parse_patch_head
from twinslot.image.projection import Projection
from twinslot.image.reader import Reader
from twinslot.image.wire_blocks import build_blocks_head, parse_blocks_head
from twinslot.image.wire_patch import build_varints, from_signed
from twinslot.transport.http import answers
from twinslot.transport.http.retry import Broken
from twinslot.trust.device_key import verifies
from twinslot.trust.repository_messages import decode_document_request, decode_fresh, decode_question
from twinslot.trust.verdict import TrustRequest, decode_request, decode_verdict
from twinslot.trust.verify import verify
from twinslot.worker.error_codec import read_error
from twinslot.worker.notes import read_note
from twinslot.worker.protocol import Channel, Kind
from twinslot_image.description import read_description
from twinslot_image.patch_sections import find_parts

DATA: Final = Path(__file__).parents[1] / "data"
FRAMES: Final = 64  # that one input may hold
ANSWER_MAX: Final = 1 << 20  # bytes of a body that are read


@dataclass(frozen=True)
class Target:
    """One parser.

    Attributes:
        run: Takes any bytes.
        seeds: Inputs to begin with, good ones above all.
        longest: Bytes of an input.
    """

    run: Callable[[bytes], None]
    seeds: Callable[[], Iterable[bytes]]
    longest: int


@cache
def sample() -> image_samples.Sample:
    return image_samples.make_sample({"rootfs": image_samples.sample_content()[:9000]})


@cache
def authority() -> trust_samples.Authority:
    return trust_samples.make_authority(Path(tempfile.mkdtemp(prefix="fuzz-keys-")))


def image(data: bytes) -> None:
    """A whole image; the manifest is believed only if it is the sample's."""
    good = sample()
    reader = Reader()
    with suppress(TwinslotError):
        list(reader.feed(data))
        for event in reader.proceed(good.manifest):
            if isinstance(event, Group):
                assert event.data == good.payloads["rootfs"][event.offset :][: len(event.data)]


def sections(data: bytes) -> None:
    """Header and trust section: what is taken is written as it was."""
    with suppress(TwinslotError):
        assert wire.build_header(wire.parse_header(data)) == data[: wire.HEADER_SIZE]
    with suppress(TwinslotError):
        assert wire.build_trust(wire.parse_trust(data)) == data


def manifest(data: bytes) -> None:
    with suppress(TwinslotError):
        parse_manifest(data)
    with suppress(TwinslotError):
        assert encode(parse_document(data, "manifest")) == data


def trust(data: bytes) -> None:
    """Any trust section and any manifest: believed only if they are the good ones."""
    request = good_request()
    with suppress(TwinslotError):
        verify(replace(request, trust_section=data))
    changed = data != request.manifest
    try:
        verify(replace(request, manifest=data))
    except TwinslotError:
        return
    assert not changed or json.loads(data)["signed"] == json.loads(request.manifest)["signed"]


@cache
def good_request() -> TrustRequest:
    return authority().request()


def patch(data: bytes) -> None:
    """A patch over a base that stays: nothing leaves that has not its digest."""
    new_list, old = patch_samples.plain_list(patch_samples.NEW), patch_samples.OLD
    with suppress(TwinslotError):
        head = parse_patch_head(data)
        part = head.payload("rootfs")
        for index, plain in PatchDecoder(part, new_list, lambda at, size: old[at : at + size]).groups(
            [data[head.length :]]
        ):
            assert plain is None or hashlib.sha256(plain).digest() == new_list[32 * index : 32 * index + 32]


def projection(data: bytes) -> None:
    """Areas and shifts over any words: what is predicted is what the page says, and of the same length."""
    numbers, words = data[:4], data[4:]
    first, second, place, distance = numbers.ljust(4, b"\0")
    areas, shifts, part = words[:first], words[first : first + second], words[first + second :]
    op = range(place + distance, place + distance + len(part))
    try:
        found = Projection(areas, shifts).predict(part, place, distance, (op.start, op.stop))
    except PackedError:
        return
    assert len(found) == len(part)
    try:
        moves = independent_patch_reader.Moves(areas, shifts)
    except AssertionError:
        return  # an area that was not reached makes no sense
    assert found == independent_patch_reader.expected(part, place, distance, op, moves)


def elf(data: bytes) -> None:
    """A payload that begins as a program does: what is found in it lies inside, in order, and nothing twice."""
    content = data.ljust(-(-len(data) // elf_samples.PAGE) * elf_samples.PAGE, b"\0")
    path = folder() / "payload.img"
    path.write_bytes(content)
    end = 0
    for part in find_parts(path, np.ones(len(content) // elf_samples.PAGE, np.bool_)):
        assert end <= part.start < part.end <= len(content)
        end = part.end


def blocks(data: bytes) -> None:
    with suppress(TwinslotError):
        head = parse_blocks_head(data)
        assert build_blocks_head(head) == data[: head.size]


def frames(data: bytes) -> None:
    """What the other process says, at either end."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with suppress(BlockingIOError):
            theirs.setblocking(False)
            theirs.sendall(data[: 1 << 16])
        theirs.shutdown(socket.SHUT_WR)
        channel = Channel(ours)
        with suppress(TwinslotError):
            for _ in range(FRAMES):
                channel.receive(*Kind)


def messages(data: bytes) -> None:
    """Payloads of frames: errors, notes, questions and verdicts."""
    read_error(data)
    for decoder in (read_note, decode_request, decode_verdict, decode_question, decode_document_request, decode_fresh):
        with suppress(TwinslotError):
            decoder(data)


class _Socket:
    """Enough of a socket for http.client."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def makefile(self, _mode: str) -> io.BytesIO:
        return self._file


def http_answers(data: bytes) -> None:
    """An answer of a server, from its status line on."""
    response = http.client.HTTPResponse(_Socket(data), method="GET")  # type: ignore[arg-type]
    try:
        response.begin()
    except (http.client.HTTPException, OSError, ValueError):
        return  # as the connection declares them
    declared = (TwinslotError, answers.Replaced, Broken, http.client.HTTPException, OSError, ValueError)
    for look in (
        lambda: answers.validators(response),
        lambda: answers.retry_after(response),
        lambda: answers.beyond(response),
        lambda: answers.is_all(response),
        lambda: answers.part(response, 0, 99),
        lambda: answers.require_length(response),
    ):
        with suppress(*declared):
            look()
    with suppress(http.client.HTTPException, OSError, ValueError):
        response.read(ANSWER_MAX)


def addresses(data: bytes) -> None:
    """An address, and a redirect from it."""
    text = data.decode("latin-1")
    first, _, second = text.partition("\n")
    with suppress(TwinslotError):
        address = parse_address(first)
        assert "\n" not in address.whole
    with suppress(TransportError, TwinslotError):
        follow(parse_address("http://updates.example/pump.img"), second or first)


def environment(data: bytes) -> None:
    """A raw copy of the boot environment, and fw_env.config."""
    copy = rawenv.decode(data)
    if copy is not None:
        read_state(copy.variables)
    with suppress(TwinslotError):
        rawenv.parse_config(data.decode("latin-1"))


def stored(data: bytes) -> None:
    """A transaction as the record has it: what can be read is handed back whole."""
    try:
        value = json.loads(data)
        transaction = read(Transaction, value)
    except (ValueError, TypeError, KeyError, RecursionError):
        return
    again = json.loads(json.dumps(write(transaction)))
    assert set(value) <= set(again)


def offers(data: bytes) -> None:
    """What a repository offers, and what a role has approved."""
    with suppress(TwinslotError):
        parse_offers(data)
    with suppress(TwinslotError):
        parse_approvals(data)


class _Signed:
    """The sample of an export and of an attestation, as they were made, and whose they are."""

    def __init__(self) -> None:
        released = max(DATA.glob("[0-9]*.*"))
        self.audit = (released / "audit/pump.audit").read_bytes()
        self.attestation = (released / "attestation/pump.json").read_bytes()
        self.auditor, self.asker = (
            PublicPart.from_pem((released / name).read_bytes()) for name in ("audit/pump.pem", "attestation/pump.pem")
        )
        self.rows = read_export(self.audit.splitlines()).rows


signed = cache(_Signed)


def audit(data: bytes) -> None:
    """An export: verified, it has the rows of the one that the device signed; its updates are replayed in any case."""
    good = signed()
    with suppress(TwinslotError):
        export = read_export(data.splitlines())
        with suppress(TwinslotError):
            account_of(export.rows, "last").as_dict()
        verify_export(export, [good.auditor], verifies)
        assert export.rows == good.rows


def attestation(data: bytes) -> None:
    """What a device says of itself: verified, it says what was signed."""
    good = signed()
    with suppress(TwinslotError):
        statement = read_statement(loads(data, ATTESTATION), KIND, ATTESTATION)
        said = verify_attestation(statement, [good.asker], verifies)
        assert statement.payload == read_statement(json.loads(good.attestation), KIND, ATTESTATION).payload
        inventory_row(said)
        anomalies(said)


@cache
def folder() -> Path:
    """A root directory with a configuration, for those parsers that read files."""
    root = Path(tempfile.mkdtemp(prefix="fuzz-toml-"))
    (root / "etc/twinslot").mkdir(parents=True)
    return root


def configuration(data: bytes) -> None:
    """config.toml, and image.toml."""
    path = folder() / "etc/twinslot/config.toml"
    path.write_bytes(data)
    with suppress(TwinslotError):
        load(folder())
    with suppress(TwinslotError, OSError):
        read_description(path)


def _http_seeds() -> list[bytes]:
    part = b'HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-99/200\r\nETag: "1"\r\nContent-Length: 100\r\n\r\n'
    return [
        part + bytes(100),
        b"HTTP/1.1 503 Busy\r\nRetry-After: 120\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"HTTP/1.1 416 No\r\nContent-Range: bytes */200\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nLast-Modified: Sun, 29 Nov 2026 12:00:00 GMT\r\n\r\nwhole",
    ]


def _stored_seeds() -> list[bytes]:
    release = Release(name="2026.11", sequence=7, epoch=1, manifest="0" * 64)
    transaction = Transaction(id="1a2b", state=State.TRIAL, target=SlotName.B, release=release, boots={"x": "kernel"})
    return [json.dumps(write(transaction)).encode()]


def _released(ending: str) -> list[bytes]:
    """Files of earlier versions that stand in the tree."""
    return [path.read_bytes() for path in sorted(DATA.rglob(f"*{ending}"))]


def _projection_seeds() -> list[bytes]:
    shifts = build_varints([0, from_signed(64), 40_000])
    words = elf_samples.a64_program(1, {}).content[0x1000:0x1100]
    made = []
    for kind in range(12):
        areas = build_varints([0, 256, kind, 0, from_signed(64)])
        made.append(bytes([len(areas), len(shifts), 0, 0]) + areas + shifts + words)
    return made


def _elf_seeds() -> list[bytes]:
    small = elf_samples.a64_program(2, {})
    sections = tuple(replace(each, offset=each.offset % 4096, size=each.size % 2048) for each in small.sections)
    return [replace(small, content=small.content[:4096], sections=sections).build()]


_CONFIG = b"""[device]
compatible = "acme,pump-3"
[trust]
root = "/usr/lib/twinslot/root.json"
roles = ["engineering"]
[slots.a]
rootfs = "/dev/disk/by-partlabel/slot_a"
[slots.b]
rootfs = "/dev/disk/by-partlabel/slot_b"
"""

TARGETS: Final[dict[str, Target]] = {
    "addresses": Target(addresses, lambda: [b"https://u:p@h:8443/a%20b?q#f\n../x", b"http://[::1%25eth0]/\n//h/"], 400),
    "attestation": Target(attestation, lambda: [signed().attestation], 8000),
    "audit": Target(audit, lambda: [signed().audit], 8000),
    "blocks": Target(blocks, lambda: [data[:4096] for data in _released(".twinblocks")], 4096),
    "configuration": Target(configuration, lambda: [_CONFIG], 2000),
    "elf": Target(elf, _elf_seeds, 5000),
    "environment": Target(environment, lambda: [rawenv.encode({"slot": "a", "slot_b": "bad"}, 256, 1)], 600),
    "frames": Target(frames, lambda: [b"\1\0\0\0\0", b"\7\0\0\0\4abcd"], 4096),
    "http": Target(http_answers, _http_seeds, 2000),
    "image": Target(image, lambda: [sample().data], 1 << 15),
    "manifest": Target(manifest, lambda: [sample().manifest_bytes], 8000),
    "messages": Target(messages, lambda: [b'{"code": "image.x", "message": "m"}', b'{"kind": "retry"}'], 2000),
    "offers": Target(offers, lambda: [b'{"offers": []}'], 4000),
    "patch": Target(patch, lambda: [patch_samples.SAMPLE, *_released(".twinpatch")], 8000),
    "projection": Target(projection, _projection_seeds, 600),
    "sections": Target(sections, lambda: [sample().data[:600], wire.build_trust(image_samples.TRUST)], 2000),
    "stored": Target(stored, _stored_seeds, 4000),
    "trust": Target(trust, lambda: [good_request().trust_section, good_request().manifest], 1 << 15),
}
