"""Determinants of stacks of matrices: signs, logarithms and gradients."""

from collections.abc import Callable

import numpy as np

from engine.core import Array, Aval, Operand, Shape, ShapeMismatchError, ex, shape_of
from engine.primitives import lapack
from engine.primitives.arithmetic import zeros_like
from engine.primitives.contract import einsum
from engine.primitives.linalg import diagonal, matmul
from engine.primitives.reduce import sum
from engine.primitives.shape import matrix_transpose, reshape
from engine.primitives.solve import APART, STACKS, check_square, in_common_dtype, inv, lapack_flops
from engine.rows import Row, composite, floating, primitive, promote
from engine.tracers import leading

Function = Callable[..., Array]

#: Number of elements of the matrices that are decomposed at once.
_BLOCK = 1 << 17


def _quiet(function: Function) -> Function:
    """Wrap a function of matrices: no warnings, and NaN for a matrix that contains NaN."""

    def forward(x: Array) -> Array:
        (x,) = in_common_dtype(x)
        with np.errstate(all="ignore"):
            # LAPACK may lose a NaN.
            return np.where(np.isnan(x).any((-2, -1)), x.dtype.type(np.nan), function(x))

    return forward


def _per_matrix(name: str) -> Callable[[Aval], Aval]:
    def infer(x: Aval) -> Aval:
        return Aval(check_square(name, x.shape)[:-2], floating(x.dtype))

    return infer


def _lu_flops(x: Aval, out: Aval) -> int:
    return lapack_flops(x.shape, 2)


def _spread(g: Operand) -> Operand:
    """Append two unit axes to one number per matrix, so that it broadcasts with the matrices."""
    shape = shape_of(g)
    return reshape(g, (*shape, 1, 1)) if shape else g


def _in_blocks(function: Function, *stacks: Array) -> Array:
    """Apply a function to stacks of matrices of one shape, some matrices at a time: it takes ten times their memory."""
    x = stacks[-1]
    if x.size <= _BLOCK or x.ndim == 2:
        return function(*stacks)
    y = np.empty_like(x, order="C")
    step = len(x) * _BLOCK // x.size
    for i in range(0, len(x), step or 1):
        at = slice(i, i + step) if step else i
        y[at] = _in_blocks(function, *(v[at] for v in stacks))
    return y


def _decomposed(x: Array) -> tuple[Array, Array, Array, Array]:
    """Return u, s, vt of the singular value decomposition and the sign of det(u) det(vt), NaN if x is not finite."""
    is_finite = np.asarray(np.isfinite(x).all((-2, -1)))
    # LAPACK's decomposition may never return for a matrix with an infinity.
    u, s, vt = lapack.singular_values(np.where(is_finite[..., np.newaxis, np.newaxis], x, 0))
    sign = np.rint(np.linalg.det(u) * np.linalg.det(vt))[..., np.newaxis]
    return u, s, vt, np.where(is_finite[..., np.newaxis], sign, x.dtype.type(np.nan))


def _before(s: Array) -> Array:
    """Return the exclusive cumulative product along the last axis."""
    products = np.ones_like(s)
    products[..., 1:] = np.cumprod(s[..., :-1], axis=-1)
    return products


def _after(s: Array) -> Array:
    """Return the exclusive cumulative product along the last axis, from the end."""
    return _before(s[..., ::-1])[..., ::-1]


def _cofactors(x: Array) -> Array:
    """Compute cofactors from singular values, as products of all but one of them: no division, so exact at det 0."""
    u, s, vt, sign = _decomposed(x)
    scale = sign * (_before(s) * _after(s))
    y: Array = np.matmul(u * scale[..., np.newaxis, :], vt)
    return y.astype(x.dtype, copy=False)


def _but_two(s: Array) -> Array:
    """Return, for each pair of places, the product of all numbers except those two; 0 on the diagonal."""
    n = s.shape[-1]
    between = np.ones((*s.shape, n), s.dtype)
    for j in range(2, n):
        # The numbers between i and j are those between i and j - 1, and the number at j - 1.
        between[..., : j - 1, j] = between[..., : j - 1, j - 1] * s[..., j - 1, np.newaxis]
    upper: Array = np.triu(_before(s)[..., :, np.newaxis] * between * _after(s)[..., np.newaxis, :], 1)
    return upper + np.swapaxes(upper, -2, -1)


def _cofactor_slopes(g: Array, x: Array) -> Array:
    """Compute the gradient of sum(g * cofactor(x)) from singular values, as products of all but two of them.

    With x = u diag(s) vt, h = u.T g vt.T and p[i, k] the product of all singular values except s[i] and s[k], it is, in
    that basis, sum over k of h[k, k] p[i, k] at (i, i), and -h[j, i] p[i, j] at (i, j).
    """
    u, s, vt, sign = _decomposed(x)
    h = np.matmul(np.matmul(np.swapaxes(u, -2, -1), g), np.swapaxes(vt, -2, -1))
    products = sign[..., np.newaxis] * _but_two(s)
    turned = -np.swapaxes(h, -2, -1) * products
    i = np.arange(s.shape[-1])
    turned[..., i, i] = np.matmul(products, np.diagonal(h, axis1=-2, axis2=-1)[..., np.newaxis])[..., 0]
    y: Array = np.matmul(np.matmul(u, turned), vt)
    return y.astype(x.dtype, copy=False)


#: Levi-Civita symbol: cofactors of 3 x 3 are sum(parity[i, m, p] parity[j, n, q] x[m, n] x[p, q]) / 2.
_PARITY = np.cross(np.eye(3)[:, np.newaxis], np.eye(3))


def _cofactor(x: Array) -> Array:
    check_square("cofactor", np.shape(x))
    with np.errstate(all="ignore"):
        return _in_blocks(_cofactors, *in_common_dtype(x))


def _cofactor_vjp(g: Operand, y: Operand, x: Operand) -> Operand:
    """Return the vjp of cofactor; for up to 3 rows in closed form, as cofactors are constant, linear or quadratic."""
    n = shape_of(x)[-1]
    if n < 2:
        return zeros_like(g)
    if n == 2:
        return cofactor(g)
    if n == 3:
        return einsum("imp,jnq,...ij,...mn->...pq", _PARITY, _PARITY, g, x)
    return cofactor_slope(g, x)


def _cofactor_slope(g: Array, x: Array) -> Array:
    _cofactor_slope_shape(np.shape(g), np.shape(x))
    with np.errstate(all="ignore"):
        return _in_blocks(_cofactor_slopes, *in_common_dtype(g, x))


def _cofactor_slope_shape(g: Shape, x: Shape) -> Shape:
    if g != check_square("cofactor_slope", x):
        raise ShapeMismatchError(f"cofactor_slope: shape {g} of g is not that of x, {x}")
    return x


def _cofactor_slope_vjp(h: Operand, y: Operand, g: Operand, x: Operand) -> Operand:
    """Return the third derivative of det along g and h, computed from the inverse a.

    It is the gradient, with respect to k, of det(x) times
    tr(ag) tr(ah) tr(ak) - tr(agah) tr(ak) - tr(agak) tr(ah) - tr(ahak) tr(ag) + tr(agahak) + tr(ahagak).
    """
    a = inv(x)
    ag, ah = matmul(a, g), matmul(a, h)
    trace_g, trace_h = _trace(ag), _trace(ah)
    along = (trace_g * trace_h - _trace(matmul(ag, ah))) * a
    across = matmul(matmul(ag, ah) + matmul(ah, ag) - trace_h * ag - trace_g * ah, a)
    return _spread(det(x)) * matrix_transpose(along + across)


def _trace(x: Operand) -> Operand:
    """Return the trace of each matrix, with two unit axes, so that it broadcasts with the matrices."""
    return sum(diagonal(x, axis1=-2, axis2=-1), axes=-1, keepdims=True)[..., None]


cofactor: Row = primitive(
    "cofactor",
    ("x",),
    _cofactor,
    batch=leading,
    vjps=(_cofactor_vjp,),
    infer=lambda x: Aval(check_square("cofactor", x.shape), floating(x.dtype)),
    # That of a decomposition by singular values.
    flops=lambda x, out: lapack_flops(x.shape, 120, 1_500, 3_000),
    examples=STACKS,
    domain=APART,
    doc="Cofactors of the matrices of the last two axes: the gradient of det, exact also where det is 0.",
)
cofactor_slope: Row = primitive(
    "cofactor_slope",
    ("g", "x"),
    _cofactor_slope,
    batch=leading,
    # The second derivatives of det are symmetric.
    vjps=(lambda h, y, g, x: cofactor_slope(h, x), _cofactor_slope_vjp),
    infer=lambda g, x: Aval(_cofactor_slope_shape(g.shape, x.shape), floating(promote((g, x)))),
    flops=lambda g, x, out: lapack_flops(x.shape, 150, 2_000, 5_000),
    examples=tuple(ex(*2 * example.operands) for example in STACKS),
    domain=2 * APART,
    doc="Gradient of sum(g * cofactor(x)) with respect to x: the second derivatives of det, along g. Its own gradient "
    "divides by the determinant.",
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
    doc="Determinant of the matrices of the last two axes; its gradient is exact also where it is 0.",
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
