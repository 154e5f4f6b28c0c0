"""Order of jobs and clients: short work first, long work only where there is a place for it; who used little first."""

from collections import OrderedDict, deque
from collections.abc import Callable
from enum import IntEnum
from itertools import islice
from math import log2
from typing import Generic, Protocol, TypeVar

from app.telemetry import Mean
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
#: Those whose work goes to the same workers.
_SHARED = Pace.SHORT, Pace.UNKNOWN
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
    """Processor time that clients have used lately; half of it is forgotten every `HALF_LIFE_S`.

    used: seconds, by client.
    """

    def __init__(self) -> None:
        self.used: dict[str, float] = {}
        self._total = 0.0
        self._since = 0.0

    def note(self, client: str, seconds: float, now: float) -> None:
        """Note that a client used so many seconds, or take some back (negative); `now` never steps back.

        What is taken back may have been forgotten in part meanwhile: nobody has used less than nothing.
        """
        if now - self._since >= _FORGET_S:
            kept = 0.5 ** ((now - self._since) / HALF_LIFE_S)
            self.used = {each: left for each, used in self.used.items() if (left := kept * used) >= _LEAST_S}
            self._total = sum(self.used.values())
            self._since = now
        before = self.used.get(client, 0.0)
        self.used[client] = after = max(before + seconds, 0.0)
        self._total += after - before

    def level(self, client: str) -> int:
        """Return how many times the mean a client used, rounded down."""
        return int(self.used.get(client, 0.0) * len(self.used) / self._total) if self._total > 0.0 else 0

    def is_heavy(self, client: str) -> bool:
        """Return whether a client used much more than the mean, where there are at least two clients."""
        used = self.used.get(client, 0.0)
        return used > _LIGHT_S and used * max(len(self.used), 2) > _MUCH_MORE * self._total


class Waiting(Protocol):
    """A job that may wait."""

    pace: Pace

    @property
    def client(self) -> str:
        """Key or address of its client."""


Job = TypeVar("Job", bound=Waiting)


class Queues(Generic[Job]):
    """A queue for each pace, bounded each.

    In each, clients that used less than the mean go first, then those that used less than twice the mean, and so on;
    equal ones take turns.

    Short work goes first, but for two turns of four: one is for unknown work, and one for long work, which gets a place
    of its own and so leaves its worker's place to others at once.

    Args:
        limit: jobs in each that wait.
        shares: what clients have used.

    means: how long jobs of each pace hold a worker.
    """

    def __init__(self, limit: int, shares: Shares) -> None:
        self.means = {pace: Mean(SHORT_S) for pace in Pace}
        self._limit = limit
        self._shares = shares
        self._clients: dict[Pace, OrderedDict[str, deque[Job]]] = {pace: OrderedDict() for pace in Pace}
        self._counts = dict.fromkeys(Pace, 0)
        self._turn = 0

    def count(self, pace: Pace) -> int:
        """Return how many jobs of a pace wait."""
        return self._counts[pace]

    def wait_s(self, pace: Pace, workers: int) -> float:
        """Return the seconds until so many workers are done with the jobs of a pace, and of those that share them."""
        paces = _SHARED if pace in _SHARED else (pace,)
        return sum(self.means[each].seconds * self._counts[each] for each in paces) / workers

    def has_room(self, pace: Pace, client: str) -> bool:
        """Return whether a job of a client gets a place, be it that of another."""
        if self._counts[pace] < self._limit:
            return True
        clients = self._clients[pace]
        return self._claim(pace, client, len(clients.get(client, ())) + 1) < max(self._claims(pace), default=0.0)

    def until_room_s(self, pace: Pace, client: str) -> float:
        """Return the seconds until a client that used most of all that wait has forgotten enough to have a place."""
        own = self._claim(pace, client, len(self._clients[pace].get(client, ())) + 1)
        others = max(
            (self._claim(pace, each, len(jobs)) for each, jobs in self._clients[pace].items() if each != client),
            default=own,
        )
        return HALF_LIFE_S * max(log2(own / others), 0.0) if others > 0.0 else 0.0

    def push(self, job: Job) -> None:
        """Add a job; if it does not go at once, `overflow` says which one has no place."""
        self._clients[job.pace].setdefault(job.client, deque()).append(job)
        self._counts[job.pace] += 1

    def overflow(self, job: Job) -> Job | None:
        """Remove and return the job that has no place, if the queue is too full now that `job` is in it.

        That is the newest of the client that would have used most if its jobs were done, be it this one or another: one
        client cannot fill the queue for all.
        """
        pace, client = job.pace, job.client
        if self._counts[pace] <= self._limit:
            return None
        clients, claims = self._clients[pace], self._claims(pace)
        most = max(claims)
        if self._claim(pace, client, len(clients[client])) >= most:
            last = clients[client][-1]
        else:
            last = next(islice(clients.values(), claims.index(most), None))[-1]
        self.remove(last)
        return last

    def _claim(self, pace: Pace, client: str, count: int) -> float:
        """Return what a client will have used once so many of its jobs are done, in seconds."""
        return self._shares.used.get(client, 0.0) + self.means[pace].seconds * count

    def _claims(self, pace: Pace) -> list[float]:
        """Return what each of the clients that wait will have used once all of its jobs are done."""
        used, mean_s = self._shares.used.get, self.means[pace].seconds
        return [used(client, 0.0) + mean_s * len(jobs) for client, jobs in self._clients[pace].items()]

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
        client = min(filter(may_go, clients), key=self._shares.level, default=None)
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
