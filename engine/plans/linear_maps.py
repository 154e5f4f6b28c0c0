"""Links: the elements of a linear operation's operands on which each element of its result depends.

They are found by running the operation on a few vectors, so that no operation needs a rule of its own: if each element
of the result is a multiple of one element of the operands, or each of those goes into one element of the result, the
vector 1, 2, 3, ... shows which.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine.core import FLOAT64, Array, Attributes, Operation, Shape, Value, fit

Ints = npt.NDArray[np.int64]
Floats = Array
#: A linear function of vectors.
Linear = Callable[[Floats], Floats]

#: Relative tolerance for equal results, by size of the dtype in bytes.
_CLOSE = {8: 1e-9, 4: 1e-5}


@dataclass(frozen=True, slots=True, eq=False)
class Links:
    """Links between the elements of the operands, flattened and concatenated, and those of the result, flattened.

    sources: for each element of the result, the index of the one operand element that it depends on, or -1 for none;
        None if it may depend on several.
    targets: otherwise, for each operand element, the index of the one result element that depends on it, or -1.
    """

    sources: Ints | None
    targets: Ints | None = None


def links(op: Operation, moved: Sequence[int], xs: Sequence[Value], attrs: Attributes, out: Shape) -> Links | None:
    """Return the links from some operands to the result; None if they could not be determined.

    Args:
        op: a linear operation.
        moved: positions of these operands; each must be differentiable.
        xs: all operands; the differentiable ones are zeros.
        attrs: attributes.
        out: the shape of the result.
    """
    sizes = [math.prod(np.shape(xs[i])) for i in moved]
    if len(moved) > 1 and sum(sizes) > math.prod(out):
        return None
    with np.errstate(all="ignore"):
        sources = _selected(lambda v: _result(op, moved, sizes, xs, attrs, v), sum(sizes))
        if sources is not None:
            return Links(sources)
        if len(moved) == 1 and op.vjps:
            y = op.forward(*xs, **attrs)
            targets = _selected(lambda g: _cotangent(op, moved[0], xs, attrs, y, g), math.prod(out))
            return None if targets is None else Links(None, targets)
    return None


def _result(
    op: Operation, moved: Sequence[int], sizes: Sequence[int], xs: Sequence[Value], attrs: Attributes, v: Floats
) -> Floats:
    """Return the result, flattened, for the moved operands with the elements of `v` and all others as given."""
    full = list(xs)
    start = 0
    for i, size in zip(moved, sizes, strict=True):
        full[i] = v[start : start + size].reshape(np.shape(xs[i]))
        start += size
    return np.ravel(op.forward(*full, **attrs))


def _cotangent(op: Operation, i: int, xs: Sequence[Value], attrs: Attributes, y: Value, g: Floats) -> Floats:
    """Return the cotangent of operand `i`, flattened, for the cotangent `g` of the result."""
    return np.ravel(fit(op.cotangent(i, g.reshape(np.shape(y)), y, xs, attrs), xs[i]))


def _selected(f: Linear, size: int) -> Ints | None:
    """Return for each element of `f`'s result the index of the one of `size` elements of which it is a multiple.

    -1 for an element that is always 0. None if any element depends on several: then the result for 1, 2, 3, ... and
    the one for numbers without order disagree.
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
    """Return the indices that `ordered` counts from 1, or None if `drawn` does not hold the same elements of `mixed`.

    ordered, drawn: results for 1, 2, 3, ... and for `mixed[1:]`. 0.0 at `mixed[0]` is for elements that are always 0.
    """
    whole = np.rint(ordered)
    if not ((whole >= 0) & (whole < len(mixed)) & (np.abs(ordered - whole) < 0.25)).all():
        return None
    chosen = whole.astype(np.int64)
    expected = mixed[chosen]
    is_alike = np.abs(drawn - expected) <= _CLOSE[drawn.itemsize] * np.abs(expected)
    return chosen - 1 if is_alike.all() else None
