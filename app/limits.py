"""A bounded number of threads for work that would hold up the event loop, and a deadline for whoever waits."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from engine.plans import Cost

T = TypeVar("T")

#: How the names of the threads begin.
THREAD_NAME = "pullback-work"
#: What a client is told to wait before it tries again.
RETRY_AFTER_S = 1
#: Python's share of an operation, in floating-point operations that NumPy does meanwhile.
_FLOPS_PER_NODE = 500
_BYTES_PER_FLOP = 8


class OverloadedError(Exception):
    """All threads are busy and as many requests wait as may."""


class DeadlineExceededError(Exception):
    """The work was not finished in time."""


def weight(cost: Cost) -> int:
    """All of a cost in one figure: time goes into operations, into the memory of results, and into Python."""
    return cost.flops + cost.bytes // _BYTES_PER_FLOP + cost.nodes * _FLOPS_PER_NODE


def threads_each(processes: int, threads: int) -> int:
    """How many threads each of our own may use, so that those of requests at once do not fight for the processors."""
    return max(1, (os.cpu_count() or 1) // (processes * threads))


def bound_blas(threads: int) -> None:
    """Lets BLAS use so many threads for a call, in all of the process. They wait by spinning: others lose that time."""
    threadpool_limits(threads, user_api="blas")


class Waiting(Generic[T]):
    """What is left of something awaited that has begun, and now waits for `first`."""

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
    """What `awaited` gives where nothing has to be waited for, else what is left of it."""
    steps = awaited.__await__()
    try:
        first = next(steps)
    except StopIteration as end:
        found: T = end.value
        return found
    return Waiting(steps, first)


async def in_time(awaited: Awaitable[T], deadline_s: float) -> T:
    """What `awaited` gives. A timer costs more than most answers: where nothing has to be waited for, none is set.

    Raises:
        TimeoutError: it does not come within so many seconds.
    """
    found = at_once(awaited)
    if not isinstance(found, Waiting):
        return found
    async with asyncio.timeout(deadline_s):
        return await found


class Workers:
    """Runs work on threads, at most `threads` at a time while at most `queue` wait.

    A thread cannot be stopped: work that is past its deadline goes on, and keeps its place until it ends, so that the
    number of busy threads is never more than was allowed. Work that still waits is dropped.
    """

    def __init__(self, threads: int, queue: int, deadline_s: float) -> None:
        self._pool = ThreadPoolExecutor(threads, THREAD_NAME)
        self._places = threading.BoundedSemaphore(threads + queue)
        self._deadline_s = deadline_s

    async def run(self, work: Callable[[], T]) -> T:
        """The result of `work`, or whatever it raises.

        Raises:
            OverloadedError: there is no place left.
            DeadlineExceededError: it took too long.
        """
        if not self._places.acquire(blocking=False):
            raise OverloadedError("the server is busy and its queue is full (setting PULLBACK_MAX_QUEUE)")
        try:
            future = self._pool.submit(work)
        except RuntimeError:
            self._places.release()
            raise OverloadedError("the server is stopping") from None
        future.add_done_callback(self._release)
        try:
            async with asyncio.timeout(self._deadline_s):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            limit = f"{self._deadline_s:g} s (setting PULLBACK_DEADLINE_S)"
            raise DeadlineExceededError(f"the request took longer than {limit}") from None

    def _release(self, _: "Future[Any]") -> None:
        self._places.release()

    def close(self) -> None:
        """Drops what waits and takes no more; what runs, runs to its end."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class Turns:
    """Lets those who want the same thing come one after the other, without a thread for each that waits.

    Args:
        queue: how many may wait for one thing.
        deadline_s: for how long.
    """

    def __init__(self, queue: int, deadline_s: float) -> None:
        self._queue = queue
        self._deadline_s = deadline_s
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def turn(self, key: str) -> AsyncIterator[None]:
        """While one is inside, others with the same key wait, in the order in which they came.

        Raises:
            OverloadedError: as many wait as may.
            DeadlineExceededError: it took too long.
        """
        lock, present = self._locks.get(key) or (asyncio.Lock(), 0)
        if present > self._queue:
            raise OverloadedError(f"{present} calls use the same session already (setting PULLBACK_MAX_QUEUE)")
        self._locks[key] = lock, present + 1
        try:
            try:
                async with asyncio.timeout(self._deadline_s):
                    await lock.acquire()
            except TimeoutError:
                limit = f"{self._deadline_s:g} s (setting PULLBACK_DEADLINE_S)"
                raise DeadlineExceededError(f"other calls used the session for longer than {limit}") from None
            try:
                yield
            finally:
                lock.release()
        finally:
            lock, present = self._locks[key]
            if present == 1:
                del self._locks[key]
            else:
                self._locks[key] = lock, present - 1
