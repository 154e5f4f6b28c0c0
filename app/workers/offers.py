"""Long answers that workers have, and that wait until there is room for them."""

import asyncio
from collections.abc import Callable

from app.http.spool import Spool
from app.stores import StorageFullError
from app.workers import frames
from app.workers.jobs import Worker

#: Time between two looks at whether there is room, in seconds.
_LOOK_S = 0.02


class Offers:
    """Offers of long answers; one that has to wait does not hold up those of other clients.

    Args:
        spool: room for the answers.
        on_full: called with a worker for whose answer no file can be made.
    """

    def __init__(self, spool: Spool, on_full: Callable[[Worker, StorageFullError], None]) -> None:
        self._spool = spool
        self._on_full = on_full
        self._waiting: list[tuple[Worker, int]] = []
        self._timer: asyncio.TimerHandle | None = None

    def add(self, worker: Worker, nbytes: int) -> None:
        """Take in the offer of a worker: it may write its answer at once, or as soon as there is room."""
        worker.is_offering = True
        self._waiting.append((worker, nbytes))
        self._look()

    def clear(self) -> None:
        """Forget all offers."""
        self._waiting.clear()

    def _look(self) -> None:
        """Let workers write the answers for which there is room; look again while others are left."""
        offers, self._waiting = self._waiting, []
        self._waiting += [(worker, nbytes) for worker, nbytes in offers if not self._is_settled(worker, nbytes)]
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(_LOOK_S, self._look) if self._waiting else None

    def _is_settled(self, worker: Worker, nbytes: int) -> bool:
        """Give a worker a file for its answer if there is room; return whether it waits no longer."""
        job = worker.job
        if job is None:
            # It was stopped meanwhile.
            return True
        if not self._spool.has_room(nbytes, job.client):
            return False
        try:
            worker.file = self._spool.new(nbytes, job.client)
        except StorageFullError as error:
            self._on_full(worker, error)
        else:
            worker.is_offering = False
            worker.channel.send(frames.Frame(frames.TAKE, (worker.file.path,)))
        return True
