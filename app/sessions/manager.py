"""Sessions in a store: expiry, serialized calls on each, and repeated calls.

A call works on a copy in memory and then replaces the stored session, only if that still has the revision that was
read. The revision is the fencing token: a call that was too slow writes nothing, and starts again with the newer state.
A call that fails drops its copy, and the next one reads the store.
"""

import hashlib
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

from app.handles import digest_of
from app.sessions import ids, snapshot
from app.sessions.errors import ExpiredSessionError, SequenceConflictError, UnknownSessionError
from app.sessions.session import Quotas, Session
from app.sessions.snapshot import DamagedSnapshotError, StoredArrays
from app.stores.errors import StoreUnavailableError
from app.stores.owners import ANYONE, Caller
from app.stores.sessions import Answered, Change, Head, SessionStore, damaged_session
from engine.core import Lru

T = TypeVar("T")

#: Seeds that are made are exact in every language that has only floats.
_SEED_BITS = 53
#: The time of expiry is written anew where more than this part of a life is over.
_PARTS_OF_A_LIFE = 100
_LARGEST_PART_S = 60.0
_MOST_COPIES = 100_000
#: A call that deletes may answer with so many bytes though the store is full.
_SHORT_ANSWER = 4096


@dataclass(slots=True)
class _Copy:
    """A session in memory, equal to the stored one of the same revision."""

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
    """A session that was asked for; `session` and `head` are valid only where it is new."""

    id: str
    is_new: bool
    session: Session
    head: Head


#: Work of a call: takes the session and the call's number, and returns status, media type and content of the response.
Work = Callable[[Session, int], tuple[int, str, bytes]]


class Sessions:
    """All sessions of a store.

    Args:
        store: their storage.
        quotas: limits of each.
        ttl_s, max_ttl_s: life without use, by default and at most.
        cache_bytes: of copies in memory.
        deadline_s: time from the start of a call after which it writes nothing.
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
        self,
        client: str,
        *,
        ttl_s: float | None,
        seed: int | None,
        name: str | None,
        key: str | None,
        caller: Caller = ANYONE,
    ) -> Created:
        """Make a session, which belongs to the caller, unless there is one of the same client and key.

        Raises:
            TooManySessionsError, LimitExceededError: there is no room.
        """
        session = Session(secrets.randbits(_SEED_BITS) if seed is None else seed, self._quotas)
        written, _ = snapshot.write(session, StoredArrays())
        now, life = self._clock(), ttl_s or self._ttl_s
        session_id, size = ids.new_id(), len(written.document)
        head = Head(digest_of(session_id), 0, now, now + life, life, size, name, _revision(), caller.owner)
        content = Change(written.document, {}, (), head.bytes, None)
        if key is None:
            self._store.create(head, content, client, None, caller.allowance)
            return Created(session_id, True, session, head)
        sealed = self._store.create(head, content, client, ids.creation_key(client, key, session_id), caller.allowance)
        if sealed is None:
            return Created(session_id, True, session, head)
        return Created(ids.unsealed(client, key, sealed), False, session, head)

    def look(self, session_id: str, see: Callable[[Session, Head], T], caller: Caller = ANYONE) -> T:
        """Return the result of `see` on a session, which it does not change.

        Raises:
            UnknownSessionError, ExpiredSessionError, StoreUnavailableError: the session cannot be read.
            ForbiddenError: it belongs to another key than the caller's.
        """
        return self.look_at(digest_of(session_id), see, caller)

    def look_at(self, digest: str, see: Callable[[Session, Head], T], caller: Caller = ANYONE) -> T:
        """Do the same as `look`, for the digest of an id."""
        with self._copies.making(digest):
            head, copy = self._current(digest)
            caller.check_looks(head.owner)
            found = see(copy.session, head)
        self._touch(head)
        return found

    def change(
        self,
        session_id: str,
        request: bytes,
        seq: Any,
        work: Work,
        ttl_s: Callable[[], float | None] = lambda: None,
        caller: Caller = ANYONE,
    ) -> Done:
        """Run a call that changes a session, or return the stored response where it repeats the last one.

        Args:
            session_id: of the session.
            request: all of the call, to recognize a repetition.
            seq: the number that the client gave it, if any.
            work: the work. Where it raises, nothing has happened.
            ttl_s: returns the new life of the session, if that changes.
            caller: to whom the session has to belong.

        Raises:
            ForbiddenError: it belongs to another key.
            UnknownSessionError, ExpiredSessionError, StoreUnavailableError: the session cannot be used.
            SequenceConflictError: the number is neither the next one nor that of the last call.
            DeadlineExceededError: it took too long; nothing has happened.
            LimitExceededError: there is no room for the session as it would be; nothing has happened.
        """
        begun = self._monotonic()
        call = hashlib.sha256(request).digest()
        digest = digest_of(session_id)
        with self._copies.making(digest):
            while True:
                head, copy = self._current(digest)
                caller.check_changes(head.owner)
                if type(seq) is int:
                    if seq == head.seq and copy.answered is not None and copy.answered.request == call:
                        self._touch(head)
                        return Done(copy.answered, is_replay=True)
                    if seq != head.seq + 1:
                        raise SequenceConflictError(_unexpected(seq, head.seq), head.seq + 1)
                # Until it is in the store, nobody else may find it.
                self._copies.pop(digest)
                copy.session.until, copy.session.monotonic = begun + self._deadline_s, self._monotonic
                status, media_type, content = work(copy.session, head.seq + 1)
                answered = Answered(call, status, media_type, content)
                if self._save(head, copy, answered, ttl_s(), caller):
                    return Done(answered)

    def check_owner(self, session_id: str, caller: Caller) -> None:
        """Raise ForbiddenError where a session belongs to another key, before the body of its request is looked at."""
        head = self._store.head(digest_of(session_id)) if caller.owner else None
        if head is not None and not head.is_over(self._clock()):
            caller.check_changes(head.owner)

    def delete(self, session_id: str, caller: Caller = ANYONE) -> str | None:
        """Forget a session, if there is one; return its owner.

        Raises:
            ForbiddenError: it belongs to another key than the caller's.
        """
        digest = digest_of(session_id)
        head = self._store.head(digest) if caller.owner else None
        if head is not None:
            caller.check_looks(head.owner)
        self.delete_at(digest)
        return None if head is None else head.owner

    def delete_at(self, digest: str) -> None:
        """Do the same as `delete`, for the digest of an id."""
        self._copies.pop(digest)
        self._store.delete(digest)

    def _save(self, head: Head, copy: _Copy, answered: Answered, ttl_s: float | None, caller: Caller) -> bool:
        written, kept = snapshot.write(copy.session, copy.kept)
        held = len(written.document) + sum(array.nbytes for array, _ in kept.arrays.values())
        before = head.bytes - (len(copy.answered.content) if copy.answered else 0)
        nbytes = held + len(answered.content)
        dropped = [number for number in copy.kept.arrays if number not in kept.arrays]
        copy.session.check_time()
        life = ttl_s or head.ttl_s
        expires_at = self._clock() + life
        after = replace(head, seq=head.seq + 1, expires_at=expires_at, ttl_s=life, bytes=nbytes, revision=_revision())
        shrinks = held <= before and len(answered.content) <= _SHORT_ANSWER
        change = Change(written.document, written.new, dropped, nbytes, answered, shrinks)
        if not self._store.save(after, head.revision, change, caller.allowance):
            return False
        self._copies.put(head.digest, _Copy(copy.session, kept, answered, after.revision), 2 * nbytes)
        return True

    def _head(self, digest: str) -> Head:
        head = self._store.head(digest)
        is_over = head is not None and head.is_over(self._clock())
        if head is not None and is_over and not head.has_ended:
            self._copies.pop(digest)
            # The answer is the same where the store cannot be written for a while.
            with suppress(StoreUnavailableError):
                self._store.end(head)
        if head is None or self._store.policy.is_forgotten(head):
            raise UnknownSessionError("there is no session of this id; it was deleted, or expired some time ago")
        if is_over:
            msg = f"the session was not used for {head.ttl_s:g} s and has expired; make a new one"
            raise ExpiredSessionError(msg)
        return head

    def _current(self, digest: str) -> tuple[Head, _Copy]:
        """Return the facts of a session, and the session: the copy in memory, where it is current."""
        head = self._head(digest)
        copy = self._copies.get(digest)
        if copy is not None and copy.revision == head.revision:
            return head, copy
        content = self._store.load(digest)
        if content is None:
            self._head(digest)
            raise UnknownSessionError("the session was deleted just now")
        try:
            session, kept = snapshot.read(content.document, content.arrays, self._quotas)
        except DamagedSnapshotError as error:
            raise damaged_session(digest, error) from error
        copy = _Copy(session, kept, content.answered, content.head.revision)
        self._copies.put(digest, copy, 2 * content.head.bytes)
        return content.head, copy

    def _touch(self, head: Head) -> None:
        """Extend a session's life to its full length, if much of it is over."""
        until = self._clock() + head.ttl_s
        if until - head.expires_at > min(head.ttl_s / _PARTS_OF_A_LIFE, _LARGEST_PART_S):
            # A session that can be read is read though the store cannot be written.
            with suppress(StoreUnavailableError):
                self._store.touch(head.digest, until)


def _revision() -> str:
    return secrets.token_hex(8)


def _unexpected(seq: int, last: int) -> str:
    again = f", or {last} to repeat the last call as it was" if last else ""
    if seq == last:
        return f"seq {seq} was another call; expected {last + 1}{again}"
    return f"seq is {seq}; expected {last + 1}{again}"
