"""Interface, records and limits of stores; the storage of programs."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Protocol

from app.stores.address import StoreAddress
from app.stores.errors import DamagedError
from app.stores.keys import KeyStore
from app.stores.owners import ANYONE, Caller
from app.stores.sessions import SessionStore
from engine.core import LimitExceededError

_log = logging.getLogger("pullback")

#: Number of programs that are dropped at a time, so that no request waits long for it.
SWEPT_ROWS = 100
#: Number of names among which the nearest to an unknown name is looked for.
SUGGESTED_NAMES = 1000


def damaged(program_id: str, reason: object) -> DamagedError:
    """Log why a stored program cannot be used, and return the error for its user."""
    what = f"the program {program_id}"
    _log.error("%s is damaged in the store: %s", what, reason)
    detail = f"{what} is damaged in the store, and is not run; delete it and register it again"
    return DamagedError(what, detail, reason)


@dataclass(frozen=True, slots=True)
class Binding:
    """A bound array without its bytes, which are stored once under their digest."""

    digest: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Program:
    """A program as it is stored.

    id: hash of its content.
    document: its canonical form, as JSON.
    summary: the facts that lists of programs show, as JSON.
    bound: its bound inputs by name.
    name: one of its names, of several the oldest; None where it has none.
    created_at: time of its first registration, in seconds since 1970; None where it is not stored yet.
    """

    id: str
    document: str
    summary: str
    bound: Mapping[str, Binding]
    name: str | None = None
    created_at: float | None = None

    @property
    def size(self) -> int:
        """Size in bytes, without bound arrays."""
        return len(self.document) + len(self.summary)


@dataclass(frozen=True, slots=True)
class Listed:
    """A program as lists show it; `number` is its place in their order."""

    number: int
    id: str
    name: str | None
    summary: str


@dataclass(frozen=True, slots=True)
class Policy:
    """Limits of a store.

    program_ttl_s: time for which a program without a name is kept after its last use.
    max_programs: number of programs.
    max_bytes: of programs and sessions together.
    clock: seconds since 1970.
    moment, resume: the time as text, which is noted in the store once in a while, and a function that is called with
        the text that was noted last, when the store is opened.
    """

    program_ttl_s: float = 7 * 24 * 3600
    max_programs: int = 100_000
    max_bytes: int = 4 * 2**30
    clock: Callable[[], float] = field(default=time.time)
    moment: Callable[[], str] = field(default=lambda: "")
    resume: Callable[[str | None], None] = field(default=lambda moment: None)

    @property
    def precision_s(self) -> float:
        """Precision of the noted times of use, and interval of sweeps: not every use costs a write."""
        return min(self.program_ttl_s / 100, 60.0)

    def unused_since(self, now: float) -> float:
        """Time of the last use before which a program may be dropped at `now`."""
        return now - self.program_ttl_s - self.precision_s

    def check(self, programs: int, size: int) -> None:
        """Raise LimitExceededError where there would be more programs or more bytes than allowed."""
        if programs > self.max_programs:
            limit = f"{self.max_programs:,} programs (setting PULLBACK_MAX_PROGRAMS)"
            raise LimitExceededError(f"the store is full: it keeps at most {limit}; delete some")
        self.check_bytes(size)

    def check_bytes(self, size: int) -> None:
        """Raise LimitExceededError where programs and sessions would have more bytes than allowed."""
        if size > self.max_bytes:
            limit = f"the limit is {self.max_bytes:,} (setting PULLBACK_MAX_STORE_BYTES)"
            raise LimitExceededError(f"the store would keep {size:,} bytes, {limit}; delete programs or sessions")


class Sweeps:
    """Timer of sweeps for unused programs: one in each interval."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._last = policy.clock()

    def is_due(self) -> bool:
        """Return whether to sweep now; the next sweep is due an interval later."""
        now = self._policy.clock()
        # A clock that was set back must not keep it from being due for long.
        if 0 <= now - self._last < self._policy.precision_s:
            return False
        self._last = now
        return True


class Deletion(IntEnum):
    """Result of deleting a program."""

    #: There is none.
    NONE = 0
    #: The caller owns it no more.
    OWN = 1
    #: It is gone for all, though the caller did not own it.
    FOR_ALL = 2


class Store(Protocol):
    """Storage of programs and sessions. Methods may be called by many threads, and are durable.

    A key is the id or a name of a program. Every method but `open` and `close` may raise StoreUnavailableError; those
    that write, StorageFullError too. A store is opened after the process has forked, never before.
    """

    @property
    def keys(self) -> KeyStore:
        """Storage of keys in the same place."""

    @property
    def sessions(self) -> SessionStore:
        """Storage of sessions in the same place."""

    @property
    def address(self) -> StoreAddress:
        """Address under which other processes of the server open the same store."""

    def open(self) -> None:
        """Make sure that the store can be used.

        Raises:
            StoreError: it cannot.
        """

    def close(self) -> None:
        """Release everything; the store cannot be used any more."""

    def add_program(
        self, program: Program, blobs: Mapping[str, bytes], *, replace: bool, caller: Caller = ANYONE
    ) -> tuple[Program, bool]:
        """Store a program, and give it its name if it has one; other names of it stay.

        One that is there already gets one more owner.

        Args:
            program: the program.
            blobs: the bytes of its bound arrays by digest.
            replace: whether the name may be taken from another program.
            caller: the owner.

        Returns:
            The program with the name that was given, otherwise its oldest, and whether it is new to its owner.

        Raises:
            NameConflictError: another program holds the name.
            ForbiddenError: so it does, for another owner.
            LimitExceededError: there are as many programs or bytes as allowed, in all or of this owner.
        """

    def check_room(self, program: Program, blobs: Mapping[str, bytes], caller: Caller = ANYONE) -> None:
        """Make sure that a program could be stored just now, or is stored already.

        Raises:
            LimitExceededError: there are as many programs or bytes as allowed.
        """

    def check(self) -> None:
        """Make sure that the store can be written, and is still the one that was opened."""

    def resolve_program(self, key: str) -> str | None:
        """Return the id of a program, which counts as a use; None where there is none."""

    def load_program(self, program_id: str) -> Program | None:
        """Return a program by its id."""

    def load_blobs(self, digests: Sequence[str]) -> dict[str, bytes]:
        """Return bytes by digest; missing ones are left out."""

    def list_programs(self, limit: int, after: int, owner: str | None = None) -> list[Listed]:
        """Return programs in the order of their registration, from the first whose number is above `after`.

        owner: of programs and names; None for all.
        """

    def delete_program(self, key: str, caller: Caller = ANYONE) -> Deletion:
        """Take a program, and the names that the caller gave it, from its owner.

        With the last owner the program goes, with its names and the arrays that no other program has bound. An admin
        who does not own it deletes it for all.

        Raises:
            ForbiddenError: only others own it.
        """

    def program_names(self) -> list[str]:
        """Return the latest names of programs that belong to no key, at most SUGGESTED_NAMES."""


def is_id(key: str) -> bool:
    """Return whether a key is an id: no name begins like one."""
    return key.startswith("p_")
