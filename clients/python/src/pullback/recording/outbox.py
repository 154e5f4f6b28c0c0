"""What waits to be sent on a session, what became of it, and the ids that it is called by.

A run happens whole or not at all. Where one command is refused, those recorded before it are sent again with the next
run; it, and what was recorded after it, has never happened, and who looks at what came of that is told why and where.
Leaves are made all the same.
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
from pullback.recording.entries import Attempt, Dead, Entry, fail, fail_all, ids_of, located, user_frame, wanted
from pullback.remote.session import Session

#: So many commands, and values of so many bytes, are sent although nobody looks.
_MOST_COMMANDS, _MOST_BYTES = 1000, 8 * 2**20
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: Names that ids are made of, or that mean something else.
_TAKEN = re.compile(r"v\d+|_\d+|pi|e|nan|inf|NaN|Infinity")
_LONGEST_NAME = 100


class Outbox:
    """Commands for one session.

    Args:
        session: which runs them.
        taken: ids that it has already.
        refused: called with what was taken back.
        lost: called with the refusal of a session that is gone, for the error that everybody gets from then on.
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
        self._dead: deque[Dead] = deque()
        #: What a thread is to be told, where another one found out.
        self._told: weakref.WeakKeyDictionary[threading.Thread, PullbackError] = weakref.WeakKeyDictionary()

    def record(self, command: dict[str, Any]) -> Entry:
        """Notes a command."""
        with self.lock:
            if self._closed is not None:
                raise again(self._closed) from None
            entry = Entry(command, user_frame(sys._getframe(1)))
            self._nbytes += entry.nbytes
            if self._entries and (len(self._entries) >= _MOST_COMMANDS or self._nbytes > _MOST_BYTES):
                # Before it is noted: whoever records it then knows that it was not.
                self.flush()
                self._nbytes = entry.nbytes
            self._entries.append(entry)
            return entry

    def is_waiting(self) -> bool:
        """Whether anything is to be sent that somebody will miss: leaves that nothing was done with are of no use."""
        return self._stuck is not None or any(entry.needs_something() for entry in self._entries)

    def flush(self, fetch: Sequence[Any] = ()) -> dict[str, dict[str, Any]]:
        """Sends what is recorded, and returns what is to be seen then, by id.

        Raises:
            AutogradError: what is wrong with the first command that is refused, and where it was recorded.
            UnreachableError, UnavailableError, ...: what is recorded waits for the next look.
        """
        with self.lock:
            told = self._told.pop(threading.current_thread(), None)
            if told is not None:
                raise again(told) from None
            if os.getpid() != self._pid:
                raise NotConnectedError(
                    "this connection is that of the process that this one was forked from; connect again"
                )
            while True:
                if self._closed is not None:
                    raise again(self._closed) from None
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
        """What waits, as it is to be sent: all of it, or as much as may be sent at once, and nothing to be seen."""
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
        """What is to be seen after a run; None where something of another thread's was refused, and taken back."""
        # Until it is known what came of it, it is to be sent again, and nothing before it.
        self._stuck = attempt
        try:
            run = self._session.run(attempt.commands, attempt.fetch)
        except ProblemError as error:
            if self._session.is_in_doubt or _may_pass(error):
                raise
            self._stuck = None
            if isinstance(error, LimitExceededError) and len(attempt.entries) > 1 and attempt.culprit(error) is None:
                # In smaller pieces it may be right, or is known of one command that it is too much.
                self._most = len(attempt.entries) // 2
                self._entries[:0] = attempt.entries
                self._dead.extend(attempt.dead)
                return None
            found = self._taken_back(attempt, error)
            if found is not None:
                raise found from None
            return None
        self._stuck = None
        attempt.done()
        self._names.difference_update(name for name, _ in attempt.dead)
        return run.fetched

    def _taken_back(self, attempt: Attempt, error: ProblemError) -> PullbackError | None:
        """Puts everything where it was before, and says what is wrong, if that is for this thread to know."""
        if isinstance(error, (ExpiredSessionError, UnknownSessionError, SequenceConflictError)):
            self._closed = self._lost(error)
            self._entries = []
            return self._closed
        # What was recorded while the run was on its way came after what was refused.
        entries = [*attempt.entries, *self._entries]
        culprit = attempt.culprit(error)
        if isinstance(error, LimitExceededError):
            # A command that is too much by itself says nothing about how many may be sent.
            self._most = _MOST_COMMANDS
            culprit = culprit or next(iter(attempt.entries), None)
        thread = threading.current_thread()
        lost: set[str] = set()
        if culprit is not None:
            thread = culprit.thread
            error = located(error, culprit)
            fail(entries[entries.index(culprit) :], culprit, error, lost)
        else:
            fail_all(entries, error)
        self._refused([entry for entry in entries if entry.error is not None])
        self._dead.extend(attempt.dead)
        dead = {name for name, _ in self._dead}
        self._entries = wanted([entry for entry in entries if entry.error is None], dead)
        is_mine = thread is threading.current_thread() or any(each["id"] in lost for each in attempt.fetch)
        if not is_mine:
            self._told[thread] = error
        return error if is_mine else None

    def heard(self, error: PullbackError) -> None:
        """A thread is being told of an error."""
        if self._told.get(threading.current_thread()) is error:
            del self._told[threading.current_thread()]

    def close(self, why: PullbackError) -> None:
        """From now on everything is refused with `why`."""
        with self.lock:
            self._closed = self._closed or why

    def new_id(self, name: str | None = None) -> str:
        """An id that nothing has: the name, where it can be one."""
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
        """Nobody holds what is called so. It comes from any thread, at any time: only a deque takes that."""
        self._dead.append((name, maker))


def again(error: PullbackError) -> PullbackError:
    """The same error to be raised once more, without the traceback of the time before."""
    return copy.copy(error)


def copied(error: ProblemError, text: str) -> ProblemError:
    """The same error with another text."""
    found = copy.copy(error)
    found.args = (text,)
    return found


def _may_pass(error: ProblemError) -> bool:
    """Whether nothing has happened that could not happen later, with the same run."""
    return error.status in (401, 403, 429, 503)
