"""The form of the figures, read by the parser of Prometheus' own client."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from twinslot.core.openmetrics import Family, render

texts = st.text(max_size=20)
names = st.from_regex(r"\A[a-z][a-z0-9_]{0,20}x\Z")


def parsed(*families: Family) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    found = text_string_to_metric_families(render(families))  # type: ignore[no-untyped-call]
    return {
        each.name: {tuple(sorted(sample.labels.items())): sample.value for sample in each.samples} for each in found
    }


def test_each_kind_is_read_as_it_was_meant() -> None:
    counter = Family("twinslot_update_bytes", "counter", "bytes", "bytes").add(17, how="fetched")
    gauge = Family("twinslot_x_seconds", "gauge", "seconds", "seconds").add(1.5)
    info = Family("twinslot_client_info", "gauge", "who").add(1, version="0.1")
    assert parsed(counter, gauge, info) == {
        "twinslot_update_bytes": {(("how", "fetched"),): 17.0},
        "twinslot_x_seconds": {(): 1.5},
        "twinslot_client_info": {(("version", "0.1"),): 1.0},
    }


def test_what_is_not_known_has_no_sample_and_without_samples_there_is_no_family() -> None:
    assert render([Family("x", "gauge", "nothing").add(None)]) == "# EOF\n"


@given(names, texts, texts, st.floats(allow_nan=False, allow_infinity=False))
def test_whatever_a_label_or_a_help_holds_comes_back(name: str, text: str, words: str, value: float) -> None:
    family = Family(name, "gauge", words).add(value, what=text)
    assert parsed(family) == {name: {(("what", text),): value}}


@pytest.mark.parametrize("name", ["", "X", "a-b", "1a"])
def test_a_name_that_the_form_does_not_have_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no name"):
        render([Family(name, "gauge", "x").add(1)])
