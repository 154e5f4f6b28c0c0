"""What powers of lengths have in common, and lengths themselves where they are 0."""

from collections.abc import Callable
from typing import Any

from engine.core.operators import Operand
from engine.core.table import CALLS
from engine.primitives.compare import equal, where


def direction(x: Operand, y: Operand) -> Operand:
    """The derivative x / y of a length y of x: 0 where y is 0, and its own derivative NaN there."""
    # The derivative of 1 / y at 0 makes it NaN, which that of the constant inf would not.
    return CALLS["div"](x, where(equal(y, 0.0), CALLS["div"](1.0, y), y))


def radial(q: float, length: Callable[..., Any], total: Callable[..., Any], *xs: Operand) -> Operand:
    """length(*xs)**q * xs[0] for a number q >= 0, with all the derivatives that it has where the length is 0.

    It is the derivative of length**(q + 2) / (q + 2) along xs[0].

    length: of the operands xs, in a shape that broadcasts with theirs.
    total: the sum of an elementwise function over what the length is made of, likewise.
    """
    power = CALLS["pow"]
    x = xs[0]
    if q == 0:
        return x
    if q % 2 == 0:
        # A polynomial.
        return power(total(CALLS["square"], *xs), q / 2) * x
    is_zero = equal(length(*xs), 0.0)
    # The derivatives of the order q + 1 and beyond do not exist at 0; those below are 0.
    exponent = q + 0.5 if q == int(q) else q + 1.0
    at_zero = 0.0 * power(total(lambda x: where(is_zero, x, 1.0), *xs), exponent)
    others = [where(is_zero, 1.0, x) for x in xs]
    return where(is_zero, at_zero, power(length(*others), q) * others[0])
