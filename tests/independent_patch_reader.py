"""Applies a patch as docs/patch-format.md says it, written from that page alone: slow, without the product's code."""

from __future__ import annotations

import hashlib
import lzma
import struct

Read = dict[int, bytes]


def unpack(data: bytes, length: int, window: int, before: bytes = b"") -> bytes:
    """Section 3; `before`: section 5.1."""
    if not length:
        return b""
    chunks = b""
    for at in range(0, len(before), 65536):
        chunk = before[at : at + 65536]
        chunks += bytes([2 if at else 1]) + struct.pack(">H", len(chunk) - 1) + chunk
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": window}]
    reader = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters)
    return reader.decompress(chunks + data, len(before) + length)[len(before) :]


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
        step = {2: 2, 3: 1}.get(kind, 4)
        first, last = max(start, place), min(end, place + len(part))
        first, last = first + -first % step, last - last % step
        if first >= last or distance % step:
            continue
        run = part[first - place : last - place]
        near = range(op.start + old_bias, op.stop + old_bias)
        if kind in (0, 4):
            made = code(kind, run, first + distance + old_bias, first + new_bias, near, moves)
        elif kind in (1, 2, 3, 5):
            rule = {1: a32, 2: t32, 3: x86, 5: index}[kind]
            made = rule(run, first + distance + old_bias, first + new_bias, near, moves)
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


def by(target: int, old: int, new: int, near: range, moves: Moves) -> int:
    """By how much a word that counts from its own place changes."""
    shift = moves.shift(target)
    return 0 if target in near or shift is None else shift - (new - old)


def x86(run: bytes, old: int, new: int, near: range, moves: Moves) -> bytes:
    out, at = bytearray(run), 0
    while at < len(run):
        one, two = run[at], run[at + 1] if at + 1 < len(run) else 0
        size = 0
        if one in (0xE8, 0xE9):
            size = 1
        elif (one == 0x0F and two >> 4 == 8) or (one in MODRM and two & 0xC7 == 5):
            size = 2
        field_ = at + size
        if not size or field_ + 4 > len(run) or run[field_ + 3] not in (0, 255):
            at += 1
            continue
        value = int.from_bytes(run[field_ : field_ + 4], "little", signed=True)
        step = by(old + field_ + 4 + value, old, new, near, moves)
        if step:
            out[field_ : field_ + 4] = ((value + step) % 2**32).to_bytes(4, "little")
        at = field_
    return bytes(out)


MODRM = bytes.fromhex(
    "00010203 08090a0b 10111213 20212223 28292a2b 30313233 38393a3b 63 69 6b 6f 7f"
    "808182838485868788898a8b 8d b6b7 bebf c0c1 c6c7 d6 f6f7 ff"
)


def literal(out: bytearray, run: bytes, at: int, counted: int, old: int, new: int, near: range, moves: Moves) -> None:
    """The word at `at`, which counts from `counted`, both in bytes of the run."""
    if 0 <= at <= len(run) - 4:
        value = int.from_bytes(run[at : at + 4], "little", signed=True)
        step = by(old + counted + value, old, new, near, moves)
        if step:
            out[at : at + 4] = ((value + step) % 2**32).to_bytes(4, "little")


def t32(run: bytes, old: int, new: int, near: range, moves: Moves) -> bytes:
    halves = struct.unpack(f"<{len(run) // 2}H", run)
    out, i = bytearray(run), 0
    while i < len(halves):
        one, two = halves[i], halves[i + 1] if i + 1 < len(halves) else 0
        if one & 0xFF78 == 0x4478:
            register = one & 7 | (one & 128) >> 4
            for j in range(i - 1, max(i - 17, -1), -1):
                pc = (old + 2 * j + 4) // 4 * 4 - old
                if halves[j] >> 11 == 9 and halves[j] >> 8 & 7 == register:
                    literal(out, run, pc + 4 * (halves[j] & 255), 2 * i + 4, old, new, near, moves)
                    break
                if halves[j] == 0xF8DF and halves[j + 1] >> 12 == register:
                    literal(out, run, pc + (halves[j + 1] & 4095), 2 * i + 4, old, new, near, moves)
                    break
        if one >> 11 == 30 and two >> 15:
            sign, j1, j2, last = one >> 10 & 1, two >> 13 & 1, two >> 11 & 1, two & 0x7FF
            form = (two >> 14 & 1, two >> 12 & 1)
            short = form == (0, 0)
            if short and one >> 7 & 7 == 7:
                i += 2
                continue
            pc, pc_new = old + 2 * i + 4, new + 2 * i + 4
            if form == (1, 0):
                pc, pc_new = pc // 4 * 4, pc_new // 4 * 4
            if short:
                number, size = sign << 19 | j2 << 18 | j1 << 17 | (one & 63) << 11 | last, 20
            else:
                i1, i2 = 1 - (j1 ^ sign), 1 - (j2 ^ sign)
                number, size = sign << 23 | i1 << 22 | i2 << 21 | (one & 0x3FF) << 11 | last, 24
            target = pc + 2 * field(number, 0, size)
            shift = moves.shift(target)
            if target not in near and shift not in (None, new - old):
                number = (target + shift - pc_new) // 2
                sign = number >> size - 1 & 1
                if short:
                    j2, j1 = number >> 18 & 1, number >> 17 & 1
                    one = one & ~0x43F | sign << 10 | number >> 11 & 63
                else:
                    j1, j2 = 1 - (number >> 22 & 1 ^ sign), 1 - (number >> 21 & 1 ^ sign)
                    one = one & ~0x7FF | sign << 10 | number >> 11 & 0x3FF
                two = two & ~0x2FFF | j1 << 13 | j2 << 11 | number & 0x7FF
                out[2 * i : 2 * i + 4] = struct.pack("<HH", one, two)
            i += 1
        i += 1
    return bytes(out)


def a32(run: bytes, old: int, new: int, near: range, moves: Moves) -> bytes:
    words = struct.unpack(f"<{len(run) // 4}I", run)
    out = bytearray(run)
    for i, word in enumerate(words):
        if word >> 25 & 7 == 5:
            step = by(old + 4 * i + 8 + 4 * field(word, 0, 24), old, new, near, moves)
            made = word & 0xFF000000 | (word + step // 4) % 2**24
            if step:
                out[4 * i : 4 * i + 4] = made.to_bytes(4, "little")
        elif word & 0x0FFF0FF0 == 0x008F0000 and word >> 28 == 14:
            for j in range(i - 1, max(i - 17, -1), -1):
                if words[j] & 0x0F7F0000 == 0x051F0000 and words[j] >> 12 & 15 == word & 15:
                    offset = (words[j] & 4095) * (1 if words[j] >> 23 & 1 else -1)
                    literal(out, run, 4 * j + 8 + offset, 4 * i + 8, old, new, near, moves)
                    break
    return bytes(out)


def index(run: bytes, old: int, new: int, near: range, moves: Moves) -> bytes:
    words = list(struct.unpack(f"<{len(run) // 4}I", run))
    for i, word in enumerate(words):
        if word >> 30 == 1:
            words[i] = (word + by(old + 4 * i + word - 2**31, old, new, near, moves)) % 2**31
    return struct.pack(f"<{len(words)}I", *words)


def replaced(piece: Piece, base_size: int, places: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Section 5.1: runs of the base."""
    ops, jumps, distance = list(piece.ops), list(piece.jumps), 0
    found, literal_, behind, room = list[tuple[int, int]](), 0, -1, 786432
    sources = list[tuple[int, int, int]]()
    for place, length in places:
        at = place
        while at < place + length:
            op = ops.pop(0)
            size, kind = op // 4 or place + length - at, op % 4
            if kind < 2:
                distance += signed(jumps.pop(0))
            sources.append((kind, at + distance, size))
            at += size
    for kind, source, size in [*sources, (0, -1, 0)]:
        if kind == 2:
            literal_ += size
        if kind >= 2:
            continue
        if literal_ and behind >= 0:
            length = source - behind if 0 < source - behind <= 32768 else min(literal_, 32768)
            length = min(length, base_size - behind, room)
            if length > 0:
                found.append((behind, length))
                room -= length
        behind, literal_ = source + size, 0
    return found


def apply_patch(data: bytes, base: bytes) -> dict[int, bytes]:
    """The changed groups of a patch for one payload, each of the digest that the patch says."""
    assert data[:8] == bytes.fromhex("89545750540D0A1A")
    version, packed, length, changed, pieces = struct.unpack_from("<IIIIQ", data, 8)
    assert version in (1, 2, 3)
    columns, small = 6 if version == 1 else 8, 65536 if version == 3 else 262144
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
            unpack(stored[control : control + residual], 1 << 26, small) if residual else b"",
            b"",
        )
        places = [(one * group, min(group, size - one * group)) for one in indexes[done : done + groups]]
        where_from = replaced(piece, base_size, places) if version == 3 else list[tuple[int, int]]()
        before = b"".join(base[first : first + count] for first, count in where_from)
        if literal:
            window = 1048576 if version == 3 else 262144
            piece.literal = unpack(stored[control + residual :], 1 << 26, window, before)
        for place, count in places:
            made[place // group] = piece.group(base, place, count)
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
