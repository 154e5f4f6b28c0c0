"""Products of vectors and matrices, triangles and diagonals."""

import math
from collections.abc import Sequence

import numpy as np

from engine.core import (
    AXIS,
    INT,
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
from engine.primitives.index import slice as slice_
from engine.primitives.reduce import sum
from engine.primitives.shape import matrix_transpose, reshape, sum_to, transpose
from engine.rows import Row, broadcast_shapes, composite, normalize_axis, primitive, promote
from engine.tracers import raised


def _matmul_aval(a: Aval, b: Aval) -> Aval:
    if not a.shape or not b.shape:
        raise ShapeMismatchError(
            f"matmul: expected at least 1 axis, got shapes {a.shape} and {b.shape}; use * for scalars"
        )
    inner = b.shape[-2] if len(b.shape) > 1 else b.shape[0]
    if a.shape[-1] != inner:
        raise ShapeMismatchError(f"matmul: shapes {a.shape} and {b.shape} do not align: {a.shape[-1]} != {inner}")
    batch = broadcast_shapes("matmul", [a.shape[:-2], b.shape[:-2]])
    return Aval((*batch, *a.shape[-2:-1], *(b.shape[-1:] if len(b.shape) > 1 else ())), promote((a, b)))


def _as_matrices(g: Operand, a: Operand, b: Operand) -> tuple[Operand, Operand, Operand]:
    """Reshape a left vector to a row, a right vector to a column, and the cotangent to match."""
    shape_a, shape_b, shape_g = shape_of(a), shape_of(b), shape_of(g)
    if len(shape_a) == 1:
        a = reshape(a, (1, *shape_a))
        shape_g = (*shape_g[:-1], 1, *shape_g[-1:]) if len(shape_b) > 1 else (1,)
    if len(shape_b) == 1:
        b = reshape(b, (*shape_b, 1))
        shape_g = (*shape_g, 1)
    return reshape(g, shape_g), a, b


def _matmul_left(g: Operand, y: Operand, a: Operand, b: Operand) -> Operand:
    if len(shape_of(a)) <= len(shape_of(b)) == 2:
        return matmul(g, b.T)  # type: ignore[union-attr]
    g, matrix, b = _as_matrices(g, a, b)
    return reshape(sum_to(matmul(g, matrix_transpose(b)), shape_of(matrix)), shape_of(a))


def _matmul_right(g: Operand, y: Operand, a: Operand, b: Operand) -> Operand:
    if len(shape_of(b)) <= len(shape_of(a)) == 2:
        return matmul(a.T, g)  # type: ignore[union-attr]
    g, a, matrix = _as_matrices(g, a, b)
    return reshape(sum_to(matmul(matrix_transpose(a), g), shape_of(matrix)), shape_of(b))


#: Products of integers, which BLAS has not, take as long as this many of floats; columns of a matrix of more than
#: _CACHED elements are read from memory again and again.
_INTEGER_PRODUCT, _UNCACHED_PRODUCT = 16, 32
_CACHED = 1 << 12
#: Cost of one product of a stack, beside its multiplications.
_PRODUCT = 10


def _matmul_flops(a: Aval, b: Aval, out: Aval) -> int:
    flops = 2 * out.size * a.shape[-1]
    if len(a.shape) > 2 or len(b.shape) > 2:
        flops += _PRODUCT * max(math.prod(x.shape[:-2]) for x in (a, b, out))
    if out.dtype.kind == "f":
        return flops
    is_cached = len(b.shape) == 1 or math.prod(b.shape[-2:]) <= _CACHED
    return flops * (_INTEGER_PRODUCT if is_cached else _UNCACHED_PRODUCT)


def _matmul_rows(
    op: Operation, rows: int, xs: Sequence[Operand], batched: Sequence[bool], attrs: Attributes
) -> Operand:
    """Batching rule of matmul: one large product if an operand is the same for all rows, otherwise a stack."""
    a, b = xs
    dims = len(shape_of(a)) - batched[0], len(shape_of(b)) - batched[1]
    if not batched[1] and dims[1] <= 2:
        if dims[0] == 1 or dims[1] == 1:
            return matmul(a, b)
        flat = reshape(a, (math.prod(shape_of(a)[:-1]), shape_of(a)[-1]))
        return reshape(matmul(flat, b), (*shape_of(a)[:-1], shape_of(b)[-1]))
    if not batched[0] and dims == (2, 1):
        return matmul(b, transpose(a))
    row = op.infer(*(Aval(shape_of(x)[m:], dtype_of(x)) for x, m in zip(xs, batched, strict=True)))
    a = reshape(a, (*shape_of(a)[:-1], 1, shape_of(a)[-1])) if dims[0] == 1 else a
    b = reshape(b, (*shape_of(b), 1)) if dims[1] == 1 else b
    ndim = max(*dims, 2)
    a, b = (raised(x, ndim) if m else x for x, m in zip((a, b), batched, strict=True))
    return reshape(matmul(a, b), (rows, *row.shape))


matmul: Row = primitive(
    "matmul",
    ("x1", "x2"),
    np.matmul,
    ufunc=np.matmul,
    is_fresh=True,
    kind="bilinear",
    batch=_matmul_rows,
    vjps=(_matmul_left, _matmul_right),
    infer=_matmul_aval,
    flops=_matmul_flops,
    symbol="@",
    examples=(
        ex((2, 3), (3, 2)),
        ex((3,), (3,)),
        ex((3,), (3, 2)),
        ex((2, 3), (3,)),
        ex((2, 2, 3), (3, 2)),
        ex((2, 3), (2, 3, 1)),
        ex((3,), (2, 3, 2)),
        ex((2, 2, 3), (3,)),
        ex((2, 1, 2, 3), (3, 3, 2)),
        ex((2, 0), (0, 3)),
    ),
    doc="Matrix product, batched over leading axes; a vector is a row on the left and a column on the right.",
)
linear = composite(
    "linear",
    ("x", "w", "b"),
    lambda x, w, b=None: matmul(x, w) if b is None else matmul(x, w) + b,
    required=2,
    examples=(ex((2, 3), (3, 4), (1, 4)), ex((2, 3), (3, 4)), ex((2, 3), (3, 2), (2,))),
    doc="x @ w + b: a layer of weights and biases.",
)


def _outer(x1: Operand, x2: Operand) -> Operand:
    n, m = (int(np.prod(shape_of(x), dtype=object)) for x in (x1, x2))
    return reshape(x1, (n, 1)) * reshape(x2, (1, m))


outer = composite(
    "outer",
    ("x1", "x2"),
    _outer,
    examples=(ex((2,), (3,)), ex((2, 2), ())),
    doc="Products of all elements of x1 with all of x2.",
)


def _triangle_aval(name: str, x: Aval) -> Aval:
    if len(x.shape) < 2:
        raise ShapeMismatchError(f"{name}: expected at least 2 axes, got shape {x.shape}")
    return Aval(x.shape, x.dtype)


triu: Row = primitive(
    "triu",
    ("x",),
    lambda x, k: np.triu(x, k),
    kind="linear",
    attributes=(Attribute("k", INT, 0),),
    vjps=(lambda g, y, x, k: triu(g, k),),
    infer=lambda x, k: _triangle_aval("triu", x),
    examples=(ex((3, 3)), ex((2, 3), k=1), ex((2, 3, 3), k=-1)),
    doc="Upper triangle of the last two axes: zeros below the k-th diagonal.",
)
tril: Row = primitive(
    "tril",
    ("x",),
    lambda x, k: np.tril(x, k),
    kind="linear",
    attributes=(Attribute("k", INT, 0),),
    vjps=(lambda g, y, x, k: tril(g, k),),
    infer=lambda x, k: _triangle_aval("tril", x),
    examples=(ex((3, 3)), ex((2, 3), k=1), ex((2, 3, 3), k=-1)),
    doc="Lower triangle of the last two axes: zeros above the k-th diagonal.",
)


def _diagonal(x: Operand, offset: int, axis1: int, axis2: int) -> Operand:
    shape = shape_of(x)
    if len(shape) < 2:
        raise ShapeMismatchError(f"diagonal: expected at least 2 axes, got shape {shape}")
    a, b = (normalize_axis("diagonal", axis, len(shape)) for axis in (axis1, axis2))
    if a == b:
        raise BadAttributeError(f"diagonal: axis1 and axis2 are both {a}")
    rest = tuple(i for i in range(len(shape)) if i not in (a, b))
    n, m = shape[a], shape[b]
    count = max(0, min(n, m - offset) if offset >= 0 else min(n + offset, m))
    start = offset if offset >= 0 else -offset * m
    flat = reshape(transpose(x, (*rest, a, b)), (*(shape[i] for i in rest), n * m))
    stop = start + (count - 1) * (m + 1) + 1 if count else start
    return slice_(flat, (..., slice_item(start, stop, m + 1)))


diagonal = composite(
    "diagonal",
    ("x",),
    _diagonal,
    attributes=(Attribute("offset", INT, 0), Attribute("axis1", AXIS, 0), Attribute("axis2", AXIS, 1)),
    examples=(
        ex((3, 3)),
        ex((2, 3), offset=1),
        ex((3, 2), offset=-2),
        ex((2, 3, 3), axis1=1, axis2=-1),
        ex((2, 2), offset=5),
    ),
    doc="Diagonal of two axes, as the last axis of the result.",
)
trace = composite(
    "trace",
    ("x",),
    lambda x, offset, axis1, axis2: sum(diagonal(x, offset=offset, axis1=axis1, axis2=axis2), axes=-1),
    attributes=(
        Attribute("offset", INT, 0),
        Attribute("axis1", AXIS, 0),
        Attribute("axis2", AXIS, 1),
    ),
    examples=(ex((3, 3)), ex((2, 3), offset=1), ex((2, 3, 3), axis1=1, axis2=2)),
    doc="Sum of a diagonal of two axes.",
)
