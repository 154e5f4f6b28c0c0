"""Reshaping, joining and repeating: what moves elements without changing them."""

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from engine.attributes import AXES, AXIS, COUNTS, REPEATS, SHAPE, SIZES, Attribute
from engine.batching import raised
from engine.errors import BadAttributeError, ShapeMismatchError
from engine.primitive import ex
from engine.primitives.index import slice as slice_
from engine.rows import (
    OVER_AXES,
    Row,
    broadcast_shapes,
    composite,
    normalize_axes,
    normalize_axis,
    primitive,
    promote,
    summed,
)
from engine.values import Aval, Shape, dtype_of, shape_of


def _no_flops(*avals: Aval, out: Aval, **attrs: Any) -> int:
    return 0


def _resolved_shape(x: Aval, shape: Shape) -> Shape:
    size = x.size
    if -1 in shape:
        known = math.prod(n for n in shape if n != -1)
        if known and size % known == 0:
            shape = tuple(size // known if n == -1 else n for n in shape)
    if -1 in shape or math.prod(shape) != size:
        raise ShapeMismatchError(f"reshape: {size} elements of shape {x.shape} do not fit shape {shape}")
    return shape


def _reshape_rows(op: Any, rows: int, xs: Any, batched: Any, attrs: dict[str, Any]) -> Any:
    x = xs[0]
    return reshape(x, (rows, *_resolved_shape(Aval(shape_of(x)[1:], dtype_of(x)), attrs["shape"])))


reshape: Row = primitive(
    "reshape",
    ("x",),
    lambda x, shape: np.reshape(x, shape),
    emit=lambda x, shape: operator.methodcaller("reshape", shape),
    kind="linear",
    batch=_reshape_rows,
    attributes=(Attribute("shape", SHAPE),),
    vjps=(lambda g, y, x, shape: reshape(g, shape_of(x)),),
    infer=lambda x, shape: Aval(_resolved_shape(x, shape), x.dtype),
    flops=_no_flops,
    examples=(ex((2, 3), shape=(3, 2)), ex((6,), shape=(2, -1)), ex((), shape=(1, 1)), ex((0, 2), shape=(0,))),
    doc="The same elements, in row-major order, in another shape; one length may be -1.",
)


def _permutation(ndim: int, axes: Any) -> tuple[int, ...]:
    if axes is None:
        return tuple(reversed(range(ndim)))
    axes = (axes,) if isinstance(axes, int) else axes
    order = tuple(normalize_axis("transpose", a, ndim) for a in axes)
    if sorted(order) != list(range(ndim)):
        raise BadAttributeError(f"transpose: axes {list(axes)} are not a permutation of {ndim} axes")
    return order


def _transpose_rows(op: Any, rows: int, xs: Any, batched: Any, attrs: dict[str, Any]) -> Any:
    return transpose(xs[0], (0, *(a + 1 for a in _permutation(len(shape_of(xs[0])) - 1, attrs["axes"]))))


transpose: Row = primitive(
    "transpose",
    ("x",),
    lambda x, axes: np.transpose(x, axes if axes is None or isinstance(axes, tuple) else (axes,)),
    emit=lambda x, axes: operator.methodcaller("transpose", *_permutation(len(x.shape), axes)),
    kind="linear",
    batch=_transpose_rows,
    attributes=(OVER_AXES,),
    vjps=(lambda g, y, x, axes: transpose(g, tuple(int(a) for a in np.argsort(_permutation(len(shape_of(x)), axes)))),),
    infer=lambda x, axes: Aval(tuple(x.shape[a] for a in _permutation(len(x.shape), axes)), x.dtype),
    flops=_no_flops,
    examples=(ex(()), ex((2, 3)), ex((2, 3, 2), axes=(0, 2, 1)), ex((2, 3, 1), axes=(-1, 0, 1)), ex((0, 2))),
    aliases=("permute_dims",),
    doc="Axes in another order; reversed where none is given.",
)


def _matrix_transpose(x: Any) -> Any:
    ndim = len(shape_of(x))
    if ndim < 2:
        raise ShapeMismatchError(f"matrix_transpose: expected at least 2 axes, got shape {shape_of(x)}")
    return transpose(x, (*range(ndim - 2), ndim - 1, ndim - 2))


matrix_transpose = composite(
    "matrix_transpose",
    ("x",),
    _matrix_transpose,
    examples=(ex((2, 3)), ex((2, 3, 1))),
    aliases=("transpose_matmul",),
    doc="The last two axes swapped.",
)


def _broadcast_rows(op: Any, rows: int, xs: Any, batched: Any, attrs: dict[str, Any]) -> Any:
    return broadcast_to(raised(xs[0], len(attrs["shape"])), (rows, *attrs["shape"]))


broadcast_to: Row = primitive(
    "broadcast_to",
    ("x",),
    lambda x, shape: np.broadcast_to(x, shape),
    kind="linear",
    batch=_broadcast_rows,
    attributes=(Attribute("shape", SHAPE),),
    vjps=(lambda g, y, x, shape: sum_to(g, shape_of(x)),),
    infer=lambda x, shape: Aval(_target("broadcast_to", x.shape, shape), x.dtype),
    examples=(ex((), shape=(2,)), ex((2, 1), shape=(2, 3)), ex((3,), shape=(2, 3)), ex((1,), shape=(0,))),
    doc="Repeated along new and unit axes to another shape.",
)


def _target(name: str, small: Shape, large: Shape) -> Shape:
    if any(n < 0 for n in large):
        raise BadAttributeError(f"{name}: shape {large} has a negative length")
    if broadcast_shapes(name, [small, large]) != large:
        raise ShapeMismatchError(f"{name}: shape {small} does not broadcast to {large}")
    return large


def _sum_to(x: Any, shape: Shape) -> Any:
    x = np.asarray(x)
    x = x.astype(summed(x.dtype), copy=x.shape == shape)
    axes = _summed_axes(x.shape, shape)
    return x.sum(axis=axes, keepdims=True).reshape(shape) if axes else x.reshape(shape)


def _summed_axes(large: Shape, small: Shape) -> tuple[int, ...]:
    lead = len(large) - len(small)
    return (*range(lead), *(i + lead for i, n in enumerate(small) if n == 1 and large[i + lead] != 1))


def _emitted_sum_to(x: Aval, shape: Shape) -> Callable[[Any], Any]:
    axes = _summed_axes(x.shape, shape)
    if x.dtype.kind == "f" and axes == tuple(range(len(x.shape) - len(shape))):
        return lambda v: np.add.reduce(v, axes)
    return lambda v: _sum_to(v, shape)


def _sum_to_aval(x: Aval, shape: Shape) -> Aval:
    if any(n < 0 for n in shape):
        raise BadAttributeError(f"sum_to: shape {shape} has a negative length")
    if len(shape) > len(x.shape) or broadcast_shapes("sum_to", [shape, x.shape]) != x.shape:
        raise ShapeMismatchError(
            f"sum_to: shape {x.shape} does not sum to {shape}; {shape} must broadcast to {x.shape}"
        )
    return Aval(shape, summed(x.dtype))


def _sum_rows(op: Any, rows: int, xs: Any, batched: Any, attrs: dict[str, Any]) -> Any:
    shape = attrs["shape"]
    missing = len(shape_of(xs[0])) - 1 - len(shape)
    return reshape(sum_to(xs[0], (rows, *(1,) * missing, *shape)), (rows, *shape))


sum_to: Row = primitive(
    "sum_to",
    ("x",),
    _sum_to,
    emit=_emitted_sum_to,
    kind="linear",
    is_fresh=True,
    batch=_sum_rows,
    attributes=(Attribute("shape", SHAPE),),
    vjps=(lambda g, y, x, shape: broadcast_to(g, shape_of(x)),),
    infer=_sum_to_aval,
    flops=lambda x, out, shape: x.size,
    examples=(ex((2, 3), shape=(1, 3)), ex((2, 3), shape=()), ex((2, 2, 3), shape=(2, 1)), ex((0, 2), shape=(2,))),
    doc="Sums over the axes that broadcasting from `shape` would repeat.",
)


def _squeeze(x: Any, axes: Any) -> Any:
    shape = shape_of(x)
    over = normalize_axes("squeeze", axes, len(shape))
    if axes is None:
        over = tuple(i for i in over if shape[i] == 1)
    wrong = [i for i in over if shape[i] != 1]
    if wrong:
        raise ShapeMismatchError(f"squeeze: axis {wrong[0]} of shape {shape} has length {shape[wrong[0]]}; expected 1")
    return reshape(x, tuple(n for i, n in enumerate(shape) if i not in over))


squeeze = composite(
    "squeeze",
    ("x",),
    _squeeze,
    attributes=(OVER_AXES,),
    examples=(ex((1, 3, 1)), ex((1, 3, 1), axes=(2,)), ex((1, 3), axes=0), ex(()), ex((3,)), ex((1, 0))),
    doc="Without the given axes of length 1 (all of them where none is given).",
)


def _unsqueeze(x: Any, axes: Any) -> Any:
    shape = list(shape_of(x))
    for a in normalize_axes("unsqueeze", axes, len(shape) + (1 if isinstance(axes, int) else len(axes))):
        shape.insert(a, 1)
    return reshape(x, tuple(shape))


unsqueeze = composite(
    "unsqueeze",
    ("x",),
    _unsqueeze,
    attributes=(Attribute("axes", AXES, spellings=("axis",)),),
    examples=(ex((2, 3), axes=1), ex((2, 3), axes=-1), ex((), axes=0), ex((2,), axes=(0, 2))),
    doc="With new axes of length 1 at the given places of the result.",
)
expand_dims = composite(
    "expand_dims",
    ("x",),
    lambda x, axis: unsqueeze(x, axis),
    attributes=(Attribute("axis", AXES, 0, ("axes",)),),
    examples=(ex((2, 3)), ex((2,), axis=-1)),
    alias_of="unsqueeze",
    doc="With a new axis of length 1.",
)


def _concat_aval(*xs: Aval, axis: int) -> Aval:
    first = xs[0].shape
    if not first:
        raise ShapeMismatchError("concat: scalars have no axis to join along; use stack")
    a = normalize_axis("concat", axis, len(first))
    for x in xs[1:]:
        if x.shape[:a] + x.shape[a + 1 :] != first[:a] + first[a + 1 :] or len(x.shape) != len(first):
            raise ShapeMismatchError(f"concat: shapes {first} and {x.shape} differ outside axis {a}")
    return Aval((*first[:a], sum(x.shape[a] for x in xs), *first[a + 1 :]), promote(xs))


def _concat_vjp(g: Any, y: Any, *xs: Any, axis: int) -> tuple[Any, ...]:
    return split(g, [shape_of(x)[axis] for x in xs], axis=axis)  # type: ignore[no-any-return]


concat = primitive(
    "concat",
    ("x",),
    # Row after row, as plans lay it out; left to itself NumPy follows the operands.
    lambda *xs, axis: np.ascontiguousarray(np.concatenate(xs, axis=axis)),
    kind="linear",
    is_fresh=True,
    variadic=True,
    attributes=(Attribute("axis", AXIS, 0),),
    vjp=_concat_vjp,
    infer=_concat_aval,
    flops=_no_flops,
    examples=(ex((2, 3), (1, 3)), ex((2, 3), (2, 1), (2, 2), axis=-1), ex((2,)), ex((0, 2), (1, 2))),
    aliases=("concatenate",),
    doc="Joined along an existing axis.",
)


def _stack(*xs: Any, axis: int) -> Any:
    shapes = {shape_of(x) for x in xs}
    if len(shapes) > 1:
        raise ShapeMismatchError(f"stack: shapes {' and '.join(str(shape_of(x)) for x in xs)} differ")
    return concat([unsqueeze(x, axis) for x in xs], axis=axis)


stack = composite(
    "stack",
    ("x",),
    _stack,
    variadic=True,
    attributes=(Attribute("axis", AXIS, 0),),
    examples=(ex((2, 3), (2, 3)), ex((2,), (2,), (2,), axis=-1), ex((), ()), ex((0,), (0,))),
    doc="Joined along a new axis.",
)


def _split(x: Any, sizes: Any, axis: int) -> tuple[Any, ...]:
    shape = shape_of(x)
    a = normalize_axis("split", axis, len(shape))
    if isinstance(sizes, int):
        if sizes < 1 or shape[a] % sizes:
            raise ShapeMismatchError(f"split: length {shape[a]} does not divide into {sizes} equal parts")
        sizes = (shape[a] // sizes,) * sizes
    if any(n < 0 for n in sizes) or sum(sizes) != shape[a]:
        raise ShapeMismatchError(f"split: sizes {list(sizes)} do not sum to the length {shape[a]} of axis {a}")
    ends = np.cumsum(sizes)
    return tuple(
        slice_(x, (*[slice(None)] * a, slice(int(end) - n, int(end)))) for n, end in zip(sizes, ends, strict=True)
    )


split = composite(
    "split",
    ("x",),
    _split,
    outputs=lambda sizes, axis: sizes if isinstance(sizes, int) else len(sizes),
    attributes=(Attribute("sizes", SIZES), Attribute("axis", AXIS, 0)),
    examples=(
        ex((3, 2), sizes=(1, 2)),
        ex((2, 4), sizes=(2, 1, 1), axis=1),
        ex((4,), sizes=2),
        ex((0, 2), sizes=(0, 0)),
    ),
    doc="Cut along an axis into parts of the given sizes, or into a number of equal parts; several outputs.",
)


def _repeat(x: Any, repeats: int, axis: int | None) -> Any:
    if axis is None:
        x, axis = reshape(x, (-1,) if math.prod(shape_of(x)) else (0,)), 0
    shape = shape_of(x)
    a = normalize_axis("repeat", axis, len(shape))
    wide = broadcast_to(unsqueeze(x, a + 1), (*shape[: a + 1], repeats, *shape[a + 1 :]))
    return reshape(wide, (*shape[:a], shape[a] * repeats, *shape[a + 1 :]))


repeat = composite(
    "repeat",
    ("x",),
    _repeat,
    attributes=(Attribute("repeats", REPEATS), Attribute("axis", AXIS, None)),
    examples=(
        ex((2, 3), repeats=2),
        ex((2, 3), repeats=2, axis=-1),
        ex((), repeats=3),
        ex((2,), repeats=0, axis=0),
        ex((0, 2), repeats=2, axis=1),
    ),
    doc="Each element `repeats` times along an axis (of the flattened array where none is given).",
)


def _tile(x: Any, reps: Any) -> Any:
    reps = (reps,) if isinstance(reps, int) else reps
    if any(r < 0 for r in reps):
        raise BadAttributeError(f"tile: reps {list(reps)} has a negative number")
    shape = shape_of(x)
    ndim = max(len(shape), len(reps))
    shape = (1,) * (ndim - len(shape)) + shape
    reps = (1,) * (ndim - len(reps)) + reps
    thin = tuple(n for length in shape for n in (1, length))
    wide = tuple(n for r, length in zip(reps, shape, strict=True) for n in (r, length))
    return reshape(broadcast_to(reshape(x, thin), wide), tuple(r * n for r, n in zip(reps, shape, strict=True)))


tile = composite(
    "tile",
    ("x",),
    _tile,
    attributes=(Attribute("reps", COUNTS),),
    examples=(ex((2,), reps=3), ex((2, 3), reps=(2, 1)), ex((2,), reps=(2, 2)), ex((), reps=2), ex((2,), reps=0)),
    doc="The whole array repeated along each axis.",
)


def _flip(x: Any, axes: Any) -> Any:
    over = normalize_axes("flip", axes, len(shape_of(x)))
    if not over:
        return reshape(x, shape_of(x))
    return slice_(x, tuple(slice(None, None, -1 if i in over else 1) for i in range(len(shape_of(x)))))


flip = composite(
    "flip",
    ("x",),
    _flip,
    attributes=(OVER_AXES,),
    examples=(ex((3,)), ex((2, 3), axes=1), ex((2, 3), axes=(0, -1)), ex((0, 2))),
    doc="Elements in reverse order along axes (all where none is given).",
)


def _roll(x: Any, shift: Any, axes: Any) -> Any:
    shape = shape_of(x)
    if axes is None:
        flat = reshape(x, (math.prod(shape),))
        return reshape(_roll(flat, (sum(shift) if isinstance(shift, tuple) else shift,), (0,)), shape)
    axes = (axes,) if isinstance(axes, int) else axes
    shifts = (shift,) * len(axes) if isinstance(shift, int) else shift
    if len(shifts) != len(axes):
        raise BadAttributeError(f"roll: {len(shifts)} shifts for {len(axes)} axes")
    for s, axis in zip(shifts, axes, strict=True):
        a = normalize_axis("roll", axis, len(shape))
        cut = -s % shape[a] if shape[a] else 0
        if cut:
            lead = [slice(None)] * a
            x = concat([slice_(x, (*lead, slice(cut, None))), slice_(x, (*lead, slice(None, cut)))], axis=a)
    return reshape(x, shape)


roll = composite(
    "roll",
    ("x",),
    _roll,
    attributes=(Attribute("shift", COUNTS), OVER_AXES),
    examples=(
        ex((4,), shift=1),
        ex((3,), shift=0, axes=0),
        ex((2, 3), shift=-2),
        ex((2, 3), shift=(1, 2), axes=(0, 1)),
        ex((0,), shift=1),
    ),
    doc="Elements shifted around along axes (of the flattened array where none is given).",
)
