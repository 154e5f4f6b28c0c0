"""Recorded commands with the line that recorded each, and the effects of a refusal on them."""

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
#: Commands without operands.
_FREE = ("variable", "set")
#: Commands whose `id` is new.
_NAMING = ("variable", "optimizer")

#: Function from the server's message to the message that the user sees.
Hint = Callable[[str], str]
_hint: ContextVar[Hint | None] = ContextVar("hint", default=None)


@contextmanager
def hint_scope(hint: Hint) -> Iterator[None]:
    """Span in which recorded commands get `hint`, which rewrites the message if the server refuses them."""
    token = _hint.set(hint)
    try:
        yield
    finally:
        _hint.reset(token)


class Entry:
    """Command with the line and the thread that recorded it; error: the reason if it was refused or dropped."""

    __slots__ = ("code", "command", "error", "hint", "line", "nbytes", "thread")

    def __init__(self, command: dict[str, Any], frame: FrameType) -> None:
        self.command = command
        self.code, self.line = frame.f_code, frame.f_lineno
        self.thread = threading.current_thread()
        self.hint = _hint.get()
        self.error: PullbackError | None = None
        self.nbytes = _nbytes(command)

    def has_operands(self) -> bool:
        """Return whether the command has operands: all but those that make leaves and set flags."""
        return self.command["do"] not in _FREE


#: Id of an object that no variable refers to any more, and the entry that made it.
Unreferenced = tuple[str, "Entry | None"]


class Attempt:
    """Run that is sent, perhaps several times until its outcome is known. dead: objects that it also deletes.

    Objects that its commands do not need are deleted first, to make room for new ones.
    """

    def __init__(self, entries: Sequence[Entry], dead: Sequence[Unreferenced], fetch: Sequence[Any]) -> None:
        self.entries, self.dead = entries, dead
        self.fetch = list(fetch)
        needed = ids_of(entries)
        first = [name for name, _ in dead if name not in needed]
        last = [name for name, _ in dead if name in needed]
        self._before = [{"do": "delete", "ids": first}] if first else []
        after = [{"do": "delete", "ids": last}] if last else []
        self.commands = [*self._before, *(entry.command for entry in entries), *after]

    def culprit(self, error: ProblemError) -> Entry | None:
        """Return the entry that a refusal is about; None if it is about the whole run or a deletion."""
        if error.status is None:
            return next((entry for entry in self.entries if not is_document(entry.command)), None)
        if isinstance(error, BodyTooLargeError):
            return max(self.entries, key=lambda entry: entry.nbytes, default=None)
        loc = error.faults[0].loc
        if len(loc) > 1 and loc[0] == "commands" and isinstance(loc[1], int):
            place = loc[1] - len(self._before)
            return self.entries[place] if 0 <= place < len(self.entries) else None
        return None

    def release(self) -> None:
        """Drop the commands, and the arrays in them, after the run has succeeded."""
        for entry in self.entries:
            entry.command = {}


def fail(entries: Iterable[Entry], culprit: Entry, error: PullbackError, lost: set[str]) -> None:
    """Mark as failed the refused command, later commands of its thread, and all that depend on any of these.

    entries: the refused command and those after it. lost: ids that will not exist; the ids of failed commands are
    added. Commands without operands do not fail.
    """
    for entry in entries:
        command = entry.command
        follows = entry.thread is culprit.thread and entry.has_operands()
        if entry is culprit or follows or not lost.isdisjoint(_reads(command)):
            entry.error = error
            lost.update(_writes(command))


def fail_all(entries: Iterable[Entry], error: PullbackError) -> None:
    """Mark all commands with operands as failed."""
    for entry in entries:
        if entry.has_operands():
            entry.error = error


def ids_of(entries: Iterable[Entry]) -> set[str]:
    """Return all ids that commands need or make."""
    return {name for entry in entries for name in (*_reads(entry.command), *_writes(entry.command))}


def needed_entries(entries: Sequence[Entry], dead: set[str]) -> list[Entry]:
    """Return the entries to send again after a refusal: all but those whose results are unreferenced (`dead`)."""
    found, needed = [], set[str]()
    for entry in reversed(entries):
        command = entry.command
        made = set(_writes(command))
        # A command with the seed None advances the session's generator.
        has_effects = command["do"] not in ("variable", "apply") or command.get("seed", 0) is None
        if has_effects or not made <= dead or not made.isdisjoint(needed):
            found.append(entry)
            needed.update(_reads(command))
        else:
            entry.error = UnsentError()
    return found[::-1]


class UnsentError(PullbackError):
    """The command was not sent again, as its results were unreferenced."""


def _reads(command: dict[str, Any]) -> Iterator[str]:
    """Yield the ids that a command needs."""
    for field in ("args", "ids", "params"):
        yield from (x for x in command.get(field, ()) if type(x) is str)
    for field in ("of", "cotangent") if command["do"] in _NAMING else ("of", "cotangent", "id"):
        if type(command.get(field)) is str:
            yield command[field]


def _writes(command: dict[str, Any]) -> Iterator[str]:
    """Yield the ids that a command makes."""
    out = command.get("out", ())
    yield from [out] if type(out) is str else out
    if command["do"] in _NAMING:
        yield command["id"]


def _nbytes(command: dict[str, Any]) -> int:
    """Return the size of the arrays in a command, in bytes."""
    values = [command.get("value"), command.get("cotangent"), *command.get("state", {}).values()]
    return sum(value.nbytes for value in values if isinstance(value, np.ndarray))


def user_frame(frame: FrameType) -> FrameType:
    """Return the innermost frame outside this package."""
    while frame.f_code.co_filename.startswith(_PACKAGE) and frame.f_back is not None:
        frame = frame.f_back
    return frame


def with_location(error: ProblemError, entry: Entry) -> ProblemError:
    """Return a refusal with the engine's message, and the line that recorded the command."""
    found = copy.copy(error)
    found.detail = _COMMAND.sub("", error.detail)
    if entry.hint is not None:
        found.detail = entry.hint(found.detail)
    code = entry.code
    source = linecache.getline(code.co_filename, entry.line).strip()
    shown = f": {source}" if source else ""
    found.args = (f"{found.detail}\n  recorded at {code.co_filename}, line {entry.line}, in {code.co_name}{shown}",)
    return found
