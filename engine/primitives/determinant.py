"""Determinants of stacks of matrices, their signs, logarithms and gradients."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.batching import leading
from engine.primitive import ex
from engine.primitives.arithmetic import zeros_like
from engine.primitives.contract import einsum
from engine.primitives.linalg import matmul
from engine.primitives.reduce import sum
from engine.primitives.shape import matrix_transpose, reshape
from engine.primitives.solve import APART, STACKS, check_square, in_common_dtype, inv, where_possible
from engine.rows import Row, composite, floating, primitive
from engine.values import Aval, shape_of

Array = npt.NDArray[Any]
Function = Callable[..., Array]


def _quiet(function: Function) -> Function:
    """A matrix with NaN has a determinant that is NaN, without a warning."""

    def forward(x: Any) -> Array:
        (x,) = in_common_dtype(x)
        with np.errstate(all="ignore"):
            # LAPACK may lose a NaN on the way.
            return np.where(np.isnan(x).any((-2, -1)), x.dtype.type(np.nan), function(x))

    return forward


def _per_matrix(name: str) -> Callable[[Aval], Aval]:
    def infer(x: Aval) -> Aval:
        return Aval(check_square(name, x.shape)[:-2], floating(x.dtype))

    return infer


def _lu_flops(x: Aval, out: Aval) -> int:
    return 2 * x.size * x.shape[-1] // 3


def _spread(g: Any) -> Any:
    """One number a matrix, ready to multiply the matrices."""
    shape = shape_of(g)
    return reshape(g, (*shape, 1, 1)) if shape else g


def _cofactors(x: Array) -> Array:
    """By singular values: each cofactor needs the product of all but one of them, which no division loses."""
    is_finite = np.isfinite(x).all((-2, -1), keepdims=True)
    # LAPACK's singular values of a matrix with an infinity may never come.
    u, s, vt = np.linalg.svd(np.where(is_finite, x, 0))
    before, after = np.ones_like(s), np.ones_like(s)
    before[..., 1:] = np.cumprod(s[..., :-1], axis=-1)
    after[..., :-1] = np.cumprod(s[..., :0:-1], axis=-1)[..., ::-1]
    sign = np.rint(np.linalg.det(u) * np.linalg.det(vt))
    scale: Array = sign[..., np.newaxis] * (before * after)
    y: Array = np.where(is_finite, np.matmul(u * scale[..., np.newaxis, :], vt), np.nan)
    return y.astype(x.dtype, copy=False)


#: The sign of each permutation of three: cofactors are sum(parity[i, m, p] parity[j, n, q] x[m, n] x[p, q]) / 2.
_PARITY = np.cross(np.eye(3)[:, np.newaxis], np.eye(3))


def _cofactor(x: Any) -> Array:
    check_square("cofactor", np.shape(x))
    with np.errstate(all="ignore"):
        return where_possible(_cofactors, *in_common_dtype(x))


def _cofactor_vjp(g: Any, y: Any, x: Any) -> Any:
    """That of det(x) inv(x).T; up to 3 rows cofactors are constant, linear or quadratic in x and need no inverse."""
    n = shape_of(x)[-1]
    if n < 2:
        return zeros_like(g)
    if n == 2:
        return cofactor(g)
    if n == 3:
        return einsum("imp,jnq,...ij,...mn->...pq", _PARITY, _PARITY, g, x)
    t = matrix_transpose(inv(x))
    return sum(g * y, axes=(-2, -1), keepdims=True) * t - matmul(matmul(t, matrix_transpose(g)), y)


cofactor: Row = primitive(
    "cofactor",
    ("x",),
    _cofactor,
    batch=leading,
    vjps=(_cofactor_vjp,),
    infer=lambda x: Aval(check_square("cofactor", x.shape), floating(x.dtype)),
    # That of a decomposition by singular values.
    flops=lambda x, out: 40 * x.size * x.shape[-1],
    examples=STACKS,
    domain=APART,
    doc="Cofactors of the matrices of the last two axes: the gradient of det. Their own gradient is NaN where a matrix "
    "of 4 rows or more is singular.",
)
det = primitive(
    "det",
    ("x",),
    _quiet(np.linalg.det),
    batch=leading,
    vjps=(lambda g, y, x: _spread(g) * cofactor(x),),
    infer=_per_matrix("det"),
    flops=_lu_flops,
    examples=(*STACKS, ex([[1.0, 2.0], [2.0, 4.0]]), ex([[0.0]])),
    domain=APART,
    doc="Determinant of the matrices of the last two axes; its gradient is exact where it is 0.",
)
det_sign = primitive(
    "det_sign",
    ("x",),
    _quiet(lambda x: np.linalg.slogdet(x).sign),
    batch=leading,
    vjps=(None,),
    infer=_per_matrix("det_sign"),
    flops=_lu_flops,
    examples=STACKS,
    domain=APART,
    doc="Sign of the determinant, -1, 0 or 1, of the matrices of the last two axes.",
)
log_abs_det = primitive(
    "log_abs_det",
    ("x",),
    _quiet(lambda x: np.linalg.slogdet(x).logabsdet),
    batch=leading,
    vjps=(lambda g, y, x: _spread(g) * matrix_transpose(inv(x)),),
    infer=_per_matrix("log_abs_det"),
    flops=_lu_flops,
    examples=STACKS,
    domain=APART,
    doc="log(abs(det(x))) without overflow; -inf, with gradient NaN, where a matrix is singular.",
)
slogdet = composite(
    "slogdet",
    ("x",),
    lambda x: (det_sign(x), log_abs_det(x)),
    outputs=lambda: 2,
    examples=STACKS,
    domain=APART,
    doc="Sign and logarithm of the absolute value of the determinant, without overflow; two outputs.",
)
