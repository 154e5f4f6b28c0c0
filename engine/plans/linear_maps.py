"""Links: which elements of a linear row's operands go into which elements of its result.

They are found by running the row itself on a few vectors, so that no rule is written twice: where each element of the
result is one of the operands', or each of those goes into one of the result, numbering them tells which.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.core.attributes import Attributes
from engine.core.backward import fitted
from engine.core.operation import Operation
from engine.core.values import FLOAT64, Array, Shape

Ints = npt.NDArray[np.int64]
Floats = Array
#: A linear function of vectors.
Linear = Callable[[Floats], Floats]

#: How far two results that are alike may be apart, relatively.
_CLOSE = {8: 1e-9, 4: 1e-5}


@dataclass(frozen=True, slots=True, eq=False)
class Links:
    """What goes where: places in the operands, one after another, and places in the result.

    taken: for each element of the result the only one that goes into it, -1 where none does; None where there are more.
    given: else, for each element of the operands the only one that it goes into, or -1.
    """

    taken: Ints | None
    given: Ints | None = None


def links(op: Operation, moved: Sequence[int], xs: Sequence[Any], attrs: Attributes, out: Shape) -> Links | None:
    """How elements of some operands go into the result; None where that is not found out.

    Args:
        op: a linear row.
        moved: which operands, of those that have derivatives.
        xs: all of them; those that have derivatives are zeros.
        attrs: attributes.
        out: the shape of the result.
    """
    sizes = [math.prod(np.shape(xs[i])) for i in moved]
    if len(moved) > 1 and sum(sizes) > math.prod(out):
        return None
    with np.errstate(all="ignore"):
        taken = _selected(lambda v: _result(op, moved, sizes, xs, attrs, v), sum(sizes))
        if taken is not None:
            return Links(taken)
        if len(moved) == 1 and op.vjps:
            y = op.forward(*xs, **attrs)
            given = _selected(lambda g: _cotangent(op, moved[0], xs, attrs, y, g), math.prod(out))
            return None if given is None else Links(None, given)
    return None


def _result(
    op: Operation, moved: Sequence[int], sizes: Sequence[int], xs: Sequence[Any], attrs: Attributes, v: Floats
) -> Floats:
    """The result for the elements of the operands that are moved."""
    full = list(xs)
    start = 0
    for i, size in zip(moved, sizes, strict=True):
        full[i] = v[start : start + size].reshape(np.shape(xs[i]))
        start += size
    return np.ravel(op.forward(*full, **attrs))


def _cotangent(op: Operation, i: int, xs: Sequence[Any], attrs: Attributes, y: Any, g: Floats) -> Floats:
    """What comes back to an operand."""
    return np.ravel(fitted(op.cotangent(i, g.reshape(np.shape(y)), y, xs, attrs), xs[i]))


def _selected(f: Linear, size: int) -> Ints | None:
    """For each element of the result which one it is of `size` elements, but for a factor; -1 for none.

    None where any is made of more than one: that shows in what becomes of numbers without order.
    """
    numbers = np.arange(size + 1, dtype=FLOAT64)
    mixed = np.sin(numbers * numbers)
    ordered, drawn = f(numbers[1:]), f(mixed[1:])
    chosen = _chosen(ordered, drawn, mixed)
    if chosen is None:
        factors = f(np.ones(size))
        factors[factors == 0.0] = 1.0
        chosen = _chosen(ordered / factors, drawn / factors, mixed)
    return chosen


def _chosen(ordered: Floats, drawn: Floats, mixed: Floats) -> Ints | None:
    """Which elements are numbered so, if what they are in `mixed`, where 0.0 stands first, was drawn too."""
    whole = np.rint(ordered)
    if not ((whole >= 0) & (whole < len(mixed)) & (np.abs(ordered - whole) < 0.25)).all():
        return None
    chosen = whole.astype(np.int64)
    expected = mixed[chosen]
    is_alike = np.abs(drawn - expected) <= _CLOSE[drawn.itemsize] * np.abs(expected)
    return chosen - 1 if is_alike.all() else None
