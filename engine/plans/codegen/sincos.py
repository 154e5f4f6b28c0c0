"""Sine and cosine of float64 arrays from a table, additions and multiplications, several times faster than NumPy's.

With h = 2 pi / 16384, x is reduced to the nearest multiple of h: x = k h + r, |r| <= h / 2. A table holds sin and cos
of a = k h; the angle r is added by `sin(a + r) = sin a + s (cos a - t sin a)` and
`cos(a + r) = cos a - s (sin a + t cos a)`, where s = sin r and t = tan(r / 2) are approximated by polynomials of degree
3 and 1. k h is subtracted in four parts, three of which have exact products with k, so that r is accurate to its last
bits also near the zeros.
Sources: W. J. Cody and W. Waite, Software Manual for the Elementary Functions (1980), for the reduction; P. T. P. Tang,
Table-driven implementation of the exponential function (ACM TOMS 15, 1989), for the method.

Results are within 4 ulp for |x| <= 1e5; beyond, and for NaN and infinities, they are NumPy's. All operations are
prescribed by IEEE 754, which rounds alike on every machine, and the result of an element depends on that element alone.
"""

import math
from functools import cache

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

#: Up to here |k| < 2**28, and k times a number of 25 bits is exact.
LIMIT = 1e5
#: Number of scratch arrays of the length of x, besides the results.
SCRATCH = 4

_STEPS = 16384
_BITS_OF_PART = 25
_PARTS = 4
#: Adding it rounds to the nearest integer, in the low bits of the sum.
_ROUNDING = 1.5 * 2.0**52
_FRACTION = 192
_HALF_STEP = math.pi / _STEPS
# The next term of each series is kept with its last factor r**2 replaced by b = (2 sqrt(2) - 2) R**2, which minimizes
# the largest |r**4 - b r**2| on |r| <= R.
_BALANCE = (2.0 * math.sqrt(2.0) - 2.0) * _HALF_STEP**2
_CUBIC = -1.0 / 6.0 + _BALANCE / 120.0
_HALF = 0.5 + _BALANCE / 24.0


def sin(x: Array, out: Array, scratch: list[Array]) -> None:
    """Sine of x, in radians.

    Args:
        x: shape (n,); shares no memory with the others.
        out: shape (n,); receives the result.
        scratch: SCRATCH + 1 arrays of shape (n,).
    """
    a, s, sine, cosine, other = scratch
    _reduce(x, a, s, sine, cosine, out, other)
    _sine(a, s, sine, cosine, out)
    _repair(x, out, None)


def cos(x: Array, out: Array, scratch: list[Array]) -> None:
    """Cosine of x, in radians; the arguments are those of `sin`."""
    a, s, sine, cosine, other = scratch
    _reduce(x, a, s, sine, cosine, out, other)
    _cosine(a, s, sine, cosine, out)
    _repair(x, None, out)


def sin_and_cos(x: Array, out_sin: Array, out_cos: Array, scratch: list[Array]) -> None:
    """Sine and cosine of x for little more than the cost of one, with the same bits; `scratch` are SCRATCH arrays."""
    a, s, sine, cosine = scratch
    _reduce(x, a, s, sine, cosine, out_sin, out_cos)
    _sine(a, s, sine, cosine, out_sin)
    _cosine(a, s, sine, cosine, out_cos)
    _repair(x, out_sin, out_cos)


def _reduce(x: Array, t: Array, s: Array, sine: Array, cosine: Array, k: Array, product: Array) -> None:
    """Write tan(r / 2) to `t`, sin r to `s`, and the sine and cosine of k h; `k` and `product` are overwritten."""
    per_radian, parts, sines, cosines = _table()
    np.multiply(x, per_radian, t)
    np.add(t, _ROUNDING, t)
    np.subtract(t, _ROUNDING, k)
    index = t.view(np.int64)
    np.bitwise_and(index, _STEPS - 1, index)
    sines.take(index, None, sine, "clip")
    cosines.take(index, None, cosine, "clip")
    r = s
    np.multiply(k, parts[0], product)
    np.subtract(x, product, r)
    for part in parts[1:]:
        np.multiply(k, part, product)
        np.subtract(r, product, r)
    np.multiply(r, _HALF, t)
    np.multiply(r, r, product)
    np.multiply(product, _CUBIC, product)
    np.add(product, 1.0, product)
    np.multiply(r, product, s)


def _sine(t: Array, s: Array, sine: Array, cosine: Array, out: Array) -> None:
    np.multiply(t, sine, out)
    np.subtract(cosine, out, out)
    np.multiply(out, s, out)
    np.add(out, sine, out)


def _cosine(t: Array, s: Array, sine: Array, cosine: Array, out: Array) -> None:
    np.multiply(t, cosine, out)
    np.add(sine, out, out)
    np.multiply(out, s, out)
    np.subtract(cosine, out, out)


def _repair(x: Array, out_sin: Array | None, out_cos: Array | None) -> None:
    """Replace the results beyond the limit, and for NaN, by NumPy's."""
    if not x.size or (np.min(x) >= -LIMIT and np.max(x) <= LIMIT):
        return
    beyond = np.flatnonzero(~(np.abs(x) <= LIMIT))
    if beyond.size:
        if out_sin is not None:
            out_sin[beyond] = np.sin(x[beyond])
        if out_cos is not None:
            out_cos[beyond] = np.cos(x[beyond])


@cache
def _table() -> tuple[float, tuple[float, ...], Array, Array]:
    """Return the steps per radian, the parts of a step, and the sines and cosines of all multiples of a step."""
    pi = _pi()
    one = 1 << _FRACTION
    step = 2 * pi // _STEPS
    eighth = _STEPS // 8
    sin_of_step, cos_of_step = _series(step)
    c, s = one, 0
    sines, cosines = [], []
    for _ in range(eighth + 1):
        sines.append(s / one)
        cosines.append(c / one)
        c, s = (c * cos_of_step - s * sin_of_step) >> _FRACTION, (s * cos_of_step + c * sin_of_step) >> _FRACTION
    quarter = [*sines, *cosines[-2::-1]]
    half = np.array([*quarter, *quarter[-2:0:-1]])
    # sin(-0.0) is -0.0: only a table entry of -0.0 changes neither 0.0 nor -0.0 when it is added.
    around = np.concatenate([half, -half, half[: _STEPS // 4]])
    around[[0, _STEPS]] = -0.0
    return _STEPS * one / (2 * pi), _parts(step, one), around[:_STEPS], around[_STEPS // 4 :]


def _parts(step: int, one: int) -> tuple[float, ...]:
    """Split a step into a sum of floats: all but the last have _BITS_OF_PART bits, the last is the remainder."""
    parts = []
    for _ in range(_PARTS - 1):
        unit = 1 << (step.bit_length() - _BITS_OF_PART)
        part = step // unit * unit
        parts.append(part / one)
        step -= part
    return (*parts, step / one)


def _series(angle: int) -> tuple[int, int]:
    """Return sine and cosine of a small angle; all are integers in units of 2**-_FRACTION."""
    sums = [0, 0]
    term, n = 1 << _FRACTION, 0
    while term:
        sums[n % 2] += term if n % 4 < 2 else -term
        n += 1
        term = (term * angle >> _FRACTION) // n
    return sums[1], sums[0]


def _pi() -> int:
    """Return pi in units of 2**-_FRACTION, by Machin's formula: 16 arctan(1 / 5) - 4 arctan(1 / 239)."""
    guard = 32

    def arctan_of_inverse(n: int) -> int:
        total, power, k = 0, (1 << (_FRACTION + guard)) // n, 1
        while power:
            total += power // k if k % 4 == 1 else -(power // k)
            power //= n * n
            k += 2
        return total

    return (16 * arctan_of_inverse(5) - 4 * arctan_of_inverse(239)) >> guard
