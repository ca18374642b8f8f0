"""The last words of a verb that changed something: the transaction, as JSON or for people."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from twinslot.cli.output import Output
from twinslot.cli.render import check_lines, transaction_text
from twinslot.core.outcome import outcome_of
from twinslot.core.text import printable
from twinslot.core.transaction import Transaction


def show(
    transaction: Transaction | None,
    output: Output,
    *,
    nothing: str = "nothing is under way",
    more: Callable[[Transaction], Iterator[str]] = lambda _: iter(()),
) -> int:
    """Say what became of the device.

    Args:
        transaction: The update that a verb acted on; None: there was none.
        output: Takes it.
        nothing: For people, where there was none.
        more: Lines that follow the transaction.

    Returns:
        The exit status 0.
    """
    if output.as_json:
        output.line(
            {
                "type": "result",
                "outcome": outcome_of(transaction),
                "transaction": transaction.as_dict() if transaction else None,
            }
        )
    elif transaction is None:
        output.text([nothing])
    else:
        lines = (transaction_text(transaction), *check_lines(transaction.checks), *more(transaction))
        output.text(map(printable, lines))
    return 0
