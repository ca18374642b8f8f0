"""One device that lies, or whose clock is wrong, does not hide the rest of the fleet from whoever reads the reports."""

from __future__ import annotations

import contextlib
import copy
import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from twinslot.core.device_key import PublicPart, signed_bytes
from twinslot.core.report import PAYLOAD_TYPE, envelope
from twinslot_image.cli import main as image_main

_ODD: Final[tuple[Any, ...]] = (
    *(1e999, -1e999, float("nan"), 1.5, -1, 10**400, True, None),
    *("", "\ud800", "9" * 5000, "=1+1", "a\nb\x1b[31m", "0001-01-01T00:00:00+23:00", "9999-12-31T23:59:59-23:00"),
    *([], [1], [[]], {}, {"a": []}),
)
_OFFER: Final = {
    "epoch": 0,
    "image": "images/pump.twin",
    "manifest": "ab" * 32,
    "name": "1.1",
    "sequence": 11,
    "size": 1,
    "waves": [{"end": "2026-01-02T00:00:00Z", "share": 1_000_000, "spread": 0, "start": "2026-01-01T00:00:00Z"}],
}


def _good(at: datetime, release: str = "1.0") -> dict[str, Any]:
    moment = f"{at:%Y-%m-%dT%H:%M:%SZ}"
    fields = {"transaction": "t", "reason": "checks", "release": "1.1"}
    ended = {
        "id": "t",
        "outcome": "rolled-back",
        "checks": [{"name": "pump", "passed": False}],
        "release": {"name": "1.1"},
    }
    return {
        "format": 1,
        "id": "a" * 32,
        "at": moment,
        "device": {"id": "bed-7", "public": "", "compatible": ["acme,pump-3"], "ring": ""},
        "status": {
            "running": "a",
            "state": "idle",
            "slots": {"a": {"release": {"name": release, "sequence": 10, "manifest": "0" * 64}, "state": "good"}},
        },
        "rows": [{"number": 5, "at": moment, "boot": "b", "event": "rolled-back", "hash": "h", "fields": fields}],
        "before": "",
        "dropped": 0,
        "updates": [ended],
        "telemetry": {"wear": 1},
    }


def _places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield (*place, key)
        yield from _places(each, (*place, key))


def _with(document: dict[str, Any], place: tuple[Any, ...], value: Any) -> dict[str, Any]:
    changed = inner = copy.deepcopy(document)
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return changed


def _sign(path: Path, document: dict[str, Any], key: Ed25519PrivateKey | None = None) -> None:
    """As a device would that has this key, a new one unless given; its public part is added where there is room."""
    key = key or Ed25519PrivateKey.generate()
    public = PublicPart.from_der(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    if isinstance(document["device"], dict) and document["device"].get("public") == "":
        document["device"]["public"] = public.pem
    payload = json.dumps(document).replace("-Infinity", "-1e999").replace("Infinity", "1e999").encode()
    path.write_bytes(envelope(payload, public.fingerprint, key.sign(signed_bytes(PAYLOAD_TYPE, payload))))


def _tabulated(*argv: str) -> dict[str, Any]:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert image_main(["reports", *argv, "--json"]) == 0
    told: dict[str, Any] = json.loads(out.getvalue())
    return told


@pytest.mark.verifies("REQ-REP-07")
def test_a_signed_report_with_any_value_in_any_place_leaves_those_of_other_devices_readable(tmp_path: Path) -> None:
    folder, fleet = tmp_path / "in", tmp_path / "fleet"
    folder.mkdir()
    assert image_main(["repository", "init", str(fleet), "--quiet"]) == 0
    (fleet / "repository.json").write_text(
        json.dumps({"format": 1, "offers": {"acme,pump-3": [_OFFER]}, "recalls": {}})
    )
    good = _good(datetime.now(UTC))
    _sign(folder / "good.json", copy.deepcopy(good))
    number = 0
    for place in _places(good):
        for odd in _ODD:
            number += 1
            _sign(folder / f"{number}.json", _with(_with(good, ("device", "id"), f"odd-{number}"), place, odd))
    files = ("--html", str(tmp_path / "page.html"), "--csv", str(tmp_path / "table.csv"))
    told = _tabulated(str(folder), "--repository", str(fleet), *files)
    assert len(told["devices"]) + len(told["refused"]) == number + 1
    (ours,) = [each for each in told["devices"] if each["device"] == "bed-7"]
    assert (ours["release"], ours["reason"], ours["checks"], ours["late"]) == ("1.0", "checks", "pump", "1.1")
    assert "bed-7" in (tmp_path / "table.csv").read_text()


def test_a_report_from_a_time_to_come_is_not_the_newest_and_its_device_not_taken_for_one_that_is_heard(
    tmp_path: Path,
) -> None:
    now, key = datetime.now(UTC), Ed25519PrivateKey.generate()
    _sign(tmp_path / "ahead.json", _good(now + timedelta(days=20_000)), key)
    (alone,) = _tabulated(str(tmp_path))["devices"]
    assert "whether it is silent is not known" in alone["broken"][-1]
    _sign(tmp_path / "now.json", _good(now, "1.1") | {"id": "b" * 32}, key)
    (later,) = _tabulated(str(tmp_path))["devices"]
    assert (later["release"], later["broken"]) == ("1.1", [])
