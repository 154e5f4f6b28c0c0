"""Shared derivatives of lengths and of powers of lengths, including points where the length is 0."""

from collections.abc import Callable

from engine.core import CALLS, Operand
from engine.primitives.compare import equal, where


def direction(x: Operand, y: Operand) -> Operand:
    """Return x / y, the derivative of the length y of x; where y is 0, it is 0 and its own derivative is NaN."""
    # 1 / y and not the constant inf: its derivative at 0 makes the derivative here NaN.
    return CALLS["div"](x, where(equal(y, 0.0), CALLS["div"](1.0, y), y))


def radial(q: float, length: Callable[..., Operand], total: Callable[..., Operand], *xs: Operand) -> Operand:
    """Return length(*xs)**q * xs[0] for a number q >= 0, with all derivatives that exist where the length is 0.

    It is the derivative of length**(q + 2) / (q + 2) along xs[0].

    length: (*xs) -> length of the operands, in a shape that broadcasts with theirs.
    total: (f, *xs) -> sum of the elementwise function f over the elements in the length, in the same shape.
    """
    power = CALLS["pow"]
    x = xs[0]
    if q == 0:
        return x
    if q % 2 == 0:
        # A polynomial.
        return power(total(CALLS["square"], *xs), q / 2) * x
    is_zero = equal(length(*xs), 0.0)
    # At 0, derivatives of order q + 1 and above do not exist; those of lower order are 0.
    exponent = q + 0.5 if q == int(q) else q + 1.0
    at_zero = 0.0 * power(total(lambda x: where(is_zero, x, 1.0), *xs), exponent)
    others = [where(is_zero, 1.0, x) for x in xs]
    return where(is_zero, at_zero, power(length(*others), q) * others[0])
