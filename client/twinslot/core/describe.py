"""What a manifest says, as JSON-ready data with stable keys; `twinslot info` and `twinslot-image inspect` share it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

from twinslot.core.manifest import Manifest, Payload

TIME: Final = "%Y-%m-%dT%H:%M:%SZ"


def describe_manifest(manifest: Manifest) -> dict[str, Any]:
    """Sizes in bytes, times in UTC; `from` is null and `source` empty where the manifest does not say."""
    limits = manifest.taken_from
    return {
        "product": manifest.product,
        "release": manifest.release.name,
        "sequence": manifest.release.sequence,
        "epoch": manifest.release.epoch,
        "type": manifest.type,
        "compatible": list(manifest.compatible),
        "hardware": list(manifest.hardware),
        "variants": list(manifest.variants),
        "from": {"lowest": limits.lowest, "highest": limits.highest} if limits else None,
        "requires": list(manifest.requires),
        "checks": list(manifest.checks),
        "change": {"class": None, "markets": [], "regulatory": {}} | manifest.change.as_dict(),
        "source": {key: value for key, value in asdict(manifest.source).items() if value},
        "built": manifest.built.strftime(TIME),
        "expires": manifest.expires.strftime(TIME),
        "manifest": manifest.digest,
        "payloads": [_payload(payload) for payload in manifest.payloads],
        "attachments": [
            {"name": a.name, "type": a.type or None, "size": a.size, "media_type": a.media_type, "sha256": a.digest}
            for a in manifest.attachments
        ],
        "signatures": list(manifest.key_ids),
    }


def _payload(payload: Payload) -> dict[str, Any]:
    return {
        "name": payload.name,
        "type": payload.type,
        "size": payload.size,
        "stored_size": payload.stored_size,
        "group_size": payload.group_size,
        "groups": payload.groups,
        "sha256": payload.digest,
    }


def source_lines(described: dict[str, Any]) -> list[tuple[str, str]]:
    """Labels and texts for people: what the release was built from, what it is, and which releases it may follow."""
    lines = [(key, text) for key, text in described["source"].items()]
    lines += _change_lines(described["change"])
    if limits := described["from"]:
        lines.insert(0, ("follows", f"sequences {limits['lowest']} to {limits['highest']}"))
    return lines


def _change_lines(change: dict[str, Any]) -> list[tuple[str, str]]:
    lines = [("change", change["class"])] if change["class"] else []
    lines += [("markets", ", ".join(change["markets"]))] if change["markets"] else []
    return lines + list(change["regulatory"].items())
