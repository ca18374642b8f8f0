"""Asks polkit, where it is installed, whether a caller has a right: its rules are the product's."""

from __future__ import annotations

from typing import Final

from twinslot.bus.library import Message, MessageBus, MessageType, Variant, ask
from twinslot.core.errors import DeviceError
from twinslot.core.rights import Right

ACTION: Final = "org.twinslot.update1."  # in front of a right
_NAME: Final = "org.freedesktop.PolicyKit1"
_INTERFACE: Final = "org.freedesktop.PolicyKit1.Authority"
_PATH: Final = "/org/freedesktop/PolicyKit1/Authority"
# What the message bus answers where no such name is owned and none can be started. Any other error is a polkit that is
# installed and does not work.
_ABSENT: Final = frozenset(f"org.freedesktop.DBus.Error.{name}" for name in ("ServiceUnknown", "NameHasNoOwner"))
_NO_INTERACTION: Final = 0  # a device has nobody to type a password: polkit says no at once


# keeps: S21 (in the service's process)
async def has_right(bus: MessageBus, sender: str, right: Right) -> bool | None:
    """Whether the caller has the right; None: polkit is not installed.

    Raises:
        DeviceError: `device.polkit`: it is installed and does not answer the question; `device.bus`: no answer came.
    """
    subject = ["system-bus-name", {"name": Variant("s", sender)}]
    body = [subject, ACTION + right, {}, _NO_INTERACTION, ""]
    message = Message(_NAME, _PATH, _INTERFACE, "CheckAuthorization", signature="(sa{sv})sa{ss}us", body=body)
    reply = await ask(bus, message)
    if reply.message_type is MessageType.ERROR and reply.error_name in _ABSENT:
        return None
    if reply.message_type is MessageType.ERROR or reply.signature != "(bba{ss})":
        raise DeviceError(
            "polkit does not say what the caller may do",
            code="polkit",
            expected=f"an answer for the action '{ACTION}{right}'",
            found=f"{reply.error_name}: {reply.body}" if reply.error_name else reply.signature,
            hint="is 'org.twinslot.update1.policy' installed? root is not asked for",
        )
    return bool(reply.body[0][0])
