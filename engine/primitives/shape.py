"""Reshaping, transposing and broadcasting of arrays."""

import math
import operator
from collections.abc import Callable, Sequence

import numpy as np

from engine.core import (
    AXES,
    SHAPE,
    Array,
    Attribute,
    Attributes,
    Aval,
    BadAttributeError,
    Operand,
    Operation,
    Shape,
    ShapeMismatchError,
    dtype_of,
    ex,
    shape_of,
)
from engine.rows import (
    LOOP,
    OVER_AXES,
    Row,
    broadcast_shapes,
    composite,
    loops,
    normalize_axes,
    normalize_axis,
    primitive,
    summed,
)
from engine.tracers import raised

#: Axes of an operation: one, several, or None for all of them.
Axes = tuple[int, ...] | int | None


def no_flops(*avals: Aval, out: Aval, **attrs: object) -> int:
    """Return 0: moving elements takes no arithmetic."""
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


def _reshape_rows(
    op: Operation, rows: int, xs: Sequence[Operand], batched: Sequence[bool], attrs: Attributes
) -> Operand:
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
    flops=no_flops,
    examples=(ex((2, 3), shape=(3, 2)), ex((6,), shape=(2, -1)), ex((), shape=(1, 1)), ex((0, 2), shape=(0,))),
    doc="Elements in row-major order in another shape; one length may be -1.",
)


def _permutation(ndim: int, axes: Axes) -> tuple[int, ...]:
    if axes is None:
        return tuple(reversed(range(ndim)))
    axes = (axes,) if isinstance(axes, int) else axes
    order = tuple(normalize_axis("transpose", a, ndim) for a in axes)
    if sorted(order) != list(range(ndim)):
        raise BadAttributeError(f"transpose: axes {list(axes)} are not a permutation of {ndim} axes")
    return order


def _transpose_rows(
    op: Operation, rows: int, xs: Sequence[Operand], batched: Sequence[bool], attrs: Attributes
) -> Operand:
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
    flops=no_flops,
    examples=(ex(()), ex((2, 3)), ex((2, 3, 2), axes=(0, 2, 1)), ex((2, 3, 1), axes=(-1, 0, 1)), ex((0, 2))),
    aliases=("permute_dims",),
    doc="Axes in another order, by default reversed.",
)


def _matrix_transpose(x: Operand) -> Operand:
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
    doc="Last two axes swapped.",
)


def _broadcast_rows(
    op: Operation, rows: int, xs: Sequence[Operand], batched: Sequence[bool], attrs: Attributes
) -> Operand:
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
    doc="x repeated along new axes and axes of length 1, to another shape.",
)


def _target(name: str, small: Shape, large: Shape) -> Shape:
    if any(n < 0 for n in large):
        raise BadAttributeError(f"{name}: shape {large} has a negative length")
    if broadcast_shapes(name, [small, large]) != large:
        raise ShapeMismatchError(f"{name}: shape {small} does not broadcast to {large}")
    return large


def _sum_to(x: Array, shape: Shape) -> Array:
    x = np.asarray(x)
    x = x.astype(summed(x.dtype), copy=x.shape == shape)
    axes = _summed_axes(x.shape, shape)
    return x.sum(axis=axes, keepdims=True).reshape(shape) if axes else x.reshape(shape)


def _summed_axes(large: Shape, small: Shape) -> tuple[int, ...]:
    lead = len(large) - len(small)
    return (*range(lead), *(i + lead for i, n in enumerate(small) if n == 1 and large[i + lead] != 1))


def _emitted_sum_to(x: Aval, shape: Shape) -> Callable[[Array], Array]:
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


def _sum_rows(op: Operation, rows: int, xs: Sequence[Operand], batched: Sequence[bool], attrs: Attributes) -> Operand:
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
    flops=lambda x, out, shape: x.size + LOOP * loops(x.shape),
    examples=(ex((2, 3), shape=(1, 3)), ex((2, 3), shape=()), ex((2, 2, 3), shape=(2, 1)), ex((0, 2), shape=(2,))),
    doc="Sum over the axes that broadcasting from `shape` would repeat.",
)


def _squeeze(x: Operand, axes: Axes) -> Operand:
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
    doc="x without the given axes of length 1, by default all of them.",
)


def _unsqueeze(x: Operand, axes: tuple[int, ...] | int) -> Operand:
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
    doc="x with new axes of length 1 at the given places of the result.",
)
expand_dims = composite(
    "expand_dims",
    ("x",),
    lambda x, axis: unsqueeze(x, axis),
    attributes=(Attribute("axis", AXES, 0, ("axes",)),),
    examples=(ex((2, 3)), ex((2,), axis=-1)),
    alias_of="unsqueeze",
    doc="x with a new axis of length 1.",
)
