"""Which recorder new variables belong to: that of the innermost `with`, else the one connected last."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

from pullback.errors import NotConnectedError

if TYPE_CHECKING:
    from pullback.recording.recorder import Recorder

_inner: ContextVar[Recorder | None] = ContextVar("recorder", default=None)
#: Threads begin with an empty context: what was connected last is there for all of them.
_last: list[Recorder] = []


def current() -> Recorder:
    """The recorder.

    Raises:
        NotConnectedError: there is none.
    """
    found = _inner.get() or (_last[-1] if _last else None)
    if found is None:
        raise NotConnectedError(
            'there is no connection to make a variable on: call pullback.connect("http://127.0.0.1:8000") first '
            '(or connect("local"), where pullback-server is installed)'
        )
    return found


def push(recorder: Recorder) -> None:
    """Makes it the one connected last."""
    _last.append(recorder)


def drop(recorder: Recorder) -> None:
    """It is no longer connected."""
    if recorder in _last:
        _last.remove(recorder)


#: For spans in which another one is the current one.
enter, leave = _inner.set, _inner.reset
