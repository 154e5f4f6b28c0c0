"""Threads as workers, where there are no processes: on macOS and Windows, and inside of somebody else's process.

A thread cannot be stopped: work that is past its deadline goes on, and keeps its place until it ends, so that the
number of busy threads is never above the limit. Work that still waits is dropped.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from starlette.types import Receive

from app.errors import DeadlineExceededError, OverloadedError
from app.http.messages import Answer, Call
from app.telemetry import Histogram, Mean, PoolFigures
from app.workers.schedule import SHORT_S

#: How the names of the threads begin.
THREAD_NAME = "pullback-work"


class Threads:
    """Pool of threads.

    Args:
        answer: answers a call.
        threads: how many work at a time.
        queue: how many calls may wait.
        deadline_s: for the answer to a call, waiting included.

    charge: called with the client of each call that was worked on, and its processor time.
    """

    def __init__(self, answer: Callable[[Call], Answer], threads: int, queue: int, deadline_s: float) -> None:
        self.charge: Callable[[str, float], None] = lambda client, cpu_s: None
        self._answer = answer
        self._pool = ThreadPoolExecutor(threads, THREAD_NAME)
        self._places = threading.BoundedSemaphore(threads + queue)
        self._threads, self._queue = threads, queue
        self._mean = Mean(SHORT_S)
        self._deadline_s = deadline_s

    async def start(self) -> None:
        """Do nothing: threads start when they are needed."""

    async def answer(self, call: Call, kind: object, receive: Receive, waited_s: float = 0.0) -> Answer:
        """Let a thread answer a call; neither its kind nor a client that has gone makes a difference.

        Raises:
            OverloadedError: there is no place left.
            DeadlineExceededError: it took too long.
        """
        if not self._places.acquire(blocking=False):
            wait_s = min(max(self._queue * self._mean.seconds / self._threads, 1.0), self._deadline_s)
            raise OverloadedError("the server is busy and its queue is full (setting PULLBACK_MAX_QUEUE)", wait_s)
        try:
            future = self._pool.submit(self._work, call)
        except RuntimeError:
            self._places.release()
            raise OverloadedError("the server is stopping") from None
        future.add_done_callback(self._release)
        try:
            async with asyncio.timeout(self._deadline_s - waited_s):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            limit = f"{self._deadline_s:g} s (setting PULLBACK_DEADLINE_S)"
            raise DeadlineExceededError(f"the request took longer than {limit}") from None

    def _work(self, call: Call) -> Answer:
        start, began = time.thread_time(), time.monotonic()
        try:
            return self._answer(call)
        finally:
            self._mean.note(time.monotonic() - began)
            self.charge(call.client, time.thread_time() - start)

    def _release(self, _: "Future[Any]") -> None:
        self._places.release()

    def fault(self) -> str:
        """Return an empty sentence: threads can always be made."""
        return ""

    def figures(self) -> PoolFigures:
        """Return the figures of the pool, of which threads have few."""
        threads, waiting = len(self._pool._threads), self._pool._work_queue.qsize()
        return PoolFigures({"threads": threads}, {"unknown": waiting}, Histogram(), {})

    def close(self) -> None:
        """Drop the calls that wait, and take no more; running ones run to their end."""
        self._pool.shutdown(wait=False, cancel_futures=True)
