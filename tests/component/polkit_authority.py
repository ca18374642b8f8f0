"""A polkit that behaves: knows the actions of the shipped policy, and asks the bus who a caller is. Run as a process.

Its rules are a JSON object: action to a list of user ids; those without a rule are refused, as the policy says.
"""

from __future__ import annotations

import asyncio
import json
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

from twinslot.bus.library import Message, MessageType, ask_daemon, open_bus, until_lost

NAME = "org.freedesktop.PolicyKit1"
POLICY = Path(__file__).parents[2] / "systemd/org.twinslot.update1.policy"


async def main(address: str, rules: dict[str, list[int]]) -> None:
    actions = {str(action.get("id")) for action in ET.parse(POLICY).getroot().iter("action")}
    bus = await open_bus(address)
    tasks: set[asyncio.Task[None]] = set()

    async def answer(message: Message) -> Message:
        (kind, details), action, _, flags, _ = message.body
        assert (kind, flags) == ("system-bus-name", 0)
        if action not in actions:
            words = f"Action {action} is not registered"
            return Message.new_error(message, f"{NAME}.Error.Failed", words)
        (user,) = await ask_daemon(bus, "GetConnectionUnixUser", "s", details["name"].value)
        return Message.new_method_return(message, "(bba{ss})", [[user in rules.get(action, ()), False, {}]])

    async def reply(message: Message) -> None:
        await bus.send(await answer(message))

    def take(message: Message) -> bool:
        if message.message_type is not MessageType.METHOD_CALL or message.member != "CheckAuthorization":
            return False
        task = asyncio.get_running_loop().create_task(reply(message))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        return True

    bus.add_message_handler(take)
    await ask_daemon(bus, "RequestName", "su", NAME, 0)
    await until_lost(bus)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
