"""Gradients of slices, which are sums of updates to slices of zeros, without the zeros.

`x + slice_add(zeros, updates)` becomes `slice_add(x, updates)`. If the updates cover one axis from its beginning to its
end, each element once, the sum becomes `concat(updates) + 0.0`. The 0.0 turns -0.0 into 0.0, as the zeros do. No bit of
a result changes.
"""

from itertools import pairwise

import numpy as np

from engine.core import FLOAT64, ROW_CALLS, Attributes, Shape, Symbol
from engine.plans.step import Step, Steps

#: The most updates that are concatenated; bounds the search for each sum.
_MOST_PARTS = 64


def slice_sum(trace: Steps, x: Symbol, other: Symbol) -> Symbol | None:
    """Return `x + other` without the zeros that `other` adds updates to; None if the rewrite does not apply.

    `x` must itself be such a sum, so that it holds no -0.0.
    """
    zeros, updates, attrs = _slice_of_zeros(trace, other)
    before = _updated(trace, x)
    if zeros is None or before is None or x.aval != other.aval:
        return None
    # A list of integers may hold an index twice; its updates would then be added one by one, which rounds differently.
    if any(isinstance(item, tuple) and item[0] == "ints" for item in attrs["index"]):
        return None
    updated = before + updates.aval.size
    found: Symbol | None = None
    if updated == x.aval.size and x.dtype == FLOAT64:
        found = _side_by_side(trace, x, other)
    if found is None:
        found = ROW_CALLS["slice_add"](x, updates, **attrs)
    trace.updated[found.index] = updated
    return found


def _updated(trace: Steps, x: Symbol) -> int | None:
    """Return the number of elements updated in a sum of updates to slices of zeros; None for any other value."""
    if x.index in trace.updated:
        return int(trace.updated[x.index])
    zeros, updates, _ = _slice_of_zeros(trace, x)
    return None if zeros is None else updates.aval.size


def _slice_of_zeros(trace: Steps, x: Symbol) -> tuple[Symbol | None, Symbol, Attributes]:
    """Return zeros, updates and attributes of `slice_add(zeros, updates)`; for any other step the zeros are None.

    The zeros are 0.0, not -0.0: a sum of 0.0 and anything is never -0.0.
    """
    step = trace.steps[x.index]
    if not step.runs("slice_add"):
        return None, x, {}
    zeros, updates = map(trace.symbol, step.args)
    base = trace.steps[zeros.index]
    value = trace.known(trace.symbol(base.args[0]) if base.runs("broadcast_to") else zeros)
    is_zero = value is not None and not np.any(value) and not np.any(np.signbit(value))
    return (zeros if is_zero else None), updates, step.attrs


def _side_by_side(trace: Steps, x: Symbol, other: Symbol) -> Symbol | None:
    """Return `x + other` as `concat(updates) + 0.0`; None unless the updates cover one axis, each element once."""
    parts: list[tuple[int, int, int, Symbol]] = []
    missing, link = x.aval.size, other
    while missing > 0:
        step = trace.steps[link.index]
        span = _span(step, x.shape) if step.runs("slice_add") else None
        if span is None or len(parts) == _MOST_PARTS:
            return None
        axis, begin, end = span
        updates = trace.symbol(step.args[1])
        if updates.aval != x.aval._replace(shape=(*x.shape[:axis], end - begin, *x.shape[axis + 1 :])):
            return None
        parts.append((axis, begin, end, updates))
        missing -= updates.aval.size
        last, link = link, x if link is other else trace.symbol(step.args[0])
    parts.sort(key=lambda part: part[:3])
    follow = all(one[0] == two[0] and one[2] == two[1] for one, two in pairwise(parts))
    if missing or not follow or len(parts) < 2 or _slice_of_zeros(trace, last)[0] is None:
        return None
    joined = ROW_CALLS["concat"](*(part[3] for part in parts), axis=parts[0][0])
    found: Symbol = joined + 0.0
    return found


def _span(step: Step, shape: Shape) -> tuple[int, int, int] | None:
    """Return axis, begin and end of a slice that takes a part of one axis, in steps of 1, and all of the others.

    None for any other index.
    """
    found = None
    for axis, item in enumerate(step.attrs["index"]):
        if not isinstance(item, tuple) or item[0] != "slice":
            return None
        begin, end, stride = slice(*item[1:]).indices(shape[axis])
        if stride != 1 or end <= begin:
            return None
        if (begin, end) != (0, shape[axis]):
            if found is not None:
                return None
            found = axis, begin, end
    return found
