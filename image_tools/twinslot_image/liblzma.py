"""LZMA2 streams that begin with a window that is not empty. The only importer of ctypes here.

Python's own `lzma` can read them, but not make them: it does not hand on `preset_dict`. So its library is asked itself,
the very one that Python has loaded. What comes out is tried with Python's reader before a patch gets its name.
"""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from twinslot.core.errors import DeviceError
from twinslot.image.lzma2 import PRESET_BEST, WORDS

_NAMES: Final = ("liblzma.so.5", "liblzma.5.dylib")  # since version 5.0 of 2010, with one interface
_LZMA2: Final = 0x21  # LZMA_FILTER_LZMA2, lzma/lzma12.h
_END: Final = 2**64 - 1  # LZMA_VLI_UNKNOWN, lzma/vli.h


class _Options(ctypes.Structure):
    """lzma_options_lzma, lzma/lzma12.h; what is reserved there is one array here."""

    _fields_ = (
        ("dict_size", ctypes.c_uint32),
        ("preset_dict", ctypes.c_char_p),
        ("preset_dict_size", ctypes.c_uint32),
        ("lc", ctypes.c_uint32),
        ("lp", ctypes.c_uint32),
        ("pb", ctypes.c_uint32),
        ("mode", ctypes.c_int),
        ("nice_len", ctypes.c_uint32),
        ("mf", ctypes.c_int),
        ("depth", ctypes.c_uint32),
        ("reserved", ctypes.c_uint64 * 16),
    )


class _Filter(ctypes.Structure):
    """lzma_filter, lzma/filter.h."""

    _fields_ = (("id", ctypes.c_uint64), ("options", ctypes.c_void_p))


def pack_after(
    before: bytes, data: bytes, window: int, *, preset: int = PRESET_BEST, bits: Mapping[str, int] = WORDS
) -> bytes:
    """One stream for a reader whose window already holds `before`; nothing for nothing.

    Args:
        before: What may be repeated; less than the window.
        data: What the stream is to hold.
        window: Bytes.
        preset: As in Python's `lzma`.
        bits: lc, lp and pb.

    Raises:
        DeviceError: `device.program`: the library is not there, or has no room.
    """
    if not data:
        return b""
    library, options = _library(), _Options()
    library.lzma_lzma_preset(ctypes.byref(options), ctypes.c_uint32(preset))
    options.dict_size, options.preset_dict, options.preset_dict_size = window, before, len(before)
    options.lc, options.lp, options.pb = (bits[name] for name in ("lc", "lp", "pb"))
    filters = (_Filter * 2)(_Filter(_LZMA2, ctypes.cast(ctypes.pointer(options), ctypes.c_void_p)), _Filter(_END, None))
    room = len(data) + len(data) // 1024 + 64  # a chunk that cannot be packed takes 3 bytes in 64 KiB
    out, length = ctypes.create_string_buffer(room), ctypes.c_size_t(0)
    result = library.lzma_raw_buffer_encode(
        filters, None, data, ctypes.c_size_t(len(data)), out, ctypes.byref(length), ctypes.c_size_t(room)
    )
    if result:
        raise DeviceError("liblzma cannot pack", code="program", expected="result 0", found=f"result {result}")
    return out.raw[: length.value]


@lru_cache(maxsize=1)
def _library() -> Any:
    for name in (getattr(importlib.import_module("_lzma"), "__file__", None), *_NAMES):
        try:
            library = ctypes.CDLL(name)
            getattr(library, "lzma_raw_buffer_encode")  # noqa: B009 - whether it is there
            return library
        except (OSError, AttributeError):
            continue
    raise DeviceError("'patch' needs liblzma", code="program", hint="install liblzma5")
