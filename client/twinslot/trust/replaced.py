"""Which roles a new document replaces, and how many signatures that takes: no key outranks a threshold (S24).

A role is *replaced* when the new document lets sign for it who could not before: a key more, fewer that must sign, a
name more that it signs for, or the role is gone and could come back with other keys. A date, a key less or a higher
threshold replaces nothing.

Replacing a role takes at least as many signatures as the role itself had to give. A targets document can replace the
roles that it delegates to; a root can replace root and targets, and so, with its next step, every role behind them.

Documents that were trusted before are read here without a fixed form: they may come from a newer client (S18), and what
else stands in them says nothing against them. Keys are compared by what they are: an id may be given to another key.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from twinslot.core.errors import DeviceError, Refusal


@dataclass(frozen=True, slots=True)
class Authority:
    """Who may sign as a role, how many of them must, and for which names (none: not a question)."""

    threshold: int
    keys: frozenset[str]
    paths: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f"{self.threshold} of {len(self.keys)}"

    # keeps: S24
    def replaces(self, before: Authority) -> bool:
        """Whether this lets sign who could not before."""
        return self.threshold < before.threshold or not (self.keys <= before.keys and self.paths <= before.paths)


@dataclass(frozen=True, slots=True)
class Step:
    """One new document in its place: what it replaces, and who of those that may do so have signed it.

    Attributes:
        what: The document, for people.
        by: The role whose keys sign such a document.
        signatures: How many different keys of that role gave a valid one.
        before: The roles as they were, by name.
        after: As the document has them.
        behind: Roles that whoever gets `before` into their hands could replace next.
    """

    what: str
    by: str
    signatures: int
    before: Mapping[str, Authority]
    after: Mapping[str, Authority]
    behind: Mapping[str, Authority]


def kept_roles(document: bytes | None) -> dict[str, Authority]:
    """The roles of the targets document that this device keeps; none when it keeps none.

    Raises:
        DeviceError: `device.trust-targets`: it does not say which roles there are.
    """
    if document is None:
        return {}
    try:
        return delegated_roles(json.loads(document)["signed"])
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        what, hint = "this device's targets document is damaged", "restore the record, or remove it as a whole"
        raise DeviceError(what, code="trust-targets", hint=hint) from e


def delegated_roles(signed: Mapping[str, Any]) -> dict[str, Authority]:
    """The roles that a targets document delegates to, by name."""
    delegations = signed["delegations"]
    return {
        role["name"]: _authority(role, delegations["keys"], frozenset(role["paths"])) for role in delegations["roles"]
    }


def top_roles(signed: Mapping[str, Any]) -> dict[str, Authority]:
    """Root and targets as a root document has them."""
    return {name: _authority(signed["roles"][name], signed["keys"], frozenset()) for name in ("root", "targets")}


def _authority(role: Mapping[str, Any], keys: Mapping[str, Any], paths: frozenset[str]) -> Authority:
    held = frozenset(json.dumps(keys[key_id], sort_keys=True) for key_id in role["keyids"])
    return Authority(int(role["threshold"]), held, paths)


def replaced_roles(before: Mapping[str, Authority], after: Mapping[str, Authority]) -> tuple[str, ...]:
    """The names of those that the new document replaces, in order."""
    return tuple(name for name in sorted(before) if name not in after or after[name].replaces(before[name]))


def signatures_needed(
    before: Mapping[str, Authority], after: Mapping[str, Authority], behind: Mapping[str, Authority] | None = None
) -> int:
    """How many signatures it takes to go from one to the other; 0 when nothing is replaced. See `Step` for `behind`."""
    replaced = replaced_roles(before, after)
    roles = [*(before[name] for name in replaced), *((behind or {}).values() if replaced else ())]
    return max((role.threshold for role in roles), default=0)


# keeps: S24
def refuse_outranked(step: Step) -> tuple[Refusal, ...]:
    """Why too few have signed this document for what it replaces: one reason for each role that they would outrank."""
    replaced = replaced_roles(step.before, step.after)
    above = {name: step.before[name] for name in replaced if step.before[name].threshold > step.signatures}
    reasons = [_refusal(step, name, _change(role, step.after.get(name))) for name, role in above.items()]
    if replaced:
        names = " and ".join(f"'{name}'" for name in replaced)
        behind = {name: role for name, role in step.behind.items() if role.threshold > step.signatures}
        reasons += [_refusal(step, name, f"stands behind {names}, which change") for name in sorted(behind)]
    return tuple(reasons)


def _refusal(step: Step, name: str, change: str) -> Refusal:
    threshold = step.behind[name].threshold if name in step.behind else step.before[name].threshold
    what = f"{step.what} outranks role '{name}', which {change}"
    hint = f"a change of role '{name}' takes as many keys of role '{step.by}' as '{name}' itself needs"
    return Refusal("outranked", what, _count(threshold), _count(step.signatures), hint)


def _change(before: Authority, after: Authority | None) -> str:
    if after is None:
        return f"needs {before} and is gone"
    if not after.keys <= before.keys:
        return f"goes from {before} keys to {after} with other keys"
    return f"goes from {before} keys to {after}" + " for other names" * (before.threshold <= after.threshold)


def _count(signatures: int) -> str:
    return "1 valid signature" if signatures == 1 else f"{signatures} valid signatures"
