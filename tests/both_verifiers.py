"""One request judged twice: by the client, and by the judge that was written from the page; they must say the same."""

from __future__ import annotations

import independent_verifier as independent
from twinslot.core.errors import TwinslotError
from twinslot.trust import verify as trust
from twinslot.trust.verdict import TrustRequest


def _client(request: TrustRequest) -> str:
    """What the client says: the versions and the signatures it counted, or `refused`."""
    try:
        verdict = trust.verify(request)
    except TwinslotError:
        return "refused"
    return f"{verdict.root_version} {verdict.targets_version} {[(r.role, len(r.key_ids)) for r in verdict.roles]}"


def _other(request: TrustRequest) -> str:
    """What the judge of the page says."""
    floors = (request.floors.root, request.floors.targets)
    roles = list(request.policy.required_roles)
    try:
        found = independent.judge(
            request.trust_section,
            request.manifest,
            request.trusted_root,
            roles,
            request.time.reference,
            floors,
            request.kept_targets,
            request.kept_roots,
        )
    except (AssertionError, ValueError, TypeError, KeyError, AttributeError):
        return "refused"
    return f"{found.root} {found.targets} {list(found.signed.items())}"


def agree(request: TrustRequest) -> str:
    """What both say."""
    assert _client(request) == _other(request)
    return _client(request)
