"""Tiles: long arrays worked on in pieces that fit the cache, by several threads.

NumPy lets go of the interpreter's lock while it computes, and takes it again after each call: threads pay where calls
are long, such as those of exp or tanh, and cost time where they are short. The threads are made once for the process;
whoever asks works too, so that work is done however busy they are.
"""

import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
#: Works on the elements from `start` to `stop`, with arrays of that length to write over; returns sums over these.
Tile = Callable[[int, int, list[Array]], tuple[Any, ...]]

#: Elements of a tile: half a dozen arrays of them fit the second-level cache, and a call costs less than its work.
LENGTH = 16384
#: Fewer tiles a thread than this are done before it is awake.
_FEWEST_PER_THREAD = 4
#: Vector instructions are fastest on addresses that are multiples of so many bytes.
_ALIGNMENT = 64


def run_tiles(tile: Tile, size: int, scratch: int, threads: int | None = None) -> list[tuple[Any, ...]]:
    """Works on all tiles of arrays of `size` elements.

    Args:
        tile: what is done with each. It must not run tiles itself.
        size: number of elements.
        scratch: how many arrays a tile is given to write over.
        threads: how many work, at most; all processors where None.

    Returns:
        What was returned for each tile, in their order.

    Raises:
        Exception: what a tile raised; the others are no longer begun.
    """
    count = -(-size // LENGTH)
    found: list[tuple[Any, ...]] = [()] * count
    # Shared by all who work: to take the next number is one step of the interpreter.
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
                # After an exception the others find nothing left.
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
    """How many processors this process may use; fewer where OMP_NUM_THREADS says so, as for BLAS."""
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
    """The arrays that one thread writes over, kept from one run to the next."""

    def __init__(self) -> None:
        self._rows: list[Array] = []

    def rows(self, count: int) -> list[Array]:
        """So many arrays of the length of a tile."""
        if len(self._rows) < count:
            pad = _ALIGNMENT // 8
            block = np.empty(count * (LENGTH + pad) + pad)
            begin = -block.ctypes.data % _ALIGNMENT // 8
            # Not a power of two apart, or they would compete for the same places in the cache.
            starts = range(begin, begin + count * (LENGTH + pad), LENGTH + pad)
            self._rows = [block[start : start + LENGTH] for start in starts]
        return self._rows[:count]


_own = _Own()
