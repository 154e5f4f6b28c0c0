"""Logarithm of the gamma function, and its derivatives."""

import math
from functools import cache

import numpy as np
from numpy.polynomial import Polynomial
from scipy import special

from engine.core import DEGREE, FLOAT64, Array, Attribute, ex
from engine.rows import POSITIVE, Row, elementwise, unary

#: Cost of one element, in additions.
_FLOPS = 50
#: Cost of one sum of a series, measured in the floating-point operations of other functions.
_SLOW_FLOPS = 2_000
_LARGEST = float(np.finfo(np.float64).max)

#: Floats below this are integers, hence poles of gamma; SciPy returns -inf at -inf.
_LOWEST = -(2.0**53)

gammaln = unary(
    "gammaln",
    lambda x: special.gammaln(np.maximum(x, _LOWEST)),
    lambda g, y, x: g * digamma(x),
    scalar=lambda x: float(special.gammaln(max(x, _LOWEST))),
    domain=POSITIVE,
    flops=_FLOPS,
    doc="log(abs(gamma(x))); inf at 0, -1, -2, ..., -inf and, as in SciPy, at subnormal numbers.",
)
digamma: Row = unary(
    "digamma",
    special.digamma,
    lambda g, y, x: g * polygamma(x, 1),
    scalar=lambda x: float(special.digamma(x)),
    domain=POSITIVE,
    # Near its zeros below 0, SciPy sums a series.
    flops=_SLOW_FLOPS,
    doc="The derivative of gammaln; -inf at 0, NaN at -1, -2, ...",
)


@cache
def _cotangent_derivative(n: int) -> Polynomial:
    """Return the n-th derivative of cot(x) as a polynomial in t = cot(x), where t' = -(1 + t**2)."""
    if n == 0:
        return Polynomial([0.0, 1.0])
    return Polynomial([-1.0, 0.0, -1.0]) * _cotangent_derivative(n - 1).deriv()


def _polygamma(x: Array, n: int) -> Array:
    """Compute polygamma; reflect x < 0 (Abramowitz and Stegun 6.4.7), where SciPy would step up to 0 one by one."""
    wide = np.asarray(x, FLOAT64)
    is_reflected = (wide < 0) & (wide != np.floor(wide))
    with np.errstate(all="ignore"):
        y: Array = np.asarray(special.polygamma(n, np.where(is_reflected, 1.0 - wide, wide)))
        if is_reflected.any():
            # Remainders are exact, so the cotangent is as accurate far from 0 as near it, and 0 at its zeros.
            part = wide - np.rint(wide)
            rest = np.copysign(0.5, part) - part
            t = np.where(np.abs(part) <= np.abs(rest), 1.0 / np.tan(math.pi * part), np.tan(math.pi * rest))
            # A polynomial is NaN at an infinite argument, but infinite at a huge one.
            slope = math.pi ** (n + 1) * _cotangent_derivative(n)(np.clip(t, -_LARGEST, _LARGEST))
            y = np.where(is_reflected, (-1) ** n * y - slope, y)
        return y.astype(x.dtype, copy=False)


polygamma: Row = elementwise(
    "polygamma",
    ("x",),
    _polygamma,
    (lambda g, y, x, n: g * polygamma(x, n + 1),),
    attributes=(Attribute("n", DEGREE),),
    dtype="floating",
    domain=(POSITIVE,),
    flops=_SLOW_FLOPS,
    examples=(ex((), n=1), ex((3,), n=0), ex((2, 3), n=2), ex((0,), n=1), ex([-0.4, -1.7, 2.5], n=1)),
    doc="The n-th derivative of digamma.",
)
