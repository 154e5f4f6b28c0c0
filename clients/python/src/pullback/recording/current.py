"""Current recorder, to which new variables belong, and current trace."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

from pullback.errors import NotConnectedError

if TYPE_CHECKING:
    from pullback.recording.recorder import Recorder
    from pullback.recording.trace import Trace

#: The function that is traced in this context.
tracing: ContextVar[Trace | None] = ContextVar("tracing", default=None)
_inner: ContextVar[Recorder | None] = ContextVar("recorder", default=None)
#: Threads begin with an empty context: what was connected last is there for all of them.
_last: list[Recorder] = []


def current() -> Recorder:
    """Return the recorder of the innermost `with`, or the one connected last.

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
