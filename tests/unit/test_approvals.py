"""The document in which a role approves releases."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinslot.core.approvals import parse_approvals, reach_of
from twinslot.core.canonical import encode
from twinslot.core.errors import ImageError, TwinslotError

DIGEST = "ab" * 32


def approval(**more: Any) -> dict[str, Any]:
    return {"at": "2026-12-01T08:00:00Z", "manifest": DIGEST, "reach": 10_000, "release": "2026.11"} | more


def document(*approvals: Any) -> bytes:
    return encode({"approvals": list(approvals), "format": 1})


def test_the_widest_approval_of_a_release_counts() -> None:
    found = parse_approvals(
        document(approval(), approval(reach=90_000, by="A. Meyer", meaning="pilots read"), approval())
    )
    assert reach_of(found) == {DIGEST: 90_000}
    assert (found[1].by, found[1].meaning) == ("A. Meyer", "pilots read")


@pytest.mark.parametrize(
    "broken",
    [approval(reach=0), approval(reach=1_000_001), approval(at="today"), approval(manifest="x"), approval(by=""), []],
    ids=str,
)
def test_an_approval_that_makes_no_sense_is_refused(broken: Any) -> None:
    with pytest.raises(ImageError) as caught:
        parse_approvals(document(broken))
    assert caught.value.code == "image.wave-approvals"


@given(st.binary(max_size=200) | st.dictionaries(st.text(max_size=5), st.integers()).map(document))
def test_whatever_comes_is_refused_with_a_code_of_images(data: bytes) -> None:
    with pytest.raises(TwinslotError) as caught:
        parse_approvals(data)
    assert caught.value.code.startswith("image.")
