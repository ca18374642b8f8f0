"""From rows of an audit to the account of one update: what `explain` does on the device and in the office. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from twinslot.core.audit_chain import ChainRow
from twinslot.core.errors import Refusal, RefusedError
from twinslot.core.replay import UpdateAccount, UpdateRow, replay, transactions

LAST: Final = "last"
_SHORTEST: Final = 4  # digits of a beginning


def account_of(rows: Sequence[ChainRow], transaction: str) -> UpdateAccount:
    """Replay one update.

    Args:
        rows: Of the whole audit, in order.
        transaction: Its id, the beginning of it, or `last`.

    Raises:
        RefusedError: `refused.transaction-unknown`: the rows tell of none, or of several.
    """
    told = [_told(row) for row in rows]
    known = transactions(told)
    found = known[-1:] if transaction == LAST else _beginning(known, transaction)
    if len(found) != 1:
        expected = "the id of an update, at least its first 4 digits, or 'last'"
        what = "several updates begin so" if found else "the audit has no rows of such an update"
        raise RefusedError(Refusal("transaction-unknown", what, expected, transaction[:64], "see 'twinslot history'"))
    return replay(found[0], told)


def _beginning(known: Sequence[str], transaction: str) -> Sequence[str]:
    return [each for each in known if len(transaction) >= _SHORTEST and each.startswith(transaction)]


def _told(row: ChainRow) -> UpdateRow:
    try:
        fields = json.loads(row.body)
    except (ValueError, RecursionError):
        fields = {}
    return UpdateRow(row.number, row.at, row.event, fields if isinstance(fields, dict) else {})
