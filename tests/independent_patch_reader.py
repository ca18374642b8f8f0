"""Applies a patch as docs/patch-format.md says it, written from that page alone: slow, without the product's code."""

from __future__ import annotations

import hashlib
import lzma
import struct

Read = dict[int, bytes]


def unpack(data: bytes, length: int, window: int) -> bytes:
    """Section 3."""
    if not length:
        return b""
    filters = [{"id": lzma.FILTER_LZMA2, "lc": 2, "lp": 2, "pb": 2, "dict_size": window}]
    return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters).decompress(data, length)


def varints(data: bytes) -> list[int]:
    """Section 3."""
    found, value, shift = [], 0, 0
    for byte in data:
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            found.append(value)
            value = shift = 0
    assert not shift
    return found


def signed(number: int) -> int:
    """Section 3."""
    return number // 2 if number % 2 == 0 else -(number + 1) // 2


def field(word: int, low: int, bits: int) -> int:
    """Some bits, with a sign."""
    value = word >> low & (1 << bits) - 1
    return value - (1 << bits) if value >> bits - 1 else value


class Moves:
    """Areas and shifts, section 6.2."""

    def __init__(self, areas: bytes, shifts: bytes) -> None:
        self.areas: list[tuple[int, int, int, int, int]] = []
        numbers, at, old, new = varints(areas), 0, 0, 0
        assert len(numbers) % 5 == 0
        for gap, length, kind, old_step, new_step in zip(*(iter(numbers),) * 5, strict=True):
            old, new = old + signed(old_step), new + signed(new_step)
            self.areas.append((at + gap, at + gap + length, kind, old, new))
            at += gap + length
        self.intervals: list[tuple[int, int, int]] = []
        rest, shift = varints(shifts), 0
        at = rest.pop(0) if rest else 0
        for step, length in zip(rest[::2], rest[1::2], strict=True):
            shift += signed(step)
            self.intervals.append((at, at + length, shift))
            at += length

    def shift(self, address: int) -> int | None:
        for start, end, shift in self.intervals:
            if start <= address < end:
                return shift
        return None


def expected(part: bytes, place: int, distance: int, op: range, moves: Moves) -> bytes:
    """Section 6.2 for one part of an add. `op`: places in the base."""
    out = bytearray(part)
    for start, end, kind, old_bias, new_bias in moves.areas:
        first, last = max(start, place), min(end, place + len(part))
        first, last = first + -first % 4, last - last % 4
        if first >= last or distance % 4:
            continue
        run = part[first - place : last - place]
        near = range(op.start + old_bias, op.stop + old_bias)
        if kind in (0, 4):
            made = code(kind, run, first + distance + old_bias, first + new_bias, near, moves)
        else:
            made = table(kind, run, first - start, old_bias, new_bias, moves)
        out[first - place : last - place] = made
    return bytes(out)


def table(kind: int, run: bytes, offset: int, old_bias: int, new_bias: int, moves: Moves) -> bytes:
    size, entry, members = {
        6: (8, 1, [0]),
        7: (8, 3, [0, 2]),
        8: (8, 3, [1]),
        9: (4, 1, [0]),
        10: (4, 2, [0]),
        11: (4, 4, [1]),
    }[kind]
    out = bytearray(run)
    for at in range(len(run) - size + 1):
        if (offset + at) % size or (offset + at) // size % entry not in members:
            continue
        word = int.from_bytes(run[at : at + size], "little", signed=size == 4)
        shift = moves.shift(word + old_bias)
        if shift is not None:
            out[at : at + size] = ((word + shift + old_bias - new_bias) % 256**size).to_bytes(size, "little")
    return bytes(out)


def code(kind: int, run: bytes, old: int, new: int, near: range, moves: Moves) -> bytes:
    words = list(struct.unpack(f"<{len(run) // 4}I", run))
    out, own = list(words), new - old
    for i, word in enumerate(words):
        here = old + 4 * i
        if kind == 4:
            target = here + field(word, 0, 32)
            shift = moves.shift(target)
            if word >> 31 and target not in near and shift is not None:
                out[i] = (word + shift - own) % 2**32
        elif word & 0x7C000000 == 0x14000000:
            out[i] = branch(word, 0, 26, here, own, near, moves)
        elif word & 0x7E000000 == 0x34000000 or word & 0xFF000010 == 0x54000000:
            out[i] = branch(word, 5, 19, here, own, near, moves)
        elif word & 0x9F000000 == 0x10000000:
            target = here + split_field(word)
            shift = moves.shift(target)
            if target not in near and shift is not None:
                out[i] = with_split_field(word, split_field(word) + shift - own)
        elif word & 0x9F000000 == 0x90000000:
            page = here - here % 4096 + 4096 * split_field(word)
            target, shift = pages(words, i, page, near, own, moves, out)
            if shift is not None:
                out[i] = with_split_field(word, (target + shift) // 4096 - (new + 4 * i) // 4096)
    return struct.pack(f"<{len(out)}I", *out)


def branch(word: int, low: int, bits: int, here: int, own: int, near: range, moves: Moves) -> int:
    target = here + 4 * field(word, low, bits)
    shift = moves.shift(target)
    if target in near or shift is None:
        return word
    value, mask = (word >> low) + (shift - own) // 4, (1 << bits) - 1 << low
    return word & ~mask | value << low & mask


def split_field(word: int) -> int:
    return field((word >> 5 & 0x7FFFF) << 2 | word >> 29 & 3, 0, 21)


def with_split_field(word: int, value: int) -> int:
    return word & 0x9F00001F | (value >> 2 & 0x7FFFF) << 5 | (value & 3) << 29


def pages(
    words: list[int], i: int, page: int, near: range, own: int, moves: Moves, out: list[int]
) -> tuple[int, int | None]:
    """Puts the low parts of the ADRP at `i` right, and gives its target and shift."""

    def shift_of(address: int) -> int | None:
        return own if address in near else moves.shift(address)

    first: tuple[int, int | None] | None = None
    for j in range(i + 1, min(i + 9, len(words))):
        other = words[j]
        is_add = other & 0xFFC00000 == 0x91000000
        if other >> 5 & 31 != words[i] & 31 or not (is_add or other & 0x3B000000 == 0x39000000):
            continue
        scale = 0 if is_add else 4 if other & 0x04800000 == 0x04800000 else other >> 30
        address = page + ((other >> 10 & 4095) << scale)
        step = shift_of(address)
        first = first or (address, step)
        if step is not None and step % 4096:
            out[j] = other & ~(4095 << 10) | ((address + step) % 4096 >> scale) << 10
        if other & 31 == words[i] & 31:
            break
    return first or (page, shift_of(page))


def apply_patch(data: bytes, base: bytes) -> dict[int, bytes]:
    """The changed groups of a patch for one payload, each of the digest that the patch says."""
    assert data[:8] == bytes.fromhex("89545750540D0A1A")
    version, packed, length, changed, pieces = struct.unpack_from("<IIIIQ", data, 8)
    assert version in (1, 2)
    columns = 6 if version == 1 else 8
    table_ = unpack(data[32 : 32 + packed], length, 65536)
    digests = data[32 + packed : 32 + packed + 32 * changed]
    body = data[32 + packed + 32 * changed :]
    assert len(body) == pieces
    assert table_[0] == 1
    at = 2 + table_[1]
    assert table_[at : at + 32] == hashlib.sha256(base).digest()
    base_size, size, group, count, number = struct.unpack_from("<Q32xQIII", table_, at + 32)
    assert base_size == len(base)
    assert count == changed
    at += 32 + 60
    runs_length = struct.unpack_from("<I", table_, at)[0]
    runs = varints(table_[at + 4 : at + 4 + runs_length])
    at += 4 + runs_length
    numbers = varints(table_[at + 4 :])
    assert len(numbers) == columns * number
    indexes, where = list[int](), 0
    for skip, many in zip(runs[::2], runs[1::2], strict=True):
        indexes += range(where + skip, where + skip + many)
        where += skip + many
    made, done, offset = dict[int, bytes](), 0, 0
    for start in range(0, len(numbers), columns):
        groups, control, ops, jumps, residual, literal, *more = numbers[start : start + columns]
        areas, shifts = more or (0, 0)
        whole = control + residual + literal
        stored = body[offset : offset + whole]
        offset += whole
        plain = unpack(stored[:control], ops + jumps + areas + shifts, 65536)
        end = ops + jumps
        piece = Piece(
            varints(plain[:ops]),
            varints(plain[ops:end]),
            Moves(plain[end : end + areas], plain[end + areas :]),
            unpack(stored[control : control + residual], 1 << 26, 262144) if residual else b"",
            unpack(stored[control + residual :], 1 << 26, 262144) if literal else b"",
        )
        for index in indexes[done : done + groups]:
            made[index] = piece.group(base, index * group, min(group, size - index * group))
        done += groups
    for position, index in enumerate(indexes):
        assert hashlib.sha256(made[index]).digest() == digests[32 * position : 32 * position + 32], index
    return made


class Piece:
    """Sections 5 and 6."""

    def __init__(self, ops: list[int], jumps: list[int], moves: Moves, residual: bytes, literal: bytes) -> None:
        self.ops, self.jumps, self.moves, self.residual, self.literal = ops, jumps, moves, residual, literal
        self.distance = 0

    def group(self, base: bytes, offset: int, length: int) -> bytes:
        out = b""
        while len(out) < length:
            op = self.ops.pop(0)
            size, kind = op // 4 or length - len(out), op % 4
            place = offset + len(out)
            if kind < 2:
                self.distance += signed(self.jumps.pop(0))
            source = base[place + self.distance : place + self.distance + size]
            if kind == 0:
                out += source
            elif kind == 1:
                out += self.add(source, place)
            elif kind == 2:
                out += self.literal[:size]
                self.literal = self.literal[size:]
            else:
                out += bytes(size)
        return out

    def add(self, source: bytes, place: int) -> bytes:
        first = place + self.distance
        parts = [
            expected(source[at : at + 16384], place + at, self.distance, range(first, first + len(source)), self.moves)
            for at in range(0, len(source), 16384)
        ]
        words, made = b"".join(parts), b""
        left, right = (part + bytes(-len(part) % 4) for part in (words, self.residual[: len(words)]))
        for at in range(0, len(left), 4):
            a, b = (int.from_bytes(part[at : at + 4], "little") for part in (left, right))
            made += ((a + b) % 2**32).to_bytes(4, "little")
        self.residual = self.residual[len(words) :]
        return made[: len(words)]
