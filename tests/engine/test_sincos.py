"""Sine and cosine of arrays: within their bound of mpmath's, wherever an element stands and whatever is beside it."""

import math
from typing import Any

import mpmath
import numpy as np
import numpy.typing as npt
import pytest

from engine.plans.codegen import sincos

Array = npt.NDArray[np.float64]
BOUND_ULP = 4.0
SEEDS = np.random.default_rng(20)
STEP = 2.0 * math.pi / 16384


def both(x: Array) -> tuple[Array, Array]:
    """Sine and cosine in one go."""
    outs = np.empty((2, x.size))
    with np.errstate(all="ignore"):
        sincos.sin_and_cos(x, outs[0], outs[1], list(np.empty((sincos.SCRATCH, x.size))))
    return outs[0], outs[1]


def alone(function: Any, x: Array) -> Array:
    out = np.empty_like(x)
    with np.errstate(all="ignore"):
        function(x, out, list(np.empty((sincos.SCRATCH + 1, x.size))))
    return out


def ulps(found: Array, x: Array, function: Any) -> float:
    """The largest distance from the true value, in units in the last place of that."""
    worst = 0.0
    with mpmath.workprec(1400):
        for y, value in zip(found.tolist(), x.tolist(), strict=True):
            true = function(mpmath.mpf(value))
            worst = max(worst, float(abs(mpmath.mpf(y) - true) / math.ulp(float(true))))
    return worst


def around(points: Any) -> Array:
    """Each point with the four doubles on either side of it."""
    bits = np.asarray(points, np.float64).view(np.int64)
    return np.ravel(bits[:, None] + np.arange(-4, 5)).view(np.float64)


def signed(x: Array) -> Array:
    return x * np.where(SEEDS.random(x.size) < 0.5, -1.0, 1.0)


QUARTERS = np.concatenate([np.arange(1, 200), SEEDS.integers(200, 63661, 200), np.arange(63640, 63662)])
CASES = {
    "around 0": SEEDS.uniform(-1.0, 1.0, 3000),
    "a few turns": SEEDS.uniform(-20.0, 20.0, 3000),
    "all turns": SEEDS.uniform(-1e5, 1e5, 3000),
    "all magnitudes within the limit": signed(np.exp(SEEDS.uniform(math.log(1e-300), math.log(1e5), 3000))),
    "multiples of a quarter turn": signed(around(QUARTERS * (math.pi / 2.0))),
    "halfway between places of the table": signed(around((np.arange(0, 9000, 30) + 0.5) * STEP)),
    "beside the places next to zeros": np.ravel(
        np.array([1, 2, 3, 4095, 4097, 8191, 8193])[:, None] * STEP + np.linspace(-0.5, 0.5, 301) * STEP
    ),
    "the limit": signed(around([1e5])),
    "denormals": np.array([5e-324, -5e-324, 1e-310, -2.2e-308, 2.3e-308]),
    "all that is beyond": signed(np.exp(SEEDS.uniform(math.log(1e5), math.log(1.7e308), 300))),
}


@pytest.mark.thorough
@pytest.mark.parametrize("x", CASES.values(), ids=CASES.keys())
def test_the_bound(x: Array) -> None:
    sine, cosine = both(x)
    assert ulps(sine, x, mpmath.sin) <= BOUND_ULP
    assert ulps(cosine, x, mpmath.cos) <= BOUND_ULP


def test_at_special_values() -> None:
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan])
    sine, cosine = both(x)
    np.testing.assert_array_equal(sine, [0.0, 0.0, np.nan, np.nan, np.nan])
    np.testing.assert_array_equal(np.signbit(sine[:2]), [False, True])
    np.testing.assert_array_equal(cosine, [1.0, 1.0, np.nan, np.nan, np.nan])


def test_numpys_own_beyond_the_limit() -> None:
    x = np.array([np.nextafter(1e5, np.inf), -1e6, 1e22, 1.7e308])
    sine, cosine = both(x)
    np.testing.assert_array_equal(sine, np.sin(x))
    np.testing.assert_array_equal(cosine, np.cos(x))


@pytest.mark.parametrize("size", [0, 1, 7, 64, 1001])
def test_one_function_gives_the_bits_of_both(size: int) -> None:
    x = SEEDS.uniform(-100.0, 100.0, size)
    sine, cosine = both(x)
    np.testing.assert_array_equal(alone(sincos.sin, x), sine)
    np.testing.assert_array_equal(alone(sincos.cos, x), cosine)


def test_neighbours_and_places_change_no_bit() -> None:
    x = SEEDS.uniform(-1e5, 1e5, 500)
    expected = both(x)
    strange = np.array([np.nan, 1e300, -np.inf, 2e5])
    for start in range(5):
        mixed = np.concatenate([np.resize(strange, start), x, strange])
        for found, one in zip(both(mixed), expected, strict=True):
            np.testing.assert_array_equal(found[start : start + x.size], one)


def test_an_operand_is_not_written_to() -> None:
    x = SEEDS.uniform(-1e6, 1e6, 100)
    before = x.copy()
    both(x)
    np.testing.assert_array_equal(x, before)
