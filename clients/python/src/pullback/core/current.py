"""Current recorder, to which new variables belong, and current trace."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from pullback.errors import NotConnectedError

#: A `recording.recorder.Recorder`; this module cannot import it, as it is below `recording`.
Recorder = Any

#: The `recording.trace.Trace` of the function that is traced in this context.
tracing: ContextVar[Any] = ContextVar("tracing", default=None)
_inner: ContextVar[Any] = ContextVar("recorder", default=None)
#: Threads begin with an empty context; the recorder connected last serves all of them.
_last: list[Any] = []


def current() -> Any:
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
    """Make a recorder the one connected last."""
    _last.append(recorder)


def drop(recorder: Recorder) -> None:
    """Remove a recorder."""
    if recorder in _last:
        _last.remove(recorder)


#: Begin and end a span in which another recorder is the current one.
enter, leave = _inner.set, _inner.reset
