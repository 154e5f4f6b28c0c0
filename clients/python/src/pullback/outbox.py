"""What waits to be sent on a session, what became of it, and the ids that it is called by.

A run happens whole or not at all. Where one command is refused, those recorded before it are sent again with the next
run; it, and what was recorded after it, has never happened, and who looks at what came of that is told why and where.
Leaves are made all the same.
"""

from __future__ import annotations

import copy
import keyword
import re
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from pullback.batches import Attempt, Batch, Hint, current_hint, located, place_of, user_frame
from pullback.errors import ExpiredSessionError, ProblemError, PullbackError, UnknownSessionError
from pullback.session import Session

#: So many commands are sent although nobody looks.
_MOST_COMMANDS = 1000
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: Names that ids are made of, or that mean something else.
_TAKEN = re.compile(r"v\d+|_\d+|pi|e|nan|inf")
_LONGEST_NAME = 100


class Outbox:
    """Commands for one session.

    Args:
        session: which runs them.
        taken: ids that it has already.
        refused: called with each batch of which something was refused.
        lost: called with the refusal of a session that is gone, for the error that everybody gets from then on.
    """

    def __init__(
        self,
        session: Session,
        taken: Sequence[str],
        refused: Callable[[Batch], None],
        lost: Callable[[ProblemError], PullbackError],
    ) -> None:
        self.lock = threading.RLock()
        self._session = session
        self._refused, self._lost = refused, lost
        self._batch = Batch()
        self._stuck: Attempt | None = None
        self._closed: PullbackError | None = None
        self._names = set(taken)
        self._made = max((int(name[1:]) for name in taken if re.fullmatch(r"v\d+", name)), default=0)
        self._dead: deque[tuple[str, Batch | None, int]] = deque()

    def record(self, command: dict[str, Any]) -> tuple[Batch, int]:
        """Notes a command, and says where."""
        with self.lock:
            if self._closed is not None:
                raise self._closed
            batch = self._batch
            place = len(batch.commands)
            batch.commands.append(command)
            frame = user_frame(sys._getframe(1))
            hint: Hint | None = current_hint()
            batch.sites.append((frame.f_code, frame.f_lineno, hint))
            if place >= _MOST_COMMANDS:
                self.flush()
            return batch, place

    def flush(self, fetch: Sequence[Any] = ()) -> dict[str, dict[str, Any]]:
        """Sends what is recorded, and returns what is to be seen then, by id.

        Raises:
            AutogradError: what is wrong with the first command that is refused, and where it was recorded.
            UnreachableError, UnavailableError, ...: what is recorded waits for the next look.
        """
        with self.lock:
            if self._closed is not None:
                raise self._closed
            if self._stuck is not None:
                self._send(self._stuck)
            dead = []
            while self._dead:
                name, its_batch, place = self._dead.popleft()
                if its_batch is None or its_batch.failure(place) is None:
                    dead.append((name, its_batch, place))
            batch, self._batch = self._batch, Batch()
            return self._send(Attempt(batch, dead, fetch)) if batch.commands or dead or fetch else {}

    def _send(self, attempt: Attempt) -> dict[str, dict[str, Any]]:
        # Until it is known what came of it, it is to be sent again, and nothing before it.
        self._stuck = attempt
        try:
            run = self._session.run(attempt.commands, attempt.fetch)
        except ProblemError as error:
            if _may_pass(error):
                raise
            self._stuck = None
            found = self._taken_back(attempt, error)
            raise found.with_traceback(None) from None
        self._stuck = None
        self._names.difference_update(name for name, _, _ in attempt.dead)
        return run.fetched

    def _taken_back(self, attempt: Attempt, error: ProblemError) -> PullbackError:
        """Puts everything where it was before, and says what is wrong and where."""
        if isinstance(error, (ExpiredSessionError, UnknownSessionError)):
            self._closed = self._lost(error)
            return self._closed
        batch, later = attempt.batch, self._batch
        place = place_of(error)
        if place < len(batch.sites):
            error = located(error, batch.sites[place])
            batch.fail(error, place)
            # It was recorded while the run was on its way, and so after what was refused.
            later.fail(error, -1)
        else:
            batch.fail(error, 0, is_whole=True)
            later.fail(error, 0, is_whole=True)
        self._refused(batch)
        self._refused(later)
        commands, sites = batch.kept()
        more, their_sites = later.kept()
        self._batch = Batch([*commands, *more], [*sites, *their_sites])
        self._dead.extend(attempt.dead)
        return error

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

    def forget(self, name: str, batch: Batch | None, place: int) -> None:
        """Nobody holds what is called so. It comes from any thread, at any time: only a deque takes that."""
        self._dead.append((name, batch, place))


def copied(error: ProblemError, text: str) -> ProblemError:
    """The same error with another text."""
    found = copy.copy(error)
    found.args = (text,)
    return found


def _may_pass(error: ProblemError) -> bool:
    """Whether the same run may be answered otherwise later."""
    return error.status is None or error.status >= 500 or error.status in (401, 403, 429)
