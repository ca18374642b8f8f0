"""What policy keeps beside the record and tells below /run, as this version writes it."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from twinslot.core import stored
from twinslot.core.consent import Consent
from twinslot.core.errors import Refusal
from twinslot.core.waiting import Waiting
from twinslot.core.watch import WatchState

AT: Final = "2026-11-29T00:00:00Z"


def write_samples(folder: Path) -> None:
    """What people said of an update that waits, for what it waits, and what was seen of a release after its commit."""
    folder.mkdir()
    moment: dict[str, Any] = {"clock": 1795910400.0, "boot_id": "0" * 32, "uptime": 60.5}
    consent = Consent(1200.25, **moment, release="2026.11", told=600.0, held=4800.25, by="user 1000 (weber)")
    seen = WatchState("0" * 32, 1200.25, **moment, failures=2, told=True)
    why = Refusal("held", "somebody holds the update", found="by user 1000 (weber)", hint="wait")
    waits = Waiting.of("activate", (why,), datetime.fromisoformat(AT), AT)
    for name, each in (("consent", consent), ("watch", seen), ("waits", waits)):
        (folder / f"{name}.json").write_text(json.dumps(stored.write(each), indent=1) + "\n")
