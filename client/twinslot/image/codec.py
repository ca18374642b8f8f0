"""zstd, one frame at a time (RFC 8878). Only importer of zstandard."""

from __future__ import annotations

import zstandard

MAGIC = b"\x28\xb5\x2f\xfd"  # RFC 8878, section 3.1.1; a skippable frame has another
LEVEL_DEFAULT = 9
LEVEL_MAX = 19


class CodecError(ValueError):
    """The bytes are not one frame of exactly the length asked for."""


class Decoder:
    """Decodes frames; holds one context (about 100 KiB plus the window, which is no larger than the group)."""

    def __init__(self) -> None:
        self._context = zstandard.ZstdDecompressor()

    def decode(self, frame: bytes, length: int) -> bytes:
        """Exactly `length` bytes out of exactly one frame; never allocates more than `length` for the result.

        Raises:
            CodecError: Not a frame, another content size, a dictionary, bytes left over, or damaged.
        """
        if frame[:4] != MAGIC:
            raise CodecError("not a zstd frame")
        try:
            parameters = zstandard.get_frame_parameters(frame)
            # The library allocates what the frame claims, so the claim comes first.
            if parameters.content_size != length or parameters.dict_id:
                raise CodecError(f"frame of {parameters.content_size} bytes instead of {length}")
            plain = self._context.decompress(frame, max_output_size=length, allow_extra_data=False)
        except zstandard.ZstdError as e:
            raise CodecError(str(e)) from e
        if len(plain) != length:
            raise CodecError(f"{len(plain)} bytes instead of {length}")
        return plain


class Encoder:
    """Makes frames: the same bytes for the same input, level and library version. Not for several threads at once."""

    def __init__(self, level: int = LEVEL_DEFAULT) -> None:
        self._context = zstandard.ZstdCompressor(level=level, write_content_size=True, write_checksum=False)

    def encode(self, plain: bytes) -> bytes:
        """One frame that names its content size; no checksum, since the digest of the stored bytes covers it."""
        return self._context.compress(plain)
