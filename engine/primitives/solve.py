"""Linear systems, inverses and Cholesky factors of stacks of matrices.

If LAPACK rejects a matrix (a singular one, or one that is not positive definite), only its own result is NaN.
"""

import math
from collections.abc import Sequence

import numpy as np

from engine.core import (
    Array,
    Attribute,
    Attributes,
    Aval,
    Operand,
    Operation,
    Shape,
    ShapeMismatchError,
    dtype_of,
    ex,
    shape_of,
)
from engine.core.attributes import BOOL
from engine.primitives import lapack
from engine.primitives.linalg import matmul, tril
from engine.primitives.shape import matrix_transpose, reshape
from engine.rows import Row, broadcast_shapes, floating, primitive, promote
from engine.tracers import leading, raised

_WELL_POSED = [[2.0, 0.3, -0.4], [0.5, -1.5, 0.6], [-0.2, 0.7, 1.2]]


def check_square(name: str, shape: Shape) -> Shape:
    """Return the shape, which must be that of a stack of square matrices.

    Raises:
        ShapeMismatchError: it is not.
    """
    if len(shape) < 2 or shape[-1] != shape[-2]:
        raise ShapeMismatchError(f"{name}: expected square matrices, got shape {shape}")
    return shape


def in_common_dtype(*xs: Array) -> list[Array]:
    """Convert arrays to the floating dtype to which all promote; numpy.linalg's own rule treats bool as float64."""
    dtype = floating(np.result_type(*xs))
    return [np.asarray(x, dtype) for x in xs]


def _as_columns(x: Operand, b: Operand) -> Operand:
    """Reshape x to matrices of one column if `b` is a vector."""
    return reshape(x, (*shape_of(x), 1)) if len(shape_of(b)) == 1 else x


def _solve(a: Array, b: Array) -> Array:
    _check_solve(np.shape(a), np.shape(b))
    a, b = in_common_dtype(a, b)
    if b.ndim == 1:
        return lapack.solution(a, b[:, np.newaxis])[..., 0]
    return lapack.solution(a, b)


def _check_solve(a: Shape, b: Shape) -> Shape:
    """Return the shape of the solution.

    Raises:
        ShapeMismatchError: `a` is not square, or `b` does not fit.
    """
    n = check_square("solve", a)[-1]
    if not b or n != (b[0] if len(b) == 1 else b[-2]):
        raise ShapeMismatchError(f"solve: matrices of shape {a} need a right-hand side of {n} rows, got shape {b}")
    if len(b) == 1:
        return a[:-1]
    return (*broadcast_shapes("solve", [a[:-2], b[:-2]]), *b[-2:])


def lapack_flops(shape: Shape, cubic: int, square: int = 100, each: int = 100) -> int:
    """Return the cost of a routine on matrices of n rows: cubic * n**3 / 3 + square * n**2 + each, times the stack.

    The last two are what small matrices take: LAPACK checks and copies each.
    """
    n = shape[-1]
    return math.prod(shape[:-2]) * (cubic * n**3 // 3 + square * n**2 + each)


def _solve_flops(a: Aval, b: Aval, out: Aval) -> int:
    n = a.shape[-1]
    stack, columns = (out.shape[:-2], b.shape[-1]) if len(b.shape) > 1 else (out.shape[:-1], 1)
    sides = math.prod(stack) * (2 * n * n * columns + 100 * n * columns)
    return lapack_flops((*stack, n, n), 2, each=200) + sides


def _solve_b(g: Operand, y: Operand, a: Operand, b: Operand) -> Operand:
    """Return the cotangent of b for every matrix of the stack; the caller sums it if b was broadcast."""
    x = solve(matrix_transpose(a), _as_columns(g, b))
    return reshape(x, shape_of(x)[:-1]) if len(shape_of(b)) == 1 else x


def _solve_a(g: Operand, y: Operand, a: Operand, b: Operand) -> Operand:
    x = solve(matrix_transpose(a), _as_columns(g, b))
    return -matmul(x, matrix_transpose(_as_columns(y, b)))


def _solve_rows(op: Operation, rows: int, xs: Sequence[Operand], batched: Sequence[bool], attrs: Attributes) -> Operand:
    row = op.infer(*(Aval(shape_of(x)[m:], dtype_of(x)) for x, m in zip(xs, batched, strict=True)))
    a, b = xs
    if len(shape_of(b)) - batched[1] == 1:
        b = reshape(b, (*shape_of(b), 1))
    ndim = max(len(shape_of(x)) - m for x, m in zip((a, b), batched, strict=True))
    a, b = (raised(x, ndim) if m else x for x, m in zip((a, b), batched, strict=True))
    return reshape(solve(a, b), (rows, *row.shape))


solve: Row = primitive(
    "solve",
    ("a", "b"),
    _solve,
    batch=_solve_rows,
    vjps=(_solve_a, _solve_b),
    infer=lambda a, b: Aval(_check_solve(a.shape, b.shape), floating(promote((a, b)))),
    flops=_solve_flops,
    examples=(
        ex(_WELL_POSED, [1.0, -0.5, 2.0]),
        ex((3, 3), (3, 2)),
        ex((2, 2), (2,)),
        ex((2, 2, 2), (2,)),
        ex((2, 2), (3, 2, 1)),
        ex((2, 1, 2, 2), (3, 2, 1)),
        ex((1, 1), (1, 0)),
        ex((0, 0), (0, 2)),
        ex((0, 2, 2), (2, 1)),
    ),
    domain=((-1.0, 2.0), (-2.0, 2.0)),
    doc="x with a @ x = b, batched over leading axes; b is a vector only if it has one axis. NaN if a is singular.",
)


def _inv(x: Array) -> Array:
    check_square("inv", np.shape(x))
    return lapack.inverse(*in_common_dtype(x))


def _inv_vjp(g: Operand, y: Operand, x: Operand) -> Operand:
    t = matrix_transpose(y)
    return -matmul(matmul(t, g), t)


#: Test data of rows that take one stack of matrices; APART is an interval that avoids singular matrices.
STACKS = (
    ex(_WELL_POSED),
    ex([[2.0, 0.3, -0.4, 0.1], [0.5, -1.5, 0.6, 0.2], [-0.2, 0.7, 1.2, -0.3], [0.4, 0.1, 0.5, 1.8]]),
    ex((2, 2)),
    ex((1, 1)),
    ex((3, 2, 2)),
    ex((2, 1, 2, 2)),
    ex((0, 0)),
    ex((2, 0, 0)),
    ex((0, 2, 2)),
)
APART = ((-1.0, 2.0),)

inv: Row = primitive(
    "inv",
    ("x",),
    _inv,
    batch=leading,
    vjps=(_inv_vjp,),
    infer=lambda x: Aval(check_square("inv", x.shape), floating(x.dtype)),
    flops=lambda x, out: lapack_flops(x.shape, 6),
    examples=STACKS,
    domain=APART,
    doc="Inverse of the matrices of the last two axes; NaN for a singular one.",
)


def _cholesky(x: Array, upper: bool) -> Array:
    check_square("cholesky", np.shape(x))
    (x,) = in_common_dtype(x)
    y = lapack.lower_factor(0.5 * x + 0.5 * np.swapaxes(x, -1, -2))
    return np.swapaxes(y, -1, -2) if upper else y


def _cholesky_vjp(g: Operand, y: Operand, x: Operand, upper: bool) -> Operand:
    """Return the cotangent of x.

    Source: Murray, Differentiation of the Cholesky decomposition (arXiv:1602.07527), eq. 9 and 10.
    """
    u = y if upper else matrix_transpose(y)
    p = matmul(u, matrix_transpose(g) if upper else g)
    p = 0.5 * (tril(p) + tril(p, -1))
    s = solve(u, matrix_transpose(solve(u, matrix_transpose(p))))
    return 0.5 * (s + matrix_transpose(s))


_DEFINITE = [[2.0, 0.6, -0.4], [0.6, 1.5, 0.3], [-0.4, 0.3, 1.1]]

cholesky = primitive(
    "cholesky",
    ("x",),
    _cholesky,
    batch=leading,
    attributes=(Attribute("upper", BOOL, False),),
    vjps=(_cholesky_vjp,),
    infer=lambda x, upper: Aval(check_square("cholesky", x.shape), floating(x.dtype)),
    flops=lambda x, out, upper: lapack_flops(x.shape, 1),
    examples=(
        ex(_DEFINITE),
        ex(_DEFINITE, upper=True),
        ex([[[4.0, 1.0], [1.0, 2.0]], [[1.5, -0.5], [0.1, 1.0]]]),
        ex((1, 1)),
        ex((0, 0)),
        ex((0, 2, 2), upper=True),
    ),
    domain=((0.3, 3.0),),
    doc="Lower triangle L with L @ L.T = (x + x.T) / 2, or its transpose; NaN for a matrix that is not positive "
    "definite.",
)
