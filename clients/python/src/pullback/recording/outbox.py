"""Outbox: queue of recorded commands for a session, which assigns ids and handles refusals.

A run succeeds or fails as a whole. If one command is refused, those recorded before it are sent again with the next
run; it, and later commands of its thread, fail, and reading their results raises the error with the line that recorded
the refused command. Leaves are made nevertheless.
"""

from __future__ import annotations

import copy
import keyword
import os
import re
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from pullback.errors import (
    ExpiredSessionError,
    LimitExceededError,
    NotConnectedError,
    ProblemError,
    PullbackError,
    SequenceConflictError,
    UnknownSessionError,
)
from pullback.recording.entries import (
    Attempt,
    Entry,
    Unreferenced,
    fail,
    fail_all,
    ids_of,
    needed_entries,
    user_frame,
    with_location,
)
from pullback.remote.session import Session

#: Commands, and bytes of values, from which the queue is sent although no value is read.
_MOST_COMMANDS, _MOST_BYTES = 1000, 8 * 2**20
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: Names that cannot be ids: those of generated ids, and constants of infix text.
_TAKEN = re.compile(r"v\d+|_\d+|pi|e|nan|inf|NaN|Infinity")
_LONGEST_NAME = 100


class Outbox:
    """Queue of commands for one session.

    Args:
        session: the session that runs them.
        taken: ids that the session has already.
        refused: called with the failed entries after a refusal.
        lost: called with the error of a session that no longer exists or was changed by another client; returns the
            error that every later call raises.
    """

    def __init__(
        self,
        session: Session,
        taken: Sequence[str],
        refused: Callable[[list[Entry]], None],
        lost: Callable[[ProblemError], PullbackError],
    ) -> None:
        self.lock = threading.RLock()
        self._session = session
        self._refused, self._lost = refused, lost
        self._entries: list[Entry] = []
        self._nbytes = 0
        self._most = _MOST_COMMANDS
        self._pid = os.getpid()
        self._stuck: Attempt | None = None
        self._closed: PullbackError | None = None
        self._names = set(taken)
        self._made = max((int(name[1:]) for name in taken if re.fullmatch(r"v\d+", name)), default=0)
        self._dead: deque[Unreferenced] = deque()
        #: Errors of threads whose commands were refused in a run that another thread sent.
        self._pending_errors: weakref.WeakKeyDictionary[threading.Thread, PullbackError] = weakref.WeakKeyDictionary()

    def record(self, command: dict[str, Any]) -> Entry:
        """Add a command; send the queue first if it is full."""
        with self.lock:
            if self._closed is not None:
                raise fresh(self._closed) from None
            entry = Entry(command, user_frame(sys._getframe(1)))
            self._nbytes += entry.nbytes
            if self._entries and (len(self._entries) >= _MOST_COMMANDS or self._nbytes > _MOST_BYTES):
                # Before the command is added: if this raises, the caller knows that it was not.
                self.flush()
                self._nbytes = entry.nbytes
            self._entries.append(entry)
            return entry

    def is_waiting(self) -> bool:
        """Return whether the queue has commands with operands, or a run whose outcome is unknown."""
        return self._stuck is not None or any(entry.has_operands() for entry in self._entries)

    def flush(self, fetch: Sequence[Any] = ()) -> dict[str, dict[str, Any]]:
        """Send the queue; return the fetched documents by id.

        Raises:
            AutogradError: a command of this thread was refused; the message has the line that recorded it.
            UnreachableError, UnavailableError, ...: the server did not run the commands; they stay in the queue.
        """
        with self.lock:
            pending = self._pending_errors.pop(threading.current_thread(), None)
            if pending is not None:
                raise fresh(pending) from None
            if os.getpid() != self._pid:
                raise NotConnectedError(
                    "this connection is that of the process that this one was forked from; connect again"
                )
            while True:
                if self._closed is not None:
                    raise fresh(self._closed) from None
                if self._stuck is not None:
                    found = self._send(self._stuck)
                    if found is None:
                        continue
                attempt = self._next(fetch)
                if not (attempt.commands or attempt.fetch):
                    return {}
                found = self._send(attempt)
                if found is not None and not self._entries:
                    return found

    def _next(self, fetch: Sequence[Any]) -> Attempt:
        """Return the next run: the whole queue with `fetch`, or as many commands as may be sent at once without it."""
        dead = []
        while self._dead:
            name, maker = self._dead.popleft()
            if maker is None or maker.error is None:
                dead.append((name, maker))
        entries, self._entries = self._entries[: self._most], self._entries[self._most :]
        self._nbytes = 0
        if not self._entries:
            return Attempt(entries, dead, fetch)
        needed = ids_of([*entries, *self._entries])
        self._dead.extend(each for each in dead if each[0] in needed)
        return Attempt(entries, [each for each in dead if each[0] not in needed], ())

    def _send(self, attempt: Attempt) -> dict[str, dict[str, Any]] | None:
        """Send a run; return the fetched documents, or None if a command of another thread was refused."""
        # While the outcome is unknown, the same run has to be sent again before any other.
        self._stuck = attempt
        try:
            run = self._session.run(attempt.commands, attempt.fetch)
        except ProblemError as error:
            if self._session.is_in_doubt or _may_pass(error):
                raise
            self._stuck = None
            if isinstance(error, LimitExceededError) and len(attempt.entries) > 1 and attempt.culprit(error) is None:
                # Smaller runs may fit, or show which single command exceeds the limit.
                self._most = len(attempt.entries) // 2
                self._entries[:0] = attempt.entries
                self._dead.extend(attempt.dead)
                return None
            found = self._rolled_back(attempt, error)
            if found is not None:
                raise found from None
            return None
        self._stuck = None
        attempt.release()
        self._names.difference_update(name for name, _ in attempt.dead)
        return run.fetched

    def _rolled_back(self, attempt: Attempt, error: ProblemError) -> PullbackError | None:
        """Restore the queue after a refusal; return the error if it concerns this thread, otherwise None."""
        if isinstance(error, (ExpiredSessionError, UnknownSessionError, SequenceConflictError)):
            self._closed = self._lost(error)
            self._entries = []
            return self._closed
        # Commands recorded while the run was sent come after those of the run.
        entries = [*attempt.entries, *self._entries]
        culprit = attempt.culprit(error)
        if isinstance(error, LimitExceededError):
            # A single command that exceeds the limit says nothing about the number that may be sent at once.
            self._most = _MOST_COMMANDS
            culprit = culprit or next(iter(attempt.entries), None)
        thread = threading.current_thread()
        lost: set[str] = set()
        if culprit is not None:
            thread = culprit.thread
            error = with_location(error, culprit)
            fail(entries[entries.index(culprit) :], culprit, error, lost)
        else:
            fail_all(entries, error)
        self._refused([entry for entry in entries if entry.error is not None])
        self._dead.extend(attempt.dead)
        dead = {name for name, _ in self._dead}
        self._entries = needed_entries([entry for entry in entries if entry.error is None], dead)
        is_mine = thread is threading.current_thread() or any(each["id"] in lost for each in attempt.fetch)
        if not is_mine:
            self._pending_errors[thread] = error
        return error if is_mine else None

    def mark_reported(self, error: PullbackError) -> None:
        """Do not raise an error again in this thread, which is raising it now."""
        if self._pending_errors.get(threading.current_thread()) is error:
            del self._pending_errors[threading.current_thread()]

    def close(self, why: PullbackError) -> None:
        """Make every later call raise `why`."""
        with self.lock:
            self._closed = self._closed or why

    def new_id(self, name: str | None = None) -> str:
        """Return an unused id: the name, if it can be one."""
        with self.lock:
            if name is None or not _NAME.fullmatch(name) or len(name) > _LONGEST_NAME:
                self._made += 1
                return f"v{self._made}"
            stem, n = (f"{name}_" if _TAKEN.fullmatch(name) or keyword.iskeyword(name) else name), 1
            found = stem
            while found in self._names:
                n += 1
                found = f"{stem}_{n}"
            self._names.add(found)
            return found

    def forget(self, name: str, maker: Entry | None) -> None:
        """Delete an unreferenced object with the next run.

        A finalizer calls this, in any thread at any time, even inside of the lock; appending to a deque is atomic.
        """
        self._dead.append((name, maker))


def fresh(error: PullbackError) -> PullbackError:
    """Return a copy of an error without its traceback, to be raised once more."""
    return copy.copy(error)


def with_text(error: ProblemError, text: str) -> ProblemError:
    """Return a copy of an error with another text."""
    found = copy.copy(error)
    found.args = (text,)
    return found


def _may_pass(error: ProblemError) -> bool:
    """Return whether the same run may succeed later."""
    return error.status in (401, 403, 429, 503)
