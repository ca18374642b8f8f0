"""What the engine asks of a slot's storage."""

from __future__ import annotations

from typing import Protocol


class TargetDevice(Protocol):
    """One partition of the target slot, opened exclusively for writing. Owned by whoever opened it; close it.

    Offsets and lengths are bytes. `write` may be cached by the medium; only `flush` makes it durable. `read_direct`
    asks the medium, not a cache.
    """

    @property
    def path(self) -> str:
        """The device, for people."""
        ...

    @property
    def size(self) -> int:
        """Bytes of the whole partition."""
        ...

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Write all of `data` at `offset`. Lost or torn by a power cut until `flush` returns.

        It may be held back until then, together with what follows it: its error may come from a later call.

        Raises:
            DeviceError: `device.write` with the offset (I/O error, device gone).
        """
        ...

    def zero(self, offset: int, length: int) -> None:
        """Make a range read as zeros, by the kernel's means where it has one. Durable after `flush`."""
        ...

    def flush(self) -> None:
        """Return when everything written is on the medium (fsync, which sends the device's flush)."""
        ...

    def read_direct(self, offset: int, length: int) -> bytes:
        """Read `length` bytes past the page cache (O_DIRECT). Both must be multiples of the logical sector size.

        Raises:
            DeviceError: `device.read` with the offset.
        """
        ...

    def close(self) -> None:
        """Release the device; what is held back is written, nothing is flushed by this."""
        ...
