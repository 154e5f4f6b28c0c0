"""Commands that wait to be sent, where each was recorded, and what a refusal says of them."""

from __future__ import annotations

import copy
import linecache
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from pullback.errors import BodyTooLargeError, ProblemError, PullbackError
from pullback.remote.documents import is_document

_PACKAGE = str(Path(__file__).parents[1]) + os.sep
_COMMAND = re.compile(r"^command \d+ \([^)]*\): ")
#: Commands that work on nothing.
_FREE = ("variable", "set")
#: Commands whose `id` is new.
_NAMING = ("variable", "optimizer")

#: From what the server says of a refusal to what is to be said.
Hint = Callable[[str], str]
_hint: ContextVar[Hint | None] = ContextVar("hint", default=None)


@contextmanager
def hinted(hint: Hint) -> Iterator[None]:
    """Where something that is recorded inside is refused, this is told what the server says, and says what to say."""
    token = _hint.set(hint)
    try:
        yield
    finally:
        _hint.reset(token)


class Entry:
    """A command, and the line and the thread that recorded it; error: why it never happened, if it did not."""

    __slots__ = ("code", "command", "error", "hint", "line", "nbytes", "thread")

    def __init__(self, command: dict[str, Any], frame: FrameType) -> None:
        self.command = command
        self.code, self.line = frame.f_code, frame.f_lineno
        self.thread = threading.current_thread()
        self.hint = _hint.get()
        self.error: PullbackError | None = None
        self.nbytes = _nbytes(command)

    def needs_something(self) -> bool:
        """Whether it works on what is there: leaves and flags do not."""
        return self.command["do"] not in _FREE


#: An id that nobody holds any more, and what made it.
Dead = tuple[str, "Entry | None"]


class Attempt:
    """A run that was sent, and of which it may not be known what came of it. dead: what it also deletes.

    What nothing in it needs is deleted first, so that there is room for what is new.
    """

    def __init__(self, entries: Sequence[Entry], dead: Sequence[Dead], fetch: Sequence[Any]) -> None:
        self.entries, self.dead = entries, dead
        self.fetch = list(fetch)
        needed = ids_of(entries)
        first = [name for name, _ in dead if name not in needed]
        last = [name for name, _ in dead if name in needed]
        self._before = [{"do": "delete", "ids": first}] if first else []
        after = [{"do": "delete", "ids": last}] if last else []
        self.commands = [*self._before, *(entry.command for entry in entries), *after]

    def culprit(self, error: ProblemError) -> Entry | None:
        """Which command a refusal is about; None where it is about all, or about none that somebody recorded."""
        if error.status is None:
            return next((entry for entry in self.entries if not is_document(entry.command)), None)
        if isinstance(error, BodyTooLargeError):
            return max(self.entries, key=lambda entry: entry.nbytes, default=None)
        loc = error.faults[0].loc
        if len(loc) > 1 and loc[0] == "commands" and isinstance(loc[1], int):
            place = loc[1] - len(self._before)
            return self.entries[place] if 0 <= place < len(self.entries) else None
        return None

    def done(self) -> None:
        """It has happened: what was sent is of no use any more."""
        for entry in self.entries:
            entry.command = {}


def fail(entries: Iterable[Entry], culprit: Entry, error: PullbackError, lost: set[str]) -> None:
    """Takes back, of what was recorded from the refused command on, what its thread recorded after it.

    With it goes what needs anything that is `lost`, which grows by what is taken back. Leaves need nothing.
    """
    for entry in entries:
        command = entry.command
        follows = entry.thread is culprit.thread and entry.needs_something()
        if entry is culprit or follows or not lost.isdisjoint(_reads(command)):
            entry.error = error
            lost.update(_writes(command))


def fail_all(entries: Iterable[Entry], error: PullbackError) -> None:
    """Takes back everything but leaves."""
    for entry in entries:
        if entry.needs_something():
            entry.error = error


def ids_of(entries: Iterable[Entry]) -> set[str]:
    """All ids that commands need or make."""
    return {name for entry in entries for name in (*_reads(entry.command), *_writes(entry.command))}


def wanted(entries: Sequence[Entry], dead: set[str]) -> list[Entry]:
    """What is worth sending again of entries that were right: not what only makes things that nobody holds any more."""
    found, needed = [], set[str]()
    for entry in reversed(entries):
        command = entry.command
        made = set(_writes(command))
        # What has a seed of None moves the session's generator.
        has_effects = command["do"] not in ("variable", "apply") or command.get("seed", 0) is None
        if has_effects or not made <= dead or not made.isdisjoint(needed):
            found.append(entry)
            needed.update(_reads(command))
        else:
            entry.error = UnsentError()
    return found[::-1]


class UnsentError(PullbackError):
    """Nobody held what it made when it was to be sent again."""


def _reads(command: dict[str, Any]) -> Iterator[str]:
    """Ids that a command needs."""
    for field in ("args", "ids", "params"):
        yield from (x for x in command.get(field, ()) if type(x) is str)
    for field in ("of", "cotangent") if command["do"] in _NAMING else ("of", "cotangent", "id"):
        if type(command.get(field)) is str:
            yield command[field]


def _writes(command: dict[str, Any]) -> Iterator[str]:
    """Ids that are there only because of a command."""
    out = command.get("out", ())
    yield from [out] if type(out) is str else out
    if command["do"] in _NAMING:
        yield command["id"]


def _nbytes(command: dict[str, Any]) -> int:
    """Bytes of the values in a command, but for numbers."""
    values = [command.get("value"), command.get("cotangent"), *command.get("state", {}).values()]
    return sum(value.nbytes for value in values if isinstance(value, np.ndarray))


def user_frame(frame: FrameType) -> FrameType:
    """The innermost frame that is not of this package."""
    while frame.f_code.co_filename.startswith(_PACKAGE) and frame.f_back is not None:
        frame = frame.f_back
    return frame


def located(error: ProblemError, entry: Entry) -> ProblemError:
    """A refusal as the engine has it, and the line where the command was recorded."""
    found = copy.copy(error)
    found.detail = _COMMAND.sub("", error.detail)
    if entry.hint is not None:
        found.detail = entry.hint(found.detail)
    code = entry.code
    source = linecache.getline(code.co_filename, entry.line).strip()
    shown = f": {source}" if source else ""
    found.args = (f"{found.detail}\n  recorded at {code.co_filename}, line {entry.line}, in {code.co_name}{shown}",)
    return found
