"""Errors on their way across the bus, the description, and its manual."""

from __future__ import annotations

import inspect
import re
import runpy
import xml.etree.ElementTree as ET
from dataclasses import dataclass, fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinslot.bus import description, names, options
from twinslot.bus.library import Message, Variant
from twinslot.bus.server.interface import Update
from twinslot.bus.server.job import Job
from twinslot.core import errors
from twinslot.core.errors import DeviceError, Refusal, RefusedError, TwinslotError
from twinslot.core.requests import InstallOptions
from twinslot.core.rights import Right

ROOT = Path(__file__).parents[2]
DOCS = runpy.run_path(str(ROOT / "docs" / "make_dbus.py"))
WORDS = st.text(st.characters())  # surrogates too: names of files may hold them
KINDS = [k for k in TwinslotError.__subclasses__() if k is not RefusedError]


def refusals() -> st.SearchStrategy[Refusal]:
    maybe = st.none() | WORDS
    codes = st.from_regex(r"[a-z-]{1,9}", fullmatch=True)
    return st.builds(Refusal, codes, WORDS, maybe, maybe, maybe)


@given(st.sampled_from(KINDS), WORDS, st.none() | WORDS, st.none() | WORDS)
def test_any_error_crosses_the_bus_whole(
    kind: type[TwinslotError], message: str, found: str | None, hint: str | None
) -> None:
    error = kind(message, code="some-code", found=found, hint=hint)
    back = names.error_from(names.error_name(error), names.error_text(error))
    assert type(back) is kind
    assert back.as_dict() == error.as_dict()


@given(st.lists(refusals(), min_size=1, max_size=4))
def test_all_reasons_of_a_refusal_cross_the_bus(reasons: list[Refusal]) -> None:
    error = RefusedError(tuple(reasons))
    back = names.error_from(names.error_name(error), names.error_text(error))
    assert isinstance(back, RefusedError)
    assert back.reasons == tuple(reasons)


@given(WORDS, WORDS)
def test_the_text_of_an_error_is_one_line_and_json_and_can_be_marshalled(message: str, found: str) -> None:
    words = names.error_text(DeviceError(message, found=found))
    assert words.count("\n") == 1
    Message("a.b", "/", member="M", signature="s", body=[words], serial=1)._marshall()  # type: ignore[no-untyped-call]


@given(st.text(), st.text())
def test_any_answer_of_a_stranger_becomes_a_device_error(name: str, body: str) -> None:
    assert names.error_from("com.example." + name, body).code == "device.bus"


@given(st.text())
def test_a_broken_answer_of_the_service_still_becomes_an_error(body: str) -> None:
    assert isinstance(names.error_from(names.ERROR + "Refused", body), TwinslotError)


def test_the_policy_of_the_bus_says_the_same_as_the_service() -> None:
    assert names.error_from(names.ACCESS_DENIED, "rejected").code == names.not_allowed(1000).code


@pytest.mark.parametrize("kind", [Update, Job])
def test_the_code_has_exactly_the_methods_that_are_declared(kind: type[Update | Job]) -> None:
    declared = description.interface(kind.interface)
    source = inspect.getsource(kind.__dict__["methods"].fget)
    assert {name for name in declared.methods if f'"{name}":' in source} == set(declared.methods)
    assert source.count('": self.') == len(declared.methods)


def test_the_options_in_the_manual_are_those_of_the_code() -> None:
    assert set(options.types_of(InstallOptions)) == set(inspect.signature(InstallOptions).parameters)
    page = DOCS["page"]()
    for method, kind in options.OF_METHOD.items():
        told = page.partition(f"### method `{method}(")[2].partition("\n### ")[0]
        for name, signature in options.types_of(kind).items():
            assert re.search(rf"\n    - `{name}` \({signature}\): \w.*\w.*\.\n", told), f"{method} {name}"


def test_every_method_names_its_right_and_only_looking_is_for_everybody() -> None:
    file = ET.parse(names.DESCRIPTION).getroot()
    for method in file.iter("method"):
        assert [each.get("name") for each in method.iter("annotation")] == ["org.twinslot.Right"]
    found = {name: method.right for name, method in description.interface(names.UPDATE).methods.items()}
    assert {name for name, right in found.items() if right is Right.READ} == {
        "GetStatus",
        "GetHistory",
        "GetRunningRelease",
        "GetWaitingRelease",
    }
    assert {name for name, right in found.items() if right is Right.INHIBIT} == {"Inhibit"}
    assert {name for name, right in found.items() if right is Right.OPERATE} == {
        "Activate",
        "Approve",
        "Hold",
        "Commit",
        "Rollback",
        "Cancel",
    }
    marked = {f.name for kind in options.OF_METHOD.values() for f in fields(kind) if f.metadata}
    assert marked == {"retry", "ignore_expiry", "outside_window", "force"}


@pytest.mark.verifies("S21")
def test_a_method_without_a_right_is_open_to_those_alone_who_may_override() -> None:
    assert description._method(ET.fromstring('<method name="New"/>')).right is Right.OVERRIDE


def test_the_actions_are_those_of_the_rights_and_no_user_has_one_by_default() -> None:
    policy = (ROOT / "systemd/org.twinslot.update1.policy").read_text()
    rights = [right for right in Right if right is not Right.READ]
    assert policy.count("<action id=") == len(rights) == 4
    for right in rights:
        assert f'<action id="org.twinslot.update1.{right}">' in policy
    assert policy.count(">no</allow_") == 3 * len(rights)


def test_each_option_is_an_annotation_with_its_type_when_the_interface_is_asked() -> None:
    node = ET.fromstring(description.introspection(names.UPDATE, ()))
    (ours,) = (each for each in node.iter("interface") if each.get("name") == names.UPDATE)
    for method in ours.iter("method"):
        told = {each.attrib["name"]: each.attrib["value"] for each in method.iter("annotation")}
        kind = options.OF_METHOD.get(method.attrib["name"])
        wanted = {f"org.twinslot.Option.{name}": each for name, each in options.types_of(kind).items()} if kind else {}
        right = description.interface(names.UPDATE).methods[method.attrib["name"]].right
        assert told == wanted | {"org.twinslot.Right": right}
    assert '<annotation name="org.twinslot.Option.force" value="s"' in description.introspection(names.UPDATE, ())


@dataclass(frozen=True)
class Sample:
    """One option of each type that the bus carries."""

    quick: bool = False
    often: bool | None = None
    why: str = ""
    count: int = 0
    places: tuple[str, ...] = ()


SAMPLES = st.builds(
    Sample,
    st.booleans(),
    st.none() | st.booleans(),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.lists(st.text("äb"), max_size=3).map(tuple),
)


@given(SAMPLES)
def test_options_of_each_type_cross_the_bus_whole_and_those_as_by_default_are_not_sent(sample: Sample) -> None:
    packed = options.pack(sample)
    assert set(packed) == {name for name, value in vars(sample).items() if value != vars(Sample())[name]}
    for name, signature in {"quick": "b", "often": "b", "why": "s", "count": "x", "places": "as"}.items():
        assert options.types_of(Sample)[name] == signature
        assert name not in packed or packed[name].signature == signature
    body = Message("a.b", "/", member="M", signature="a{sv}", body=[packed], serial=1)
    body._marshall()  # type: ignore[no-untyped-call]
    assert options.unpack(Sample, packed) == sample


@pytest.mark.parametrize(
    ("name", "given_as", "expected", "found"),
    [
        ("quick", Variant("i", 1), "boolean (b)", "i"),
        ("why", Variant("b", True), "string (s)", "boolean (b)"),
        ("count", Variant("t", 1), "64-bit whole number (x)", "t"),
        ("places", Variant("s", "here"), "list of strings (as)", "string (s)"),
    ],
)
def test_a_wrong_type_is_refused_with_what_was_expected_and_found(
    name: str, given_as: Variant, expected: str, found: str
) -> None:
    with pytest.raises(RefusedError) as caught:
        options.unpack(Sample, {name: given_as})
    (reason,) = caught.value.reasons
    assert (reason.code, reason.expected, reason.found) == ("option-type", expected, found)
    assert f"'{name}'" in reason.message


def test_a_field_that_the_bus_cannot_carry_is_found_when_the_code_is_written() -> None:
    @dataclass(frozen=True)
    class Odd:
        share: float = 0.5

    with pytest.raises(TypeError, match="'share'"):
        options.types_of(Odd)


@given(st.dictionaries(st.sampled_from(["retry", "activate", "nonsense", "Retry", ""]), st.sampled_from("bsu")))
def test_only_known_options_of_the_right_type_pass(given_types: dict[str, str]) -> None:
    samples: dict[str, object] = {"b": True, "s": "yes", "u": 1}
    given_options = {name: Variant(kind, samples[kind]) for name, kind in given_types.items()}
    wrong = {name for name, kind in given_types.items() if options.types_of(InstallOptions).get(name) != kind}
    if not wrong:
        assert options.unpack(InstallOptions, given_options).retry is ("retry" in given_types)
        return
    with pytest.raises(RefusedError) as caught:
        options.unpack(InstallOptions, given_options)
    assert len(caught.value.reasons) == len(wrong)


def test_every_element_of_the_description_is_documented() -> None:
    def check(parent: ET.Element, where: str) -> int:
        seen = 0
        for element, words in DOCS["documented"](parent):
            assert words, f"{where} {element.get('name')} has no comment"
            seen += 1 + check(element, f"{where}/{element.get('name')}")
        return seen

    assert check(DOCS["description"](), "") > 30


def test_the_manual_of_the_bus_is_current() -> None:
    assert (ROOT / "docs" / "dbus.md").read_text() == DOCS["page"](), "run 'make docs'"


def test_each_family_of_errors_stands_in_the_manual() -> None:
    for kind in errors.TwinslotError.__subclasses__():
        assert f"`{names.ERROR}{kind.family.capitalize()}`" in DOCS["page"]()
