"""What an image says of itself, for people and for programs. Nothing here is verified."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from twinslot.core.describe import TIME, describe_manifest, source_lines
from twinslot.core.manifest import Manifest, parse_manifest
from twinslot.image.envelope import Envelope
from twinslot.image.layout import layout
from twinslot.image.wire import Section, parse_trust
from twinslot_image.approvals_beside import describe_approvals, render_approvals
from twinslot_image.compose import Front
from twinslot_image.envelope_inspect import describe_envelope, render_envelope
from twinslot_image.progress import size_text
from twinslot_image.signing import describe_document, role_key_ids


def describe_image(front: Front, envelope: Envelope | None = None, approvals: Iterable[Path] = ()) -> dict[str, Any]:
    """The image as JSON-ready data; stable keys, sizes in bytes, `encryption` null where no envelope is given.

    Raises:
        ImageError: Malformed.
    """
    manifest = parse_manifest(front.manifest)
    layout(front.header, manifest)
    trust = parse_trust(front.trust)
    roles = role_key_ids(trust.targets)
    return {
        **describe_manifest(manifest),
        "encryption": describe_envelope(envelope) if envelope else None,
        "size": front.header.total,
        "sections": {str(section): front.header.length(section) for section in Section},
        "documents": [_describe_document(data) for data in (*trust.roots, trust.targets)],
        "roles": [_describe_role(name, *roles[name], manifest) for name in sorted(roles)],
        "approvals": describe_approvals(front, approvals),
        "unknown_signatures": sorted(set(manifest.key_ids) - {key for _, keys in roles.values() for key in keys}),
    }


def _describe_document(data: bytes) -> dict[str, Any]:
    kind, version, expires = describe_document(data)
    return {"type": kind, "version": version, "expires": expires.strftime(TIME)}


def _describe_role(name: str, threshold: int, keys: tuple[str, ...], manifest: Manifest) -> dict[str, Any]:
    signed = sorted(set(keys) & set(manifest.key_ids))
    return {"role": name, "threshold": threshold, "keys": len(keys), "signatures": signed}


def render_image(data: dict[str, Any]) -> list[str]:
    """The same for people, line by line; a name in it may still hold anything."""
    checks = ", ".join(data["checks"]) or "none"
    lines = [
        f"{data['product']} {data['release']}  ({data['type']})",
        f"  sequence     {data['sequence']}, security epoch {data['epoch']}",
        f"  for          {', '.join(data['compatible'])}",
        *(f"  {key:<11}  {', '.join(data[key])}" for key in ("hardware", "variants") if data[key]),
        *(f"  {label:<11}  {text}" for label, text in source_lines(data)),
        f"  built        {data['built']}, expires {data['expires']}",
        f"  checks       {checks}",
        f"  manifest     {data['manifest']}",
        f"  image        {size_text(data['size'])}",
        *(f"  {line}" for line in (render_envelope(data["encryption"]) if data["encryption"] else ())),
        "",
        *_rows(["payload", "type", "size", "stored", "ratio", "groups"], [_payload_row(p) for p in data["payloads"]]),
    ]
    if data["attachments"]:
        rows = [[a["name"], a["type"] or "-", size_text(a["size"]), a["media_type"]] for a in data["attachments"]]
        lines += ["", *_rows(["attachment", "type", "size", "media type"], rows)]
    rows = [[r["role"], signature_count(r), _key_names(r)] for r in data["roles"]]
    lines += ["", *_rows(["role", "signatures", "keys"], rows)]
    if data["unknown_signatures"]:
        count = len(data["unknown_signatures"])
        lines.append(f"  and {count} {'signature' if count == 1 else 'signatures'} by keys of no role")
    if data["approvals"]:
        lines += ["", "  approvals", *(f"    {line}" for line in render_approvals(data["approvals"]))]
    documents = ", ".join(f"{d['type']} {d['version']} (until {d['expires'][:10]})" for d in data["documents"])
    lines += ["", f"  trust        {documents}", "  Nothing above is verified; 'twinslot-image verify' does that."]
    return lines


def _payload_row(payload: dict[str, Any]) -> list[str]:
    ratio = f"{payload['stored_size'] / payload['size']:.0%}"
    groups = f"{payload['groups']} of {size_text(payload['group_size'])}"
    return [
        payload["name"],
        payload["type"],
        size_text(payload["size"]),
        size_text(payload["stored_size"]),
        ratio,
        groups,
    ]


def signature_count(role: dict[str, Any]) -> str:
    """How many of a role's keys signed, of how many that must: `1 of 2`, `2 of 2 and 1 more`."""
    count, threshold = len(role["signatures"]), role["threshold"]
    return (
        f"{count} of {threshold}" if count <= threshold else f"{threshold} of {threshold} and {count - threshold} more"
    )


def _key_names(role: dict[str, Any]) -> str:
    return ", ".join(key_id[:8] for key_id in role["signatures"]) or "not signed"


def _rows(head: list[str], rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    return [
        "  " + "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in [head, *rows]
    ]
