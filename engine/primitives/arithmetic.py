"""Arithmetic: the operators, rounding, limits and dtypes."""

import math
import operator

import numpy as np

from engine.core import CALLS, DTYPE, DTYPES, NUMBER, Array, Attribute, Aval, Operand, ex
from engine.primitives.compare import greater, less, logical_and, where, zero_or_nan
from engine.primitives.radial import radial
from engine.rows import REAL, Domain, Row, binary, elementwise, primitive, unary
from engine.tracers import leading

AWAY_FROM_ZERO: Domain = (0.4, 2.0)

add = binary(
    "add",
    np.add,
    lambda g, y, a, b: g,
    lambda g, y, a, b: g,
    scalar=operator.add,
    symbol="+",
    is_commutative=True,
    is_exact=True,
    doc="Sum of two values.",
)
sub = binary(
    "sub",
    np.subtract,
    lambda g, y, a, b: g,
    lambda g, y, a, b: -g,
    scalar=operator.sub,
    symbol="-",
    aliases=("subtract",),
    is_exact=True,
    doc="Difference of two values.",
)
mul = binary(
    "mul",
    np.multiply,
    lambda g, y, a, b: g * b,
    lambda g, y, a, b: g * a,
    scalar=operator.mul,
    symbol="*",
    kind="bilinear",
    aliases=("multiply",),
    is_commutative=True,
    is_exact=True,
    doc="Product of two values, element by element.",
)
div: Row = binary(
    "div",
    np.true_divide,
    lambda g, y, a, b: div(g, b),
    lambda g, y, a, b: -(div(g, b) * y),
    scalar=operator.truediv,
    domain=(REAL, AWAY_FROM_ZERO),
    dtype="floating",
    symbol="/",
    aliases=("divide",),
    is_exact=True,
    doc="Quotient of two values; x / 0 is inf or nan.",
)
neg = unary(
    "neg",
    np.negative,
    lambda g, y, x: -g,
    scalar=operator.neg,
    dtype="same",
    symbol="-",
    flops=1,
    aliases=("negative",),
    is_exact=True,
    doc="-x.",
)
#: Cost of one element: the digits of a huge quotient are found a few at a time.
_REMAINDER = 200

floor_divide = binary(
    "floor_divide",
    np.floor_divide,
    None,
    None,
    domain=(REAL, AWAY_FROM_ZERO),
    flops=_REMAINDER,
    doc="The quotient, rounded down.",
)
remainder = binary(
    "remainder",
    np.remainder,
    lambda g, y, a, b: g,
    lambda g, y, a, b: -(g * floor_divide(a, b)),
    domain=((0.1, 0.3), AWAY_FROM_ZERO),
    flops=_REMAINDER,
    doc="The remainder of the quotient rounded down, with the sign of the divisor, as Python's %.",
)
square = unary(
    "square",
    np.square,
    lambda g, y, x: g * (2.0 * x),
    scalar="x * x",
    dtype="same",
    flops=1,
    is_exact=True,
    doc="x * x.",
)


def _abs_power_vjp(g: Operand, c: float, p: float, x: Operand) -> Operand:
    """Return g * c * abs(x)**(p - 2) * x; for odd p by `pow` of abs(x), whose second derivative at 0 is 0."""
    if p % 2 == 1:
        return g * (c * (CALLS["pow"](abs(x), p - 2) * x))
    return g * (c * radial(p - 2, abs, lambda f, x: f(x), x))


abs: Row = unary(
    "abs",
    np.absolute,
    lambda g, y, x: g * sign(x),
    power_vjps=(_abs_power_vjp,),
    scalar=math.fabs,
    dtype="same",
    flops=1,
    aliases=("absolute",),
    domain=(0.2, 2.0),
    doc="Absolute value. At 0 the gradient and second derivatives are 0; those of abs(x)**p are right for numbers "
    "p >= 2.",
)
sign: Row = unary(
    "sign",
    np.sign,
    None,
    scalar="1.0 if x > 0.0 else -1.0 if x < 0.0 else 0.0 if x == 0.0 else x",
    dtype="same",
    flops=1,
    doc="Sign of x: -1, 0 or 1; NaN if x is NaN.",
)
floor = unary("floor", np.floor, None, flops=1, doc="Largest integer not above x, as a float.")
ceil = unary("ceil", np.ceil, None, flops=1, doc="Smallest integer not below x, as a float.")
trunc = unary("trunc", np.trunc, None, flops=1, doc="x rounded towards 0, as a float.")
round = unary("round", np.rint, None, flops=1, doc="Nearest integer, halves to even, as a float.")


def _clip(x: Array, min: float | None, max: float | None) -> Array:
    x = np.array(x) if min is None else np.maximum(x, min)
    return x if max is None else np.minimum(x, max)


def _clip_vjp(g: Operand, y: Operand, x: Operand, min: float | None, max: float | None) -> Operand:
    """Return the cotangent inside the bounds, 0 at and beyond them; an infinite bound counts as no bound."""
    above = None if min in (None, -math.inf) else greater(x, min)
    below = None if max in (None, math.inf) else less(x, max)
    if above is None and below is None:
        return g
    inside = below if above is None else above if below is None else logical_and(above, below)
    return where(inside, g, zero_or_nan(y))


clip = elementwise(
    "clip",
    ("x",),
    _clip,
    (_clip_vjp,),
    attributes=(Attribute("min", NUMBER, None), Attribute("max", NUMBER, None)),
    dtype_attributes=("min", "max"),
    domain=(REAL,),
    examples=(ex((), min=-1.0, max=1.0), ex((2, 3), min=0, max=1), ex((3,), max=0.5), ex((3,), min=-0.5), ex((0,))),
    doc="x limited to [min, max]; the gradient is 1 inside, 0 outside and at a bound.",
)


def _astype_aval(x: Aval, dtype: str) -> Aval:
    return Aval(x.shape, DTYPES[dtype])


astype = primitive(
    "astype",
    ("x",),
    lambda x, dtype: np.asarray(x).astype(DTYPES[dtype]),
    kind="linear",
    attributes=(Attribute("dtype", DTYPE),),
    vjps=(lambda g, y, x, dtype: g,),
    infer=_astype_aval,
    examples=(ex((2, 3), dtype="float64"), ex((), dtype="float64"), ex((2,), dtype="int64"), ex((2,), dtype="bool")),
    doc="The value in another dtype.",
)


def _same(x: Aval) -> Aval:
    return Aval(x.shape, x.dtype)


stop_gradient = primitive(
    "stop_gradient",
    ("x",),
    lambda x: x,
    vjps=(None,),
    batch=leading,
    infer=_same,
    examples=(ex(()), ex((2, 3))),
    doc="The value itself, with no gradient through it.",
)
zeros_like = primitive(
    "zeros_like",
    ("x",),
    np.zeros_like,
    vjps=(None,),
    batch=leading,
    infer=_same,
    examples=(ex(()), ex((2, 3)), ex((0, 2))),
    doc="Zeros of the shape and dtype of x.",
)
ones_like = primitive(
    "ones_like",
    ("x",),
    np.ones_like,
    vjps=(None,),
    batch=leading,
    infer=_same,
    examples=(ex(()), ex((2, 3)), ex((0, 2))),
    doc="Ones of the shape and dtype of x.",
)
full_like = primitive(
    "full_like",
    ("x",),
    lambda x, value: np.full_like(x, value),
    attributes=(Attribute("value", NUMBER),),
    vjps=(None,),
    batch=leading,
    infer=lambda x, value: _same(x),
    examples=(ex((), value=2), ex((2, 3), value=-0.5)),
    doc="`value` in the shape and dtype of x.",
)
