"""LZMA2 without a container, with fixed parameters: the streams of a patch (docs/patch-format.md section 5).

The windows are constants, so that no stream can ask for more memory. Standard library only.
"""

from __future__ import annotations

import lzma
from collections.abc import Iterable, Mapping
from typing import Any, Final

# The longest distance of a match, in bytes, which is what a decoder allocates. 1 MiB would save 1.3 percent of a patch.
WINDOW: Final = 256 * 1024
WIDE_WINDOW: Final = 1024 * 1024  # of literals in format 3, which may repeat what they replace
CONTROL_WINDOW: Final = 64 * 1024
PRESET_BEST: Final = lzma.PRESET_EXTREME | 9
_FEED: Final = 4096  # bytes handed over at once; the library copies what it does not take
# A stream says itself by which bits of the byte before and of the position its literals are told apart; a reader needs
# no more than the window. Two and two: words of four bytes, as in code and tables. One and none: varints.
WORDS: Final = {"lc": 2, "lp": 2, "pb": 2}
VARINTS: Final = {"lc": 1, "lp": 0, "pb": 0}
_PARAMETERS: Final[dict[str, Any]] = {"id": lzma.FILTER_LZMA2} | WORDS


class PackedError(ValueError):
    """The bytes are not a stream of at least the length asked for."""


class Unpacker:
    """Unpacks one stream, as much as asked for at a time; holds its window and no more.

    Args:
        stored: The whole stream as stored.
        window: Bytes.
    """

    def __init__(self, stored: bytes | memoryview, window: int = WINDOW) -> None:
        self._stored = memoryview(stored)
        filters = [_PARAMETERS | {"dict_size": window}]
        self._decoder = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters) if len(stored) else None

    def put_before(self, runs: Iterable[bytes]) -> None:
        """Let the stream repeat what stands in these runs, as if it had begun with them; before anything is taken.

        They go in as LZMA2 chunks that are not packed: 1, or 2 behind the first one, and their length minus one.

        Args:
            runs: Each of 1 to 65,536 bytes; together less than the window.
        """
        kind = 1
        for run in runs:
            if self._decoder is not None:
                self._decoder.decompress(bytes([kind]) + (len(run) - 1).to_bytes(2, "big") + run)
            kind = 2

    # keeps: S9
    def take(self, length: int) -> bytes:
        """The next bytes; never makes more.

        Raises:
            PackedError: The stream is damaged or ends before.
        """
        if not length:
            return b""
        out = bytearray()
        while len(out) < length:
            out += self._step(length - len(out))
        return bytes(out)

    def _step(self, length: int) -> bytes:
        decoder = self._decoder
        if decoder is None or decoder.eof:
            raise PackedError("the stream ends too early")
        fed = self._stored[:0]
        if decoder.needs_input:
            fed, self._stored = self._stored[:_FEED], self._stored[_FEED:]
            if not fed:
                raise PackedError("the stream is cut off")
        try:
            return decoder.decompress(fed, length)
        except (lzma.LZMAError, EOFError) as e:
            raise PackedError(str(e)) from e


def pack(data: bytes, window: int = WINDOW, *, preset: int = PRESET_BEST, bits: Mapping[str, int] = WORDS) -> bytes:
    """One stream; nothing for nothing. The same bytes for the same input and version of liblzma."""
    if not data:
        return b""
    filters = [{**_PARAMETERS, **bits, "dict_size": window, "preset": preset}]
    return lzma.compress(data, lzma.FORMAT_RAW, filters=filters)
