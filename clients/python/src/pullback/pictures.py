"""Pictures of the graph that computed a variable."""

from __future__ import annotations

from pullback.core.variable import Variable


def dot(v: Variable, verbose: bool = False) -> str:
    """Return the tape of a variable as DOT text; verbose: label nodes with values in place of names."""
    recorder = v._recorder
    name = recorder.id_of(v)
    recorder.outbox.flush()
    found: str = recorder.session.dot(name, verbose=verbose)
    return found
