"""Check of the workers and the store for /readyz: rare, off the event loop, and with a short timeout."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from app.stores import Store, StoreUnavailableError
from app.telemetry import Histogram
from app.workers.threads import THREAD_NAME

#: Time for which an answer of the store holds.
FRESH_S = 1.0
#: A store that takes longer than this counts as broken.
PATIENCE_S = 1.0


class Readiness:
    """Checks the store on a thread of its own: a full queue of work does not make it seem broken.

    The check writes, so that a full disk and a file that was removed or replaced are noticed.

    Args:
        store: what is checked.
        workers: returns a sentence about the fault of the workers, empty if there is none.
        durations: of the checks.
    """

    def __init__(self, store: Store, workers: Callable[[], str], durations: Histogram) -> None:
        self._store = store
        self._workers = workers
        self._durations = durations
        self._pool = ThreadPoolExecutor(1, f"{THREAD_NAME}-readiness")
        self._asked_at = 0.0
        self._answer: Future[str] | None = None

    async def fault(self) -> str:
        """Return a sentence about the fault of the workers or the store; empty if both work."""
        if fault := self._workers():
            return fault
        now = time.monotonic()
        # While the store does not answer it is not asked again.
        if self._answer is None or (self._answer.done() and now - self._asked_at >= FRESH_S):
            self._answer, self._asked_at = self._pool.submit(self._ask), now
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await asyncio.shield(asyncio.wrap_future(self._answer))
        except TimeoutError:
            return f"the store has not answered for {PATIENCE_S:g} s"

    def _ask(self) -> str:
        start = time.monotonic()
        try:
            self._store.check()
        except StoreUnavailableError as error:
            return str(error)
        finally:
            self._durations.observe(time.monotonic() - start)
        return ""

    def close(self) -> None:
        """Release the thread without waiting for the store."""
        self._pool.shutdown(wait=False, cancel_futures=True)
