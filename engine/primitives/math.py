"""Powers, exponentials, trigonometric, hyperbolic and special functions."""

import math
import operator
from typing import NamedTuple

import numpy as np
from scipy import special

from engine.core import Array, Operand
from engine.primitives.arithmetic import clip, div
from engine.primitives.compare import equal, isfinite, logical_and, logical_not, maximum, minimum, where
from engine.primitives.radial import radial
from engine.rows import POSITIVE, REAL, Domain, Row, binary, in_floating, unary

UNIT: Domain = (-0.9, 0.9)

_LOG2_E = 1.0 / math.log(2.0)
_LOG10_E = 1.0 / math.log(10.0)


def _vanishing(x: Operand, y: Operand) -> Operand:
    """Return x * y, and 0 instead of NaN where y is 0 because x is infinite."""
    return where(equal(y, 0.0), 0.0, x) * y


exp = unary("exp", np.exp, lambda g, y, x: g * y, scalar=math.exp, is_long=True, doc="e to the power x.")
exp2 = unary("exp2", np.exp2, lambda g, y, x: g * (math.log(2.0) * y), is_long=True, doc="2 to the power x.")
expm1 = unary(
    "expm1", np.expm1, lambda g, y, x: g * exp(x), scalar=math.expm1, is_long=True, doc="exp(x) - 1, exact near 0."
)
log = unary(
    "log", np.log, lambda g, y, x: div(g, x), scalar=math.log, domain=POSITIVE, is_long=True, doc="Natural logarithm."
)
log2 = unary(
    "log2", np.log2, lambda g, y, x: div(g * _LOG2_E, x), domain=POSITIVE, is_long=True, doc="Logarithm to base 2."
)
log10 = unary(
    "log10", np.log10, lambda g, y, x: div(g * _LOG10_E, x), domain=POSITIVE, is_long=True, doc="Logarithm to base 10."
)
log1p = unary(
    "log1p",
    np.log1p,
    lambda g, y, x: div(g, 1.0 + x),
    scalar=math.log1p,
    domain=UNIT,
    is_long=True,
    doc="log(1 + x), exact near 0.",
)
sqrt = unary(
    "sqrt",
    np.sqrt,
    lambda g, y, x: div(g, 2.0 * y),
    scalar=math.sqrt,
    domain=POSITIVE,
    is_long=True,
    is_exact=True,
    doc="Square root; NaN below 0, gradient inf at 0.",
)


def _power(x: Array, exponent: float | Array) -> Array:
    """Return np.square(x) for a floating x and the literal exponent 2, otherwise np.power(x, exponent)."""
    if type(exponent) in (int, float) and exponent == 2 and np.asarray(x).dtype.kind == "f":
        return np.square(x)
    return np.power(x, exponent)


def _power_of_floats(x: float, exponent: float) -> float:
    if exponent == 2.0:
        return x * x
    if x == 0.0 or math.isinf(x):
        raise ValueError("left to NumPy")
    return math.pow(x, exponent)


def _pow_x(g: Operand, y: Operand, x: Operand, exponent: Operand) -> Operand:
    """Return g d/dx x**c = g c x**(c-1); +0 for c = 0, also at x = 0, where polynomials need all derivatives."""
    if type(exponent) in (int, float):
        return g * 0.0 if exponent == 0 else g * (exponent * pow(x, exponent - 1))
    is_zero = equal(exponent, 0.0)
    at_zero = logical_and(is_zero, logical_not(isfinite(pow(x, exponent - 1))))
    slope = where(at_zero, 0.0, exponent * pow(where(at_zero, 1.0, x), exponent - 1))
    # -0 + 0 is +0, as for the literal 0 above; adding -0 changes nothing. Both keep the derivative 1/x along c.
    return g * (slope + where(is_zero, 0.0, -0.0))


def _pow_exponent(g: Operand, y: Operand, x: Operand, exponent: Operand) -> Operand:
    """Return g d/dc x**c = g x**c log(x); 0 at x = 0 for c >= 0."""
    return g * (y * log(where(equal(x, 0.0), 1.0, x)))


pow = binary(
    "pow",
    _power,
    _pow_x,
    _pow_exponent,
    scalar=_power_of_floats,
    like=np.power,
    domain=((0.3, 2.0), REAL),
    symbol="**",
    aliases=("power",),
    flops=40,
    is_long=True,
    doc="x1 to the power x2. x**0 is 1 with gradient 0, also at 0; 0**x2 has gradient 0 with respect to x2 >= 0.",
)

sin = unary("sin", np.sin, lambda g, y, x: g * cos(x), scalar=math.sin, flops=20, doc="Sine of x in radians.")
cos: Row = unary("cos", np.cos, lambda g, y, x: -(g * sin(x)), scalar=math.cos, flops=20, doc="Cosine of x in radians.")
tan = unary(
    "tan",
    np.tan,
    lambda g, y, x: g * (1.0 + y * y),
    scalar=math.tan,
    domain=UNIT,
    is_long=True,
    doc="Tangent of x in radians.",
)
# The product rule would give -(1 + x) + (1 - x), which rounds to 0 for a tiny x.
one_minus_square = unary(
    "one_minus_square",
    lambda x: (1.0 - x) * (1.0 + x),
    lambda g, y, x: g * (-2.0 * x),
    scalar="(1.0 - x) * (1.0 + x)",
    flops=3,
    doc="1 - x * x, exact near 1 and -1.",
)
asin = unary(
    "asin",
    np.arcsin,
    lambda g, y, x: div(g, sqrt(one_minus_square(x))),
    scalar=math.asin,
    domain=UNIT,
    aliases=("arcsin",),
    is_long=True,
    doc="Inverse sine, in radians; NaN outside [-1, 1].",
)
acos = unary(
    "acos",
    np.arccos,
    lambda g, y, x: -div(g, sqrt(one_minus_square(x))),
    scalar=math.acos,
    domain=UNIT,
    aliases=("arccos",),
    is_long=True,
    doc="Inverse cosine, in radians; NaN outside [-1, 1].",
)


def _atan_slope(x: Array, out: Array | None = None) -> Array:
    y = np.asarray(np.square(x, out=out))
    np.add(y, 1.0, out=y)
    return np.divide(1.0, y, out=y)


atan_slope: Row = unary(
    "atan_slope",
    _atan_slope,
    lambda g, y, x: g * (-2.0 * (_vanishing(x, y) * y)),
    scalar="1.0 / (1.0 + x * x)",
    flops=3,
    takes_out=True,
    doc="The derivative of atan: 1 / (1 + x * x).",
)
atan = unary(
    "atan",
    np.arctan,
    lambda g, y, x: g * atan_slope(x),
    scalar=math.atan,
    aliases=("arctan",),
    is_long=True,
    doc="Inverse tangent, in radians.",
)
sinh = unary("sinh", np.sinh, lambda g, y, x: g * cosh(x), scalar=math.sinh, is_long=True, doc="Hyperbolic sine.")
cosh: Row = unary(
    "cosh", np.cosh, lambda g, y, x: g * sinh(x), scalar=math.cosh, is_long=True, doc="Hyperbolic cosine."
)


def _tanh_slope(x: Array, out: Array | None = None) -> Array:
    with np.errstate(over="ignore"):
        y = np.asarray(np.cosh(x, out=out))
    np.divide(1.0, y, out=y)
    return np.square(y, out=y)


def _tanh_slope_of_float(x: float) -> float:
    y = 1.0 / math.cosh(x)
    return y * y


tanh_slope: Row = unary(
    "tanh_slope",
    _tanh_slope,
    lambda g, y, x: g * (-2.0 * (y * tanh(x))),
    scalar=_tanh_slope_of_float,
    takes_out=True,
    is_long=True,
    doc="The derivative of tanh: 1 - tanh(x)**2, exact where it is small.",
)
tanh: Row = unary(
    "tanh", np.tanh, lambda g, y, x: g * tanh_slope(x), scalar=math.tanh, is_long=True, doc="Hyperbolic tangent."
)


def _asinh_slope(x: Array, out: Array | None = None) -> Array:
    y = np.asarray(np.hypot(x, 1.0, out=out))
    return np.divide(1.0, y, out=y)


asinh_slope: Row = unary(
    "asinh_slope",
    _asinh_slope,
    lambda g, y, x: g * -(_vanishing(x, y) * y * y),
    scalar="1.0 / hypot(x, 1.0)",
    takes_out=True,
    doc="The derivative of asinh: 1 / sqrt(1 + x * x), without overflow.",
)
asinh = unary(
    "asinh",
    np.arcsinh,
    lambda g, y, x: g * asinh_slope(x),
    scalar=math.asinh,
    aliases=("arcsinh",),
    is_long=True,
    doc="Inverse hyperbolic sine.",
)
acosh = unary(
    "acosh",
    np.arccosh,
    lambda g, y, x: div(div(g, sqrt(x - 1.0)), sqrt(x + 1.0)),
    scalar=math.acosh,
    domain=(1.5, 3.0),
    aliases=("arccosh",),
    is_long=True,
    doc="Inverse hyperbolic cosine; NaN below 1.",
)
atanh = unary(
    "atanh",
    np.arctanh,
    lambda g, y, x: div(g, one_minus_square(x)),
    scalar=math.atanh,
    domain=UNIT,
    aliases=("arctanh",),
    is_long=True,
    doc="Inverse hyperbolic tangent; NaN outside [-1, 1].",
)


def _hypot_slope(a: Array, b: Array) -> Array:
    y = np.hypot(a, b)
    return np.divide(a, np.where(y == 0.0, 1.0, y), dtype=y.dtype)


def _hypot_slope_of_floats(a: float, b: float) -> float:
    return a / (math.hypot(a, b) or 1.0)


# Differentiating a / hypot(a, b) directly gives a difference that loses all digits if a is much larger than b.
hypot_slope: Row = binary(
    "hypot_slope",
    _hypot_slope,
    lambda g, y, a, b: g * (hypot_slope(b, a) * div(hypot_slope(b, a), hypot(a, b))),
    lambda g, y, a, b: -(g * (y * div(hypot_slope(b, a), hypot(a, b)))),
    scalar=_hypot_slope_of_floats,
    dtype="floating",
    domain=(POSITIVE, POSITIVE),
    flops=20,
    doc="The derivative of hypot by x1: x1 / hypot(x1, x2), and 0 where that is 0; its own derivatives are NaN there.",
)


def _hypot_radial(p: float, a: Operand, b: Operand) -> Operand:
    return radial(p - 2, hypot, lambda f, a, b: f(a) + f(b), a, b)


hypot: Row = binary(
    "hypot",
    np.hypot,
    lambda g, y, a, b: g * hypot_slope(a, b),
    lambda g, y, a, b: g * hypot_slope(b, a),
    power_vjps=(
        lambda g, c, p, a, b: g * (c * _hypot_radial(p, a, b)),
        lambda g, c, p, a, b: g * (c * _hypot_radial(p, b, a)),
    ),
    scalar=math.hypot,
    dtype="floating",
    domain=(POSITIVE, POSITIVE),
    flops=20,
    is_long=True,
    is_commutative=True,
    doc="sqrt(x1**2 + x2**2) without overflow. Where it is 0 the gradient is 0, second derivatives are NaN; those of "
    "hypot(x1, x2)**p are right for a number p >= 2.",
)
atan2 = binary(
    "atan2",
    np.arctan2,
    lambda g, y, a, b: g * div(div(b, hypot(a, b)), hypot(a, b)),
    lambda g, y, a, b: -(g * div(div(a, hypot(a, b)), hypot(a, b))),
    scalar=math.atan2,
    dtype="floating",
    domain=(POSITIVE, REAL),
    # Where both are huge or subnormal.
    flops=100,
    aliases=("arctan2",),
    is_long=True,
    doc="The angle of the point (x2, x1), in radians; gradient NaN at the origin.",
)


def _gaussian(x: Array, out: Array | None = None) -> Array:
    y = np.asarray(np.square(x, out=out))
    np.negative(y, out=y)
    return np.exp(y, out=y)


gaussian: Row = unary(
    "gaussian",
    _gaussian,
    # The product must be 0 for infinite x; gaussian(x) is 0 for |x| >= 40.
    lambda g, y, x: g * (-2.0 * (maximum(minimum(x, 40.0), -40.0) * y)),
    scalar="exp(-(x * x))",
    takes_out=True,
    is_long=True,
    doc="exp(-x * x).",
)
erf = unary(
    "erf",
    special.erf,
    lambda g, y, x: g * (2.0 / math.sqrt(math.pi) * gaussian(x)),
    scalar=math.erf,
    is_long=True,
    doc="The error function (Abramowitz and Stegun 7.1.1).",
)
erfc = unary(
    "erfc",
    special.erfc,
    lambda g, y, x: g * (-2.0 / math.sqrt(math.pi) * gaussian(x)),
    scalar=math.erfc,
    is_long=True,
    doc="1 - erf(x), exact for large x.",
)
logaddexp = binary(
    "logaddexp",
    np.logaddexp,
    # -inf - -inf would be NaN.
    lambda g, y, a, b: g * sigmoid(where(equal(y, -math.inf), -math.inf, a - b)),
    lambda g, y, a, b: g * sigmoid(where(equal(y, -math.inf), -math.inf, b - a)),
    dtype="floating",
    flops=20,
    is_long=True,
    is_commutative=True,
    doc="log(exp(x1) + exp(x2)) without overflow; gradient 0 where both are -inf, NaN where both are inf.",
)


def _sigmoid_of_float(x: float) -> float:
    e = math.exp(-math.fabs(x))
    return (1.0 if x >= 0.0 else e) / (1.0 + e)


def _sigmoid_slope_of_float(x: float) -> float:
    e = math.exp(-math.fabs(x))
    s = 1.0 + e
    return e / (s * s)


class _Sigmoid(NamedTuple):
    """Common part of sigmoid and its slope: exp(-x) and y = 1 / (1 + exp(-x)).

    below: mask of the elements whose exp(-x) overflows, where y is exp(x); None if there are none.
    """

    exp: Array
    y: Array
    below: Array | None


#: Above these arguments exp overflows.
_HIGHEST = {np.dtype(np.float64): 709.0, np.dtype(np.float32): 88.0}


@in_floating
def _sigmoid_begun(x: Array) -> _Sigmoid:
    e = np.asarray(np.negative(x))
    highest = _HIGHEST[e.dtype]
    below = None
    # `not <=` is true for NaN, too.
    if not np.maximum.reduce(e, axis=None, initial=0.0) <= highest:
        below = e > highest
        e = np.where(below, 0.0, e)
    e = np.exp(e, out=e)
    y = np.asarray(1.0 + e)
    np.divide(1.0, y, out=y)
    return _Sigmoid(e, y if below is None else np.where(below, np.exp(np.minimum(x, 0.0)), y), below)


def _sigmoid_slope_finished(begun: _Sigmoid) -> Array:
    mirrored = np.asarray(begun.exp * begun.y)
    if begun.below is not None:
        mirrored = np.where(begun.below, 1.0, mirrored)
    return np.multiply(begun.y, mirrored, out=mirrored)


sigmoid: Row = unary(
    "sigmoid",
    lambda x: _sigmoid_begun(x).y,
    lambda g, y, x: g * sigmoid_slope(x),
    scalar=_sigmoid_of_float,
    begin=_sigmoid_begun,
    finish=operator.attrgetter("y"),
    is_long=True,
    doc="1 / (1 + exp(-x)), without overflow.",
)
sigmoid_slope: Row = unary(
    "sigmoid_slope",
    lambda x: _sigmoid_slope_finished(_sigmoid_begun(x)),
    lambda g, y, x: -(g * (y * tanh(0.5 * x))),
    scalar=_sigmoid_slope_of_float,
    begin=_sigmoid_begun,
    finish=_sigmoid_slope_finished,
    doc="The derivative of sigmoid: sigmoid(x) * sigmoid(-x), exact where it is small.",
)
# np.logaddexp(x, 0) gives the same, at five times the cost.
softplus = unary(
    "softplus",
    lambda x: np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x))),
    lambda g, y, x: g * sigmoid(x),
    scalar=lambda x: max(x, 0.0) + math.log1p(math.exp(-math.fabs(x))),
    is_long=True,
    doc="log(1 + exp(x)), without overflow.",
)
relu = unary(
    "relu",
    lambda x: np.maximum(x, 0.0),
    # Where x is not positive, y is 0 or NaN.
    lambda g, y, x: where(x > 0.0, g, y),
    scalar="x if x > 0.0 or x != x else 0.0",
    flops=1,
    doc="max(x, 0); gradient 0 at 0.",
)
# Beyond +-30 the tanh in gelu is exactly +-1, while x**3 may overflow.
_SATURATED = 30.0
_GELU_SLOPE = 2.0 * math.sqrt(2.0 / math.pi)
_GELU_CUBIC = 0.044715


def _gelu(x: Array) -> Array:
    z = np.clip(x, -_SATURATED, _SATURATED)
    return np.maximum(x, -_SATURATED) * special.expit(_GELU_SLOPE * (z + _GELU_CUBIC * (z * z * z)))


def _gelu_vjp(g: Operand, y: Operand, x: Operand) -> Operand:
    z = clip(x, -_SATURATED, _SATURATED)
    u = _GELU_SLOPE * (z + _GELU_CUBIC * (z * z * z))
    slope = _GELU_SLOPE * (1.0 + 3.0 * _GELU_CUBIC * (z * z))
    return g * (sigmoid(u) + z * sigmoid_slope(u) * slope)


gelu = unary(
    "gelu",
    _gelu,
    _gelu_vjp,
    is_long=True,
    doc="Gaussian error linear unit, tanh form (Hendrycks and Gimpel, arXiv:1606.08415).",
)
