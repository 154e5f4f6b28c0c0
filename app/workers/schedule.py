"""Which job goes next: those that were measured short first, long ones only in lanes of their own, clients in turn."""

from collections import OrderedDict, deque
from enum import IntEnum
from typing import Generic, Protocol, TypeVar

from engine.core import Lru

#: Work of a kind that took less processor time than this is short, and more than that is long.
SHORT_S = 0.05
LONG_S = 0.1
#: Kinds of work that are remembered.
_MOST_KINDS = 20_000


class Pace(IntEnum):
    """How long work of a kind took, as far as it is known."""

    SHORT = 0
    UNKNOWN = 1
    LONG = 2


class Paces:
    """Memory of how long work of each kind took."""

    def __init__(self) -> None:
        self._known: Lru[object, Pace] = Lru(_MOST_KINDS, _MOST_KINDS)

    def of(self, kind: object) -> Pace:
        """Return the pace of a kind."""
        found = self._known.get(kind)
        return Pace.UNKNOWN if found is None else found

    def note(self, kind: object, seconds: float) -> None:
        """Note the processor time of the last work of a kind."""
        pace = Pace.SHORT if seconds < SHORT_S else Pace.LONG if seconds >= LONG_S else Pace.UNKNOWN
        self._known.put(kind, pace, 1)


class Waiting(Protocol):
    """A job that may wait."""

    pace: Pace

    @property
    def client(self) -> str:
        """Address of its client."""


Job = TypeVar("Job", bound=Waiting)


class Queues(Generic[Job]):
    """A queue for each pace, bounded each; the clients of one take turns.

    Args:
        limit: jobs in each.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._clients: dict[Pace, OrderedDict[str, deque[Job]]] = {pace: OrderedDict() for pace in Pace}
        self._counts = dict.fromkeys(Pace, 0)

    def count(self, pace: Pace) -> int:
        """Return how many jobs of a pace wait."""
        return self._counts[pace]

    def push(self, job: Job) -> bool:
        """Add a job; return False if its queue is full."""
        if self._counts[job.pace] >= self._limit:
            return False
        self._clients[job.pace].setdefault(job.client, deque()).append(job)
        self._counts[job.pace] += 1
        return True

    def pop(self, pace: Pace) -> Job | None:
        """Remove and return the next job of a pace: the first of the client whose turn it is."""
        clients = self._clients[pace]
        if not clients:
            return None
        client, jobs = next(iter(clients.items()))
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
