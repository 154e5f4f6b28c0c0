"""Awaiting without the price of a timer where nothing has to be waited for."""

import asyncio
from collections.abc import Awaitable, Generator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Waiting(Generic[T]):
    """Rest of an awaitable that has begun, and now waits for `first`."""

    def __init__(self, steps: Generator[Any, Any, T], first: Any) -> None:
        self._steps = steps
        self._first = first

    def __await__(self) -> Generator[Any, Any, T]:
        try:
            yield self._first
            return (yield from self._steps)
        finally:
            self._steps.close()


def at_once(awaited: Awaitable[T]) -> T | Waiting[T]:
    """Return the result of an awaitable that waits for nothing, otherwise its rest."""
    steps = awaited.__await__()
    try:
        first = next(steps)
    except StopIteration as end:
        found: T = end.value
        return found
    return Waiting(steps, first)


async def in_time(awaited: Awaitable[T], deadline_s: float) -> T:
    """Return the result of an awaitable; set a timer, which costs more than most answers, only if it waits.

    Raises:
        TimeoutError: the result does not come within so many seconds.
    """
    found = at_once(awaited)
    if not isinstance(found, Waiting):
        return found
    async with asyncio.timeout(deadline_s):
        return await found
