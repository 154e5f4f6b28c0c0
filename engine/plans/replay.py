"""Replay: a part of a trace as a function of some of its values."""

from collections.abc import Callable, Sequence
from typing import Any

from engine.core.dispatch import operand
from engine.core.tracer import Symbol
from engine.plans.trace import Trace


def replay(trace: Trace, y: Symbol, xs: Sequence[Symbol], *, is_masked: bool = False) -> Callable[..., Any]:
    """Return the function of `xs` that a value of a trace is; what does not depend on them stays where it stands.

    is_masked: takes of alternatives the way with supports.
    """

    def f(*values: Any) -> Any:
        found: dict[int, Any] = {x.place: value for x, value in zip(xs, values, strict=True)}
        for place in trace.live([y], is_masked=is_masked):
            args = trace.operands(place, is_masked=is_masked)
            if place in found or found.keys().isdisjoint(args):
                continue
            step = trace.steps[place]
            if step.op is None:
                found[place] = found[args[0]]
            else:
                given = tuple(found[a] if a in found else operand(step.op, trace.symbol(a)) for a in args)
                extra = {} if step.stream is None else {"rng": step.stream}
                found[place] = step.op.run(given, step.attrs, **extra)
        return found.get(y.place, y)

    return f


def has_alternatives(trace: Trace, y: Symbol) -> bool:
    """Return whether a value is computed by one of two ways somewhere."""
    return any(place in trace.alternatives for place in trace.live([y]))
