"""Who calls: may they change the device, and are they still there?"""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Callable, Collection
from typing import Final

from twinslot.bus.library import DAEMON, Message, MessageBus, MessageType, ask_daemon
from twinslot.bus.names import GROUP, not_allowed
from twinslot.bus.server.polkit import has_right
from twinslot.core.origin import Origin, OriginKind
from twinslot.core.rights import Right
from twinslot.system.caller import name_of

MEMBERS_MAY: Final = frozenset({Right.READ, Right.OFFER, Right.OPERATE, Right.INHIBIT})  # where polkit is not installed


class Caller:
    """One caller. What it may do is asked anew each time, behind the bus' own policy: defence in depth.

    Args:
        bus: The connection on which it calls.
        origin: Who it is, for the audit.
        user: Its user id.
        groups: Group ids of its process.
    """

    def __init__(self, bus: MessageBus, origin: Origin, user: int, groups: Collection[int]) -> None:
        self.origin = origin
        self._bus, self._user, self._groups = bus, user, groups

    # keeps: S21 (in the service's process)
    async def require(self, right: Right) -> None:
        """Refuse unless the caller has the right.

        Root and the service's own user have every right. For others polkit says; where it is not installed, members of
        the group `twinslot` have all but `override`, which is root's alone (S21).

        Raises:
            RefusedError: `refused.not-allowed`.
            DeviceError: `device.polkit`: polkit is installed and does not say.
        """
        if self._user in (0, os.geteuid()):
            return
        allowed = await has_right(self._bus, self.origin.sender, right)
        if allowed is None:
            allowed = right in MEMBERS_MAY and _group_id() in self._groups
        if not allowed:
            raise not_allowed(self._user, right)


class Callers:
    """Asks the bus about callers, and whether they are still there.

    Args:
        bus: The connection on which they call.
    """

    def __init__(self, bus: MessageBus) -> None:
        self._bus = bus
        self._watched: dict[str, Callable[[], None]] = {}
        bus.add_message_handler(self._notice)

    # keeps: S19 (in the service's process)
    async def identify(self, sender: str) -> Caller:
        """Who calls.

        Raises:
            DeviceError: The bus does not tell who it is.
        """
        (credentials,) = await ask_daemon(self._bus, "GetConnectionCredentials", "s", sender)
        user = int(credentials["UnixUserID"].value)
        groups = credentials["UnixGroupIDs"].value if "UnixGroupIDs" in credentials else _groups_of(user)
        return Caller(self._bus, Origin(OriginKind.BUS, uid=user, login=name_of(user), sender=sender), user, groups)

    async def watch(self, sender: str, gone: Callable[[], None]) -> None:
        """Call `gone` once when the caller leaves the bus, or at once when it has left."""
        self._watched[sender] = gone
        await ask_daemon(self._bus, "AddMatch", "s", _rule(sender))
        (present,) = await ask_daemon(self._bus, "NameHasOwner", "s", sender)
        if not present:
            self._left(sender)

    async def forget(self, sender: str) -> None:
        """The caller no longer matters."""
        self._watched.pop(sender, None)
        await ask_daemon(self._bus, "RemoveMatch", "s", _rule(sender))

    def _notice(self, message: Message) -> bool:
        told = message.message_type is MessageType.SIGNAL and message.sender == DAEMON
        if told and message.member == "NameOwnerChanged" and message.body[2] == "":
            self._left(message.body[0])
        return False

    def _left(self, sender: str) -> None:
        gone = self._watched.pop(sender, None)
        if gone is not None:
            gone()


def _rule(sender: str) -> str:
    return f"type='signal',sender='{DAEMON}',interface='{DAEMON}',member='NameOwnerChanged',arg0='{sender}'"


def _group_id() -> int | None:
    try:
        return grp.getgrnam(GROUP).gr_gid
    except KeyError:
        return None


def _groups_of(user: int) -> list[int]:
    """For a bus that does not tell groups (before 1.13.20 of the reference implementation)."""
    try:
        entry = pwd.getpwuid(user)
    except KeyError:
        return []
    return os.getgrouplist(entry.pw_name, entry.pw_gid)
