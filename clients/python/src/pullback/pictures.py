"""Pictures of what a variable was computed from."""

from __future__ import annotations

from pullback.core.variable import Variable


def dot(v: Variable, verbose: bool = False) -> str:
    """DOT text of a variable's tape; verbose: labels are values in place of names."""
    recorder = v._recorder
    name = recorder.id_of(v)
    recorder.outbox.flush()
    found: str = recorder.session.dot(name, verbose=verbose)
    return found
