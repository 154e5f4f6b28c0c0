"""Calls that use the same session come one after the other, in their order, and do not wait for ever."""

from __future__ import annotations

import asyncio

import pytest

from app.errors import DeadlineExceededError, OverloadedError
from app.http.turns import Turns
from tests import virtual_time


def test_calls_of_one_session_wait_for_each_other_but_not_for_ever() -> None:
    async def conversation() -> None:
        turns, order = Turns(queue=1, deadline_s=30.0), []
        leave = asyncio.Event()

        async def use(n: int, key: str = "s") -> None:
            async with turns.turn(key):
                order.append(n)
                if n < 2:
                    await leave.wait()

        first, second = asyncio.create_task(use(0)), asyncio.create_task(use(1))
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError, match="2 calls use the same session"):
            await use(2)
        await use(3, "another")
        with pytest.raises(DeadlineExceededError, match=r"other calls used the session for longer than 30 s"):
            await second
        third = asyncio.create_task(use(4))
        leave.set()
        await asyncio.gather(first, third)
        assert order == [0, 3, 4]
        assert not turns._locks

    virtual_time.run(conversation())


def test_they_come_in_the_order_in_which_they_were_sent() -> None:
    async def conversation() -> None:
        turns, order, inside = Turns(queue=100, deadline_s=30.0), [], 0

        async def use(n: int) -> None:
            nonlocal inside
            async with turns.turn("s"):
                inside += 1
                assert inside == 1
                await asyncio.sleep(n % 3)
                order.append(n)
                inside -= 1

        await asyncio.gather(*[use(n) for n in range(20)])
        assert order == list(range(20))
        assert not turns._locks

    virtual_time.run(conversation())


@pytest.mark.parametrize("is_waiting", [True, False], ids=["waits", "works"])
def test_who_goes_away_leaves_the_turn_to_the_next(is_waiting: bool) -> None:
    async def conversation() -> None:
        turns, leave, order = Turns(queue=10, deadline_s=30.0), asyncio.Event(), []

        async def use(n: int) -> None:
            async with turns.turn("s"):
                await leave.wait()
                order.append(n)

        tasks = [asyncio.create_task(use(n)) for n in range(3)]
        await asyncio.sleep(0)
        gone = 1 if is_waiting else 0
        tasks[gone].cancel()
        with pytest.raises(asyncio.CancelledError):
            await tasks[gone]
        leave.set()
        await asyncio.gather(*[task for n, task in enumerate(tasks) if n != gone])
        assert order == [n for n in range(3) if n != gone]
        assert not turns._locks

    virtual_time.run(conversation())


def test_an_error_ends_the_turn() -> None:
    async def conversation() -> None:
        turns = Turns(queue=0, deadline_s=30.0)
        for _ in range(3):
            with pytest.raises(KeyError):
                async with turns.turn("s"):
                    raise KeyError("a bug")
        assert not turns._locks

    virtual_time.run(conversation())


def test_a_session_without_a_queue_takes_one_call_at_a_time() -> None:
    async def conversation() -> None:
        turns = Turns(queue=0, deadline_s=30.0)
        async with turns.turn("s"):
            with pytest.raises(
                OverloadedError, match=r"1 calls use the same session already \(setting PULLBACK_MAX_QUEUE"
            ):
                async with turns.turn("s"):
                    raise AssertionError("two at a time")
        async with turns.turn("s"):
            pass
        assert not turns._locks

    virtual_time.run(conversation())


def test_who_finds_no_turn_hears_when_the_others_are_done() -> None:
    async def conversation() -> None:
        turns = Turns(queue=2, deadline_s=8.0)

        async def use(seconds: float) -> None:
            async with turns.turn("s"):
                await asyncio.sleep(seconds)

        async def refused_s() -> float:
            tasks = [asyncio.create_task(use(0.0)) for _ in range(3)]
            await asyncio.sleep(0)
            with pytest.raises(OverloadedError) as caught:
                await use(0.0)
            await asyncio.gather(*tasks)
            return caught.value.wait_s

        assert await refused_s() == 1.0
        for _ in range(100):
            await use(2.0)
        assert await refused_s() == pytest.approx(3 * 2.0, rel=0.01)
        for _ in range(100):
            await use(5.0)
        assert await refused_s() == 8.0

    virtual_time.run(conversation())
