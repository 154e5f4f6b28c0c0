"""Losses, scores and dropout."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from engine.core import (
    AXIS,
    FLOAT64,
    INT,
    NATURAL,
    RATIO,
    Array,
    Attribute,
    Attributes,
    Aval,
    InvalidValueError,
    Operand,
    Operation,
    Shape,
    ShapeMismatchError,
    dtype_of,
    ex,
    flat_view,
    is_training,
    mark_zeros,
    shape_of,
)
from engine.core.values import BOOL
from engine.primitives.arithmetic import astype, div, square, stop_gradient
from engine.primitives.compare import equal, maximum, not_equal, where
from engine.primitives.math import exp
from engine.primitives.reduce import argmax, log_total, mean, sum
from engine.primitives.shape import reshape
from engine.random import generator
from engine.rows import LOOP_OF_MAXIMA, composite, floating, in_floating, loops, normalize_axis, primitive
from engine.tracers import leading, repeated


def _softmax(x: Array, axis: int) -> Array:
    e = np.exp(x - np.max(x, axis=axis, keepdims=True, initial=-np.inf))
    return e / np.add.reduce(e, axis=axis, keepdims=True)


def _exponential_flops(x: Aval) -> int:
    return 20 * x.size + LOOP_OF_MAXIMA * loops(x.shape)


def _axis_aval(name: str, x: Aval, axis: int) -> Aval:
    normalize_axis(name, axis, len(x.shape))
    return Aval(x.shape, floating(x.dtype))


_SOFT = (ex((3,)), ex((2, 3)), ex((2, 3), axis=0), ex((2, 3, 2), axis=1), ex((0, 2)))
_LAST = Attribute("axis", AXIS, -1)


def _softmax_vjp(g: Operand, y: Operand, x: Operand, axis: int) -> Operand:
    """Return y * (g - sum(g * y)).

    The mean is subtracted twice: where y is near 1, the first difference is all rounding, and the second is exact.
    """
    off = g - sum(g * y, axes=axis, keepdims=True)
    # Arrays are overwritten in place.
    off -= sum(off * y, axes=axis, keepdims=True)
    off *= y
    return off


softmax = primitive(
    "softmax",
    ("x",),
    in_floating(_softmax),
    batch=leading,
    attributes=(_LAST,),
    vjps=(_softmax_vjp,),
    infer=lambda x, axis: _axis_aval("softmax", x, axis),
    flops=lambda x, out, axis: _exponential_flops(x),
    examples=_SOFT,
    doc="exp(x) / sum(exp(x)) along an axis, without overflow.",
)


def _log_softmax(x: Array, axis: int) -> Array:
    shifted = x - _finite(np.max(x, axis=axis, keepdims=True, initial=-np.inf))
    exps = np.exp(shifted)
    shifted -= log_total(exps, np.add.reduce(exps, axis=axis, keepdims=True), axis)
    return shifted


def _log_softmax_vjp(g: Operand, y: Operand, x: Operand, axis: int) -> Operand:
    """Return g - softmax(x) * sum(g); its sum should be 0, so the rounding error in the sum is subtracted too."""
    p = exp(y)
    off = g - p * sum(g, axes=axis, keepdims=True)
    # Arrays are overwritten in place.
    off -= p * sum(off, axes=axis, keepdims=True)
    return off


log_softmax = primitive(
    "log_softmax",
    ("x",),
    in_floating(_log_softmax),
    batch=leading,
    attributes=(_LAST,),
    vjps=(_log_softmax_vjp,),
    infer=lambda x, axis: _axis_aval("log_softmax", x, axis),
    flops=lambda x, out, axis: _exponential_flops(x),
    examples=_SOFT,
    doc="x - logsumexp(x) along an axis, accurate also where softmax is nearly 1.",
)


mean_squared_error = composite(
    "mean_squared_error",
    ("x", "t"),
    lambda x, t: mean(square(x - t)),
    examples=(ex((3,), (3,)), ex((2, 3), (2, 3)), ex((), ())),
    doc="Mean of squared differences over all elements.",
)


def _whole(name: str, labels: Array) -> Array:
    """Convert labels to int64.

    Raises:
        InvalidValueError: a label is not an integer.
    """
    if labels.dtype.kind != "f":
        return labels.astype(np.int64, copy=False)
    whole = labels.astype(np.int64)
    if not (whole == labels).all():
        raise InvalidValueError(f"{name}: labels must be integers, got {labels[whole != labels].flat[0]}")
    return whole


def _check_range(name: str, labels: Array, classes: int, ignore_index: int) -> None:
    outside = (labels < 0) | (labels >= classes)
    if outside.any():
        wrong = labels[outside & (labels != ignore_index)]
        if wrong.size:
            raise InvalidValueError(f"{name}: label {wrong.flat[0]:.0f} is out of range for {classes} classes")


def _one_hot(labels: Array, classes: int, ignore_index: int) -> Array:
    found = _whole("one_hot", np.asarray(labels))
    _check_range("one_hot", found, classes, ignore_index)
    return found[..., np.newaxis] == np.arange(classes)


one_hot = primitive(
    "one_hot",
    ("labels",),
    _one_hot,
    batch=leading,
    attributes=(Attribute("classes", NATURAL), Attribute("ignore_index", INT, -100)),
    vjps=(None,),
    infer=lambda labels, classes, ignore_index: Aval((*labels.shape, classes), BOOL),
    flops=lambda labels, out, classes, ignore_index: out.size + 10 * labels.size,
    examples=(ex([0.0, 2.0, 1.0], classes=3), ex([[0.0], [-100.0]], classes=2), ex(1, classes=3)),
    doc="Mask with a last axis of classes, true at the label; all false for ignore_index.",
)


def _check_labels(name: str, scores: Shape, labels: Shape) -> None:
    """Check that labels have the shape of the scores without the last axis, or with a last axis of length 1.

    Raises:
        ShapeMismatchError: they do not.
    """
    if not scores:
        raise ShapeMismatchError(f"{name}: expected scores with a last axis of classes, got a scalar")
    if labels not in (scores[:-1], (*scores[:-1], 1)):
        raise ShapeMismatchError(
            f"{name}: labels of shape {labels} for scores of shape {scores}; expected {scores[:-1]}"
        )


class _Scores(NamedTuple):
    """Common part of the cross-entropy and its slope.

    shifted: scores minus the largest score of their row. exps: exp(shifted). totals: sums of exps over the classes.
    indices: indices of the labels in the flat scores; class 0 for ignored labels.
    counts: mask of the labels that are not ignored; None if no label is.
    """

    shifted: Array
    exps: Array
    totals: Array
    indices: Array
    counts: Array | None

    @property
    def number(self) -> int:
        """Number of labels that are not ignored, at least 1 if `counts` is given."""
        return self.indices.size if self.counts is None else max(int(np.count_nonzero(self.counts)), 1)


def _scores(x: Array, t: Array, ignore_index: int) -> _Scores:
    _check_labels("cross_entropy", shape_of(x), shape_of(t))
    x = x if x.dtype.kind == "f" else x.astype(FLOAT64)
    classes = x.shape[-1]
    labels = _whole("cross_entropy", np.asarray(t)).reshape(-1)
    counts = None
    may_ignore = 0 <= ignore_index < classes
    if labels.size and (may_ignore or not 0 <= labels.min() <= labels.max() < classes):
        counts = labels != ignore_index
        _check_range("cross_entropy", labels, classes, ignore_index)
        labels = np.where(counts, labels, 0)
    shifted = x - _finite(np.maximum.reduce(x, axis=-1, keepdims=True, initial=-np.inf))
    exps = np.exp(shifted)
    indices = np.arange(0, labels.size * classes, classes or 1) + labels
    return _Scores(shifted, exps, np.add.reduce(exps, axis=-1, keepdims=True), indices, counts)


_SMALL_LOSS = 0.25


def _finite(top: Array) -> Array:
    return top if np.isfinite(top).all() else np.where(np.isfinite(top), top, 0.0)


def _loss(scores: _Scores) -> Operand:
    loss = _mean_loss(scores, np.log(scores.totals))
    # A larger loss has lost no significant digits.
    return _mean_loss(scores, log_total(scores.exps, scores.totals, -1)) if loss < _SMALL_LOSS else loss


def _mean_loss(scores: _Scores, logs: Array) -> Array:
    losses = logs.reshape(-1) - scores.shifted.reshape(-1)[scores.indices]
    if scores.counts is not None:
        losses = np.where(scores.counts, losses, 0.0)
    return np.add.reduce(losses) / losses.dtype.type(scores.number or 1)


def _slope(scores: _Scores) -> Array:
    slope = np.divide(scores.exps, scores.totals, order="C")
    flat = flat_view(slope)
    # The probability minus 1, as minus the sum of the others: no cancellation.
    flat[scores.indices] = 0.0
    flat[scores.indices] = -np.add.reduce(slope, axis=-1).reshape(-1)
    slope /= scores.number or 1
    if scores.counts is not None:
        slope[~scores.counts.reshape(slope.shape[:-1])] = 0.0
    return slope


def _counts(x: Operand, t: Operand, ignore_index: int) -> Operand:
    """Return the mask of the labels that are not ignored, with a unit axis for the classes."""
    return not_equal(reshape(t, (*shape_of(x)[:-1], 1)), ignore_index)


def _cross_entropy_vjp(g: Operand, y: Operand, x: Operand, t: Operand, ignore_index: int) -> Operand:
    return mark_zeros(g * cross_entropy_slope(x, t, ignore_index), lambda: _counts(x, t, ignore_index))


def _slope_vjp(g: Operand, y: Operand, x: Operand, t: Operand, ignore_index: int) -> Operand:
    """Return the vjp of softmax, divided by the number of labels that are not ignored; 0 for ignored labels."""
    counts = _counts(x, t, ignore_index)
    return div(where(counts, _softmax_vjp(g, softmax(x), x, -1), 0.0), maximum(sum(counts), 1))


def _labelled_rows(
    xs: Sequence[Operand], batched: Sequence[bool], rows: int, ignore_index: int
) -> tuple[Any, Any, Any, Any]:
    """Return batched scores, one-hot labels, the mask of labels that are not ignored, and their number per row."""
    x, t = (v if b else repeated(v, rows) for v, b in zip(xs, batched, strict=True))
    t = reshape(t, shape_of(x)[:-1])
    counts = not_equal(t, ignore_index)
    labels = tuple(range(1, len(shape_of(t))))
    n = maximum(sum(where(counts, 1.0, 0.0), axes=labels), 1.0)
    return x, one_hot(t, shape_of(x)[-1], ignore_index), counts, astype(n, str(floating(dtype_of(x))))


def _cross_entropy_rows(
    op: Operation, rows: int, xs: Sequence[Operand], batched: Sequence[bool], attrs: Attributes
) -> Operand:
    x, hot, counts, n = _labelled_rows(xs, batched, rows, attrs["ignore_index"])
    losses = where(counts, -sum(where(hot, log_softmax(x), 0.0), axes=-1), 0.0)
    return div(sum(losses, axes=tuple(range(1, len(shape_of(losses))))), n)


def _slope_rows(op: Operation, rows: int, xs: Sequence[Operand], batched: Sequence[bool], attrs: Attributes) -> Operand:
    x, hot, counts, n = _labelled_rows(xs, batched, rows, attrs["ignore_index"])
    others = where(hot, 0.0, softmax(x))
    slopes = where(hot, -sum(others, axes=-1, keepdims=True), others)
    slopes = where(reshape(counts, (*shape_of(counts), 1)), slopes, 0.0)
    return astype(div(slopes, reshape(n, (rows, *(1,) * (len(shape_of(x)) - 1)))), str(floating(dtype_of(x))))


_LABELLED = (
    ex((4, 3), [0.0, 2.0, 1.0, 1.0]),
    ex((2, 3), [0.0, -100.0]),
    ex((3,), 1.0),
    ex((2, 2, 3), [[0.0, 1.0], [2.0, 0.0]]),
    ex((2, 3), [-100.0, -100.0]),
    ex((4, 3), [0.0, 1.0, 2.0, 1.0], ignore_index=1),
)


def _slope_aval(x: Aval, t: Aval, ignore_index: int) -> Aval:
    _check_labels("cross_entropy_slope", x.shape, t.shape)
    return Aval(x.shape, floating(x.dtype))


cross_entropy_slope = primitive(
    "cross_entropy_slope",
    ("x", "t"),
    lambda x, t, ignore_index: _slope(_scores(x, t, ignore_index)),
    begin=_scores,
    finish=_slope,
    batch=_slope_rows,
    attributes=(Attribute("ignore_index", INT, -100),),
    vjps=(_slope_vjp, None),
    infer=_slope_aval,
    flops=lambda x, t, out, ignore_index: _exponential_flops(x),
    examples=_LABELLED,
    doc="Gradient of cross_entropy: (softmax(x) - one_hot(t)) / n, 0 for ignored labels; n is the number of others.",
)


def _cross_entropy_aval(x: Aval, t: Aval, ignore_index: int) -> Aval:
    _check_labels("cross_entropy", x.shape, t.shape)
    return Aval((), floating(x.dtype))


cross_entropy = primitive(
    "cross_entropy",
    ("x", "t"),
    lambda x, t, ignore_index: _loss(_scores(x, t, ignore_index)),
    begin=_scores,
    finish=_loss,
    batch=_cross_entropy_rows,
    attributes=(Attribute("ignore_index", INT, -100),),
    vjps=(_cross_entropy_vjp, None),
    infer=_cross_entropy_aval,
    flops=lambda x, t, out, ignore_index: _exponential_flops(x),
    examples=_LABELLED,
    doc="Mean of -log softmax(x) at the labels t, without those equal to ignore_index; 0 if all are.",
)


def _accuracy(x: Operand, t: Operand) -> Operand:
    _check_labels("accuracy", shape_of(x), shape_of(t))
    hits = equal(argmax(x, axis=-1), reshape(t, shape_of(x)[:-1]))
    return stop_gradient(mean(astype(hits, str(dtype_of(x))) if dtype_of(x).kind == "f" else hits))


accuracy = composite(
    "accuracy",
    ("x", "t"),
    _accuracy,
    examples=(ex((4, 3), [0.0, 2.0, 1.0, 1.0]), ex((2, 3), [[0.0], [1.0]])),
    is_differentiable=False,
    doc="Share of rows whose largest score is at the label; it has no derivative.",
)


def _dropout_mask(x: Operand, ratio: float, rng: object) -> Operand:
    x = np.asarray(x)
    mask = np.ones(x.shape)
    if is_training():
        kept = generator(rng, "dropout").random(x.shape) >= ratio
        mask = kept / (1.0 - ratio) if ratio < 1.0 else np.zeros(x.shape)
    return mask.astype(floating(x.dtype), copy=False)


dropout_mask = primitive(
    "dropout_mask",
    ("x",),
    _dropout_mask,
    attributes=(Attribute("ratio", RATIO, 0.5),),
    vjps=(None,),
    infer=lambda x, ratio: Aval(x.shape, floating(x.dtype)),
    flops=lambda x, out, ratio: 10 * x.size,
    random=True,
    examples=(ex((3,)), ex((2, 3), ratio=0.2), ex((), ratio=1.0)),
    doc="In training, 0 with probability `ratio`, otherwise 1 / (1 - ratio), in the shape of x; in test mode, ones.",
)


def _dropout(x: Operand, ratio: float, rng: object) -> Operand:
    mask = dropout_mask(x, ratio=ratio, rng=rng)
    return where(mask > 0.0, x * mask, 0.0)


dropout = composite(
    "dropout",
    ("x",),
    _dropout,
    attributes=(Attribute("ratio", RATIO, 0.5),),
    random=True,
    examples=(ex((3,)), ex((2, 3), ratio=0.2)),
    doc="In training, elements set to 0 with probability `ratio`, others scaled by 1 / (1 - ratio); in test mode, x.",
)
