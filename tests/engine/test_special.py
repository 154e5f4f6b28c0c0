"""The gamma function's logarithm and its derivatives: against SciPy, constants and functional equations."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import special

from engine import Variable
from engine import functions as F
from engine.core.errors import BadAttributeError
from tests.engine.graphs import quickly

inf, nan = math.inf, math.nan
EULER = 0.57721566490153286
APERY = 1.2020569031595943
EDGES = [0.0, -0.0, 1.0, 2.0, 0.5, -0.5, -1.0, -2.0, -2.5, 1e-300, -1e-300, 1e300, 171.5, inf, -inf, nan]


@pytest.mark.parametrize("name", ["gammaln", "digamma"])
def test_values_are_those_of_scipy(name: str) -> None:
    f, scipys = getattr(F, name), getattr(special, name)

    def expected(x: Any) -> Any:
        # Poles crowd towards -inf, where SciPy gives -inf for gammaln.
        return np.where((name == "gammaln") & (x == -inf), inf, scipys(x)).astype(x.dtype)

    x = np.concatenate([np.linspace(-20.25, 20.25, 82), EDGES])
    np.testing.assert_array_equal(f(x), expected(x))
    np.testing.assert_array_equal([f(float(each)) for each in x], expected(x))
    x32 = x[~(np.abs(x) == 1e300)].astype(np.float32)
    assert f(x32).dtype == np.float32
    np.testing.assert_array_equal(f(x32), expected(x32))


@pytest.mark.parametrize("n", range(7))
def test_polygamma_agrees_with_scipy_also_below_zero(n: int) -> None:
    x = np.concatenate([np.linspace(-19.9, 20.1, 83), EDGES])
    with np.errstate(all="ignore"):
        expected = special.polygamma(n, x)
    # Where terms of the size of n! * 2**(n + 1) cancel, between two poles, SciPy loses their last digits.
    np.testing.assert_allclose(F.polygamma(x, n), expected, rtol=1e-11, atol=2e-15 * math.factorial(n) * 2 ** (n + 1))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(F.gammaln(0.5), math.log(math.pi) / 2, id="gammaln(1/2)"),
        pytest.param(F.gammaln(11.0), math.log(math.factorial(10)), id="gammaln(11)"),
        pytest.param(F.gammaln(-0.5), math.log(2 * math.sqrt(math.pi)), id="gammaln(-1/2)"),
        pytest.param(F.digamma(1.0), -EULER, id="digamma(1)"),
        pytest.param(F.digamma(0.5), -EULER - 2 * math.log(2), id="digamma(1/2)"),
        pytest.param(F.digamma(4.0), 11 / 6 - EULER, id="digamma(4)"),
        pytest.param(F.polygamma(1.0, 0), -EULER, id="polygamma(1, 0)"),
        pytest.param(F.polygamma(1.0, 1), math.pi**2 / 6, id="polygamma(1, 1)"),
        pytest.param(F.polygamma(0.5, 1), math.pi**2 / 2, id="polygamma(1/2, 1)"),
        pytest.param(F.polygamma(-0.5, 1), math.pi**2 / 2 + 4, id="polygamma(-1/2, 1)"),
        pytest.param(F.polygamma(1.0, 2), -2 * APERY, id="polygamma(1, 2)"),
        pytest.param(F.polygamma(-0.5, 2), 16 - 14 * APERY, id="polygamma(-1/2, 2)"),
        pytest.param(F.polygamma(0.5, 3), math.pi**4, id="polygamma(1/2, 3)"),
        pytest.param(F.polygamma(0.0, 1), inf, id="polygamma at a pole"),
        pytest.param(F.polygamma(inf, 1), 0.0, id="polygamma(inf, 1)"),
    ],
)
def test_constants(value: float, expected: float) -> None:
    assert type(value) is float
    assert value == pytest.approx(expected, rel=1e-14)


@given(
    x=st.floats(-30.0, 30.0).filter(lambda x: abs(x - round(x)) > 1e-3),
    n=st.integers(0, 8),
)
@example(x=-1.5, n=8)
@example(x=-20.5, n=6)
def test_recurrence(x: float, n: int) -> None:
    """Abramowitz and Stegun 6.4.6."""
    step = (-1) ** n * math.factorial(n) * x ** -(n + 1)
    low, high = F.polygamma(x, n), F.polygamma(x + 1.0, n)
    scale = max(abs(low), abs(high), abs(step), 1.0)
    assert high - low == pytest.approx(step, abs=1e-11 * scale)


def test_far_below_zero_takes_no_longer() -> None:
    with quickly():
        assert F.polygamma(-1e15 + 0.5, 1) == pytest.approx(math.pi**2, rel=1e-14)
        assert F.polygamma(-1e15 + 0.25, 1) == pytest.approx(2 * math.pi**2, rel=1e-14)
        far = F.polygamma(np.array([-1e12 - 0.5, -1e12 - 0.5, 2.0], np.float32), 3)
    assert far.dtype == np.float32


@pytest.mark.parametrize("x", [0.7, 3.5, 40.0, -0.4, -3.3])
def test_derivatives_of_gammaln_are_polygammas(x: float) -> None:
    v = Variable(x)
    y = F.gammaln(v)
    for n in range(6):
        v.cleargrad()
        y.backward(create_graph=True)
        assert v.grad is not None
        y = v.grad
        assert y.item() == pytest.approx(float(special.polygamma(n, x)), rel=1e-11)
    v.cleargrad()


def test_slope_keeps_its_digits_in_high_orders() -> None:
    """Near a pole, the n-th derivative is that of -1/(x - pole)."""
    for n in (20, 60, 100):
        expected = -((-1.0) ** n) * math.factorial(n) / 0.125 ** (n + 1)
        assert F.polygamma(-0.875, n) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("n", [-1, 101, 1.5, "1", True, None, 10**30])
def test_degrees_that_cannot_be(n: Any) -> None:
    with pytest.raises(BadAttributeError, match=r"polygamma: attribute n .* integer from 0 to 100"):
        F.polygamma(0.5, n)
