"""The question to the trust process, with what this device knows of roots, dates and floors."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator

from twinslot.config.options import Config
from twinslot.core.errors import DeviceError, LifecycleError, TwinslotError
from twinslot.core.events import AuditEvent
from twinslot.core.model import Floors
from twinslot.core.stream import ImageHead
from twinslot.engine.edges import Verified
from twinslot.engine.trust_time import trust_time
from twinslot.storage.record.published import Published
from twinslot.storage.record.record import Record
from twinslot.trust.kept_roots import CHAIN, NEWEST, read_chain, write_chain
from twinslot.trust.verdict import TrustFloors, TrustPolicy, TrustRequest, Verdict
from twinslot.worker import launch
from twinslot.worker.stream import verify_in_worker

GetWorker = Callable[[str], launch.Worker]
TellDropped = Callable[[int, TwinslotError], None]


class Verifier:
    """Asks the trust process, with what this device knows of roots, dates and floors (S8, S16)."""

    def __init__(self, config: Config, get_worker: GetWorker) -> None:
        self._config, self._get_worker = config, get_worker
        self._ready: launch.Worker | None = None

    @contextlib.contextmanager
    def expecting(self) -> Iterator[None]:
        """See `device.Device.expecting`: the trust process starts while the device is looked at and the head comes."""
        self._ready = self._get_worker("verify")
        try:
            yield
        finally:
            worker, self._ready = self._ready, None
            if worker is not None:
                worker.close()

    def __call__(
        self, head: ImageHead, record: Record, floors: Floors, *, ignore_expiry: bool, note: Callable[..., object]
    ) -> Verified:
        """See `device.Verify`."""
        roots = list(_kept_roots(record))

        def dropped(fit: int, why: TwinslotError) -> None:
            gone = [hashlib.sha256(root).hexdigest() for root in roots[fit:]]
            note(AuditEvent.ROOTS_DROPPED, fit=fit, dropped=gone, **why.as_dict())
            del roots[fit:]
            record.keep_documents(write_chain(roots))

        verdict = self.ask(head, record, floors, ignore_expiry=ignore_expiry, dropped=dropped)
        documents: dict[str, str | None] = {
            "targets": verdict.targets.decode(),
            "targets-version": str(verdict.targets_version),
            "verified-date": verdict.verified_date.strftime("%Y-%m-%dT%H:%M:%S+00:00"),
            "dates": json.dumps({each.what: each.expires.isoformat() for each in verdict.dates}),
        }
        if verdict.new_roots:
            documents |= write_chain([*roots, *verdict.new_roots])
        return Verified(verdict.root_version, documents, {"trust": verdict.summary()})

    # keeps: S24
    def ask(
        self,
        head: ImageHead,
        record: Record | Published | None,
        floors: Floors,
        *,
        ignore_expiry: bool,
        dropped: TellDropped,
    ) -> Verdict:
        """One question to the trust process; `dropped` as for `verify_in_worker`."""
        keep = record.document if record else lambda _: None
        kept = keep("targets")
        request = TrustRequest(
            trusted_root=self._built_in_root().encode(),
            trust_section=head.trust,
            manifest=head.manifest,
            policy=TrustPolicy(self._config.trust.roles, ignore_expiry=ignore_expiry),
            time=trust_time(self._config, keep("verified-date")),
            floors=TrustFloors(floors.root, int(keep("targets-version") or 1)),
            kept_targets=kept.encode() if kept else None,
            kept_roots=_kept_roots(record) if record else (),
        )
        verdict = verify_in_worker(self._take_worker, request, dropped)
        if verdict.manifest_digest != hashlib.sha256(head.manifest).hexdigest():
            raise LifecycleError("the trust process answered for another manifest", code="trust-pipe")
        return verdict

    def _take_worker(self) -> launch.Worker:
        worker, self._ready = self._ready, None
        return worker if worker is not None else self._get_worker("verify")

    def _built_in_root(self) -> str:
        path = self._config.trust.root
        try:
            return path.read_text()
        except OSError as e:
            raise DeviceError(f"the root of trust '{path}' cannot be read", code="trust-root", found=e.strerror) from e


def _kept_roots(record: Record | Published) -> tuple[bytes, ...]:
    return read_chain(record.document(CHAIN), record.document(NEWEST))
