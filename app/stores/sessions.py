"""What keeps sessions: its interface, its records, and what it allows. It knows nothing of what is in a session."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from app.stores.errors import StoreUnavailableError, TooManySessionsError

_log = logging.getLogger("pullback")

#: An id is a secret: the log has so many letters of it.
LOGGED = 8
#: As many sessions that ended are dropped at a time.
SWEPT_SESSIONS = 100


def damaged_session(session_id: str, reason: object) -> StoreUnavailableError:
    """The error for a session that is not what it was when it was kept; the log has the reason."""
    _log.error("the session %s... is damaged in the store: %s", session_id[:LOGGED], reason)
    return StoreUnavailableError("the session is damaged in the store, and is not used; delete it and make a new one")


@dataclass(frozen=True, slots=True)
class Head:
    """What is known of a session without its content.

    seq: counts what changed it.
    expires_at: in seconds since 1970; its life begins anew, `ttl_s` long, with every use.
    revision: another one with every change: who writes says which one it goes on from, and is refused where others were
        faster. Numbers alone would come again in a store that was put back to what it was earlier.
    has_ended: whether it was found to have expired. It has no content any more, and does not live again though the
        clock is set back.
    """

    id: str
    seq: int
    created_at: float
    expires_at: float
    ttl_s: float
    bytes: int
    name: str | None
    revision: str
    has_ended: bool = False

    def is_over(self, now: float) -> bool:
        """Return whether it has expired."""
        return self.has_ended or self.expires_at <= now


@dataclass(frozen=True, slots=True)
class Answered:
    """The last call that changed a session, for when it is repeated: a digest of it, and its answer."""

    request: bytes
    status: int
    media_type: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Content:
    """What a session is: its document and the arrays beside it."""

    head: Head
    document: bytes
    arrays: dict[int, bytes]
    answered: Answered | None


@dataclass(frozen=True, slots=True)
class Change:
    """What one call makes of a session.

    new: arrays that were not there before. dropped: numbers of those that are not needed any more.
    """

    document: bytes
    new: Mapping[int, bytes]
    dropped: Sequence[int]
    bytes: int
    answered: Answered | None


@dataclass(frozen=True, slots=True)
class SessionPolicy:
    """How many sessions are kept.

    max_sessions, max_per_client: in all, and of one client.
    grace_s: for how long it is known that a session expired.
    clock: seconds since 1970.
    """

    max_sessions: int = 10_000
    max_per_client: int = 1000
    grace_s: float = 24 * 3600
    clock: Callable[[], float] = field(default=time.time)

    def is_forgotten(self, head: Head) -> bool:
        """Return whether a session expired so long ago that nothing is told of it any more."""
        return head.expires_at + self.grace_s <= self.clock()

    def check(self, count: int, of_client: int) -> None:
        """Raises TooManySessionsError where there is no room for one more."""
        if count >= self.max_sessions:
            msg = f"there are {count:,} sessions, as many as may be (setting PULLBACK_MAX_SESSIONS)"
            raise TooManySessionsError(f"{msg}; delete some, or wait until some expire")
        if of_client >= self.max_per_client:
            limit = "as many as one client address may have (setting PULLBACK_MAX_SESSIONS_PER_CLIENT)"
            raise TooManySessionsError(f"there are {of_client:,} sessions of yours, {limit}; delete some")


class SessionStore(Protocol):
    """Keeps sessions. Every method may be called by many threads at once, and what it did, it did durably.

    Every method may raise StoreUnavailableError.
    """

    policy: SessionPolicy

    def create(self, head: Head, content: Change, client: str, key: bytes | None) -> tuple[str, bool]:
        """Keeps a new session.

        Args:
            head: whose id nobody else has.
            content: what it is.
            client: who it belongs to.
            key: what is created twice under one key is created once.

        Returns:
            The id of the session of the key, and whether it is new.

        Raises:
            TooManySessionsError: there is no room.
        """

    def head(self, session_id: str) -> Head | None:
        """Return the facts of a session, also of one that has expired."""

    def load(self, session_id: str) -> Content | None:
        """All of a session; None also where it expired."""

    def save(self, head: Head, revision: str, change: Change) -> bool:
        """Puts a changed session in the place of what it was.

        Args:
            head: as it is from now on.
            revision: that it had when it was read.
            change: what became of it.

        Returns:
            Whether it happened; not where the session is gone, has expired, or was changed by others.
        """

    def touch(self, session_id: str, expires_at: float) -> None:
        """Lets a session live until then, unless it lives longer already."""

    def end(self, head: Head) -> None:
        """Drops the content of a session that has expired, unless it was used since `head` was read."""

    def delete(self, session_id: str) -> bool:
        """Forgets a session; False where there was none."""

    def list(self) -> list[Head]:
        """All sessions in the order in which they came."""
