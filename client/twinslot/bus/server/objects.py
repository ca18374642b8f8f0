"""Our objects on one connection: calls in, checked against the description; answers, signals and changes out.

The library's own service classes hide who calls and who owns a received descriptor, and answer a mistake of ours with
a traceback. So calls are taken one level lower.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from twinslot.bus import description, names
from twinslot.bus.library import Message, MessageBus, MessageFlag, MessageType, Variant, close_descriptors
from twinslot.bus.server.callers import Callers
from twinslot.bus.server.calls import OpenCalls
from twinslot.core.errors import DeviceError, LifecycleError, RefusedError, TwinslotError
from twinslot.core.origin import Origin, OriginKind
from twinslot.core.rights import Right
from twinslot.system.journal import ended_outside

_log: Final = logging.getLogger(__name__)
_PROPERTIES: Final = "org.freedesktop.DBus.Properties"
_PEER: Final = "org.freedesktop.DBus.Peer"
_ERROR: Final = "org.freedesktop.DBus.Error."
TOO_MANY: Final = "too many calls are open: wait for the answers to earlier ones"


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a method. Its descriptors are closed when it was answered: duplicate what must live longer.

    Attributes:
        sender: Unique name of the caller.
        origin: Who calls; of a method that only looks it says no more than the sender.
        body: Arguments, of the declared types.
        descriptors: What an argument of type `h` is an index into.
        require: Asks for a right beside that of the method; raises `RefusedError`.
        answered: Takes descriptors that the answer has indexes into; they are closed once it was sent.
    """

    sender: str
    origin: Origin
    body: list[Any]
    descriptors: list[int]
    require: Callable[[Right], Awaitable[None]]
    answered: list[int] = field(default_factory=list)


Method = Callable[[Call], Awaitable[list[Any]]]


class BusObject(Protocol):
    """Something with an interface of the description."""

    interface: str

    @property
    def methods(self) -> Mapping[str, Method]:
        """Each method of the interface by name."""
        ...

    async def properties(self) -> dict[str, Any]:
        """Each property of the interface with its value now."""
        ...


class _FaultError(Exception):
    """An answer with one of the bus' own error names."""

    def __init__(self, name: str, words: str) -> None:
        super().__init__(words)
        self.name = _ERROR + name


class Exporter:
    """Answers for the objects that were added.

    Args:
        bus: A connection; stays the caller's.
        callers: Says who calls, and what that caller may do.
        called: Told of each call before it is answered.
    """

    def __init__(self, bus: MessageBus, callers: Callers, called: Callable[[], None]) -> None:
        self._bus, self._callers, self._called = bus, callers, called
        self._objects: dict[str, BusObject] = {}
        self._answers: set[asyncio.Task[None]] = set()
        self._looking, self._changing = OpenCalls(), OpenCalls()
        bus.add_message_handler(self._take)

    def add(self, path: str, thing: BusObject) -> None:
        """The object answers from now on."""
        self._objects[path] = thing

    def remove(self, path: str) -> None:
        """The object is gone."""
        del self._objects[path]

    def changed(self, path: str, interface: str, values: Mapping[str, Any]) -> None:
        """Tell new values of properties."""
        types = description.interface(interface).properties
        variants = {name: Variant(types[name], value) for name, value in values.items()}
        self._signal(path, _PROPERTIES, "PropertiesChanged", "sa{sv}as", [interface, variants, []])

    def signal(self, path: str, interface: str, member: str, body: list[Any]) -> None:
        """Send a declared signal."""
        self._signal(path, interface, member, description.interface(interface).signals[member], body)

    async def drain(self) -> None:
        """Wait until calls that came in are answered."""
        while self._answers:
            await asyncio.wait(self._answers)

    def _signal(self, path: str, interface: str, member: str, signature: str, body: list[Any]) -> None:
        message = Message.new_signal(path, interface, member, signature, body)
        if self._bus.connected:
            self._bus.send(message)

    def _take(self, message: Message) -> bool:
        if message.message_type is not MessageType.METHOD_CALL:
            return False
        if message.interface == _PEER:  # the library answers
            close_descriptors(message)
            return False
        self._called()
        _log.debug("call of '%s' by '%s'", message.member, message.sender)
        method = self._method(message)
        if method is None or "h" not in method[0]:  # at once: any user may send some with any call
            close_descriptors(message)
        # Counted apart: those who may only look cannot keep those away who may change the device.
        calls = self._looking if method is None or method[1] else self._changing
        if not calls.begin(message.sender):
            close_descriptors(message)
            self._send(message, Message.new_error(message, f"{_ERROR}LimitsExceeded", TOO_MANY))
            return True
        task = asyncio.get_running_loop().create_task(self._answer(message, calls))
        self._answers.add(task)
        task.add_done_callback(self._answers.discard)
        return True

    def _method(self, message: Message) -> tuple[str, bool] | None:
        """Signature of the method of ours that is called, and whether it only looks; None: another, or none."""
        thing = self._objects.get(message.path)
        if thing is None or message.interface not in (thing.interface, None):
            return None
        declared = description.interface(thing.interface).methods.get(message.member)
        return None if declared is None else (declared.takes, declared.right is Right.READ)

    async def _answer(self, message: Message, calls: OpenCalls) -> None:
        try:
            reply = await self._reply(message)
        except TwinslotError as e:
            reply = Message.new_error(message, names.error_name(e), names.error_text(e))
        except _FaultError as e:
            reply = Message.new_error(message, e.name, names.text(str(e)))
        except Exception:  # noqa: BLE001 - a caller gets a sentence, the log gets the rest
            _log.exception("the call of '%s' failed by a mistake of ours", message.member)
            mistake = LifecycleError("the call failed by a mistake in the service", code="internal", hint="see its log")
            reply = Message.new_error(message, names.error_name(mistake), names.error_text(mistake))
        finally:
            calls.end(message.sender)
            close_descriptors(message)
        self._send(message, reply)

    def _send(self, message: Message, reply: Message) -> None:
        sent = None
        if not message.flags & MessageFlag.NO_REPLY_EXPECTED and self._bus.connected:
            sent = self._bus.send(reply)
        if sent is None:
            close_descriptors(reply)
        elif reply.unix_fds:
            sent.add_done_callback(lambda _: close_descriptors(reply))

    async def _reply(self, message: Message) -> Message:
        if message.interface == "org.freedesktop.DBus.Introspectable" and message.member == "Introspect":
            return Message.new_method_return(message, "s", [self._introspect(message.path)])
        thing = self._objects.get(message.path)
        if thing is None:
            raise _FaultError("UnknownObject", f"there is no object '{message.path}'")
        if message.interface == _PROPERTIES:
            return await _property_call(message, thing)
        declared = description.interface(thing.interface).methods.get(message.member)
        if declared is None or message.interface not in (thing.interface, None):
            raise _FaultError("UnknownMethod", f"'{message.path}' has no method '{message.interface}.{message.member}'")
        if message.signature != declared.takes:
            words = f"wrong arguments for '{message.member}': expected '{declared.takes}', found '{message.signature}'"
            raise _FaultError("InvalidArgs", words)
        origin = Origin(OriginKind.BUS, sender=message.sender)
        try:
            require = _nothing_more
            if declared.right is not Right.READ:
                caller = await self._callers.identify(message.sender)
                origin, require = caller.origin, caller.require
                await require(declared.right)
            call = Call(message.sender, origin, message.body, message.unix_fds, require)
            body = await thing.methods[message.member](call)
        except (RefusedError, DeviceError) as e:
            if declared.right is Right.READ and isinstance(e, DeviceError):
                raise
            ended_outside(message.member, e, origin)
            raise
        return Message.new_method_return(message, declared.gives, body, call.answered)

    def _introspect(self, path: str) -> str:
        prefix = "/" if path == "/" else path + "/"
        below = {other.removeprefix(prefix).split("/")[0] for other in self._objects if other.startswith(prefix)}
        thing = self._objects.get(path)
        if thing is None and not below:
            raise _FaultError("UnknownObject", f"there is no object '{path}'")
        return description.introspection(thing.interface if thing else None, below)


async def _nothing_more(right: Right) -> None:
    """The rights of a caller who was not asked for who it is."""
    raise names.not_allowed(None, right)


async def _property_call(message: Message, thing: BusObject) -> Message:
    """D-Bus specification, `org.freedesktop.DBus.Properties`."""
    types = description.interface(thing.interface).properties
    expected = {"Get": "ss", "GetAll": "s", "Set": "ssv"}.get(message.member)
    if message.signature != expected:
        raise _FaultError("UnknownMethod", f"properties have no '{message.member}' with '{message.signature}'")
    if message.body[0] not in (thing.interface, ""):
        raise _FaultError("UnknownInterface", f"'{message.path}' has no interface '{message.body[0]}'")
    if message.member == "GetAll":
        values = await thing.properties()
        everything = {name: Variant(types[name], value) for name, value in values.items()}
        return Message.new_method_return(message, "a{sv}", [everything])
    name = message.body[1]
    if name not in types:
        raise _FaultError("UnknownProperty", f"'{thing.interface}' has no property '{name}'")
    if message.member == "Set":
        raise _FaultError("PropertyReadOnly", f"'{name}' can only be read")
    return Message.new_method_return(message, "v", [Variant(types[name], (await thing.properties())[name])])
