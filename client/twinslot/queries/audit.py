"""The audit for others: exported with a signature over its end, and verified. Changes nothing (S26)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import twinslot
from twinslot.bootloader.select import open_bootloader
from twinslot.config.options import Config
from twinslot.core.audit_chain import ChainEnd
from twinslot.core.audit_export import end_line, head_line, row_line
from twinslot.core.audit_statements import EXPORT_END, ExportEnd
from twinslot.core.boot_variables import read_state
from twinslot.core.envelope import sign
from twinslot.core.errors import DeviceError
from twinslot.engine.open_update import timestamp
from twinslot.engine.trust_time import utc_now
from twinslot.storage.device_key import DeviceKeyFiles
from twinslot.storage.record.record import Record
from twinslot.storage.sync import write_output
from twinslot.trust.audit_file import verify_audit_file
from twinslot.trust.device_key import open_device_key

MODE = 0o600  # rows name who asked for what


# keeps: S25
def export_audit(config: Config) -> bytes:
    """Every row that is there, and the signed end. Only root may.

    Raises:
        DeviceError: There is no record or no device key, or one cannot be used.
    """
    key = open_device_key(DeviceKeyFiles(config.record.directory, config.device.key))
    anchor = anchor_of(config)  # before the rows: of a decision meanwhile the rows are there, and its anchor is not
    with Record(config.record.directory, lambda: "", read_only=True) as record:
        checkpoint, rows = record.snapshot()
        end = rows[-1].end if rows else record.audit_start()
    at, device = timestamp(utc_now()), key.public.fingerprint
    told = ExportEnd(end, anchor, at, device, twinslot.__version__)
    signed = sign(EXPORT_END, told.as_dict(), key.public, key.sign)
    return b"".join([head_line(key.public, checkpoint), *map(row_line, rows), end_line(signed)])


def export_audit_to(config: Config, path: Path) -> None:
    """As `export_audit`, to a file: whole, or as it was before.

    Raises:
        DeviceError: As there; `device.system`: the file cannot be written.
    """
    data = export_audit(config)
    try:
        write_output(path, data, MODE)
    except OSError as e:
        raise DeviceError(f"'{path}' cannot be written", code="system", found=e.strerror) from e


def verify_audit(path: Path, keys: Sequence[Path], anchors: Sequence[ChainEnd]) -> dict[str, Any]:
    """What an export comes to, JSON-ready; see `trust.audit_file.verify_audit_file`."""
    return verify_audit_file(path, keys, anchors).as_dict()


def anchor_of(config: Config) -> ChainEnd | None:
    """The end that the boot environment has; None: none, or it cannot be read."""
    try:
        environment = open_bootloader(config.boot).read()
    except DeviceError:
        return None
    return None if environment.lost else read_state(environment.variables).anchor
