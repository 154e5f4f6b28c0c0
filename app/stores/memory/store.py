"""Programs, and what else there is, in the memory of one process."""

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from app.stores.base import SUGGESTED_NAMES, SWEPT_ROWS, Listed, Policy, Program, Sweeps, is_id
from app.stores.errors import NameConflictError
from app.stores.memory.sessions import MemorySessions
from app.stores.sessions import SessionPolicy, SessionStore
from engine.core import LimitExceededError


@dataclass(slots=True)
class _Entry:
    """A program with what changes of it; `names` are in the order in which they were given."""

    program: Program
    number: int
    used_at: float
    names: list[str] = field(default_factory=list)

    def shown(self, name: str | None = None) -> Program:
        return replace(self.program, name=name or next(iter(self.names), None))

    def listed(self) -> Listed:
        return Listed(self.number, self.program.id, next(iter(self.names), None), self.program.summary)


class MemoryStore:
    """A store of dictionaries behind one lock."""

    def __init__(self, policy: Policy, sessions: SessionPolicy | None = None) -> None:
        self.sessions: SessionStore = MemorySessions(sessions or SessionPolicy())
        self._policy = policy
        self._sweeps = Sweeps(policy)
        self._lock = threading.Lock()
        self._programs: dict[str, _Entry] = {}
        self._names: dict[str, _Entry] = {}
        self._blobs: dict[str, bytes] = {}
        #: How many programs have bound an array, by its digest.
        self._bound: Counter[str] = Counter()
        self._size = 0
        self._last_number = 0

    def open(self) -> None:
        """Nothing is needed."""

    def close(self) -> None:
        """Nothing is held that does not end with the process."""

    def add_program(self, program: Program, blobs: Mapping[str, bytes], *, replace: bool) -> tuple[Program, bool]:
        """See `Store`."""
        with self._lock:
            now = self._sweep_if_due()
            holder = self._names.get(program.name) if program.name else None
            if program.name and holder and holder.program.id != program.id and not replace:
                raise NameConflictError(program.name, holder.program.id)
            entry = self._programs.get(program.id)
            is_new = entry is None
            if entry is None:
                entry = self._insert(program, blobs, now)
            entry.used_at = now
            if program.name and holder is not entry:
                if holder is not None:
                    holder.names.remove(program.name)
                    # From here on it may be one without a name, whose time begins now.
                    holder.used_at = now
                    del self._names[program.name]
                entry.names.append(program.name)
                self._names[program.name] = entry
            return entry.shown(program.name), is_new

    def check_room(self, program: Program, blobs: Mapping[str, bytes]) -> None:
        """See `Store`."""
        with self._lock:
            if program.id not in self._programs:
                self._make_room(program, blobs, self._policy.clock())

    def check(self) -> None:
        """It always answers."""

    def resolve_program(self, key: str) -> str | None:
        """See `Store`."""
        with self._lock:
            now = self._sweep_if_due()
            entry = self._find(key)
            if entry is None:
                return None
            entry.used_at = now
            return entry.program.id

    def load_program(self, program_id: str) -> Program | None:
        """See `Store`."""
        with self._lock:
            entry = self._programs.get(program_id)
            return None if entry is None else entry.shown()

    def load_blobs(self, digests: Sequence[str]) -> dict[str, bytes]:
        """See `Store`."""
        with self._lock:
            return {digest: self._blobs[digest] for digest in digests if digest in self._blobs}

    def list_programs(self, limit: int, after: int) -> list[Listed]:
        """See `Store`."""
        with self._lock:
            later = (entry for entry in self._programs.values() if entry.number > after)
            return [entry.listed() for entry in islice(later, limit)]

    def delete_program(self, key: str) -> bool:
        """See `Store`."""
        with self._lock:
            entry = self._find(key)
            if entry is not None:
                self._delete(entry)
            return entry is not None

    def program_names(self) -> list[str]:
        """See `Store`."""
        with self._lock:
            return list(islice(reversed(self._names), SUGGESTED_NAMES))

    def _find(self, key: str) -> _Entry | None:
        return self._programs.get(key) if is_id(key) else self._names.get(key)

    def _insert(self, program: Program, blobs: Mapping[str, bytes], now: float) -> _Entry:
        size = self._make_room(program, blobs, now)
        self._last_number += 1
        entry = _Entry(replace(program, name=None, created_at=now), self._last_number, now)
        self._programs[program.id] = entry
        self._blobs |= blobs
        self._bound.update(_digests(program))
        self._size = size
        return entry

    def _make_room(self, program: Program, blobs: Mapping[str, bytes], now: float) -> int:
        """The bytes of all that is kept once the program is, for which the unused give way."""
        try:
            return self._size_with(program, blobs)
        except LimitExceededError:
            self._sweep(now)
            return self._size_with(program, blobs)

    def _size_with(self, program: Program, blobs: Mapping[str, bytes]) -> int:
        new = sum(len(data) for digest, data in blobs.items() if digest not in self._blobs)
        size = self._size + program.size + new
        self._policy.check(len(self._programs) + 1, size)
        return size

    def _sweep_if_due(self) -> float:
        now = self._policy.clock()
        if self._sweeps.is_due():
            self._sweep(now)
        return now

    def _sweep(self, now: float) -> None:
        limit = self._policy.unused_since(now)
        unused = (entry for entry in self._programs.values() if not entry.names and entry.used_at < limit)
        for entry in list(islice(unused, SWEPT_ROWS)):
            self._delete(entry)

    def _delete(self, entry: _Entry) -> None:
        del self._programs[entry.program.id]
        for name in entry.names:
            del self._names[name]
        self._size -= entry.program.size
        for digest in _digests(entry.program):
            self._bound[digest] -= 1
            if not self._bound[digest]:
                del self._bound[digest]
                self._size -= len(self._blobs.pop(digest))


def _digests(program: Program) -> set[str]:
    return {binding.digest for binding in program.bound.values()}
