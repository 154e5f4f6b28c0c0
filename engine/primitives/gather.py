"""Gather at integer indices, and its derivative, scatter-add."""

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from engine.core import (
    AXIS,
    INDICES,
    INT64,
    Array,
    Attribute,
    Attributes,
    Aval,
    BadAttributeError,
    InvalidValueError,
    Operand,
    Operation,
    Shape,
    ShapeMismatchError,
    Value,
    dtype_of,
    ex,
    flat_view,
    shape_of,
)
from engine.primitives.arithmetic import zeros_like
from engine.primitives.index import ADD_AT, add_at, row_updates
from engine.rows import Row, broadcast_shapes, composite, normalize_axis, primitive, promote
from engine.tracers import flattened, permuted, repeated, reshaped

#: Cost of checking and using one index.
_INDEX = 10


def _as_indices(name: str, indices: Value, length: int) -> Array:
    """Convert indices, integers or floats with integral values, to int64; check that they are in range.

    Raises:
        InvalidValueError: a value is not integral, or is out of range.
    """
    found = np.asarray(indices)
    whole = found.astype(INT64) if found.dtype.kind != "f" else np.where(np.isfinite(found), found, 0.5).astype(INT64)
    if found.dtype.kind == "f" and not np.array_equal(whole, found):
        raise InvalidValueError(f"{name}: indices must be integers, got {found[whole != found].flat[0]!s}")
    if whole.size and not (-length <= whole.min() and whole.max() < length):
        wrong = whole[(whole < -length) | (whole >= length)].flat[0]
        raise InvalidValueError(f"{name}: index {wrong} is out of range for an axis of length {length}")
    return whole


def _take(x: Array, indices: Value, axis: int | None) -> Array:
    x = np.asarray(x)
    length = x.size if axis is None else x.shape[axis]
    return np.take(x, _as_indices("take", indices, length), axis=axis)


def _emitted_take(x: Aval, indices: Aval, axis: int | None) -> Callable[..., Array]:
    def found(x: Array, indices: Value) -> Array:
        try:
            return x.take(indices, axis)
        except IndexError:
            # Repeated for a more specific error.
            return _take(x, indices, axis)

    return found if indices.dtype == INT64 else partial(_take, axis=axis)


def _take_aval(x: Aval, indices: Aval, axis: int | None) -> Aval:
    if axis is None:
        return Aval(indices.shape, x.dtype)
    a = normalize_axis("take", axis, len(x.shape))
    return Aval((*x.shape[:a], *indices.shape, *x.shape[a + 1 :]), x.dtype)


_TAKE = (
    ex((4,), [0, 0, 3]),
    ex((3, 4), [[0.0, 2.0], [1.0, 1.0]], axis=1),
    ex((3, 4), 5),
    ex((3, 4), -1, axis=0),
    ex((3,), (0,), axis=0),
    ex((2, 0), [1], axis=0),
)


def _flat(x: Operand) -> Operand:
    return reshaped(x, (math.prod(shape_of(x)),))


def _places(shape: Shape, indices: Operand, axis: int | None) -> Operand:
    """Return the places in a flattened batch of the elements that each row has at its own indices.

    shape: that of the batch, whose first axis is of rows, as is that of `indices`.
    """
    rows, *lengths = shape if axis is not None else (shape[0], math.prod(shape[1:]))
    a = 0 if axis is None else axis % len(lengths)
    before, length, after = lengths[:a], lengths[a], lengths[a + 1 :]
    step, size = math.prod(after), math.prod(lengths)
    inner = shape_of(indices)[1:]
    # Looking up the indices in 0, 1, 2, ... checks their range, and counts negative ones from the end.
    found = take(np.arange(length), indices, axis=0)
    found = reshaped(found, (rows, *(1 for _ in before), *inner, *(1 for _ in after)))
    found = found * step if step != 1 else found
    others = (
        np.arange(0, size, length * step or 1).reshape(-1, 1) + np.arange(step) if size else np.zeros((0, 0), INT64)
    )
    if before or after:
        found = found + others.reshape(*before, *(1 for _ in inner), *after)
    return found + (np.arange(rows) * size).reshape(rows, *(1 for _ in (*before, *inner, *after)))


def _take_rows(op: Operation, rows: int, xs: Sequence[Operand], batched: Sequence[bool], attrs: Attributes) -> Operand:
    (x, indices), axis = xs, attrs["axis"]
    if all(batched):
        return take(_flat(x), _places(shape_of(x), indices, axis))
    if batched[0]:
        return (
            take(flattened(x, rows), indices, axis=1)
            if axis is None
            else take(x, indices, axis=axis % (len(shape_of(x)) - 1) + 1)
        )
    y = take(x, indices, axis=axis)
    a = 0 if axis is None else axis % len(shape_of(x))
    return permuted(y, (a, *range(a), *range(a + 1, len(shape_of(y))))) if a else y


def _scatter_add_rows(
    op: Operation, rows: int, xs: Sequence[Operand], batched: Sequence[bool], attrs: Attributes
) -> Operand:
    x = xs[0] if batched[0] else repeated(xs[0], rows)
    shape, axis = shape_of(x), attrs["axis"]
    target = _take_aval(Aval(shape[1:], dtype_of(x)), Aval(shape_of(xs[1])[batched[1] :], INT64), axis).shape
    updates = row_updates(xs[2], batched[2], rows, len(target))
    if batched[1]:
        return reshaped(scatter_add(_flat(x), _places(shape, xs[1], axis), updates), shape)
    if axis is None:
        return reshaped(scatter_add(flattened(x, rows), xs[1], updates, axis=1), shape)
    return scatter_add(x, xs[1], updates, axis=axis % (len(shape) - 1) + 1)


take: Row = primitive(
    "take",
    ("x", "indices"),
    _take,
    emit=_emitted_take,
    kind="linear",
    batch=_take_rows,
    attributes=(Attribute("axis", AXIS, None),),
    vjps=(lambda g, y, x, indices, axis: scatter_add(zeros_like(x), indices, g, axis=axis), None),
    infer=_take_aval,
    flops=lambda x, indices, out, axis: out.size + _INDEX * indices.size,
    examples=_TAKE,
    doc="Elements at integer indices along an axis, by default of the flattened array.",
)


def _scatter_add(x: Array, indices: Value, updates: Value, axis: int | None) -> Array:
    x = np.asarray(x)
    y = np.array(x, dtype=np.result_type(x, updates), order="C")
    found = _as_indices("scatter_add", indices, y.size if axis is None else y.shape[axis])
    add_at(y, np.take(np.arange(y.size).reshape(y.shape), found, axis=axis), updates)
    return y


def _emitted_scatter_add(x: Aval, indices: Aval, updates: Aval, axis: int | None) -> Callable[..., Array]:
    dtype = promote((x, updates))

    def added(x: Array, indices: Value, updates: Value) -> Array:
        y = np.array(x, dtype=dtype, order="C")
        try:
            np.add.at(flat_view(y), indices, updates)
        except IndexError:
            return _scatter_add(x, indices, updates, axis)
        return y

    is_flat = indices.dtype == INT64 and (axis is None or len(x.shape) == 1)
    return added if is_flat else partial(_scatter_add, axis=axis)


def _scatter_add_aval(x: Aval, indices: Aval, updates: Aval, axis: int | None) -> Aval:
    target = _take_aval(x, indices, axis).shape
    if broadcast_shapes("scatter_add", [target, updates.shape]) != target:
        raise ShapeMismatchError(f"scatter_add: updates of shape {updates.shape} do not fit places of shape {target}")
    return Aval(x.shape, promote((x, updates)))


def _scatter_add_flops(x: Aval, indices: Aval, updates: Aval, out: Aval, axis: int | None) -> int:
    return out.size + _INDEX * indices.size + ADD_AT * _take_aval(x, indices, axis).size


scatter_add: Row = primitive(
    "scatter_add",
    ("x", "indices", "updates"),
    _scatter_add,
    emit=_emitted_scatter_add,
    kind="linear",
    batch=_scatter_add_rows,
    attributes=(Attribute("axis", AXIS, None),),
    vjps=(
        lambda g, y, x, indices, updates, axis: g,
        None,
        lambda g, y, x, indices, updates, axis: take(g, indices, axis=axis),
    ),
    infer=_scatter_add_aval,
    flops=_scatter_add_flops,
    examples=(
        ex((4,), [0, 0, 3], (3,)),
        ex((3, 4), [[0.0, 2.0], [1.0, 1.0]], (3, 2, 2), axis=1),
        ex((3, 4), 5, ()),
        ex((3, 4), -1, (4,), axis=0),
    ),
    doc="x with `updates` added at integer places along an axis; a place named twice gets both.",
)


def _get_item(x: Operand, axis: int, indices: Value) -> Operand:
    shape = shape_of(x)
    length = shape[normalize_axis("get_item", axis, len(shape))]
    found = np.array(indices, dtype=np.int64)
    wrong = found[(found < -length) | (found >= length)]
    if wrong.size:
        raise BadAttributeError(f"get_item: index {wrong[0]} is out of range for axis {axis} of length {length}")
    return take(x, found, axis=axis)


get_item = composite(
    "get_item",
    ("x",),
    _get_item,
    attributes=(Attribute("axis", AXIS), Attribute("indices", INDICES)),
    examples=(
        ex((2, 3), axis=0, indices=[0, 0, 1]),
        ex((2, 3, 2), axis=1, indices=[1]),
        ex((2, 3), axis=-1, indices=2),
        ex((3,), axis=0, indices=[]),
        ex((0, 2), axis=1, indices=[1]),
    ),
    doc="Elements at fixed integer indices along an axis.",
)
