"""Prints docs/dbus.md from the comments in org.twinslot.Update1.xml: the comment before an element documents it."""

from __future__ import annotations

import dataclasses
import inspect
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from typing import Any

from twinslot.bus.description import RIGHT, interface
from twinslot.bus.library import LARGEST
from twinslot.bus.names import DESCRIPTION, ERROR, GROUP, JOB, UPDATE
from twinslot.bus.options import OF_METHOD, types_of
from twinslot.bus.server.callers import MEMBERS_MAY
from twinslot.bus.server.calls import OPEN_CALLS, OPEN_CALLS_EACH
from twinslot.bus.server.polkit import ACTION
from twinslot.core import errors
from twinslot.core.outcome import JobOutcome
from twinslot.core.rights import Right

PREFACE = """\
# The D-Bus interface

Printed from `client/twinslot/bus/org.twinslot.Update1.xml` by `make docs`; a test holds this page to the file. The
service answers `Introspect` from that file and checks every call against it. Members are added, never changed.

    busctl introspect org.twinslot.Update1 /org/twinslot/Update1
    busctl call org.twinslot.Update1 /org/twinslot/Update1 org.twinslot.Update1 \\
        Install 'sa{{sv}}' http://192.0.2.7/pump.twin 1 reboot b true
    busctl monitor org.twinslot.Update1

The bus starts the service; it leaves after 60 seconds without a job and without a call. On SIGTERM it cancels the
running job, waits for its end (45 seconds at most) and emits `Finished` before it leaves.

## Who may do what

Each method needs one right, and options that override a check need the right `override` as well. No right contains
another. Root has all of them.

| right | the caller may | methods and options | without polkit |
|---|---|---|---|
{rights}

Any user may read properties and introspect. The bus lets only root and members of the group `{group}` call more than
that (`org.twinslot.Update1.conf`); then the service decides:

- Root has every right, and nothing else is asked.
- Where polkit is installed, the service asks it for the action `{action}RIGHT`. The actions are declared in
  `org.twinslot.update1.policy`, by which nobody has them, and `org.twinslot.update1.rules` gives `offer` and `operate`
  to the group. A product changes that by a file in `/etc/polkit-1/rules.d`. Nobody is asked for a password. A polkit
  that is installed and does not answer ends the call with `device.polkit`.
- Without polkit members of the group have `offer` and `operate`. `override` is root's alone (S21).

Who offered an image may stop that install, and reads the audit. Every refusal is a line of the journal with the
caller's user id ([decision 37](decisions/0037-rights-by-method.md)).

## Errors

A D-Bus error carries one string. Its first line is a sentence for people; its second line is a JSON object for
programs: `family`, `code`, `message`, and where known `expected`, `found`, `hint`; a refusal also has `reasons`, a
list of such objects. The property `Error` and the signal `Finished` of a job carry the same object.

    org.twinslot.Error.Refused
    a job of kind 'install' is running: found '/org/twinslot/Update1/job/3' (hint: wait for its end)
    {{"family": "refused", "code": "refused.busy", "message": "a job of kind 'install' is running", ...}}

| name | exit status | who must act |
|---|---|---|
{errors}

Options (`a{{sv}}`) are checked by name and type: each unknown or wrongly typed one is a reason of its own
(`refused.option-unknown`, `refused.option-type`). `Introspect` lists them as annotations `org.twinslot.Option.NAME` of
the method, with the D-Bus type as value.

Wrong argument types, unknown members and unknown objects are answered with the bus' own `org.freedesktop.DBus.Error.*`.

## How a job ends

The property `Outcome` and the signal `Finished` of a job say it in one word. A job that armed a slot has not succeeded
yet: only `committed` says so. After the restart `twinslot status` and `GetStatus` say how the update went on. A program
takes a word that it does not know for `under-way`.

| outcome | what happened |
|---|---|
{outcomes}

## Calls that are too many

At most {total} calls are answered at one time, and at most {each} of one connection; a further one is answered with
`org.freedesktop.DBus.Error.LimitsExceeded`. Messages of more than {largest} bytes are dropped. Descriptors are
closed at once unless the method takes one.
"""


Documented = tuple[ET.Element, str]


def page() -> str:
    """The page as Markdown."""
    kinds = errors.TwinslotError.__subclasses__()
    rows = "\n".join(f"| `{ERROR}{k.family.capitalize()}` | {k.exit_status} | {_first_line(k)} |" for k in kinds)
    ends = "\n".join(f"| `{outcome}` | {outcome.meaning} |" for outcome in JobOutcome)
    rights = "\n".join(map(_right, Right))
    bounds = {"total": OPEN_CALLS, "each": OPEN_CALLS_EACH, "largest": LARGEST}
    lines = [PREFACE.format(errors=rows, group=GROUP, outcomes=ends, rights=rights, action=ACTION, **bounds)]
    for described, words in documented(description()):
        lines += [f"## `{described.attrib['name']}`", "", words, ""]
        for member, meaning in documented(described):
            lines += _member(member, meaning)
    return "\n".join(lines).rstrip() + "\n"


def _right(right: Right) -> str:
    """A row: what takes the right, and who has it where polkit is not installed."""
    takes = [f"`{name}`" for name, method in interface(UPDATE).methods.items() if method.right is right]
    takes += [f"`Job.{name}`" for name, method in interface(JOB).methods.items() if method.right is right]
    if right is Right.OVERRIDE:
        marked = {each.name for kind in OF_METHOD.values() for each in dataclasses.fields(kind) if each.metadata}
        takes += [f"option `{name}`" for name in sorted(marked)]
    others = {Right.READ: "any user"}.get(right, f"the group `{GROUP}`" if right in MEMBERS_MAY else "nobody but root")
    return f"| `{right}` | {right.meaning} | {', '.join(takes)} | {others} |"


def description() -> ET.Element:
    """The file with its comments."""
    parser = ET.XMLParser(target=ET.TreeBuilder(insert_comments=True))  # noqa: S314 - our own file
    return ET.parse(DESCRIPTION, parser).getroot()  # noqa: S314


def documented(parent: ET.Element) -> Iterator[Documented]:
    """Each element in a parent, with the comment before it; empty when there is none."""
    words = ""
    elements: list[ET.Element[Any]] = list(parent)
    for element in elements:
        if not isinstance(element.tag, str):  # a comment
            words = "\n\n".join(" ".join(part.split()) for part in (element.text or "").split("\n\n"))
        elif element.tag != "annotation":
            yield element, words
            words = ""


def _member(member: ET.Element, words: str) -> list[str]:
    name, args = member.attrib["name"], list(documented(member))
    if member.tag == "property":
        title = f"### property `{name}` {member.attrib['type']}"
    else:
        inward = [arg for arg, _ in args if arg.get("direction") == "in"]
        outward = [arg for arg, _ in args if arg.get("direction") != "in"]
        title = f"### {member.tag} `{name}({_args(inward if member.tag == 'method' else outward)})`"
        title += f" → `{_args(outward)}`" if member.tag == "method" and outward else ""
    listed = [f"- `{arg.attrib['name']}` ({arg.attrib['type']}): {meaning}" for arg, meaning in args]
    if name in OF_METHOD:
        place = 1 + next(index for index, (arg, _) in enumerate(args) if arg.attrib["name"] == "options")
        listed[place:place] = [f"    - {line}" for line in _options(OF_METHOD[name])]
    rights = [each.attrib["value"] for each in member.iter("annotation") if each.attrib["name"] == RIGHT]
    words += f" Needs the right `{rights[0]}`." if rights else ""
    return [title, "", words, "", *listed, *([""] if listed else [])]


def _options(kind: type[Any]) -> list[str]:
    """Each option with its type, what it does, and its default."""
    words, types = _attributes(kind), types_of(kind)
    lines = []
    for field in dataclasses.fields(kind):
        default = {None: "", "": "", True: " (default true)", False: " (default false)"}[field.default]
        right = f" Needs the right `{field.metadata['right']}` as well." if field.metadata else ""
        lines.append(f"`{field.name}` ({types[field.name]}): {words[field.name].rstrip('.')}{default}.{right}")
    return lines


def _attributes(kind: type[Any]) -> dict[str, str]:
    """What the docstring of a class says of each of its fields."""
    lines = (inspect.getdoc(kind) or "").partition("Attributes:\n")[2]
    found = re.findall(r"^    (\w+): (.+(?:\n {8}.+)*)", lines, re.MULTILINE)
    return {name: " ".join(text.replace("None: as", "left out: as").split()) for name, text in found}


def _args(args: list[ET.Element]) -> str:
    return ", ".join(f"{arg.attrib['type']} {arg.attrib['name']}" for arg in args)


def _first_line(kind: type) -> str:
    return (kind.__doc__ or "").split("\n")[0]


if __name__ == "__main__":
    print(page(), end="")
