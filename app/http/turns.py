"""One after the other: calls that use the same session."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.errors import DeadlineExceededError, OverloadedError
from app.telemetry import Mean

#: Guess of how long a turn takes, before there was one.
_FIRST_S = 0.01


class Turns:
    """Serialize calls that use the same key, without a worker for each that waits.

    Args:
        queue: how many may wait for one key.
        deadline_s: for how long.
    """

    def __init__(self, queue: int, deadline_s: float) -> None:
        self._queue = queue
        self._deadline_s = deadline_s
        self._mean = Mean(_FIRST_S)
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def turn(self, key: str) -> AsyncIterator[None]:
        """Hold the key; others that want it wait, in the order in which they came.

        Raises:
            OverloadedError: too many wait.
            DeadlineExceededError: it took too long.
        """
        loop = asyncio.get_running_loop()
        lock, present = self._locks.get(key) or (asyncio.Lock(), 0)
        if present > self._queue:
            detail = f"{present} calls use the same session already (setting PULLBACK_MAX_QUEUE)"
            raise OverloadedError(detail, min(max(present * self._mean.seconds, 1.0), self._deadline_s))
        self._locks[key] = lock, present + 1
        try:
            try:
                async with asyncio.timeout(self._deadline_s):
                    await lock.acquire()
            except TimeoutError:
                limit = f"{self._deadline_s:g} s (setting PULLBACK_DEADLINE_S)"
                raise DeadlineExceededError(f"other calls used the session for longer than {limit}") from None
            start = loop.time()
            try:
                yield
            finally:
                self._mean.note(loop.time() - start)
                lock.release()
        finally:
            lock, present = self._locks[key]
            if present == 1:
                del self._locks[key]
            else:
                self._locks[key] = lock, present - 1
