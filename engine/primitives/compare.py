"""Comparisons, masks and choices; a mask has dtype bool and no derivative."""

import math
import operator

import numpy as np

from engine.core import NUMBER, Array, Attribute, Operand, ex
from engine.rows import REAL, Row, binary, elementwise, unary

equal = binary(
    "equal", np.equal, None, None, scalar=operator.eq, dtype="bool", symbol="==", is_commutative=True, doc="x1 == x2."
)
not_equal = binary(
    "not_equal",
    np.not_equal,
    None,
    None,
    scalar=operator.ne,
    dtype="bool",
    symbol="!=",
    is_commutative=True,
    doc="x1 != x2.",
)
less = binary("less", np.less, None, None, scalar=operator.lt, dtype="bool", symbol="<", doc="x1 < x2.")
less_equal = binary(
    "less_equal", np.less_equal, None, None, scalar=operator.le, dtype="bool", symbol="<=", doc="x1 <= x2."
)
greater = binary("greater", np.greater, None, None, scalar=operator.gt, dtype="bool", symbol=">", doc="x1 > x2.")
greater_equal = binary(
    "greater_equal", np.greater_equal, None, None, scalar=operator.ge, dtype="bool", symbol=">=", doc="x1 >= x2."
)

logical_and = binary(
    "logical_and", np.logical_and, None, None, scalar="bool(x1) and bool(x2)", dtype="bool", doc="Both are not 0."
)
logical_or = binary(
    "logical_or", np.logical_or, None, None, scalar="bool(x1) or bool(x2)", dtype="bool", doc="At least one is not 0."
)
logical_xor = binary(
    "logical_xor", np.logical_xor, None, None, scalar="bool(x1) != bool(x2)", dtype="bool", doc="Exactly one is not 0."
)
logical_not = unary("logical_not", np.logical_not, None, scalar="not x", dtype="bool", flops=1, doc="x is 0.")
isnan = unary("isnan", np.isnan, None, scalar="x != x", dtype="bool", flops=1, doc="x is not a number.")
isinf = unary("isinf", np.isinf, None, scalar=math.isinf, dtype="bool", flops=1, doc="x is infinite.")
isfinite = unary(
    "isfinite", np.isfinite, None, scalar=math.isfinite, dtype="bool", flops=1, doc="x is neither infinite nor NaN."
)


def _isclose(x1: Array, x2: Array, rtol: float, atol: float) -> Array:
    return np.isclose(x1, x2, rtol=rtol, atol=atol)


isclose = elementwise(
    "isclose",
    ("x1", "x2"),
    _isclose,
    (None, None),
    dtype="bool",
    attributes=(Attribute("rtol", NUMBER, 1e-5), Attribute("atol", NUMBER, 1e-8)),
    domain=(REAL, REAL),
    examples=(ex((2, 3), (3,)), ex((3,), (3,), rtol=0.5, atol=0.1)),
    doc="|x1 - x2| <= atol + rtol |x2|.",
)


def _where(condition: Array, x: float | Array, y: float | Array) -> Array:
    kinds = {type(x), type(y)}
    if kinds <= {int, float, bool} and kinds != {bool}:
        x, y = float(x), float(y)  # two Python numbers give float64
    return np.where(condition, x, y)


where: Row = elementwise(
    "where",
    ("condition", "x", "y"),
    _where,
    (
        None,
        lambda g, out, condition, x, y: where(condition, g, 0.0),
        lambda g, out, condition, x, y: where(condition, 0.0, g),
    ),
    scalar="x if condition else y",
    dtype_operands=slice(1, None),
    domain=(REAL, REAL, REAL),
    examples=(
        ex(1.0, (), ()),
        ex([1.0, 0.0, 1.0], (3,), (3,)),
        ex([[1.0], [0.0]], (3,), (2, 3)),
        ex([True, False], (2,), ()),
        ex((0,), (0,), ()),
    ),
    doc="x where the condition is not 0, otherwise y. Both are computed; the one not taken never contributes to a "
    "derivative, whatever its value.",
)

mask_fill = elementwise(
    "mask_fill",
    ("x", "mask"),
    lambda x, mask, value: _where(np.equal(mask, 0), value, x),
    (lambda g, y, x, mask, value: where(equal(mask, 0.0), 0.0, g), None),
    attributes=(Attribute("value", NUMBER),),
    dtype_attributes=("value",),
    dtype_operands=slice(0, 1),
    domain=(REAL, REAL),
    examples=(
        ex((2, 3), [[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]], value=-3.0),
        ex((2, 3), [1.0, 0.0, 2.0], value=0.5),
        ex((), 1.0, value=3),
        ex((0,), (0,), value=3),
    ),
    doc="x, with `value` where the mask is 0.",
)


#: Number of elements above which allocating memory costs more than the call of broadcast_to.
_MANY = 4096


def _zero_or_nan(x: Array) -> Array:
    """Return zeros, NaN where x is NaN; many zeros without a NaN are a broadcast view, which takes no memory."""
    least = np.minimum.reduce(x, axis=None, initial=0.0)
    if least != least:
        return np.clip(x, 0.0, 0.0)
    return np.zeros_like(x) if x.size < _MANY else np.broadcast_to(x.dtype.type(0), x.shape)


zero_or_nan = unary(
    "zero_or_nan",
    _zero_or_nan,
    None,
    scalar="0.0 if x == x else x",
    dtype="same",
    flops=1,
    doc="0, or NaN where x is NaN: the derivative along an operand that was not chosen.",
)


def _tied(g: Operand, y: Operand, mine: Operand, other: Operand, is_mine: Operand) -> Operand:
    """Return the cotangent of the operand `mine`: all of g if it is chosen, half in a tie, NaN where y is NaN."""
    return where(is_mine, g, where(mine == other, 0.5 * g, zero_or_nan(y)))


maximum = binary(
    "maximum",
    np.maximum,
    lambda g, y, a, b: _tied(g, y, a, b, a > b),
    lambda g, y, a, b: _tied(g, y, b, a, b > a),
    scalar="x1 if x1 >= x2 or x1 != x1 else x2",
    doc="Larger of two values; NaN if one is NaN. A tie gives half the gradient to each.",
)
minimum = binary(
    "minimum",
    np.minimum,
    lambda g, y, a, b: _tied(g, y, a, b, a < b),
    lambda g, y, a, b: _tied(g, y, b, a, b < a),
    scalar="x1 if x1 <= x2 or x1 != x1 else x2",
    doc="Smaller of two values; NaN if one is NaN. A tie gives half the gradient to each.",
)
