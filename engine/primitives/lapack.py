"""LAPACK's routines on stacks of matrices, which give NaN for a matrix that LAPACK rejects.

Raises nothing: functions of `numpy.linalg` run these routines over a whole stack and then raise LinAlgError if one
matrix was rejected, which loses the results of all others.
"""

import numpy as np
from numpy.linalg import _umath_linalg as routines

from engine.core import Array


def inverse(x: Array) -> Array:
    """Return the inverses of matrices; NaN for a singular one."""
    return _in_double(routines.inv, x)


def solution(a: Array, b: Array) -> Array:
    """Return x with a @ x = b for matrices a and b; NaN where a is singular."""
    return _in_double(routines.solve, a, b)


def lower_factor(x: Array) -> Array:
    """Return the Cholesky factors of symmetric matrices; NaN for one that is not positive definite."""
    return _in_double(routines.cholesky_lo, x)


def singular_values(x: Array) -> tuple[Array, Array, Array]:
    """Return u, s, vt with x = u @ diag(s) @ vt for square matrices; NaN if the iteration does not converge."""
    with np.errstate(all="ignore"):
        u, s, vt = routines.svd_f(x, signature="d->ddd")
    return tuple(y.astype(x.dtype, copy=False) for y in (u, s, vt))


def _in_double(routine: np.ufunc, *xs: Array) -> Array:
    """Run a routine in double precision, as `numpy.linalg` does for all floating dtypes."""
    with np.errstate(all="ignore"):
        y: Array = routine(*xs, signature=f"{'d' * len(xs)}->d")
    return y.astype(xs[-1].dtype, copy=False)
