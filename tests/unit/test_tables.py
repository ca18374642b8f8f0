"""Tables of numbers: sorted as a list would be."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from twinslot.core import tables
from twinslot.core.tables import sorted_table


@given(st.lists(st.integers(0, 2**64 - 1)), st.integers(1, 5))
def test_a_table_sorted_by_pieces_is_the_sorted_table(numbers: list[int], piece: int) -> None:
    with_pieces, tables._PIECE = tables._PIECE, piece  # type: ignore[misc]
    try:
        assert sorted_table(iter(numbers)).tolist() == sorted(numbers)
    finally:
        tables._PIECE = with_pieces  # type: ignore[misc]
