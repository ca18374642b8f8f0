"""A second reader of images, written from docs/image-format.md alone. It imports nothing of the project, on purpose."""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass
from typing import Any

import zstandard


@dataclass(frozen=True)
class Contents:
    """What the file holds."""

    signed: dict[str, Any]
    signatures: list[dict[str, str]]
    roots: list[dict[str, Any]]
    targets: dict[str, Any]
    attachments: dict[str, bytes]
    payloads: dict[str, bytes]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def read_image(data: bytes) -> Contents:
    # Section 2
    magic, version, reserved, *lengths = struct.unpack_from("<8sIIQQQQQQ", data)
    assert magic == bytes.fromhex("89 54 57 49 4E 0D 0A 1A")
    assert (version, reserved) == (1, 0)
    # Section 1: no offsets, no gaps, nothing after the last
    sections, at = [], 64
    for length in lengths:
        sections.append(data[at : at + length])
        assert len(sections[-1]) == length
        at += length
    assert at == len(data)
    trust, manifest, attachments, plain_lists, stored_tables, groups = sections

    roots, targets = read_trust(trust)
    document = read_json(manifest)
    assert sorted(document) == ["signatures", "signed"]
    files = document["signed"]["targets"]
    kinds = {
        kind: {n: files[n] for n in sorted(files) if files[n]["custom"]["kind"] == kind}
        for kind in ("attachment", "payload")
    }
    return Contents(
        signed=document["signed"],
        signatures=document["signatures"],
        roots=roots,
        targets=targets,
        attachments=read_attachments(attachments, kinds["attachment"]),
        payloads=read_payloads(plain_lists, stored_tables, groups, kinds["payload"]),
    )


def read_json(data: bytes) -> dict[str, Any]:
    # Section 3
    document: dict[str, Any] = json.loads(data)
    assert json.dumps(document, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode() == data
    return document


def read_trust(data: bytes) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    # Section 4
    (count,) = struct.unpack_from("<I", data)
    at, documents = 4, []
    for _ in range(count + 1):
        (length,) = struct.unpack_from("<I", data, at)
        documents.append(read_json(data[at + 4 : at + 4 + length]))
        at += 4 + length
    assert at == len(data)
    return documents[:-1], documents[-1]


def read_attachments(data: bytes, files: dict[str, Any]) -> dict[str, bytes]:
    # Section 6
    found, at = {}, 0
    for name, file in files.items():
        found[name] = data[at : at + file["length"]]
        assert sha256(found[name]) == file["hashes"]["sha256"]
        at += file["length"]
    assert at == len(data)
    return found


def read_payloads(lists: bytes, tables: bytes, groups: bytes, files: dict[str, Any]) -> dict[str, bytes]:
    found, first, at = {}, 0, 0
    for name, file in files.items():
        custom = file["custom"]
        count, group_size = custom["groups"], custom["group_size"]
        assert count == (file["length"] + group_size - 1) // group_size
        # Sections 7 and 8
        plain_list = lists[first * 32 : (first + count) * 32]
        table = tables[first * 40 : (first + count) * 40]
        assert (sha256(plain_list), sha256(table)) == (custom["plain_list"], custom["stored_table"])
        first += count
        # Section 9
        start, content = at, b""
        for index, (encoding, zeros, length, digest) in enumerate(struct.iter_unpack("<B3sI32s", table)):
            stored = groups[at : at + length]
            at += length
            assert hashlib.sha256(stored).digest() == digest
            assert zeros == bytes(3)
            size = min(group_size, file["length"] - index * group_size)
            plain = decode(encoding, stored, size)
            assert len(plain) == size
            assert hashlib.sha256(plain).digest() == plain_list[index * 32 : index * 32 + 32]
            content += plain
        assert at - start == custom["stored_size"]
        assert sha256(content) == file["hashes"]["sha256"]
        found[name] = content
    assert (first * 32, first * 40, at) == (len(lists), len(tables), len(groups))
    return found


def decode(encoding: int, stored: bytes, size: int) -> bytes:
    if encoding == 0:
        assert stored == b""
        return bytes(size)
    if encoding == 1:
        return stored
    assert encoding == 2
    assert 1 <= len(stored) < size
    return zstandard.ZstdDecompressor().decompress(stored)
