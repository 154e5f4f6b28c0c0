"""What a store is: its interface, the records that it keeps, what it allows, and how it fails."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from app.stores.errors import StoreUnavailableError
from app.stores.sessions import SessionStore
from engine.core import LimitExceededError

_log = logging.getLogger("pullback")

#: As many programs are dropped at a time, so that no request waits long for it.
SWEPT_ROWS = 100
#: As many names are looked through for those that are near one that is not there.
SUGGESTED_NAMES = 1000


def damaged(program_id: str, reason: object) -> StoreUnavailableError:
    """The error for a program that is not what it was when it was kept; the log has the reason."""
    _log.error("the program %s is damaged in the store: %s", program_id, reason)
    return StoreUnavailableError(
        f"the program {program_id} is damaged in the store, and is not run; delete it and register it again"
    )


@dataclass(frozen=True, slots=True)
class Binding:
    """A bound array but for its bytes, which are kept once under their digest."""

    digest: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Program:
    """A program as it is kept.

    id: says what it is: another program has another one.
    document: its canonical form, as JSON.
    summary: what lists of programs tell of it, as JSON.
    bound: its bound inputs by name.
    name: one of its names, of several the oldest; None where it has none.
    created_at: when it was first kept, in seconds since 1970; None where it is not kept yet.
    """

    id: str
    document: str
    summary: str
    bound: Mapping[str, Binding]
    name: str | None = None
    created_at: float | None = None

    @property
    def size(self) -> int:
        """Bytes that it takes, bound arrays aside."""
        return len(self.document) + len(self.summary)


@dataclass(frozen=True, slots=True)
class Listed:
    """A program as lists show it; `number` says where it stands in them."""

    number: int
    id: str
    name: str | None
    summary: str


@dataclass(frozen=True, slots=True)
class Policy:
    """What a store keeps, and for how long.

    program_ttl_s: for which a program without a name is kept after its last use.
    max_programs, max_bytes: how many programs, and how many bytes in all.
    clock: seconds since 1970.
    """

    program_ttl_s: float = 7 * 24 * 3600
    max_programs: int = 100_000
    max_bytes: int = 4 * 2**30
    clock: Callable[[], float] = field(default=time.time)

    @property
    def precision_s(self) -> float:
        """How exactly uses are noted, and how often the unused are looked for: not every use costs a write."""
        return min(self.program_ttl_s / 100, 60.0)

    def unused_since(self, now: float) -> float:
        """The time before which a program was last used that may be dropped at `now`."""
        return now - self.program_ttl_s - self.precision_s

    def check(self, programs: int, size: int) -> None:
        """Holds what would be kept to what may be.

        Raises:
            LimitExceededError: naming the setting.
        """
        if programs > self.max_programs:
            limit = f"{self.max_programs:,} programs (setting PULLBACK_MAX_PROGRAMS)"
            raise LimitExceededError(f"the store is full: it keeps at most {limit}; delete some")
        if size > self.max_bytes:
            limit = f"the limit is {self.max_bytes:,} (setting PULLBACK_MAX_STORE_BYTES)"
            raise LimitExceededError(f"the store would keep {size:,} bytes, {limit}; delete some programs")


class Sweeps:
    """When to look for what was not used: once in a while, not more often."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._last = policy.clock()

    def is_due(self) -> bool:
        """Whether to look now; it is then not due for a while."""
        now = self._policy.clock()
        # A clock that was set back must not keep it from being due for long.
        if 0 <= now - self._last < self._policy.precision_s:
            return False
        self._last = now
        return True


class Store(Protocol):
    """Keeps programs. Every method may be called by many threads at once, and what it did, it did durably.

    A key is the id or a name of a program. Every method but `open` and `close` may raise StoreUnavailableError.
    """

    @property
    def sessions(self) -> SessionStore:
        """What keeps sessions in the same place."""

    def open(self) -> None:
        """Makes sure that the store can be used.

        Raises:
            StoreError: it cannot.
        """

    def close(self) -> None:
        """Lets go of everything; the store cannot be used any more."""

    def add_program(self, program: Program, blobs: Mapping[str, bytes], *, replace: bool) -> tuple[Program, bool]:
        """Keeps a program, and gives it its name if it has one; names that it has already stay.

        Args:
            program: what to keep.
            blobs: the bytes of its bound arrays by digest.
            replace: whether the name may be taken from another program.

        Returns:
            The program with the name that was given, else its oldest, and whether it is new.

        Raises:
            NameConflictError: another program holds the name.
            LimitExceededError: no more can be kept.
        """

    def check_room(self, program: Program, blobs: Mapping[str, bytes]) -> None:
        """Makes sure that a program could be kept just now, or is kept already.

        Raises:
            LimitExceededError: no more can be kept.
        """

    def check(self) -> None:
        """Makes sure that the store answers."""

    def resolve_program(self, key: str) -> str | None:
        """The id of a program, which counts as a use; None where there is none."""

    def load_program(self, program_id: str) -> Program | None:
        """A program by its id."""

    def load_blobs(self, digests: Sequence[str]) -> dict[str, bytes]:
        """Bytes by digest; those that are not there are left out."""

    def list_programs(self, limit: int, after: int) -> list[Listed]:
        """Programs in the order in which they came, beginning with the first whose number is beyond `after`."""

    def delete_program(self, key: str) -> bool:
        """Deletes a program with all its names, and the arrays that no other program has bound; False: not there."""

    def program_names(self) -> list[str]:
        """The latest names of programs, SUGGESTED_NAMES at most."""


def is_id(key: str) -> bool:
    """Whether a key is an id: no name begins as one."""
    return key.startswith("p_")
