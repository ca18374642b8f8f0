"""A matrix as ReqIF 1.2 (OMG formal/16-07-01): for requirement tools such as StrictDoc, Polarion, DOORS and Jama.

Requirements, risks and tests are objects; that a requirement controls a risk, and that a test verifies a requirement,
are relations. The same matrix is always the same bytes, so every date is the same: that of the standard.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Final
from xml.etree import ElementTree as ET

from twinslot_lab.matrix.join import Matrix

_NAMESPACE: Final = "http://www.omg.org/spec/ReqIF/20110401/reqif.xsd"
_DATE: Final = "2016-07-01T00:00:00Z"
_STRING: Final = "type-string"
_LONGEST: Final = "1000000"  # characters of one value
# Kind of object -> its attributes. ReqIF.* are the names that tools agree on (ReqIF Implementation Guide, chapter 3).
_OBJECTS: Final[Mapping[str, tuple[str, ...]]] = {
    "requirement": (
        "ReqIF.ForeignID",
        "ReqIF.Name",
        "ReqIF.Text",
        "Rationale",
        "Verification",
        "Verdict",
        "Fingerprint",
        "Code",
        "Subject",
    ),
    "risk": ("ReqIF.ForeignID", "ReqIF.Name", "ReqIF.Text", "Maker"),
    "test": ("ReqIF.ForeignID", "ReqIF.Name", "Outcome", "Runs"),
}
_NO_UID: Final = re.compile(r"[^\w()\-/.: ]", re.ASCII)  # StrictDoc's grammar of a UID has no others
_RELATIONS: Final = ("controls", "verifies")

Values = Mapping[str, str]


def as_reqif(matrix: Matrix, title: str) -> str:
    """The document."""
    root = ET.Element("REQ-IF", xmlns=_NAMESPACE)
    header = _below(_below(root, "THE-HEADER"), "REQ-IF-HEADER", IDENTIFIER=_id("header", matrix.subject))
    for name, text in (
        ("CREATION-TIME", _DATE),
        ("REQ-IF-TOOL-ID", "twinslot_lab matrix"),
        ("REQ-IF-VERSION", "1.0"),
        ("SOURCE-TOOL-ID", "twinslot_lab matrix"),
        ("TITLE", title),
    ):
        _below(header, name).text = text
    content = _below(_below(root, "CORE-CONTENT"), "REQ-IF-CONTENT")
    types = _below(content, "DATATYPES")
    _below(types, "DATATYPE-DEFINITION-STRING", **_named(_STRING, "text"), **{"MAX-LENGTH": _LONGEST})
    _spec_types(_below(content, "SPEC-TYPES"))
    objects = list(_objects(matrix))
    _spec_objects(_below(content, "SPEC-OBJECTS"), objects)
    _spec_relations(_below(content, "SPEC-RELATIONS"), matrix)
    _specifications(_below(content, "SPECIFICATIONS"), objects)
    ET.indent(root, " ")
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _below(parent: ET.Element, tag: str, **attributes: str) -> ET.Element:
    return ET.SubElement(parent, tag, {name: _xml(value) for name, value in attributes.items()})


def _named(identifier: str, name: str) -> dict[str, str]:
    return {"IDENTIFIER": identifier, "LONG-NAME": name, "LAST-CHANGE": _DATE}


def _id(kind: str, name: str) -> str:
    """An identifier is an XML name; the same thing has the same one in each export."""
    return f"{kind}-{hashlib.sha256(name.encode()).hexdigest()[:32]}"


def _uid(test: str) -> str:
    """The name of a test in the letters that tools take for an id; two tests never have the same.

    Its name for people has no backslash either: StrictDoc takes one for an escape, and refuses a title of two lines.
    """
    plain = _NO_UID.sub("_", test)
    return plain if plain == test else f"{plain}-{hashlib.sha256(test.encode()).hexdigest()[:8]}"


def _xml(text: str) -> str:
    """Without the characters that XML 1.0 cannot hold."""
    return "".join(char if char in "\t\n\r" or ord(char) >= 0x20 else "\N{REPLACEMENT CHARACTER}" for char in text)


def _spec_types(parent: ET.Element) -> None:
    for kind, attributes in _OBJECTS.items():
        made = _below(parent, "SPEC-OBJECT-TYPE", **_named(f"kind-{kind}", kind))
        below = _below(made, "SPEC-ATTRIBUTES")
        for name in attributes:
            defined = _below(below, "ATTRIBUTE-DEFINITION-STRING", **_named(_attribute(kind, name), name))
            _below(_below(defined, "TYPE"), "DATATYPE-DEFINITION-STRING-REF").text = _STRING
    for name in _RELATIONS:
        _below(parent, "SPEC-RELATION-TYPE", **_named(f"relation-{name}", name))
    _below(parent, "SPECIFICATION-TYPE", **_named("kind-list", "list"))


def _attribute(kind: str, name: str) -> str:
    return f"{kind}-{name}"


def _objects(matrix: Matrix) -> Iterable[tuple[str, str, Values]]:
    """Kind, identifier and values of each object."""
    for row in matrix.rows:
        r = row.requirement
        values = {
            "ReqIF.ForeignID": r.id,
            "ReqIF.Name": r.title,
            "ReqIF.Text": r.text,
            "Rationale": r.rationale,
            "Verification": str(r.verification),
            "Verdict": row.verdict,
            "Fingerprint": r.fingerprint,
            "Code": "\n".join(mark.place for mark in row.marks),
            "Subject": matrix.subject,
        }
        yield "requirement", r.id, values
    for risk in matrix.data.risks.values():
        told = {"ReqIF.ForeignID": risk.id, "ReqIF.Name": risk.title, "ReqIF.Text": risk.harm, "Maker": risk.maker}
        yield "risk", risk.id, told
    for test in matrix.tests:
        told = {"ReqIF.ForeignID": _uid(test.test), "ReqIF.Name": test.test.replace("\\", "/")}  # see _uid
        yield "test", test.test, told | {"Outcome": test.outcome, "Runs": " ".join(test.runs)}


def _spec_objects(parent: ET.Element, objects: Iterable[tuple[str, str, Values]]) -> None:
    for kind, name, values in objects:
        made = _below(parent, "SPEC-OBJECT", IDENTIFIER=_id(kind, name), **{"LAST-CHANGE": _DATE})
        _below(_below(made, "TYPE"), "SPEC-OBJECT-TYPE-REF").text = f"kind-{kind}"
        below = _below(made, "VALUES")
        for key, value in values.items():
            if not value:  # an attribute without a value is left out; StrictDoc refuses an empty one
                continue
            held = _below(below, "ATTRIBUTE-VALUE-STRING", **{"THE-VALUE": value})
            _below(_below(held, "DEFINITION"), "ATTRIBUTE-DEFINITION-STRING-REF").text = _attribute(kind, key)


def _spec_relations(parent: ET.Element, matrix: Matrix) -> None:
    known = {row.requirement.id for row in matrix.rows}
    pairs = [
        ("controls", _id("requirement", row.requirement.id), _id("risk", risk))
        for row in matrix.rows
        for risk in row.requirement.risks
        if risk in matrix.data.risks
    ]
    pairs += [
        ("verifies", _id("test", test.test), _id("requirement", id_))
        for test in matrix.tests
        for id_ in test.verifies
        if id_ in known
    ]
    for relation, source, target in pairs:
        made = _below(parent, "SPEC-RELATION", IDENTIFIER=_id(relation, source + target), **{"LAST-CHANGE": _DATE})
        _below(_below(made, "TYPE"), "SPEC-RELATION-TYPE-REF").text = f"relation-{relation}"
        _below(_below(made, "SOURCE"), "SPEC-OBJECT-REF").text = source
        _below(_below(made, "TARGET"), "SPEC-OBJECT-REF").text = target


def _specifications(parent: ET.Element, objects: Iterable[tuple[str, str, Values]]) -> None:
    by_kind = {kind: [_id(kind, name) for each, name, _ in objects if each == kind] for kind in _OBJECTS}
    for kind, identifiers in by_kind.items():
        made = _below(parent, "SPECIFICATION", **_named(f"list-{kind}", f"{kind}s"))
        _below(_below(made, "TYPE"), "SPECIFICATION-TYPE-REF").text = "kind-list"
        below = _below(made, "CHILDREN")
        for identifier in identifiers:
            place = _below(below, "SPEC-HIERARCHY", IDENTIFIER=f"place-{identifier}", **{"LAST-CHANGE": _DATE})
            _below(_below(place, "OBJECT"), "SPEC-OBJECT-REF").text = identifier
