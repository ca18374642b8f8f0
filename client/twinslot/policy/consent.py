"""What people have said of the update that waits, in a small file beside the record that any user may read.

Replaced whole each time, also through a power cut. It is begun anew when an update was committed. Where it is damaged
it is begun anew, too: then people are asked again, and the count of how long they were waited for starts over.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from twinslot.config.policy import ConsentConfig
from twinslot.core.backoff import Moment
from twinslot.core.consent import Consent, ConsentBounds, ConsentMode, approve, count, hold, is_over, missing
from twinslot.core.errors import DeviceError, Refusal, RefusedError
from twinslot.core.policy import Obstacle, ObstacleKind
from twinslot.storage.kept import read_kept, write_kept

FILE_NAME: Final = "consent.json"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LocalConsent:
    """Implements `engine.edges.ConsentEdge`.

    Attributes:
        config: `[policy.consent]`.
        directory: Of the record.
        moment: What time it is, in three ways.
    """

    config: ConsentConfig
    directory: Path
    moment: Callable[[], Moment]

    def obstacle(self, release: str, change: str) -> Obstacle | None:
        """What is missing for this release; the time that it waits is counted and kept."""
        if self._mode is ConsentMode.NONE:
            return None
        consent = count(self.kept(), release, self.moment())
        try:
            self._keep(consent)
        except DeviceError as e:  # counted anew at the next question
            log.warning("how long people were waited for cannot be kept: %s", e)
        found = missing(consent, self._mode, self._bounds(change))
        if found is None:
            return None
        why, left = found
        until = datetime.fromtimestamp(consent.clock, UTC) + timedelta(seconds=left) if consent.clock else None
        return Obstacle(ObstacleKind.CONSENT, why, until)

    def approve(self, release: str, by: str) -> None:
        """Somebody agrees.

        Raises:
            RefusedError: `refused.no-consent`: this device asks nobody.
            DeviceError: `device.consent`: it cannot be kept.
        """
        self._require_asked()
        self._keep(approve(count(self.kept(), release, self.moment()), by))

    def hold(self, release: str, change: str, seconds: float, by: str) -> float:
        """Somebody puts it off.

        Returns:
            Seconds for which it is held: at most what the limit leaves.

        Raises:
            RefusedError: `refused.no-consent`; `refused.hold-over`: it was put off as long as may be.
            DeviceError: `device.consent`: it cannot be kept.
        """
        self._require_asked()
        bounds, consent = self._bounds(change), count(self.kept(), release, self.moment())
        if is_over(consent, bounds):
            hint = "an inhibitor holds what must not be interrupted"
            what = "updates were put off for as long as this device allows"
            raise RefusedError(
                Refusal("hold-over", what, f"at most {bounds.limit:.0f} s", f"{consent.counted:.0f} s", hint)
            )
        held = hold(consent, seconds, bounds, by)
        self._keep(held)
        return held.held - held.counted

    def settle(self) -> None:
        """An update was committed: what people said of it, and how long they took, is over."""
        try:
            (self.directory / FILE_NAME).unlink(missing_ok=True)
        except OSError as e:
            log.warning("'%s' cannot be removed: %s", self.directory / FILE_NAME, e.strerror)

    def describe(self, change: str) -> dict[str, Any] | None:
        """For `status`, JSON-ready; None: this device asks nobody."""
        if self._mode is ConsentMode.NONE:
            return None
        kept, bounds = self.kept(), self._bounds(change)
        held = max(0.0, min(kept.held, bounds.limit) - kept.counted)
        return {
            "mode": str(self._mode),
            "approved": kept.approved or None,
            "held": round(held),
            "by": kept.by or None,
            "counted": round(kept.counted),
            "limit": round(bounds.limit),
        }

    def kept(self) -> Consent:
        """What was kept; new where there is nothing, or it cannot be read."""
        return read_kept(self.directory / FILE_NAME, Consent) or Consent()

    @property
    def _mode(self) -> ConsentMode:
        return ConsentMode(self.config.mode)

    def _bounds(self, change: str) -> ConsentBounds:
        security = change == "security"
        limit = min(self.config.limit, self.config.limit_security) if security else self.config.limit
        return ConsentBounds(self.config.notice, limit)

    def _require_asked(self) -> None:
        if self._mode is ConsentMode.NONE:
            hint = "'policy.consent.mode' says whether people are asked"
            raise RefusedError(Refusal("no-consent", "updates of this device wait for nobody's word", hint=hint))

    def _keep(self, consent: Consent) -> None:
        path = self.directory / FILE_NAME
        try:
            write_kept(path, consent)
        except OSError as e:
            hint = "is the data partition mounted, and is there room?"
            raise DeviceError(f"'{path}' cannot be written", code="consent", found=e.strerror, hint=hint) from e
