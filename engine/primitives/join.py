"""Joining, splitting, repeating and reordering of arrays along axes."""

import math
from functools import partial

import numpy as np

from engine.core import (
    AXIS,
    COUNTS,
    REPEATS,
    SIZES,
    Array,
    Attribute,
    Aval,
    BadAttributeError,
    Operand,
    ShapeMismatchError,
    ex,
    shape_of,
    slice_item,
)
from engine.primitives.index import slice as slice_
from engine.primitives.shape import Axes, broadcast_to, reshape, unsqueeze
from engine.rows import OVER_AXES, composite, normalize_axes, normalize_axis, primitive, promote

#: Cost of one operand, beside its elements.
_OPERAND = 200


def _concat_aval(*xs: Aval, axis: int) -> Aval:
    first = xs[0].shape
    if not first:
        raise ShapeMismatchError("concat: scalars have no axis to join along; use stack")
    a = normalize_axis("concat", axis, len(first))
    for x in xs[1:]:
        if x.shape[:a] + x.shape[a + 1 :] != first[:a] + first[a + 1 :] or len(x.shape) != len(first):
            raise ShapeMismatchError(f"concat: shapes {first} and {x.shape} differ outside axis {a}")
    return Aval((*first[:a], sum(x.shape[a] for x in xs), *first[a + 1 :]), promote(xs))


def _concat_vjp(g: Operand, y: Operand, *xs: Operand, axis: int) -> tuple[Operand, ...]:
    return split(g, tuple(shape_of(x)[axis] for x in xs), axis=axis)


def _concat(*xs: Array, axis: int, out: Array | None = None) -> Array:
    """Concatenate in C order; by default NumPy follows the layout of the operands."""
    return np.ascontiguousarray(np.concatenate(xs, axis=axis, out=out))


concat = primitive(
    "concat",
    ("x",),
    _concat,
    emit=lambda *xs, axis: partial(_concat, axis=axis),
    takes_out=True,
    kind="linear",
    is_fresh=True,
    variadic=True,
    attributes=(Attribute("axis", AXIS, 0),),
    vjp=_concat_vjp,
    infer=_concat_aval,
    flops=lambda *xs, out, axis: out.size + _OPERAND * len(xs),
    examples=(ex((2, 3), (1, 3)), ex((2, 3), (2, 1), (2, 2), axis=-1), ex((2,)), ex((0, 2), (1, 2))),
    aliases=("concatenate",),
    doc="Arrays joined along an existing axis.",
)


def _stack(*xs: Operand, axis: int) -> Operand:
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
    doc="Arrays joined along a new axis.",
)


#: An axis of length 0 divides into any number of parts; more would only take time and memory.
_MOST_EMPTY_PARTS = 1000


def _split(x: Operand, sizes: tuple[int, ...] | int, axis: int) -> tuple[Operand, ...]:
    shape = shape_of(x)
    a = normalize_axis("split", axis, len(shape))
    if isinstance(sizes, int):
        if sizes < 1 or shape[a] % sizes:
            raise ShapeMismatchError(f"split: length {shape[a]} does not divide into {sizes} equal parts")
        if sizes > max(shape[a], _MOST_EMPTY_PARTS):
            raise ShapeMismatchError(f"split: {sizes} parts of an axis of length 0; at most {_MOST_EMPTY_PARTS}")
        sizes = (shape[a] // sizes,) * sizes
    if any(n < 0 for n in sizes) or sum(sizes) != shape[a]:
        raise ShapeMismatchError(f"split: sizes {list(sizes)} do not sum to the length {shape[a]} of axis {a}")
    ends = np.cumsum(sizes)
    return tuple(
        slice_(x, (*[slice_item()] * a, slice_item(int(end) - n, int(end)))) for n, end in zip(sizes, ends, strict=True)
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
    doc="Parts of the given sizes along an axis, or a number of equal parts; several outputs.",
)


def _repeat(x: Operand, repeats: int, axis: int | None) -> Operand:
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
    doc="Each element repeated `repeats` times along an axis, by default of the flattened array.",
)


def _tile(x: Operand, reps: tuple[int, ...] | int) -> Operand:
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


def _flip(x: Operand, axes: Axes) -> Operand:
    over = normalize_axes("flip", axes, len(shape_of(x)))
    if not over:
        return reshape(x, shape_of(x))
    return slice_(x, tuple(slice_item(None, None, -1 if i in over else 1) for i in range(len(shape_of(x)))))


flip = composite(
    "flip",
    ("x",),
    _flip,
    attributes=(OVER_AXES,),
    examples=(ex((3,)), ex((2, 3), axes=1), ex((2, 3), axes=(0, -1)), ex((0, 2))),
    doc="Elements in reverse order along axes, by default all.",
)


def _roll(x: Operand, shift: tuple[int, ...] | int, axes: Axes) -> Operand:
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
            lead = [slice_item()] * a
            x = concat([slice_(x, (*lead, slice_item(cut))), slice_(x, (*lead, slice_item(None, cut)))], axis=a)
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
    doc="Elements shifted cyclically along axes, by default of the flattened array.",
)
