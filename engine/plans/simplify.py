"""Algebraic identities that change no bit of a result, applied to each operation as it is recorded.

Other identities are left out on purpose: x + 0.0 turns -0.0 into 0.0, x - x and x * 0 lose NaN and infinities, and
c1 * (c2 * x) rounds differently; removing a copy may change the memory layout of an array, and with it the rounding of
its sums. The trace itself folds constants and merges common subexpressions; dead steps are never run.
"""

from collections.abc import Callable
from math import copysign, frexp

from engine.core import FLOAT64, OPERATIONS, Attributes, Aval, Operation, Symbol, apply, canonical
from engine.plans.slice_sums import slice_sum
from engine.plans.step import Steps
from engine.plans.views import reshaped, sliced, transposed

Rule = Callable[[Steps, list[Symbol], Attributes, Aval], Symbol | None]

#: Bound on products of constants, so that they cannot overflow.
_LARGE = 1e300


def rewritten(trace: Steps, op: Operation, xs: list[Symbol], attrs: Attributes, out: Aval) -> Symbol | None:
    """Return a simpler step equal to `op(*xs)`, or None if it must be recorded as it is.

    Operands in `xs` may be replaced by simpler ones.
    """
    if out.shape and op.kind in ("elementwise", "bilinear") and op.name not in ("matmul", "pow"):
        # NumPy computes a power by other code if the exponent is a scalar.
        _see_through_broadcasts(trace, op, xs, attrs, out)
        found = _repeated_result(trace, op, xs, attrs, out)
        if found is not None:
            return found
    rule = _RULES.get(op.name)
    return rule(trace, xs, attrs, out) if rule else None


def _see_through_broadcasts(trace: Steps, op: Operation, xs: list[Symbol], attrs: Attributes, out: Aval) -> None:
    """Replace operands that are broadcasts by their originals where the operation itself broadcasts them as far."""
    for i, x in enumerate(xs):
        step = trace.steps[x.index]
        if step.runs("broadcast_to"):
            inner = trace.symbol(step.args[0])
            avals = [inner.aval if j == i else other.aval for j, other in enumerate(xs)]
            if op.infer(*avals, **attrs) == out._replace(weak=None):
                xs[i] = inner


def _repeated_result(trace: Steps, op: Operation, xs: list[Symbol], attrs: Attributes, out: Aval) -> Symbol | None:
    """Return the broadcast of a scalar result, for an operation on constant scalars, some of them broadcast.

    Only for operations that round alike on one element and on many.
    """
    if not op.lowering.is_exact or not out.shape:
        return None
    numbers = []
    for x in xs:
        step = trace.steps[x.index]
        is_repeated = step.runs("broadcast_to")
        number = trace.symbol(step.args[0]) if is_repeated else x
        if trace.known(number) is None or number.shape:
            return None
        numbers.append(number)
    return _call("broadcast_to", _call(op.name, *numbers, **attrs), shape=out.shape)


def _number(trace: Steps, x: Symbol) -> float | None:
    """Return the value of a scalar constant that is not a bool; None for any other value."""
    value = trace.known(x)
    return float(value) if value is not None and not x.shape and x.dtype.kind != "b" else None


def _is_same(x: Symbol, out: Aval) -> bool:
    return x.shape == out.shape and x.dtype == out.dtype and x.aval.weak == out.weak


def _negated(trace: Steps, x: Symbol) -> Symbol | None:
    """Return the operand of a negation; None for any other step."""
    step = trace.steps[x.index]
    is_neg = step.runs("neg")
    return trace.symbol(step.args[0]) if is_neg else None


def _call(name: str, *args: Symbol, **attrs: object) -> Symbol:
    found: Symbol = apply(OPERATIONS[name], args, attrs)
    return found


def _mul(trace: Steps, xs: list[Symbol], attrs: Attributes, out: Aval) -> Symbol | None:
    for x, other in (xs, xs[::-1]):
        number = _number(trace, other)
        if number in (1.0, -1.0) and _is_same(x, out):
            return x if number == 1.0 else _call("neg", x)
    for x, other in (xs, xs[::-1]):
        inner = _negated(trace, x)
        if inner is not None and x.dtype.kind == "f":
            return _call("neg", _call("mul", inner, other))
        found = _doubled(trace, x, other)
        if found is not None:
            return found
    return None


def _doubled(trace: Steps, x: Symbol, other: Symbol) -> Symbol | None:
    """Return `(2 * c) * y` for `c * (2 * y)`, and the same for other powers of 2.

    Doubling is exact unless it overflows; for |c| >= 1 both products overflow then, so the bits are equal.
    """
    step, c = trace.steps[x.index], _number(trace, other)
    if c is None or not 1.0 <= abs(c) < _LARGE or not step.runs("mul") or x.dtype != FLOAT64:
        return None
    both = [trace.symbol(a) for a in step.args]
    for factor, y in (both, both[::-1]):
        number = _number(trace, factor)
        if number is not None and number >= 1.0 and frexp(number)[0] == 0.5 and c * number < _LARGE:
            is_weak = factor.aval.weak is not None and other.aval.weak is not None
            return _call("mul", trace.constant(c * number, is_weak=is_weak), y)
    return None


def _div(trace: Steps, xs: list[Symbol], attrs: Attributes, out: Aval) -> Symbol | None:
    if _number(trace, xs[1]) == 1.0 and _is_same(xs[0], out):
        return xs[0]
    above, below = (_negated(trace, x) if x.dtype.kind == "f" else None for x in xs)
    if above is not None:
        return _call("neg", _call("div", above, xs[1]))
    if below is not None:
        return _call("neg", _call("div", xs[0], below))
    return None


def _add(trace: Steps, xs: list[Symbol], attrs: Attributes, out: Aval) -> Symbol | None:
    for x, other in (xs, xs[::-1]):
        number = _number(trace, other)
        if number == 0.0 and copysign(1.0, number) < 0 and _is_same(x, out):
            return x
        inner = _negated(trace, other)
        if inner is not None and other.dtype.kind == "f":
            return _call("sub", x, inner)
        found = slice_sum(trace, x, other)
        if found is not None:
            return found
    return None


def _sub(trace: Steps, xs: list[Symbol], attrs: Attributes, out: Aval) -> Symbol | None:
    number = _number(trace, xs[1])
    if number == 0.0 and copysign(1.0, number) > 0 and _is_same(xs[0], out):
        return xs[0]
    inner = _negated(trace, xs[1])
    return _call("add", xs[0], inner) if inner is not None and xs[1].dtype.kind == "f" else None


def _neg(trace: Steps, xs: list[Symbol], attrs: Attributes, out: Aval) -> Symbol | None:
    return _negated(trace, xs[0])


def _pow(trace: Steps, xs: list[Symbol], attrs: Attributes, out: Aval) -> Symbol | None:
    x, exponent = xs[0], _number(trace, xs[1])
    if not xs[1].aval.weak or x.dtype.kind != "f" or not _is_same(x, out):
        return None
    if exponent == 0.0:
        return _call("ones_like", x)
    if exponent == 1.0:
        return x
    return _call("square", x) if exponent == 2.0 else None


def _filled(value: float) -> Rule:
    def rule(trace: Steps, xs: list[Symbol], attrs: Attributes, out: Aval) -> Symbol | None:
        found: Symbol | None = trace.full(value, out) if out.dtype.kind == "f" else None
        return found

    return rule


def _same_form(trace: Steps, xs: list[Symbol], attrs: Attributes, out: Aval) -> Symbol | None:
    return xs[0] if _is_same(xs[0], out) and xs[0].dtype.kind == "f" else None


def _broadcast_to(trace: Steps, xs: list[Symbol], attrs: Attributes, out: Aval) -> Symbol | None:
    step = trace.steps[xs[0].index]
    if _is_same(xs[0], out):
        return xs[0]
    if step.runs("broadcast_to"):
        return _call("broadcast_to", trace.symbol(step.args[0]), shape=out.shape)
    known = trace.known(xs[0])
    if known is not None and xs[0].shape and xs[0].aval.size == 1:
        return _call("broadcast_to", trace.constant(canonical(known.reshape(()))), shape=out.shape)
    return None


_RULES: dict[str, Rule] = {
    "mul": _mul,
    "div": _div,
    "add": _add,
    "sub": _sub,
    "neg": _neg,
    "pow": _pow,
    "zeros_like": _filled(0.0),
    "ones_like": _filled(1.0),
    "reshape": reshaped,
    "slice": sliced,
    "broadcast_to": _broadcast_to,
    "transpose": transposed,
    "sum_to": _same_form,
}
