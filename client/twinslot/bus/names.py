"""Names on the bus, and errors on their way across it. Part of the public interface: add, never change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from twinslot.core.errors import DeviceError, Refusal, RefusedError, TwinslotError
from twinslot.core.rights import Right

SERVICE: Final = "org.twinslot.Update1"
PATH: Final = "/org/twinslot/Update1"
UPDATE: Final = "org.twinslot.Update1"
JOB: Final = "org.twinslot.Update1.Job"
JOB_PATH: Final = PATH + "/job"
NO_JOB: Final = "/"
ERROR: Final = "org.twinslot.Error."
GROUP: Final = "twinslot"

DESCRIPTION: Final = Path(__file__).with_name("org.twinslot.Update1.xml")  # both interfaces, documented

# The bus itself says these (D-Bus specification, "Standard error names" of the reference implementation).
ACCESS_DENIED: Final = "org.freedesktop.DBus.Error.AccessDenied"
_STANDARD: Final = "org.freedesktop.DBus.Error."

WITHOUT_SERVICE: Final = "as root, '--no-service' works without bus and service"


def error_name(error: TwinslotError) -> str:
    """The D-Bus name of an error: `org.twinslot.Error.Refused`."""
    return ERROR + error.family.capitalize()


def error_text(error: TwinslotError) -> str:
    """What travels as the one string of a D-Bus error.

    The first line is the sentence, for people and generic tools. The second is `TwinslotError.as_dict` as JSON, so
    that `error_from` rebuilds the error with all its reasons.
    """
    sentence = " ".join(str(error).replace("\0", " ").split())
    return text(sentence) + "\n" + json.dumps(error.as_dict(), default=str)


def error_from(name: str, body: str) -> TwinslotError:
    """The error that a service answered with, or what an answer of the bus itself means."""
    if name.startswith(ERROR):
        try:
            data = json.loads(body.partition("\n")[2])
        except ValueError:
            data = None
        if isinstance(data, dict):
            return TwinslotError.from_dict(data)
    if name == ACCESS_DENIED:
        return not_allowed(None)
    return DeviceError(
        "the update service does not answer",
        code="bus",
        found=f"{name.removeprefix(_STANDARD)}: {body}",
        hint=WITHOUT_SERVICE,
    )


def not_allowed(user: int | None, right: Right | None = None) -> RefusedError:
    """The caller lacks a right; without arguments: the message bus let the call not through."""
    who = "this user" if user is None else f"the user with id {user}"
    what = right.meaning if right else "change this device"
    others = "" if right is Right.OVERRIDE else f" and members of the group '{GROUP}'"
    hint = f"root{others} may, unless rules of polkit say otherwise"
    return RefusedError(Refusal("not-allowed", f"{who} may not {what}", hint=hint))


def text(words: str) -> str:
    """Text as the bus takes it: UTF-8, no NUL (D-Bus specification, "Marshaling": STRING)."""
    return words.replace("\0", " ").encode("utf-8", "backslashreplace").decode()
