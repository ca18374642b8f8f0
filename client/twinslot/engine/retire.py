"""`twinslot retire`: the device's last word, its keys destroyed, its data erased, and no update ever after.

In this order, so that a power cut at any moment leaves a device on which the next `retire` goes on:

1. The row `retired`, durable.
2. `ts_retired` in the boot environment, in one write with the anchor of the audit: from here on updates are refused,
   also when the data partition is lost (S12).
3. The receipt, signed while there is a key, whole or not there (rename(2) after fsync(2)).
4. The keys: overwritten, then removed.
5. The data that `retire.erase` names.

Once there is a receipt nothing is signed again: a second call does 4 and 5 again and gives back the same one. Where a
retired device can give none, 4 and 5 are done all the same, but for a key of its own that may still sign one, and the
call ends with what is wrong with the receipt.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import twinslot
from twinslot.core import boot_variables as bootenv
from twinslot.core import stored
from twinslot.core.attestation import ATTESTATION, KIND, RETIREMENT, attested
from twinslot.core.envelope import loads, read_statement, sign
from twinslot.core.errors import DeviceError, ImageError, Refusal, RefusedError
from twinslot.core.events import AuditEvent
from twinslot.core.lifecycle import State
from twinslot.engine.edges import Device
from twinslot.engine.open_update import timestamp
from twinslot.engine.recover import Session, recovered
from twinslot.storage.sync import sync_directory, write_whole

if TYPE_CHECKING:  # whoever needs no signature loads no library for it
    from twinslot.trust.device_key import DeviceKey

RECEIPT: Final = "retirement.json"  # beside the record; public: it has no secret
_STEP: Final = 1 << 16  # bytes overwritten at once


@dataclass(frozen=True, slots=True)
class RetirePlan:
    """What goes.

    Attributes:
        directory: `record.directory`, where the receipt stays.
        own: The device's own key, if it is a file: it signs the receipt.
        keys: Files with other private keys.
        tokens: Names of keys in tokens, which only the token's own tools destroy; named in the receipt.
        erase: Files and directories with data, as configured.
    """

    directory: Path
    own: Path | None
    keys: Sequence[Path]
    tokens: Sequence[str]
    erase: Sequence[Path]

    @property
    def receipt(self) -> Path:
        """Where the receipt stays."""
        return self.directory / RECEIPT

    @property
    def destroyed(self) -> list[Path]:
        """All private keys that go, the device's own one last."""
        return [*self.keys, *([self.own] if self.own else [])]


# keeps: REQ-AUD-04
def retire(device: Device, plan: RetirePlan, open_key: Callable[[], DeviceKey], reason: str) -> Mapping[str, Any]:
    """Take the device out of service; the signed receipt, JSON-ready. May be called again at any time.

    Args:
        device: The edges.
        plan: What goes.
        open_key: Opens the device's key; not called once there is a receipt.
        reason: Of who asks; in the row and the receipt.

    Raises:
        RefusedError: `refused.update-open`: an update is under way, or the system is on trial.
        DeviceError: `device.device-key`...: there is no key to sign with; `device.retire`: something cannot be erased;
            `device.retire-receipt`: all is erased, and the receipt of a call before is lost.
    """
    try:
        receipt = _kept(device, plan) or _signed(device, plan, open_key, reason)
    except DeviceError as e:
        if not _is_retired(device):
            raise
        _erase_all(plan.keys, plan.erase)
        if e.code != "device.device-key-missing":
            raise
        what = "keys and data are erased, and the receipt of it is lost"
        hint = "the copies that calls before have printed are all there is: no key is left to sign another"
        raise DeviceError(what, code="retire-receipt", expected=str(plan.receipt), hint=hint) from e
    _erase_all(plan.destroyed, plan.erase)
    return receipt


def _is_retired(device: Device) -> bool:
    with recovered(device, "retire") as session:
        return session.is_retired()


def _kept(device: Device, plan: RetirePlan) -> Mapping[str, Any] | None:
    """The receipt of a call before.

    Raises:
        DeviceError: `device.retire`: none can be read from what stands there.
    """
    if not plan.receipt.exists() or not _is_retired(device):  # 2 comes before 3: else it was not this device
        return None
    return _read(plan)


def _signed(device: Device, plan: RetirePlan, open_key: Callable[[], DeviceKey], reason: str) -> Mapping[str, Any]:
    key = open_key()  # before anything is done that cannot be undone
    with recovered(device, "retire") as session:
        _declare(session, plan, reason)
        said = _said(session, plan, reason)
    receipt = sign(KIND, attested(said, key.public.fingerprint, None, RETIREMENT), key.public, key.sign).as_dict()
    _write(plan, receipt)
    return receipt


def _declare(session: Session, plan: RetirePlan, reason: str) -> None:
    state = session.environment()
    if session.update.state is not State.IDLE or not state.is_kept(session.device.running):
        hint = "let it end, or 'twinslot cancel', then retire the device"
        what = "an update is not over yet, so the device stays in service"
        raise RefusedError(Refusal("update-open", what, found=str(session.update.state), hint=hint))
    if session.record.last_event() != AuditEvent.RETIRED and not state.retired:  # else a power cut came between
        erased = [str(path) for path in plan.erase]
        session.update.announcer.announce(AuditEvent.RETIRED, None, reason=reason, erases=erased)
    if not state.retired:
        session.decide(bootenv.retire(state))
    session.record.keep_retired()


def _said(session: Session, plan: RetirePlan, reason: str) -> dict[str, Any]:
    device, facts = session.device, session.facts()
    state, runs = session.environment(), facts.holds(session.device.running)
    return {
        "anchor": state.anchor.text if state.anchor else None,
        "at": timestamp(device.now()),
        "audit": session.record.audit_end().text,
        "boot": device.boot_id,
        "client": twinslot.__version__,
        "compatible": list(device.compatible),
        "destroys": [str(path) for path in plan.destroyed],
        "erases": [str(path) for path in plan.erase],
        "floors": stored.write(facts.floors),
        "in_tokens": list(plan.tokens),
        "nonce": "",
        "origin": device.origin.as_dict(),
        "reason": reason,
        "running": str(device.running),
        "release": stored.write(runs.release) if runs else None,
    }


def _read(plan: RetirePlan) -> Mapping[str, Any]:
    try:
        data = plan.receipt.read_bytes()
    except OSError as e:
        hint = "correct that, and call 'twinslot retire' again"
        raise DeviceError(f"'{plan.receipt}' cannot be read", code="retire", found=e.strerror, hint=hint) from e
    try:
        return read_statement(loads(data, ATTESTATION), KIND, ATTESTATION).as_dict()
    except ImageError as e:
        raise DeviceError(
            f"'{plan.receipt}' is no receipt",
            code="retire",
            expected="a statement that this device signed",
            found=e.found or e.message,
            hint="put back a copy of it, or move it away, and call 'twinslot retire' again: with its key the device "
            "signs another",
        ) from e


def _write(plan: RetirePlan, receipt: Mapping[str, Any]) -> None:
    try:
        write_whole(plan.receipt, json.dumps(receipt, sort_keys=True).encode() + b"\n", 0o644)
    except OSError as e:
        raise DeviceError(f"'{plan.receipt}' cannot be written", code="retire", found=e.strerror) from e


def _erase_all(keys: Iterable[Path], data: Iterable[Path]) -> None:
    """All that can be erased, whatever cannot.

    Raises:
        DeviceError: `device.retire`: the first that stays, and how many more.
    """
    left = [*_left(keys, _destroy), *_left(data, _erase)]
    if not left:
        return
    (path, error), *more = left
    what = f"'{path}' cannot be erased" + (
        f", nor can {', '.join(repr(str(each)) for each, _ in more)}" if more else ""
    )
    hint = "correct that, and call 'twinslot retire' again: the rest is erased"
    raise DeviceError(what, code="retire", found=error.strerror, hint=hint) from error


def _left(paths: Iterable[Path], do: Callable[[Path], None]) -> Iterator[tuple[Path, OSError]]:
    for path in paths:
        try:
            do(path)
        except FileNotFoundError:  # gone already, by a call before
            continue
        except OSError as e:
            yield path, e


def _destroy(path: Path) -> None:
    """Overwrite and remove a file.

    Raises:
        OSError: As the system says it; the caller names what was meant.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        left = os.fstat(descriptor).st_size
        while left > 0:
            left -= os.write(descriptor, bytes(min(left, _STEP)))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    path.unlink()
    sync_directory(path.parent)


def _erase(path: Path) -> None:
    """Remove a file, or all that a directory holds; a link is removed, never followed.

    Raises:
        OSError: As the system says it; the caller names what was meant.
    """
    import shutil  # three compressors with it, for the last act of a device

    if not stat.S_ISDIR(path.lstat().st_mode):
        path.unlink()
        sync_directory(path.parent)
        return
    for each in path.iterdir():
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(each) if each.is_dir() and not each.is_symlink() else each.unlink()
    sync_directory(path)
