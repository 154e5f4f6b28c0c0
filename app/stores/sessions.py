"""Interface, records and limits of the storage of sessions. It knows nothing of the content of a session."""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Protocol

from pydantic import FiniteFloat, TypeAdapter, ValidationError

from app.handles import handle_of
from app.stores.errors import DamagedError, TooManySessionsError
from app.stores.owners import UNLIMITED, Allowance
from engine.core import LimitExceededError

_log = logging.getLogger("pullback")

#: Number of expired sessions that are dropped at a time.
SWEPT_SESSIONS = 100


def damaged_session(digest: str, reason: object) -> DamagedError:
    """Log why a session cannot be read, and return the error for its user."""
    what = f"the session {handle_of(digest)}"
    _log.error("%s is damaged in the store: %s", what, reason)
    detail = "the session is damaged in the store, and is not used; delete it and make a new one"
    return DamagedError(what, detail, reason)


@dataclass(frozen=True, slots=True)
class Head:
    """Facts of a session without its content.

    digest: SHA-256 of the session's id, in hex; the id itself is a secret that no store has.
    seq: number of state-changing calls so far.
    expires_at: in seconds since 1970; every use moves it to `ttl_s` later.
    bytes: of its content, and 0 once it has ended.
    owner: id of the key that made it, empty if there was none.
    revision: a new random text with every change: a writer names the revision that it read, and is refused where
        another one was faster. Numbers would repeat in a store that was put back to an earlier state.
    has_ended: whether it was found to have expired. Its content is gone, and it stays expired though the clock is set
        back.
    """

    digest: str
    seq: int
    created_at: FiniteFloat
    expires_at: FiniteFloat
    ttl_s: FiniteFloat
    bytes: int
    name: str | None
    revision: str
    owner: str = ""
    has_ended: bool = False

    def is_over(self, now: float) -> bool:
        """Return whether it has expired."""
        return self.has_ended or self.expires_at <= now


#: Fields of a head that stores write as they are; `has_ended` follows from the content.
HEAD_FIELDS = tuple(each.name for each in fields(Head) if each.name != "has_ended")


@dataclass(frozen=True, slots=True)
class CreationKey:
    """Idempotency key of a session's creation.

    digest: of the client and the key; one session is made for it.
    sealed: the session's id, which only the key itself opens.
    """

    digest: bytes
    sealed: bytes


@dataclass(frozen=True, slots=True)
class Answered:
    """The last call that changed a session, for its repetition: a digest of the request, and the response."""

    request: bytes
    status: int
    media_type: str
    content: bytes


_ANSWERED = tuple(each.name for each in fields(Answered))


@dataclass(frozen=True, slots=True)
class Content:
    """A session in full: facts, document, arrays by number, and the last call."""

    head: Head
    document: bytes
    arrays: dict[int, bytes]
    answered: Answered | None


_HEAD, _CONTENT = TypeAdapter(Head), TypeAdapter(Content)

#: Takes the error of a session that is damaged.
OnDamage = Callable[[DamagedError], None]


def read_head(digest: str, values: Sequence[object], has_ended: bool) -> Head:
    """Return the head of which a store has the values of `HEAD_FIELDS`.

    Raises:
        DamagedError: they are none.
    """
    named = dict(zip(HEAD_FIELDS, values, strict=True))
    try:
        return _HEAD.validate_python({**named, "has_ended": has_ended})
    except ValidationError as error:
        raise damaged_session(digest, _reason(error)) from error


def read_content(
    head: Head, document: object, arrays: Mapping[Any, object], answered: Sequence[object] | None
) -> Content:
    """Return the session of which a store has a document, arrays by number, and the fields of `Answered`.

    Raises:
        DamagedError: they are none.
    """
    try:
        last = None if answered is None else dict(zip(_ANSWERED, answered, strict=True))
        return _CONTENT.validate_python({"head": head, "document": document, "arrays": arrays, "answered": last})
    except ValidationError as error:
        raise damaged_session(head.digest, _reason(error)) from error
    except ValueError as error:
        raise damaged_session(head.digest, error) from error


def read_all(heads: Iterable[Callable[[], Head | None]], on_damage: OnDamage | None) -> list[Head]:
    """Return the heads that there are; `on_damage` as in `SessionStore.list`."""
    found = []
    for read in heads:
        try:
            head = read()
        except DamagedError as error:
            if on_damage is None:
                raise
            on_damage(error)
        else:
            if head is not None:
                found.append(head)
    return found


def _reason(error: ValidationError) -> str:
    """Return what is wrong, without values: they may be secret, and long."""
    return "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors(include_input=False))


@dataclass(frozen=True, slots=True)
class Change:
    """The result of one call on a session.

    new: arrays to add. dropped: numbers of arrays to remove.
    shrinks: whether the session does not hold more than before; then it is never refused for want of room.
    """

    document: bytes
    new: Mapping[int, bytes]
    dropped: Sequence[int]
    bytes: int
    answered: Answered | None
    shrinks: bool = False


@dataclass(frozen=True, slots=True)
class SessionPolicy:
    """Limits of the storage of sessions.

    max_sessions, max_per_client: in all, and of one client.
    max_client_bytes: of all sessions of one client.
    grace_s: time for which an expired session is still known as such.
    clock: seconds since 1970.
    """

    max_sessions: int = 10_000
    max_per_client: int = 1000
    max_client_bytes: int = 2**30
    grace_s: float = 24 * 3600
    clock: Callable[[], float] = field(default=time.time)

    def is_forgotten(self, head: Head) -> bool:
        """Return whether a session expired so long ago that it counts as unknown."""
        return head.expires_at + self.grace_s <= self.clock()

    def check(self, count: int, of_client: int, allowance: Allowance = UNLIMITED) -> None:
        """Raise TooManySessionsError unless one more session is allowed."""
        if count >= self.max_sessions:
            msg = f"there are {count:,} sessions, as many as may be (setting PULLBACK_MAX_SESSIONS)"
            raise TooManySessionsError(f"{msg}; delete some, or wait until some expire")
        if allowance.sessions is not None and of_client >= allowance.sessions:
            limit = "as many as your key may have (pullback keys create --max-sessions)"
            raise TooManySessionsError(f"there are {of_client:,} sessions of yours, {limit}; delete some")
        if of_client >= self.max_per_client:
            limit = "as many as one client may have (setting PULLBACK_MAX_SESSIONS_PER_CLIENT)"
            raise TooManySessionsError(f"there are {of_client:,} sessions of yours, {limit}; delete some")

    def check_bytes(self, of_client: int, allowance: Allowance = UNLIMITED) -> None:
        """Raise LimitExceededError where the sessions of one client would hold more bytes than allowed."""
        if allowance.session_bytes is not None and of_client > allowance.session_bytes:
            limit = f"its quota is {allowance.session_bytes:,} (pullback keys create --max-session-bytes)"
            raise LimitExceededError(f"the sessions of your key would hold {of_client:,} bytes, {limit}")
        if of_client > self.max_client_bytes:
            limit = f"the limit is {self.max_client_bytes:,} (setting PULLBACK_MAX_SESSION_BYTES_PER_CLIENT)"
            raise LimitExceededError(f"your sessions would hold {of_client:,} bytes, {limit}")


class SessionStore(Protocol):
    """Storage of sessions by the digests of their ids. Methods may be called by many threads, and are durable.

    Every method may raise StoreUnavailableError; those that write, StorageFullError too.
    """

    policy: SessionPolicy

    def create(
        self, head: Head, content: Change, client: str, key: CreationKey | None, allowance: Allowance = UNLIMITED
    ) -> bytes | None:
        """Store a new session, unless there is one of the same key.

        Args:
            head: its digest must be new.
            content: the content of the session.
            client: its sessions and bytes are counted together.
            allowance: the most that it may have.
            key: makes the call repeatable.

        Returns:
            The sealed id of the session that was created under the key before; None where this one was stored.

        Raises:
            TooManySessionsError: there are as many sessions as allowed.
            LimitExceededError: there are as many bytes as allowed.
        """

    def head(self, digest: str) -> Head | None:
        """Return the facts of a session, also of one that has expired."""

    def load(self, digest: str) -> Content | None:
        """Return a session in full; None also where it has expired."""

    def save(self, head: Head, revision: str, change: Change, allowance: Allowance = UNLIMITED) -> bool:
        """Replace a session by its next state.

        Args:
            head: the facts from now on.
            revision: the revision that was read.
            change: the new content.
            allowance: the most that the client may have.

        Returns:
            Whether it was stored; False where the session is gone, has expired, or was changed by others.

        Raises:
            LimitExceededError: it grows, and there are as many bytes as allowed.
        """

    def touch(self, digest: str, expires_at: float) -> None:
        """Extend the life of a session until `expires_at`, unless it lives longer already."""

    def end(self, head: Head) -> None:
        """Drop the content of a session that has expired, unless it was used since `head` was read."""

    def delete(self, digest: str) -> bool:
        """Forget a session; return False where there is none."""

    def list(self, on_damage: OnDamage | None = None) -> list[Head]:
        """Return all sessions in the order of their creation.

        on_damage: called with the error of each that is damaged, which is left out.

        Raises:
            DamagedError: one is damaged, and nobody wants to be called.
        """
