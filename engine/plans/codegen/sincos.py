"""Sine and cosine of float64 arrays by additions and multiplications alone, several times faster than NumPy's.

With h = 2 pi / 16384, x is near a multiple of h: x = k h + r, |r| <= h / 2. A table gives sin and cos of a = k h; the
angle r is added by `sin(a + r) = sin a + s (cos a - t sin a)` and `cos(a + r) = cos a - s (sin a + t cos a)`, where
s = sin r and t = tan(r / 2) are polynomials of third and first degree. k h is subtracted in four parts, of which three
have products with k that are exact, so that r is right to its last bits also next to the zeros.
Sources: W. J. Cody and W. Waite, Software Manual for the Elementary Functions (1980), for the reduction; P. T. P. Tang,
Table-driven implementation of the exponential function (ACM TOMS 15, 1989), for the method.

Results are within 4 ulp for |x| <= 1e5; beyond, and for NaN and infinities, they are NumPy's. All operations are those
of IEEE 754, which round the same on every machine, and the result for an element depends on that element alone.
"""

import math
from functools import cache

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

#: Up to here |k| < 2**28, and k times a number of 25 bits is exact.
LIMIT = 1e5
#: How many arrays of the length of x are needed beside those of the results.
SCRATCH = 4

_STEPS = 16384
_BITS_OF_PART = 25
_PARTS = 4
#: Adding it leaves the nearest integer, in the low bits of the sum.
_ROUNDING = 1.5 * 2.0**52
_FRACTION = 192
_HALF_STEP = math.pi / _STEPS
# Of c - d r**2 the best d on 0 <= r <= R is (2 sqrt(2) - 2) R**2 smaller than the next term of the series asks for.
_BALANCE = (2.0 * math.sqrt(2.0) - 2.0) * _HALF_STEP**2
_CUBIC = -1.0 / 6.0 + _BALANCE / 120.0
_HALF = 0.5 + _BALANCE / 24.0


def sin(x: Array, out: Array, scratch: list[Array]) -> None:
    """Sine of x, in radians.

    Args:
        x: one axis; shares no memory with the others.
        out: receives the result.
        scratch: SCRATCH + 1 arrays of the length of x.
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
    """Both for little more than the price of one, with the same bits; `scratch` are SCRATCH arrays."""
    a, s, sine, cosine = scratch
    _reduce(x, a, s, sine, cosine, out_sin, out_cos)
    _sine(a, s, sine, cosine, out_sin)
    _cosine(a, s, sine, cosine, out_cos)
    _repair(x, out_sin, out_cos)


def _reduce(x: Array, t: Array, s: Array, sine: Array, cosine: Array, k: Array, product: Array) -> None:
    """Leaves tan(r / 2) in `t`, sin r in `s`, and what the table has for k; `k` and `product` are written over."""
    per_radian, parts, sines, cosines = _table()
    np.multiply(x, per_radian, t)
    np.add(t, _ROUNDING, t)
    np.subtract(t, _ROUNDING, k)
    place = t.view(np.int64)
    np.bitwise_and(place, _STEPS - 1, place)
    sines.take(place, None, sine, "clip")
    cosines.take(place, None, cosine, "clip")
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
    """NumPy's results for what is beyond the limit."""
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
    """Steps a radian, the parts of a step, and sines and cosines of all multiples of a step."""
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
    # The sine of -0.0 is -0.0: of zeros only the negative one can be added to both without changing them.
    around = np.concatenate([half, -half, half[: _STEPS // 4]])
    around[[0, _STEPS]] = -0.0
    return _STEPS * one / (2 * pi), _parts(step, one), around[:_STEPS], around[_STEPS // 4 :]


def _parts(step: int, one: int) -> tuple[float, ...]:
    """Numbers of few bits whose sum is a step, the last being what is left."""
    parts = []
    for _ in range(_PARTS - 1):
        unit = 1 << (step.bit_length() - _BITS_OF_PART)
        part = step // unit * unit
        parts.append(part / one)
        step -= part
    return (*parts, step / one)


def _series(angle: int) -> tuple[int, int]:
    """Sine and cosine of a small angle, as integers over 2 to the power `_FRACTION`."""
    sums = [0, 0]
    term, n = 1 << _FRACTION, 0
    while term:
        sums[n % 2] += term if n % 4 < 2 else -term
        n += 1
        term = (term * angle >> _FRACTION) // n
    return sums[1], sums[0]


def _pi() -> int:
    """Pi over 2 to the power `_FRACTION`, by Machin's formula: 16 arctan(1 / 5) - 4 arctan(1 / 239)."""
    guard = 32

    def arctan_of_inverse(n: int) -> int:
        total, power, k = 0, (1 << (_FRACTION + guard)) // n, 1
        while power:
            total += power // k if k % 4 == 1 else -(power // k)
            power //= n * n
            k += 2
        return total

    return (16 * arctan_of_inverse(5) - 4 * arctan_of_inverse(239)) >> guard
