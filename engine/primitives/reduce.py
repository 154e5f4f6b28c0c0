"""Reductions: sums, products, extremes and their places, norms."""

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from engine.core import (
    AXIS,
    INT64,
    NORM_ORDER,
    Array,
    Attribute,
    Attributes,
    Aval,
    BadAttributeError,
    Operand,
    Operation,
    ShapeMismatchError,
    dtype_of,
    ex,
    shape_of,
    slice_item,
)
from engine.core import INT as INT_ATTRIBUTE
from engine.core.values import BOOL as BOOL_DTYPE
from engine.primitives.arithmetic import abs as abs_
from engine.primitives.arithmetic import astype, div, square
from engine.primitives.compare import equal, greater, less, where, zero_or_nan
from engine.primitives.index import slice as slice_
from engine.primitives.join import concat, flip
from engine.primitives.math import exp
from engine.primitives.radial import direction, radial
from engine.primitives.shape import Axes, broadcast_to, reshape, transpose
from engine.rows import (
    KEEPDIMS,
    LOOP,
    LOOP_OF_MAXIMA,
    OVER_AXES,
    POSITIVE,
    Row,
    composite,
    floating,
    kept_shape,
    normalize_axes,
    normalize_axis,
    primitive,
    reduced_shape,
    reduction,
    summed,
)
from engine.tracers import flattened, leading


def _spread(g: Operand, x: Operand, axes: Axes) -> Operand:
    """Broadcast the cotangent of a reduction along the reduced axes."""
    shape = shape_of(x)
    return broadcast_to(reshape(g, kept_shape(x, axes)), shape) if shape else g


sum = reduction(
    "sum",
    lambda x, axes, keepdims: np.add.reduce(x, axis=axes, keepdims=keepdims),
    lambda g, y, x, axes, keepdims: _spread(g, x, axes),
    emit=lambda x, axes, keepdims: lambda v: np.add.reduce(v, axis=axes, keepdims=keepdims),
    kind="linear",
    dtype=summed,
    doc="Sum over axes; 0 if there are no elements.",
)


def _count(name: str, x: Operand, axes: Axes) -> int:
    shape = shape_of(x)
    return math.prod(shape[a] for a in normalize_axes(name, axes, len(shape)))


def _mean(x: Array, axes: Axes, keepdims: bool) -> Array:
    total: Array = np.sum(x, axis=axes, keepdims=keepdims)
    n = _count("mean", x, axes)
    return np.true_divide(total, n) if n else np.full(np.shape(total), np.nan, floating(x.dtype))


mean = reduction(
    "mean",
    _mean,
    lambda g, y, x, axes, keepdims: div(_spread(g, x, axes), float(_count("mean", x, axes))),
    kind="linear",
    dtype=floating,
    doc="Mean over axes; NaN if there are no elements.",
)


def _variance(x: Operand, axes: Axes, keepdims: bool, correction: int) -> Operand:
    n = _count("variance", x, axes) - correction
    return div(
        sum(square(x - mean(x, axes=axes, keepdims=True)), axes=axes, keepdims=keepdims), float(n if n > 0 else 0)
    )


_SPREAD_EXAMPLES = (ex((3,)), ex((2, 3), axes=(1,)), ex((2, 3), axes=-2, keepdims=True), ex((2, 3, 2), axes=(0, -1)))
_CORRECTION = Attribute("correction", INT_ATTRIBUTE, 0)

variance = composite(
    "variance",
    ("x",),
    _variance,
    attributes=(OVER_AXES, KEEPDIMS, _CORRECTION),
    examples=(*_SPREAD_EXAMPLES, ex((3,), correction=1)),
    aliases=("var",),
    doc="Mean squared deviation from the mean; divided by n - correction.",
)


def _extreme_vjp(is_beside: Row, g: Operand, y: Operand, x: Operand, axes: Axes, keepdims: bool) -> Operand:
    """Return the vjp of max or min: g is split evenly over ties; NaN if an element is NaN.

    is_beside: (x, y) -> mask of the elements that are not the extreme.
    """
    if not shape_of(x):
        return div(g, 1.0 + zero_or_nan(y))
    kept = kept_shape(x, axes)
    y = reshape(y, kept)
    beside = is_beside(x, y)
    ties = float(_count("max", x, axes)) - sum(beside, axes=axes, keepdims=True)
    # Written this way, it is linear in g even where y is NaN.
    return where(beside, 0.0, div(reshape(g, kept), astype(ties, str(dtype_of(g))) + zero_or_nan(y)))


max = reduction(
    "max",
    lambda x, axes, keepdims: np.maximum.reduce(x, axis=axes, keepdims=keepdims),
    partial(_extreme_vjp, less),
    has_identity=False,
    loop=LOOP_OF_MAXIMA,
    doc="Largest element over axes; NaN if one is NaN. Ties share the gradient evenly.",
)
min = reduction(
    "min",
    lambda x, axes, keepdims: np.minimum.reduce(x, axis=axes, keepdims=keepdims),
    partial(_extreme_vjp, greater),
    has_identity=False,
    loop=LOOP_OF_MAXIMA,
    doc="Smallest element over axes; NaN if one is NaN. Ties share the gradient evenly.",
)


def _prod(x: Operand, axes: Axes, keepdims: bool) -> Operand:
    """Multiply halves pairwise: the gradient needs no division, so derivatives of any order are exact at zeros."""
    shape = shape_of(x)
    over = normalize_axes("prod", axes, len(shape))
    rest = tuple(i for i in range(len(shape)) if i not in over)
    n = math.prod(shape[i] for i in over)
    outer = tuple(shape[i] for i in rest)
    if dtype_of(x) == BOOL_DTYPE:
        x = x * 1
    x = (
        reshape(transpose(x, (*rest, *over)), (*outer, n))
        if n
        else broadcast_to(reshape(sum(x), ()) * 0 + 1, (*outer, 1))
    )
    while n > 1:
        half = n // 2
        y = slice_(x, (..., slice_item(None, half))) * slice_(x, (..., slice_item(half, 2 * half)))
        x = concat([y, slice_(x, (..., slice_item(2 * half)))], axis=-1) if n % 2 else y
        n = half + n % 2
    return reshape(x, reduced_shape(shape, over, keepdims))


prod = composite(
    "prod",
    ("x",),
    _prod,
    attributes=(OVER_AXES, KEEPDIMS),
    examples=(
        *_SPREAD_EXAMPLES,
        ex(()),
        ex([1.0, 0.0, 2.0]),
        ex([0.0, 0.5, 0.0]),
        ex((5,)),
        ex((0,)),
        ex((2, 0), axes=1),
    ),
    doc="Product over axes; 1 if there are no elements. The gradient is exact where factors are 0.",
)


#: Sums of exponentials above this are far enough from 1 for an accurate logarithm.
_APART = 1.25


def log_total(exps: Array, total: Array, axes: Axes) -> Array:
    """Return the logarithm of a sum of numbers whose maximum is 1, accurate even if the others are tiny.

    exps: the numbers. total: their sum over `axes`, with keepdims.
    """
    with np.errstate(divide="ignore"):
        y = np.log(total)
    if np.minimum.reduce(total, axis=None, initial=np.inf) < _APART:
        others = np.add.reduce(exps, axis=axes, keepdims=True, where=exps < 1.0)
        y = np.where((total >= 1.0) & (total < _APART), np.log1p(others), y)
    return y


def _logsumexp(x: Array, axes: Axes, keepdims: bool) -> Array:
    top = np.max(x, axis=axes, keepdims=True, initial=-np.inf)
    top = np.where(np.isfinite(top), top, 0.0)
    exps = np.exp(x - top)
    y = log_total(exps, np.add.reduce(exps, axis=axes, keepdims=True), axes) + top
    return y if keepdims else np.squeeze(y, axis=axes if axes is not None else tuple(range(np.ndim(x))))


def _logsumexp_vjp(g: Operand, y: Operand, x: Operand, axes: Axes, keepdims: bool) -> Operand:
    y = _spread(y, x, axes)
    return _spread(g, x, axes) * exp(x - where(equal(y, -np.inf), 0.0, y))


logsumexp = reduction(
    "logsumexp",
    _logsumexp,
    _logsumexp_vjp,
    dtype=floating,
    flops=20,
    loop=LOOP_OF_MAXIMA,
    doc="log(sum(exp(x))) over axes, without overflow. Where a probability exp(x) / sum(exp(x)) is nearly 1, second "
    "derivatives are accurate only to rounding at 1; those of log_softmax are more accurate.",
)


def _norm(x: Operand, ord: float | None, axes: Axes, keepdims: bool) -> Operand:
    shape = shape_of(x)
    over = normalize_axes("norm", axes, len(shape))
    if ord is not None and len(over) > 1:
        raise BadAttributeError(
            f"norm: ord={ord} over {len(over)} axes would be a matrix norm; give one axis, or no ord"
        )
    if ord == 1.0:
        return sum(abs_(x), axes=axes, keepdims=keepdims)
    if ord == np.inf:
        return max(abs_(x), axes=axes, keepdims=keepdims)
    return _euclidean_norm(x, axes=axes, keepdims=keepdims)


def _euclidean(x: Array, axes: Axes, keepdims: bool) -> Array:
    """Compute the Euclidean norm of elements scaled by the largest, so that squares neither overflow nor underflow."""
    size = np.absolute(x)
    top = np.max(size, axis=axes, keepdims=True, initial=0.0)
    scale = np.where((top > 0) & np.isfinite(top), top, 1.0)
    y = scale * np.sqrt(np.add.reduce(np.square(size / scale), axis=axes, keepdims=True))
    return y if keepdims else np.squeeze(y, axis=axes if axes is not None else tuple(range(np.ndim(x))))


def _euclidean_vjp(g: Operand, y: Operand, x: Operand, axes: Axes, keepdims: bool) -> Operand:
    kept = kept_shape(x, axes)
    return reshape(g, kept) * direction(x, reshape(y, kept))


def _euclidean_power_vjp(g: Operand, c: float, p: float, x: Operand, axes: Axes, keepdims: bool) -> Operand:
    def length(x: Operand) -> Operand:
        return _euclidean_norm(x, axes=axes, keepdims=True)

    def total(f: Row, x: Operand) -> Operand:
        return sum(f(x), axes=axes, keepdims=True)

    return reshape(g, kept_shape(x, axes)) * (c * radial(p - 2, length, total, x))


_euclidean_norm: Row = reduction(
    "euclidean_norm",
    _euclidean,
    _euclidean_vjp,
    power_vjps=(_euclidean_power_vjp,),
    dtype=floating,
    flops=5,
    loop=LOOP_OF_MAXIMA,
    domain=POSITIVE,
    doc="Square root of the sum of squares over axes, without overflow. Where it is 0 the gradient is 0 and second "
    "derivatives are NaN; those of its powers with a number p >= 2 are right.",
)


def _std(x: Operand, axes: Axes, keepdims: bool, correction: int) -> Operand:
    n = _count("std", x, axes) - correction
    length = _euclidean_norm(x - mean(x, axes=axes, keepdims=True), axes=axes, keepdims=keepdims)
    return div(length, math.sqrt(n) if n > 0 else 0.0)


std = composite(
    "std",
    ("x",),
    _std,
    attributes=(OVER_AXES, KEEPDIMS, _CORRECTION),
    examples=(*_SPREAD_EXAMPLES, ex((3,), correction=1)),
    doc="Square root of the variance. Where it is 0 the gradient is 0 and second derivatives are NaN.",
)
norm = composite(
    "norm",
    ("x",),
    _norm,
    attributes=(Attribute("ord", NORM_ORDER, None), OVER_AXES, KEEPDIMS),
    domain=(POSITIVE,),
    examples=(*_SPREAD_EXAMPLES, ex((3,), ord=1), ex((2, 3), ord="inf", axes=1), ex((3,), ord=2)),
    doc="Euclidean norm over axes, by default all; ord 1, 2 or inf along one axis. Where it is 0 the gradient is 0 and "
    "second derivatives are NaN; those of norm(x)**p are right for a number p >= 2. Where one element is nearly the "
    "whole norm, the second derivative along it is accurate only to rounding at 1.",
)


def _index_aval(name: str, x: Aval, axis: int | None, keepdims: bool) -> Aval:
    over = normalize_axes(name, axis, len(x.shape))
    if 0 in [x.shape[a] for a in over]:
        raise ShapeMismatchError(f"{name}: nothing to look through: shape {x.shape} is empty along axes {list(over)}")
    return Aval(reduced_shape(x.shape, over, keepdims), INT64)


def _index_rows(op: Operation, rows: int, xs: Sequence[Operand], batched: Sequence[bool], attrs: Attributes) -> Operand:
    if attrs["axis"] is not None:
        return leading(op, rows, xs, batched, attrs)
    index = op.run((flattened(xs[0], rows),), {**attrs, "axis": 1})
    return reshape(
        index, (rows, *reduced_shape(shape_of(xs[0])[1:], tuple(range(len(shape_of(xs[0])) - 1)), attrs["keepdims"]))
    )


def _index_of(name: str, find: Callable[..., Array], doc: str) -> Row:
    return primitive(
        name,
        ("x",),
        lambda x, axis, keepdims: find(x, axis=axis, keepdims=keepdims),
        attributes=(Attribute("axis", AXIS, None, ("axes",)), KEEPDIMS),
        batch=_index_rows,
        vjps=(None,),
        infer=lambda x, axis, keepdims: _index_aval(name, x, axis, keepdims),
        flops=lambda x, out, axis, keepdims: x.size + LOOP * out.size,
        examples=(ex((3,)), ex((2, 3), axis=1), ex((2, 3), axis=-2, keepdims=True), ex(())),
        doc=doc,
    )


argmax = _index_of(
    "argmax", np.argmax, "Index of the first largest element along an axis, by default of the flattened array."
)
argmin = _index_of(
    "argmin", np.argmin, "Index of the first smallest element along an axis, by default of the flattened array."
)
all = reduction(
    "all",
    lambda x, axes, keepdims: np.all(x, axis=axes, keepdims=keepdims),
    None,
    dtype=lambda d: BOOL_DTYPE,
    doc="True if no element over axes is 0.",
)
any = reduction(
    "any",
    lambda x, axes, keepdims: np.any(x, axis=axes, keepdims=keepdims),
    None,
    dtype=lambda d: BOOL_DTYPE,
    doc="True if an element over axes is not 0.",
)


def _cumulative_sum_aval(x: Aval, axis: int) -> Aval:
    normalize_axis("cumulative_sum", axis, len(x.shape))
    return Aval(x.shape, summed(x.dtype))


_cumulative: Row = primitive(
    "cumulative_sum",
    ("x",),
    lambda x, axis: np.cumsum(x, axis=axis),
    kind="linear",
    attributes=(Attribute("axis", AXIS, 0),),
    vjps=(lambda g, y, x, axis: flip(_cumulative(flip(g, axis), axis), axis),),
    infer=_cumulative_sum_aval,
    # Each sum waits for the one before it.
    flops=lambda x, out, axis: 10 * x.size,
    examples=(ex((3,)), ex((2, 3), axis=1), ex((2, 3), axis=-2), ex((0,))),
    doc="Running sum along an axis.",
)
cumsum = composite(
    "cumsum",
    ("x",),
    lambda x, axis: _cumulative(reshape(x, (math.prod(shape_of(x)),)), 0) if axis is None else _cumulative(x, axis),
    attributes=(Attribute("axis", AXIS, None),),
    examples=(ex((2, 3)), ex((2, 3), axis=1), ex(())),
    alias_of="cumulative_sum",
    doc="Running sum along an axis, by default of the flattened array.",
)
