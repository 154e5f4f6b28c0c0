"""Replay: run part of a trace again, as a function of some of its values."""

from collections.abc import Callable, Sequence

from engine.core import Symbol, Value, operand
from engine.plans.trace import Trace


def replay(trace: Trace, y: Symbol, xs: Sequence[Symbol], *, is_masked: bool = False) -> Callable[..., Value]:
    """Return the function from `xs` to `y`: it runs the steps that depend on `xs` again, and reads all others.

    is_masked: of two ways to a derivative, run the one with supports.
    """

    def f(*values: Value) -> Value:
        found: dict[int, Value] = {x.index: value for x, value in zip(xs, values, strict=True)}
        for index in trace.live([y], is_masked=is_masked):
            args = trace.operands(index, is_masked=is_masked)
            if index in found or found.keys().isdisjoint(args):
                continue
            step = trace.steps[index]
            if step.op is None:
                found[index] = found[args[0]]
            else:
                given = tuple(found[a] if a in found else operand(step.op, trace.symbol(a)) for a in args)
                extra = {} if step.stream is None else {"rng": step.stream}
                found[index] = step.op.run(given, step.attrs, **extra)
        return found.get(y.index, y)

    return f


def has_alternatives(trace: Trace, y: Symbol) -> bool:
    """Return whether `y` depends on a derivative that was recorded in two ways."""
    return any(index in trace.alternatives for index in trace.live([y]))
