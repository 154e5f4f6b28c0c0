"""Order of jobs: those measured as short first, long ones only where there is a place for them, clients in turn."""

from collections import OrderedDict, deque
from collections.abc import Callable
from enum import IntEnum
from typing import Generic, Protocol, TypeVar

from engine.core import Lru

#: Work of a kind that took less processor time than this is short, and more than that is long.
SHORT_S = 0.05
LONG_S = 0.1
#: Half of the processor time that a client used is forgotten in this time. It is updated every `_FORGET_S` seconds, and
#: dropped below `_LEAST_S`.
HALF_LIFE_S = 5.0
_FORGET_S, _LEAST_S = 0.5, 0.001
#: A client is heavy if it used more seconds than the first, and more than the second times the mean.
_LIGHT_S, _MUCH_MORE = 0.1, 4 / 3
#: Weight of the last job in the mean time of all.
_WEIGHT = 0.1
#: Kinds of work that are remembered.
_MOST_KINDS = 20_000


class Pace(IntEnum):
    """Length of work of one kind, as far as it is known."""

    SHORT = 0
    UNKNOWN = 1
    LONG = 2
    #: Long, and in need of more memory than workers have.
    LARGE = 3


_SHORT_FIRST = Pace.SHORT, Pace.UNKNOWN, Pace.LONG, Pace.LARGE
_UNKNOWN_FIRST = Pace.UNKNOWN, Pace.SHORT, Pace.LARGE, Pace.LONG
_LONG_FIRST = Pace.LONG, Pace.LARGE, Pace.SHORT, Pace.UNKNOWN
#: Order of the paces in each turn.
_ORDERS = _UNKNOWN_FIRST, _SHORT_FIRST, _LONG_FIRST, _SHORT_FIRST


class Paces:
    """Memory of how long work of each kind took."""

    def __init__(self) -> None:
        self._known: Lru[object, Pace] = Lru(_MOST_KINDS, _MOST_KINDS)

    def of(self, kind: object) -> Pace:
        """Return the pace of a kind."""
        found = self._known.get(kind)
        return Pace.UNKNOWN if found is None else found

    def note(self, kind: object, seconds: float, was_large: bool) -> None:
        """Note the processor time of the last work of a kind, and whether it needed more memory than workers have."""
        pace = Pace.SHORT if seconds < SHORT_S else Pace.LONG if seconds >= LONG_S else Pace.UNKNOWN
        self.set(kind, Pace.LARGE if was_large else pace)

    def set(self, kind: object, pace: Pace) -> None:
        """Set the pace of a kind."""
        self._known.put(kind, pace, 1)


class Shares:
    """Processor time that clients have used lately; half of it is forgotten every `HALF_LIFE_S`."""

    def __init__(self) -> None:
        self._used: dict[str, float] = {}
        self._total = 0.0
        self._since = 0.0

    def note(self, client: str, seconds: float, now: float) -> None:
        """Note that a client used so many seconds; `now` is by a clock that never steps back."""
        if now - self._since >= _FORGET_S:
            kept = 0.5 ** ((now - self._since) / HALF_LIFE_S)
            self._used = {each: left for each, used in self._used.items() if (left := kept * used) >= _LEAST_S}
            self._total = sum(self._used.values())
            self._since = now
        self._used[client] = self._used.get(client, 0.0) + seconds
        self._total += seconds

    def is_heavy(self, client: str) -> bool:
        """Return whether a client used much more than the mean, where there are at least two clients."""
        used = self._used.get(client, 0.0)
        return used > _LIGHT_S and used * max(len(self._used), 2) > _MUCH_MORE * self._total


class Drain:
    """Estimate of how long the jobs of a pace take that wait, from how long the last ones took."""

    def __init__(self) -> None:
        self._mean_s = dict.fromkeys(Pace, SHORT_S)

    def note(self, pace: Pace, seconds: float) -> None:
        """Note how long a job held its worker."""
        self._mean_s[pace] += _WEIGHT * (seconds - self._mean_s[pace])

    def wait_s(self, pace: Pace, count: int, workers: int) -> float:
        """Return the seconds until so many jobs are done."""
        return self._mean_s[pace] * count / workers


class Waiting(Protocol):
    """A job that may wait."""

    pace: Pace

    @property
    def client(self) -> str:
        """Key or address of its client."""


Job = TypeVar("Job", bound=Waiting)


class Queues(Generic[Job]):
    """A queue for each pace, bounded each; the clients of one take turns.

    Short work goes first, but for two turns of four: one is for unknown work, and one for long work, which gets a place
    of its own and so leaves its worker's place to others at once.

    Args:
        limit: jobs in each.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._clients: dict[Pace, OrderedDict[str, deque[Job]]] = {pace: OrderedDict() for pace in Pace}
        self._counts = dict.fromkeys(Pace, 0)
        self._turn = 0

    def count(self, pace: Pace) -> int:
        """Return how many jobs of a pace wait."""
        return self._counts[pace]

    def push(self, job: Job) -> Job | None:
        """Add a job; return the job that has no place, if the queue is full.

        That is the newest of the client with the most jobs, be it this one or another: one client cannot fill the queue
        for all.
        """
        clients = self._clients[job.pace]
        own = clients.setdefault(job.client, deque())
        own.append(job)
        self._counts[job.pace] += 1
        if self._counts[job.pace] <= self._limit:
            return None
        most = max(clients.values(), key=len)
        last = own[-1] if len(own) == len(most) else most[-1]
        self.remove(last)
        return last

    def next(
        self, *, may_be_long: bool, may_be_large: bool, may_go: Callable[[str], bool] = lambda client: True
    ) -> Job | None:
        """Remove and return the job that goes next, None if no job may; `may_go` says whether a client's may."""
        self._turn = (self._turn + 1) % len(_ORDERS)
        order = _ORDERS[self._turn]
        for pace in order:
            if (pace is Pace.LONG and not may_be_long) or (pace is Pace.LARGE and not may_be_large):
                continue
            job = self._pop(pace, may_go)
            if job is not None:
                return job
        return None

    def _pop(self, pace: Pace, may_go: Callable[[str], bool]) -> Job | None:
        """Remove and return the first job of the client whose turn it is."""
        clients = self._clients[pace]
        client = next(filter(may_go, clients), None)
        if client is None:
            return None
        jobs = clients[client]
        job = jobs.popleft()
        self._counts[pace] -= 1
        if jobs:
            clients.move_to_end(client)
        else:
            del clients[client]
        return job

    def remove(self, job: Job) -> None:
        """Remove a job that waits."""
        jobs = self._clients[job.pace][job.client]
        jobs.remove(job)
        self._counts[job.pace] -= 1
        if not jobs:
            del self._clients[job.pace][job.client]

    def clear(self) -> list[Job]:
        """Remove and return all jobs."""
        found = [job for clients in self._clients.values() for jobs in clients.values() for job in jobs]
        for clients in self._clients.values():
            clients.clear()
        self._counts = dict.fromkeys(Pace, 0)
        return found
