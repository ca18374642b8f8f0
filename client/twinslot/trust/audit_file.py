"""An exported audit in a file, verified with the public parts that the office has: the edge of `core.audit_export`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final

from twinslot.core.audit_chain import ChainEnd, ChainRow
from twinslot.core.audit_export import LINE_MAX, AuditVerdict, read_export, verify_export
from twinslot.core.device_key import PEM_MAX, PublicPart
from twinslot.core.errors import DeviceError
from twinslot.trust.device_key import verifies

FILE_MAX: Final = 64 << 20  # bytes; the rows of a device take at most some 5 MiB


def read_public(path: Path) -> PublicPart:
    """A public part from a PEM file.

    Raises:
        DeviceError: `device.device-key`: it cannot be read, or is none.
    """
    try:
        with path.open("rb") as file:
            return PublicPart.from_pem(file.read(PEM_MAX + 1))
    except OSError as e:
        raise DeviceError(f"'{path}' cannot be read", code="device-key", found=e.strerror) from e
    except DeviceError as e:
        hint = "'twinslot device-key show' on the device prints it; one key in each file"
        raise DeviceError(f"'{path}' holds no public part", code="device-key", found=e.found, hint=hint) from e


def verify_audit_file(path: Path, keys: Sequence[Path], anchors: Sequence[ChainEnd] = ()) -> AuditVerdict:
    """Whether a file is the audit that the device with one of these keys wrote; see `core.audit_export.verify_export`.

    Raises:
        RefusedError: `refused.audit-*`.
        ImageError: `image.audit`, `image.json`: it is no export.
        DeviceError: `device.system`, `device.device-key`: a file cannot be read.
    """
    public = [read_public(key) for key in keys]
    try:
        with path.open("rb") as file:
            return verify_export(read_export(_lines(file)), public, verifies, anchors)
    except OSError as e:
        raise DeviceError(f"'{path}' cannot be read", code="system", found=e.strerror) from e


def verified_rows(path: Path, keys: Sequence[Path]) -> tuple[ChainRow, ...]:
    """The rows of a file, once it was verified; raises as `verify_audit_file`."""
    verify_audit_file(path, keys)
    with path.open("rb") as file:
        return read_export(_lines(file)).rows


def _lines(file: BinaryIO) -> Iterator[bytes]:
    left = FILE_MAX
    while line := file.readline(LINE_MAX + 2):
        left -= len(line)
        if left < 0:
            raise DeviceError("the audit is too large", code="system", expected=f"at most {FILE_MAX} bytes")
        yield line.rstrip(b"\n")
