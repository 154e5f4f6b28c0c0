"""Memory beyond what each worker may take, for one worker at a time.

The limit of the system on the data of a process counts what it asked for; parsers ask for several times what they use.
So the one worker may ask for more, and is watched: what counts is what it uses.
"""

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from engine.core import LimitExceededError

#: Time between two looks at the memory of the one worker, in seconds: it can fill a gigabyte in a quarter of one.
PERIOD_S = 0.02
#: Bytes that a process may ask for, for each that it may use.
ASKED_PER_USED = 4


class Process(Protocol):
    """A worker process; `own_bytes` is the memory that it had before its first job."""

    pid: int
    own_bytes: int


Worker = TypeVar("Worker", bound=Process)


class Lane(Generic[Worker]):
    """The place of the one worker.

    asked_bytes: memory that it may ask for.

    Args:
        limit: bytes that it may use beyond what it had before its first job.
        on_excess: called with a worker that uses more.
    """

    def __init__(self, limit: int, on_excess: Callable[[Worker], None]) -> None:
        self.asked_bytes = limit * ASKED_PER_USED
        self._limit = limit
        self._on_excess = on_excess
        self._worker: Worker | None = None
        self._timer: asyncio.TimerHandle | None = None

    def is_free(self) -> bool:
        """Return whether no worker has the place."""
        return self._worker is None

    def has(self, worker: Worker) -> bool:
        """Return whether the place is this worker's."""
        return self._worker is worker

    def enter(self, worker: Worker) -> None:
        """Give the place, which is free, to a worker."""
        self._worker = worker
        self._look(worker)

    def leave(self, worker: Worker) -> None:
        """Take the place from a worker, if it has it."""
        if self.has(worker):
            self._worker = None
            if self._timer is not None:
                self._timer.cancel()

    def _look(self, worker: Worker) -> None:
        """Look at the memory that a worker uses, as long as it has the place."""
        if not self.has(worker):
            return
        if used_bytes(worker.pid) - worker.own_bytes > self._limit:
            self._on_excess(worker)
        else:
            self._timer = asyncio.get_running_loop().call_later(PERIOD_S, self._look, worker)


def too_large(limit: int) -> LimitExceededError:
    """Return the refusal of a request that needs more memory than a worker may use."""
    return LimitExceededError(
        f"the request needs more than {limit:,} bytes of memory (setting PULLBACK_MAX_WORKER_BYTES)"
    )


def used_bytes(pid: int) -> int:
    """Return the memory that a process uses, not counting files; 0 if it has ended."""
    with suppress(OSError, IndexError):
        fields = Path(f"/proc/{pid}/statm").read_text().split()
        return (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGESIZE")
    return 0
