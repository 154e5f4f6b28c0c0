"""Tiles: process long arrays in pieces that fit the cache, by several threads.

NumPy releases the interpreter lock while it computes, and takes it again after each call: threads gain time if calls
are long, such as those of exp or tanh, and lose time if they are short. The pool is created once for the process; the
calling thread works too, so that a run makes progress however busy the pool is.
"""

import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
#: Function of `start`, `stop` and scratch arrays of that length; computes these elements and returns sums over them.
Tile = Callable[[int, int, list[Array]], tuple[float, ...]]

#: Elements of a tile: half a dozen arrays of them fit the second-level cache, and a call costs less than its work.
LENGTH = 16384
#: The fewest tiles per thread; fewer are done before a thread wakes up.
_FEWEST_PER_THREAD = 4
#: Alignment in bytes on which vector instructions are fastest.
_ALIGNMENT = 64


def run_tiles(tile: Tile, size: int, scratch: int, threads: int | None = None) -> list[tuple[float, ...]]:
    """Run a function on all tiles of arrays of `size` elements.

    Args:
        tile: the function; it must not run tiles itself.
        size: number of elements.
        scratch: number of scratch arrays for each call.
        threads: the most threads; None for one per processor.

    Returns:
        The results for all tiles, in order.

    Raises:
        Exception: `tile` raised it; no further tiles are started.
    """
    count = -(-size // LENGTH)
    found: list[tuple[float, ...]] = [()] * count
    # Shared by all threads: taking the next number from the iterator is atomic.
    numbers = iter(range(count))

    def work() -> None:
        rows = _own.rows(scratch)
        with np.errstate(all="ignore"):
            try:
                for n in numbers:
                    start, stop = n * LENGTH, min(size, (n + 1) * LENGTH)
                    is_whole = stop - start == LENGTH
                    found[n] = tile(start, stop, rows if is_whole else [row[: stop - start] for row in rows])
            finally:
                # After an exception, leave no tiles for the other threads.
                deque(numbers, maxlen=0)

    helpers = min(processors() if threads is None else threads, count // _FEWEST_PER_THREAD) - 1
    futures = [_pool().submit(work) for _ in range(helpers)]
    try:
        work()
    finally:
        begun = [future for future in futures if not future.cancel()]
        errors = [error for future in begun if (error := future.exception()) is not None]
    if errors:
        raise errors[0]
    return found


def processors() -> int:
    """Return the number of processors that this process may use, at most OMP_NUM_THREADS, as for BLAS."""
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    allowed = os.environ.get("OMP_NUM_THREADS", "")
    return min(found, int(allowed)) if allowed.isdecimal() and int(allowed) else found


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, processors() - 1), "tiles")


if hasattr(os, "register_at_fork"):
    # Threads do not survive a fork.
    os.register_at_fork(after_in_child=_pool.cache_clear)


class _Own(threading.local):
    """Scratch arrays of one thread, kept from one run to the next."""

    def __init__(self) -> None:
        self._rows: list[Array] = []

    def rows(self, count: int) -> list[Array]:
        """Return `count` aligned arrays of the length of a tile."""
        if len(self._rows) < count:
            pad = _ALIGNMENT // 8
            block = np.empty(count * (LENGTH + pad) + pad)
            begin = -block.ctypes.data % _ALIGNMENT // 8
            # Not a power of two apart, or they would compete for the same sets of the cache.
            starts = range(begin, begin + count * (LENGTH + pad), LENGTH + pad)
            self._rows = [block[start : start + LENGTH] for start in starts]
        return self._rows[:count]


_own = _Own()
