"""Commands that are sent together, where each was recorded, and what a refusal says of them."""

from __future__ import annotations

import copy
import linecache
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from pullback.errors import ProblemError, PullbackError

_PACKAGE = str(Path(__file__).parent)
_COMMAND = re.compile(r"^command \d+ \([^)]*\): ")

#: From what the server says of a refusal to what is to be said.
Hint = Callable[[str], str]
#: Where a command was recorded, and how its refusal is to be told.
Site = tuple[CodeType, int, Hint | None]

_hint: ContextVar[Hint | None] = ContextVar("hint", default=None)
current_hint = _hint.get


@contextmanager
def hinted(hint: Hint) -> Iterator[None]:
    """Where something that is recorded inside is refused, this is told what the server says, and says what to say."""
    token = _hint.set(hint)
    try:
        yield
    finally:
        _hint.reset(token)


class Batch:
    """Commands that are sent together. failed_at: the place from which on they were refused; is_whole: all of them."""

    __slots__ = ("commands", "error", "failed_at", "is_whole", "sites")

    def __init__(self, commands: Sequence[dict[str, Any]] = (), sites: Sequence[Site] = ()) -> None:
        self.commands = list(commands)
        self.sites = list(sites)
        self.error: PullbackError | None = None
        self.failed_at = 0
        self.is_whole = False

    def failure(self, place: int) -> PullbackError | None:
        """Why the command at a place did not happen, if it did not. Leaves are made whatever was refused before."""
        if self.error is None or place < self.failed_at:
            return None
        is_made = not self.is_whole and place != self.failed_at and self.commands[place]["do"] == "variable"
        return None if is_made else self.error

    def fail(self, error: PullbackError, place: int, *, is_whole: bool = False) -> None:
        """What was recorded from a place on never happened."""
        self.error, self.failed_at, self.is_whole = error, place, is_whole

    def kept(self) -> tuple[list[dict[str, Any]], list[Site]]:
        """What is to be sent all the same."""
        kept = [n for n in range(len(self.commands)) if self.failure(n) is None]
        return [self.commands[n] for n in kept], [self.sites[n] for n in kept]


class Attempt:
    """A run that was sent, and of which it may not be known what came of it. dead: what it also deletes."""

    def __init__(self, batch: Batch, dead: Sequence[tuple[str, Batch | None, int]], fetch: Sequence[Any]) -> None:
        self.batch, self.dead = batch, dead
        ids = [name for name, _, _ in dead]
        self.commands = [*batch.commands, {"do": "delete", "ids": ids}] if ids else list(batch.commands)
        self.fetch = list(fetch)


def user_frame(frame: FrameType) -> FrameType:
    """The innermost frame that is not of this package."""
    while frame.f_code.co_filename.startswith(_PACKAGE) and frame.f_back is not None:
        frame = frame.f_back
    return frame


def place_of(error: ProblemError) -> int:
    """Which command a refusal is about; none of any run where it is about all."""
    loc = error.faults[0].loc
    return loc[1] if len(loc) > 1 and loc[0] == "commands" and isinstance(loc[1], int) else sys.maxsize


def located(error: ProblemError, site: Site) -> ProblemError:
    """A refusal as the engine has it, and the line where the command was recorded."""
    code, line, hint = site
    found = copy.copy(error)
    found.detail = _COMMAND.sub("", error.detail)
    if hint is not None:
        found.detail = hint(found.detail)
    source = linecache.getline(code.co_filename, line).strip()
    shown = f": {source}" if source else ""
    found.args = (f"{found.detail}\n  recorded at {code.co_filename}, line {line}, in {code.co_name}{shown}",)
    return found
