"""Sessions in a store: their expiry, calls in sequence on each, and repeated calls.

A call works on a copy in memory and then saves it, but only if the session still has the revision that was read. The
revision is the fencing token: a call that was too slow writes nothing and begins again with the newer session. The copy
of a failed call is dropped, and the next call reads the store.
"""

import hashlib
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

from app.sessions import snapshot
from app.sessions.errors import ExpiredSessionError, SequenceConflictError, UnknownSessionError
from app.sessions.session import Quotas, Session
from app.sessions.snapshot import DamagedSnapshotError, StoredArrays
from app.stores.errors import StoreUnavailableError
from app.stores.sessions import Answered, Change, Head, SessionStore, damaged_session
from engine.core import Lru

T = TypeVar("T")

#: An id is this prefix and 32 hex digits, from 128 random bits.
PREFIX = "s_"
_ID_BYTES = 16
#: Generated seeds are exact as floats too, for languages that have nothing else.
_SEED_BITS = 53
#: The expiry is postponed in the store when more than this fraction of the life is over, or so many seconds.
_PARTS_OF_A_LIFE = 100
_LARGEST_PART_S = 60.0
_MOST_COPIES = 100_000


@dataclass(slots=True)
class _Copy:
    """A session in memory, as the store has it under `revision`."""

    session: Session
    kept: StoredArrays
    answered: Answered | None
    revision: str


@dataclass(frozen=True, slots=True)
class Done:
    """Result of a call that changes a session."""

    answered: Answered
    is_replay: bool = False


class Created(NamedTuple):
    """A session that was created, or found by its key; `session` and `head` are those of a new one."""

    id: str
    is_new: bool
    session: Session
    head: Head


#: Work of a call: from the session and the call's number to the status, media type and content of the response.
Work = Callable[[Session, int], tuple[int, str, bytes]]


class Sessions:
    """All sessions of a store.

    Args:
        store: of the sessions.
        quotas: of each session.
        ttl_s, max_ttl_s: default and largest time until an unused session expires.
        cache_bytes: of copies in memory.
        deadline_s: for each call, from its begin; a later one writes nothing.
        clock: seconds since 1970.
        monotonic: seconds since any moment, for the deadline.
    """

    def __init__(
        self,
        store: SessionStore,
        quotas: Quotas,
        *,
        ttl_s: float,
        max_ttl_s: float,
        cache_bytes: int,
        deadline_s: float,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._quotas = quotas
        self._ttl_s = ttl_s
        self.max_ttl_s = max_ttl_s
        self._deadline_s = deadline_s
        self._clock = clock
        self._monotonic = monotonic
        self._copies: Lru[str, _Copy] = Lru(_MOST_COPIES, cache_bytes)

    def create(
        self, client: str, *, ttl_s: float | None, seed: int | None, name: str | None, key: str | None
    ) -> Created:
        """Create a session, unless there is one of the same client and key.

        Raises:
            TooManySessionsError: there is no room.
        """
        session = Session(secrets.randbits(_SEED_BITS) if seed is None else seed, self._quotas)
        written, _ = snapshot.write(session, StoredArrays())
        now, life = self._clock(), ttl_s or self._ttl_s
        session_id, size = PREFIX + secrets.token_hex(_ID_BYTES), len(written.document)
        head = Head(session_id, 0, now, now + life, life, size, name, _revision())
        content = Change(written.document, {}, (), head.bytes, None)
        digest = None if key is None else hashlib.sha256(f"{client}\0{key}".encode()).digest()
        return Created(*self._store.create(head, content, client, digest), session, head)

    def look(self, session_id: str, see: Callable[[Session, Head], T]) -> T:
        """Return the result of `see` on a session, which it does not change.

        Raises:
            UnknownSessionError, ExpiredSessionError, StoreUnavailableError: the session cannot be read.
        """
        with self._copies.making(session_id):
            head, copy = self._current(session_id)
            found = see(copy.session, head)
        self._touch(head)
        return found

    def change(
        self, session_id: str, request: bytes, seq: Any, work: Work, ttl_s: Callable[[], float | None] = lambda: None
    ) -> Done:
        """Run a call that changes a session, unless it repeats the last one.

        Args:
            session_id: of the session.
            request: all bytes of the call, to recognize a repetition.
            seq: the client's number for the call, if any.
            work: of the call. If it raises, nothing has happened.
            ttl_s: new time until the unused session expires, if it changes.

        Raises:
            UnknownSessionError, ExpiredSessionError, StoreUnavailableError: the session cannot be used.
            SequenceConflictError: the number is neither the next one nor that of the last call.
            DeadlineExceededError: it took too long; nothing has happened.
        """
        begun = self._monotonic()
        digest = hashlib.sha256(request).digest()
        with self._copies.making(session_id):
            while True:
                head, copy = self._current(session_id)
                if type(seq) is int:
                    if seq == head.seq and copy.answered is not None and copy.answered.request == digest:
                        self._touch(head)
                        return Done(copy.answered, is_replay=True)
                    if seq != head.seq + 1:
                        raise SequenceConflictError(_unexpected(seq, head.seq), head.seq + 1)
                # Nothing else may find the changed copy before it is in the store.
                self._copies.pop(session_id)
                copy.session.until, copy.session.monotonic = begun + self._deadline_s, self._monotonic
                status, media_type, content = work(copy.session, head.seq + 1)
                answered = Answered(digest, status, media_type, content)
                if self._save(head, copy, answered, ttl_s()):
                    return Done(answered)

    def delete(self, session_id: str) -> None:
        """Delete a session, if there is one."""
        self._copies.pop(session_id)
        self._store.delete(session_id)

    def _save(self, head: Head, copy: _Copy, answered: Answered, ttl_s: float | None) -> bool:
        written, kept = snapshot.write(copy.session, copy.kept)
        nbytes = len(written.document) + len(answered.content) + sum(a.nbytes for a, _ in kept.arrays.values())
        dropped = [number for number in copy.kept.arrays if number not in kept.arrays]
        copy.session.check_time()
        life = ttl_s or head.ttl_s
        expires_at = self._clock() + life
        after = replace(head, seq=head.seq + 1, expires_at=expires_at, ttl_s=life, bytes=nbytes, revision=_revision())
        change = Change(written.document, written.new, dropped, nbytes, answered)
        if not self._store.save(after, head.revision, change):
            return False
        self._copies.put(head.id, _Copy(copy.session, kept, answered, after.revision), 2 * nbytes)
        return True

    def _head(self, session_id: str) -> Head:
        head = self._store.head(session_id) if session_id.startswith(PREFIX) else None
        is_over = head is not None and head.is_over(self._clock())
        if head is not None and is_over and not head.has_ended:
            self._copies.pop(session_id)
            # A store that cannot be written to for a while does not hold up the response.
            with suppress(StoreUnavailableError):
                self._store.end(head)
        if head is None or self._store.policy.is_forgotten(head):
            raise UnknownSessionError("there is no session of this id; it was deleted, or expired some time ago")
        if is_over:
            msg = f"the session was not used for {head.ttl_s:g} s and has expired; make a new one"
            raise ExpiredSessionError(msg)
        return head

    def _current(self, session_id: str) -> tuple[Head, _Copy]:
        """Return the head and a copy of a session: the one in memory if it is current."""
        head = self._head(session_id)
        copy = self._copies.get(session_id)
        if copy is not None and copy.revision == head.revision:
            return head, copy
        content = self._store.load(session_id)
        if content is None:
            self._head(session_id)
            raise UnknownSessionError("the session was deleted just now")
        try:
            session, kept = snapshot.read(content.document, content.arrays, self._quotas)
        except DamagedSnapshotError as error:
            raise damaged_session(session_id, error) from error
        copy = _Copy(session, kept, content.answered, content.head.revision)
        self._copies.put(session_id, copy, 2 * content.head.bytes)
        return content.head, copy

    def _touch(self, head: Head) -> None:
        """Postpone the expiry of a session, if much of its life is over."""
        until = self._clock() + head.ttl_s
        if until - head.expires_at > min(head.ttl_s / _PARTS_OF_A_LIFE, _LARGEST_PART_S):
            self._store.touch(head.id, until)


def _revision() -> str:
    return secrets.token_hex(8)


def _unexpected(seq: int, last: int) -> str:
    again = f", or {last} to repeat the last call as it was" if last else ""
    if seq == last:
        return f"seq {seq} was another call; expected {last + 1}{again}"
    return f"seq is {seq}; expected {last + 1}{again}"
