"""Attestations in files, verified with the public parts that the office has: the edge of `core.attestation`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from twinslot.core.attestation import ATTESTATION, KIND, Attestation, verify_attestation
from twinslot.core.envelope import loads, read_statement
from twinslot.core.errors import DeviceError, ImageError
from twinslot.trust.audit_file import read_public
from twinslot.trust.device_key import verifies

FILE_MAX: Final = 8 << 20  # bytes


def verify_attestation_file(path: Path, keys: Sequence[Path], nonce: str | None = None) -> Attestation:
    """Whether a file is what a device with one of these keys said; see `core.attestation.verify_attestation`.

    Args:
        path: What `twinslot attest` printed.
        keys: Public parts in PEM; of a directory all files in it that end in .pem or .pub.
        nonce: What was given to the device, hex; None: any time will do.

    Raises:
        RefusedError: `refused.attestation-*`.
        ImageError: `image.attestation`, `image.json`: it is none.
        DeviceError: `device.system`, `device.device-key`: a file cannot be read.
    """
    public = [read_public(key) for key in _files(keys)]
    try:
        with path.open("rb") as file:
            data = file.read(FILE_MAX + 1)
    except OSError as e:
        raise DeviceError(f"'{path}' cannot be read", code="system", found=e.strerror) from e
    if len(data) > FILE_MAX:
        raise ImageError("it is too large for an attestation", code=ATTESTATION, expected=f"at most {FILE_MAX} bytes")
    return verify_attestation(read_statement(loads(data, ATTESTATION), KIND, ATTESTATION), public, verifies, nonce)


def _files(keys: Sequence[Path]) -> list[Path]:
    found: list[Path] = []
    for key in keys:
        found += sorted(each for each in key.iterdir() if each.suffix in (".pem", ".pub")) if key.is_dir() else [key]
    return found
