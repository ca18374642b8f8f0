"""What callers may ask of the service at one time."""

from __future__ import annotations

import asyncio

import pytest

from twinslot.bus.server.calls import OpenCalls, SharedLook


def test_all_who_ask_while_one_look_goes_on_share_the_next() -> None:
    looks = 0
    go_on = asyncio.Event()

    async def look() -> int:
        nonlocal looks
        looks += 1
        mine = looks
        await go_on.wait()
        return mine

    async def work() -> list[int]:
        shared = SharedLook(look)
        first = asyncio.create_task(shared())
        while not looks:
            await asyncio.sleep(0)
        others = [asyncio.create_task(shared()) for _ in range(50)]
        await asyncio.sleep(0)
        go_on.set()
        return [await first, *await asyncio.gather(*others)]

    assert asyncio.run(work()) == [1] + [2] * 50, "none is older than its call"


def test_a_look_that_fails_fails_for_all_who_share_it_and_the_next_one_looks_again() -> None:
    looks = 0

    async def look() -> int:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise OSError("not now")
        return looks

    async def work() -> int:
        shared = SharedLook(look)
        for found in await asyncio.gather(shared(), shared(), return_exceptions=True):
            assert isinstance(found, OSError)
        return await shared()

    assert asyncio.run(work()) == 2


@pytest.mark.parametrize(("total", "each", "taken"), [(10, 3, [3, 3, 3, 1, 0]), (4, 9, [4, 0, 0, 0, 0])])
def test_open_calls_are_bounded_in_all_and_for_each_connection(total: int, each: int, taken: list[int]) -> None:
    calls = OpenCalls(total, each)
    senders = [f":1.{number}" for number in range(5)]
    assert [sum(calls.begin(sender) for _ in range(20)) for sender in senders] == taken
    calls.end(senders[0])
    assert calls.begin(senders[4])
    assert not calls.begin(senders[4])
