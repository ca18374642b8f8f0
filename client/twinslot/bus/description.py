"""The interfaces as `org.twinslot.Update1.xml` declares them: the one place where a signature stands."""

from __future__ import annotations

import copy
import functools
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from twinslot.bus.names import DESCRIPTION
from twinslot.bus.options import OF_METHOD, types_of
from twinslot.core.rights import Right

RIGHT: Final = "org.twinslot.Right"  # name of the annotation of a method
OPTION: Final = "org.twinslot.Option."  # in front of an option, as the name of an annotation

# D-Bus specification, "Standard Interfaces"
_STANDARD: Final = """<node>
<interface name="org.freedesktop.DBus.Introspectable">
<method name="Introspect"><arg name="xml_data" type="s" direction="out"/></method>
</interface>
<interface name="org.freedesktop.DBus.Peer">
<method name="Ping"/>
<method name="GetMachineId"><arg name="machine_uuid" type="s" direction="out"/></method>
</interface>
<interface name="org.freedesktop.DBus.Properties">
<method name="Get"><arg name="interface_name" type="s" direction="in"/>
<arg name="property_name" type="s" direction="in"/><arg name="value" type="v" direction="out"/></method>
<method name="GetAll"><arg name="interface_name" type="s" direction="in"/>
<arg name="properties" type="a{sv}" direction="out"/></method>
<method name="Set"><arg name="interface_name" type="s" direction="in"/>
<arg name="property_name" type="s" direction="in"/><arg name="value" type="v" direction="in"/></method>
<signal name="PropertiesChanged"><arg name="interface_name" type="s"/>
<arg name="changed_properties" type="a{sv}"/><arg name="invalidated_properties" type="as"/></signal>
</interface>
</node>"""


_RIGHTS: Final[Mapping[str, Right]] = {str(right): right for right in Right}


@dataclass(frozen=True, slots=True)
class Method:
    """One method.

    Attributes:
        takes: Signature of its arguments.
        gives: Signature of its answer.
        right: What a caller needs.
    """

    takes: str
    gives: str
    right: Right


@dataclass(frozen=True, slots=True)
class Interface:
    """Signatures of one interface, by member name.

    Attributes:
        name: Name of the interface.
        methods: What each takes and gives, and who may call it.
        signals: What is carried.
        properties: Type of each.
    """

    name: str
    methods: Mapping[str, Method]
    signals: Mapping[str, str]
    properties: Mapping[str, str]


@functools.cache
def interface(name: str) -> Interface:
    """One of the interfaces in the file."""
    element = _element(name)
    return Interface(
        name,
        methods={m.attrib["name"]: _method(m) for m in element.iter("method")},
        signals={s.attrib["name"]: _signature(s, "out") for s in element.iter("signal")},
        properties={p.attrib["name"]: p.attrib["type"] for p in element.iter("property")},
    )


def introspection(name: str | None, children: Iterable[str]) -> str:
    """What an object answers to `Introspect`: its interface as it stands in the file, and the objects below it.

    Each option of a method is an annotation with its D-Bus type as value.
    """
    node = ET.fromstring(_STANDARD)  # noqa: S314 - our own text
    if name is not None:
        node.append(_with_options(copy.deepcopy(_element(name))))
    for child in sorted(children):
        ET.SubElement(node, "node", {"name": child})
    return ET.tostring(node, encoding="unicode")


def _with_options(element: ET.Element) -> ET.Element:
    for method in element.iter("method"):
        kind = OF_METHOD.get(method.attrib["name"])
        for option, signature in types_of(kind).items() if kind else ():
            ET.SubElement(method, "annotation", {"name": OPTION + option, "value": signature})
    return element


@functools.cache
def _file() -> ET.Element:
    return ET.parse(DESCRIPTION).getroot()  # noqa: S314 - our own file


def _element(name: str) -> ET.Element:
    return next(element for element in _file() if element.get("name") == name)


# keeps: S21
def _method(element: ET.Element) -> Method:
    """A method that names no right is open to those alone who may override a check."""
    told = {each.attrib["name"]: each.attrib["value"] for each in element.iter("annotation")}
    return Method(_signature(element, "in"), _signature(element, "out"), _RIGHTS[told.get(RIGHT, Right.OVERRIDE)])


def _signature(member: ET.Element, direction: str) -> str:
    args = (arg for arg in member.iter("arg") if arg.get("direction", "out") == direction)
    return "".join(arg.attrib["type"] for arg in args)
