"""Plain data of a pool: its sizes, its worker processes, and the jobs that they work on."""

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field

from starlette.types import Receive

from app.http.messages import Answer, Call
from app.http.spool import FileBody
from app.workers.nursery import Channel
from app.workers.schedule import Pace

#: Kinds of work that are remembered of a worker.
_REMEMBERED = 64


@dataclass(frozen=True, slots=True)
class Sizes:
    """Numbers of the processes of a pool, and their memory.

    short, long: places for work of all kinds, and for work that takes long.
    kept_free: of the first, how many are never given to clients that have used much more than others lately.
    data_bytes: memory that a worker may take beyond what it has at its start.
    large_bytes: memory that the one worker at a time which needs more may use.
    """

    short: int
    long: int
    data_bytes: int
    large_bytes: int
    kept_free: int = 0


@dataclass(slots=True, eq=False)
class Worker:
    """A process of the pool.

    file: for its long answer.
    is_offering: whether its long answer waits for room.
    is_long: whether it has one of the places for long work.
    is_nice: whether its priority was lowered, for good.
    recent: kinds of its last jobs, whose data it may still have in memory.
    """

    pid: int
    channel: Channel
    job: "Job | None" = None
    own_bytes: int = 0
    file: FileBody | None = None
    is_offering: bool = False
    is_long: bool = False
    is_nice: bool = False
    recent: deque[object] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    born: float = field(default_factory=time.monotonic)


@dataclass(slots=True, eq=False)
class Job:
    """A call that waits or is worked on.

    cpu_s: processor time of the worker's process when it began.
    counted_s: seconds that were counted as used by its client already.
    """

    call: Call
    kind: object
    pace: Pace
    future: "asyncio.Future[Answer]"
    receive: Receive
    until: float
    pushed: float
    worker: Worker | None = None
    started: float = 0.0
    cpu_s: float = 0.0
    counted_s: float = 0.0
    timer: asyncio.TimerHandle | None = None
    watch: "asyncio.Task[None] | None" = None

    @property
    def client(self) -> str:
        """Key or address of the client."""
        return self.call.client
