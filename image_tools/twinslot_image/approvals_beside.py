"""The approvals that stand beside an image, for whoever looks at it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from twinslot.core.errors import TwinslotError
from twinslot.image.wire import parse_trust
from twinslot_image.approval import APPROVAL, judge_approval, read_approval
from twinslot_image.compose import Front
from twinslot_image.dsse import ENVELOPE_MAX, open_envelope
from twinslot_image.key_files import ID_SHOWN
from twinslot_image.signing import role_keys


def find_approvals(image: Path) -> list[Path]:
    """Files beside an image with the names that `approve` gives."""
    ending, start = ".approval.json", f"{image.name}."
    found = (path for path in image.parent.iterdir() if path.name.startswith(start) and path.name.endswith(ending))
    return sorted(path for path in found if path.is_file())


def describe_approvals(front: Front, paths: Iterable[Path]) -> list[dict[str, Any]]:
    """What each says, JSON-ready; `problem` says why it does not count, or is null.

    The keys of a role are those of the image's own documents, which are not verified here.
    """
    return [_describe(front, path) for path in paths]


def _describe(front: Front, path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            signed = open_envelope(file.read(ENVELOPE_MAX + 1), APPROVAL)
        approval = read_approval(signed.statement)
        keys = role_keys(parse_trust(front.trust).targets, approval.role)
    except (TwinslotError, OSError) as e:
        return {"file": path.name, "problem": e.message if isinstance(e, TwinslotError) else e.strerror}
    problem = judge_approval(signed, approval, front.manifest, keys)
    by = list(signed.signers(keys))
    return {"file": path.name, "problem": problem or None, "keys": by} | approval.as_dict()


def render_approvals(found: Iterable[dict[str, Any]]) -> list[str]:
    """The same for people, a line or two for each."""
    lines = []
    for each in found:
        if "name" in each:
            head = f"{each['role']}: {each['name']}, {each['meaning']}, {each['time']} ({each['time_source']})"
            seen = ", ".join(document["name"] for document in each["looked_at"]) or "the manifest"
            by = ", ".join(key[:ID_SHOWN] for key in each["keys"])
            lines += [head, f"  looked at {seen}" + (f"; key {by}" if by else "")]
        if each["problem"]:
            lines.append(f"{'  ' if 'name' in each else ''}DOES NOT COUNT: {each['file']}: {each['problem']}")
    return lines
