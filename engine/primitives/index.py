"""Indexing: slices, and their derivatives, additions at an index."""

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from engine.core import (
    INDEX,
    Array,
    Attribute,
    Attributes,
    Aval,
    BadAttributeError,
    Operand,
    Operation,
    Shape,
    ShapeMismatchError,
    Value,
    aval,
    ex,
    flat_view,
    shape_of,
)
from engine.primitives.arithmetic import zeros_like
from engine.rows import Row, broadcast_shapes, primitive, promote
from engine.tracers import permuted, raised, repeated

Index = tuple[Any, ...]
#: Cost of adding at one place of a list of places.
ADD_AT = 60
#: Length of an item that was a mask: ("ints", Integers, length).
_MASK_ITEM = 3


def _numpy_index(index: Index) -> Index:
    return tuple(_numpy_item(item) if isinstance(item, tuple) else item for item in index)


def _numpy_item(item: tuple[Any, ...]) -> Any:
    return _PySlice(*item[1:]) if item[0] == "slice" else np.asarray(item[1], np.int64)


_PySlice = slice


def _sliced(x: Array, index: Index) -> Array:
    if any(isinstance(item, tuple) and len(item) == _MASK_ITEM for item in index):
        # NumPy gets the indices of the mask's true elements, so it cannot check the mask's length.
        items = (item for item in _expanded(shape_of(x), index) if item is not None)
        for axis, (item, length) in enumerate(zip(items, shape_of(x), strict=True)):
            _check_mask(item, length, axis)
    return _at(index)(np.asarray(x))


def _at(index: Index) -> Callable[[Array], Array]:
    """Return a function that indexes arrays; for a single list it uses `take`, which is twice as fast in C order."""
    found = operator.itemgetter(_numpy_index(index))
    if len(index) != 1 or not _has_lists(index):
        return found
    take_first = operator.methodcaller("take", _numpy_item(index[0]), 0)
    return lambda x: take_first(x) if x.flags.c_contiguous else found(x)


def _expanded(shape: Shape, index: Index) -> list[Any]:
    """Expand the ellipsis of an index: one item per axis, plus the new axes."""
    used = sum(item is not None and item is not Ellipsis for item in index)
    if used > len(shape):
        raise BadAttributeError(f"slice: {used} indices for shape {shape}")
    everything = [("slice", None, None, None)] * (len(shape) - used)
    items = list(index)
    at = next((i for i, item in enumerate(items) if item is Ellipsis), None)
    return [*items, *everything] if at is None else [*items[:at], *everything, *items[at + 1 :]]


def _check_bounds(item: Any, length: int, axis: int) -> None:
    found = np.asarray(item, np.int64)
    if found.size and not (-length <= found.min() and found.max() < length):
        wrong = found[(found < -length) | (found >= length)].flat[0]
        raise BadAttributeError(f"slice: index {wrong} is out of range for axis {axis} of length {length}")


def _check_mask(item: Any, length: int, axis: int) -> None:
    if isinstance(item, tuple) and len(item) == _MASK_ITEM and item[2] != length:
        raise BadAttributeError(f"slice: a mask of length {item[2]} does not fit axis {axis} of length {length}")


def _index_shape(shape: Shape, index: Index) -> Shape:
    """Return the shape of x[index], by NumPy's rules.

    An integer removes its axis; lists broadcast together, and their axes stay in place if adjacent, otherwise come
    first.
    """
    result: list[int] = []
    lists: list[Shape] = []
    where: list[int] = []  # places of the lists in the expanded index
    position = 0
    axis = 0
    advanced = any(isinstance(item, tuple) and item[0] == "ints" for item in index)
    for n, item in enumerate(_expanded(shape, index)):
        if item is None:
            result.append(1)
            continue
        if isinstance(item, tuple) and item[0] == "slice":
            # Not len(range(...)), which is limited to 63 bits; shapes that are only inferred are not.
            start, stop, step = _PySlice(*item[1:]).indices(shape[axis])
            result.append(max(0, -((start - stop) // step)))
        else:
            ints = item[1] if isinstance(item, tuple) else item
            _check_mask(item, shape[axis], axis)
            _check_bounds(ints, shape[axis], axis)
            if advanced:
                if not where:
                    position = len(result)
                where.append(n)
                lists.append(np.shape(ints))
        axis += 1
    if where and where[-1] - where[0] != len(where) - 1:
        position = 0
    result[position:position] = broadcast_shapes("slice", lists)
    return tuple(result)


def _split_lists(shape: Shape, index: Index) -> int:
    """Return the number of result axes from lists of integers that NumPy puts first; 0 if the lists are adjacent."""
    items = [item for item in _expanded(shape, index) if item is not None]
    lists = [item[1] for item in items if isinstance(item, tuple) and item[0] == "ints"]
    positions = [
        n for n, item in enumerate(_expanded(shape, index)) if isinstance(item, int) or (item and item[0] == "ints")
    ]
    is_split = lists and positions[-1] - positions[0] >= len(positions)
    return len(np.broadcast_shapes(*map(np.shape, lists))) if is_split else 0


def _slice_rows(op: Operation, rows: int, xs: Sequence[Operand], batched: Sequence[bool], attrs: Attributes) -> Operand:
    shape = shape_of(xs[0])[1:]
    y = slice(xs[0], (("slice", None, None, None), *_expanded(shape, attrs["index"])))
    first = _split_lists(shape, attrs["index"])
    return permuted(y, (first, *range(first), *range(first + 1, len(shape_of(y))))) if first else y


def row_updates(updates: Operand, is_batched: bool, rows: int, ndim: int) -> Operand:
    """Return updates of `ndim` axes for each row; one number for all rows stays as it is, as it may be weak."""
    if is_batched or shape_of(updates):
        return raised(updates if is_batched else repeated(updates, rows), ndim)
    return updates


def _slice_add_rows(
    op: Operation, rows: int, xs: Sequence[Operand], batched: Sequence[bool], attrs: Attributes
) -> Operand:
    x = xs[0] if batched[0] else repeated(xs[0], rows)
    shape = shape_of(x)[1:]
    updates = row_updates(xs[1], batched[1], rows, len(_index_shape(shape, attrs["index"])))
    first = _split_lists(shape, attrs["index"])
    if first and shape_of(updates):
        updates = permuted(updates, (*range(1, first + 1), 0, *range(first + 1, len(shape_of(updates)))))
    return slice_add(x, updates, (("slice", None, None, None), *_expanded(shape, attrs["index"])))


slice: Row = primitive(
    "slice",
    ("x",),
    _sliced,
    emit=lambda x, index: _at(index),
    kind="linear",
    batch=_slice_rows,
    attributes=(Attribute("index", INDEX),),
    vjps=(lambda g, y, x, index: slice_add(zeros_like(x), g, index),),
    infer=lambda x, index: Aval(_index_shape(x.shape, index), x.dtype),
    flops=lambda x, out, index: 10 * out.size if _has_lists(index) else out.size,
    examples=(
        ex((3,), index=(0,)),
        ex((3, 4), index=({"start": 1}, {"step": -2})),
        ex((3, 4), index=("...", -1)),
        ex((3,), index=("newaxis", {"stop": 2})),
        ex((3, 4), index=([0, 0, 2],)),
        ex((3, 4, 2), index=([0, 2], {"start": 0}, [1, 1])),
        ex((2, 3, 4), index=({}, [[0, 1]], [1, 3])),
        ex((), index=("newaxis",)),
        ex((0, 2), index=({}, 0)),
    ),
    doc="x[index]: integers, slices, new axes, an ellipsis and lists of integers, as in NumPy.",
)


def _has_lists(index: Index) -> bool:
    return any(isinstance(item, tuple) and item[0] == "ints" for item in index)


def _index_flops(shape: Shape, index: Index) -> int:
    return ADD_AT * math.prod(_index_shape(shape, index))


def _emitted_slice_add(x: Aval, updates: Aval, index: Index) -> Callable[..., Array]:
    has_lists = _has_lists(index)
    key = _numpy_index(index if has_lists or Ellipsis in index else (*index, Ellipsis))
    dtype = promote((x, updates))

    def add(x: Array, updates: Value, out: Array | None = None) -> Array:
        if out is None:
            out = np.array(x, dtype=dtype, order="C")
        elif out is not x:
            np.copyto(out, x)
        if has_lists:
            add_at(out, np.arange(out.size).reshape(out.shape)[key], updates)
        else:
            # With an ellipsis `part` is a view even of one element; `out[key] += updates` would write it twice.
            part = out[key]
            part += updates
        return out

    return add


def add_at(y: Array, indices: Array, updates: Value) -> None:
    """Add updates at flat indices of an array in C order; NumPy's add.at on several axes is slow, beyond 32 unsafe.

    Raises:
        ValueError: the array is not in C order.
    """
    np.add.at(flat_view(y), np.ravel(indices), np.ravel(np.broadcast_to(updates, np.shape(indices))))


def _slice_add_aval(x: Aval, updates: Aval, index: Index) -> Aval:
    target = _index_shape(x.shape, index)
    if broadcast_shapes("slice_add", [target, updates.shape]) != target:
        raise ShapeMismatchError(f"slice_add: updates of shape {updates.shape} do not fit the slice of shape {target}")
    return Aval(x.shape, promote((x, updates)))


slice_add: Row = primitive(
    "slice_add",
    ("x", "updates"),
    lambda x, updates, index: _emitted_slice_add(aval(x), aval(updates), index)(x, updates),
    emit=_emitted_slice_add,
    takes_out=True,
    kind="linear",
    is_fresh=True,
    batch=_slice_add_rows,
    attributes=(Attribute("index", INDEX),),
    vjps=(lambda g, y, x, updates, index: g, lambda g, y, x, updates, index: slice(g, index)),
    infer=_slice_add_aval,
    flops=lambda x, updates, out, index: out.size + (_index_flops(x.shape, index) if _has_lists(index) else 0),
    examples=(
        ex((3,), (), index=(0,)),
        ex((3, 4), (2, 2), index=({"start": 1}, {"step": -2})),
        ex((3, 4), (3, 4), index=([0, 0, 2],)),
        ex((3, 4), (4,), index=({"start": 1},)),
    ),
    doc="x with `updates` added at an index; updates of a repeated place accumulate.",
)
