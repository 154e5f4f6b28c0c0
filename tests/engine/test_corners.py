"""Corners: kinks, zeros, infinities and large numbers, with the choice that the documentation states."""

import math
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest

from engine import Variable
from engine import functions as F
from engine.core.errors import AutogradError
from engine.core.operation import Operation
from engine.core.table import OPERATIONS, rows
from engine.core.values import DTYPES, Aval, aval, dtype_of, shape_of

inf, nan = math.inf, math.nan
Function = Callable[[Any], Any]


def derivatives(f: Function, x: Any, order: int) -> list[Any]:
    """Value and derivatives in one variable, each a gradient of the one before."""
    v = Variable(x)
    y = f(v)
    found = [y.data]
    for _ in range(order):
        v.cleargrad()
        y.backward(create_graph=True)
        if v.grad is None:
            found.append(0.0 * v.data)
            continue
        y = v.grad
        found.append(y.data)
    return found


@pytest.mark.parametrize(
    ("f", "x", "expected"),
    [
        pytest.param(lambda x: x**0, 0.0, [1, 0, 0, 0], id="x**0 at 0"),
        pytest.param(lambda x: x**1, 0.0, [0, 1, 0, 0], id="x**1 at 0"),
        pytest.param(lambda x: x**2, 0.0, [0, 0, 2, 0, 0], id="x**2 at 0"),
        pytest.param(lambda x: x**3, 0.0, [0, 0, 0, 6, 0, 0], id="x**3 at 0"),
        pytest.param(lambda x: x**3.0, -2.0, [-8, 12, -12, 6, 0], id="x**3.0 below 0"),
        pytest.param(lambda x: x**0.5, 0.0, [0, inf], id="x**0.5 at 0"),
        pytest.param(lambda x: x**-1, 0.0, [inf, -inf], id="x**-1 at 0"),
        pytest.param(lambda x: F.pow(x, np.array([0.0, 1.0, 2.0, 3.0]))[0], 0.0, [1, 0, 0], id="array of exponents: 0"),
        pytest.param(
            lambda x: F.pow(x, np.array([0.0, 1.0, 2.0, 3.0]))[2], 0.0, [0, 0, 2, 0], id="array of exponents: 2"
        ),
        pytest.param(lambda x: F.pow(x, np.array([0.0, 1.0, 2.0, 3.0]))[3], 0.0, [0, 0, 0, 6, 0], id="array: 3"),
        pytest.param(lambda x: F.pow(x, Variable(2.0)), 0.0, [0, 0, 2, 0], id="variable exponent"),
        pytest.param(lambda b: 0.0**b, 2.0, [0, 0, 0], id="0**b"),
        pytest.param(lambda b: 0.0**b, 0.0, [1, 0], id="0**b at b = 0"),
        pytest.param(lambda b: F.pow(0.0, b), 0.5, [0, 0, 0], id="pow(0, b)"),
        pytest.param(F.sqrt, 0.0, [0, inf], id="sqrt at 0"),
        pytest.param(F.sqrt, -1.0, [nan, nan], id="sqrt below 0"),
        pytest.param(F.abs, 0.0, [0, 0, 0], id="abs at 0"),
        pytest.param(F.abs, -0.5, [0.5, -1, 0], id="abs below 0"),
        pytest.param(F.relu, 0.0, [0, 0, 0], id="relu at 0"),
        pytest.param(F.relu, nan, [nan, nan], id="relu of nan"),
        pytest.param(F.relu, -inf, [0, 0], id="relu of -inf"),
        pytest.param(lambda x: F.clip(x, 0.0, 1.0), 0.0, [0, 0], id="clip at min"),
        pytest.param(lambda x: F.clip(x, 0.0, 1.0), 1.0, [1, 0], id="clip at max"),
        pytest.param(lambda x: F.clip(x, 0.0, 1.0), 0.5, [0.5, 1], id="clip inside"),
        pytest.param(lambda x: F.clip(x, 0.0, 1.0), 2.0, [1, 0], id="clip outside"),
        pytest.param(lambda x: F.maximum(x, 1.0), 1.0, [1, 0.5], id="maximum tied"),
        pytest.param(lambda x: F.minimum(x, 1.0), 1.0, [1, 0.5], id="minimum tied"),
        pytest.param(F.norm, 0.0, [0, 0, nan], id="norm at 0"),
        pytest.param(lambda x: F.hypot(x, 0.0), 0.0, [0, 0, nan], id="hypot at 0"),
        pytest.param(F.log, 0.0, [-inf, inf], id="log at 0"),
        pytest.param(lambda x: 1.0 / x, 0.0, [inf, -inf], id="1/x at 0"),
        pytest.param(F.exp, 1000.0, [inf, inf], id="exp overflows"),
        pytest.param(F.sigmoid, -800.0, [0, 0], id="sigmoid far below"),
        pytest.param(F.sigmoid, 800.0, [1, 0], id="sigmoid far above"),
        pytest.param(F.sigmoid, 40.0, [1, math.exp(-40.0)], id="sigmoid's slope keeps its digits"),
        pytest.param(F.softplus, 800.0, [800, 1], id="softplus above"),
        pytest.param(F.softplus, -800.0, [0, 0], id="softplus below"),
        pytest.param(F.gelu, 1e200, [1e200, 1], id="gelu above"),
        pytest.param(F.gelu, -1e200, [0, 0], id="gelu below"),
        pytest.param(F.gelu, -inf, [0, 0], id="gelu at -inf"),
        pytest.param(lambda x: F.log1p(x), 1e-20, [1e-20, 1], id="log1p near 0"),
        pytest.param(lambda x: F.expm1(x), 1e-20, [1e-20, 1], id="expm1 near 0"),
        pytest.param(lambda x: F.logaddexp(x, 0.0), 1000.0, [1000, 1], id="logaddexp"),
        pytest.param(F.tanh, 1000.0, [1, 0], id="tanh above"),
        pytest.param(F.sign, 3.0, [1, 0], id="sign has no derivative"),
        pytest.param(lambda x: F.where(x > 0, F.log(F.where(x > 0, x, 1.0)), 0.0), 0.0, [0, 0], id="guarded where"),
    ],
)
@pytest.mark.parametrize("form", ["scalar", "array"])
def test_scalar_corners(f: Function, x: float, expected: list[float], form: str) -> None:
    given: Any = x if form == "scalar" else np.array([x])
    with np.errstate(all="ignore"):
        if form == "array" and f(Variable(x)).shape == () and f(Variable(given)).shape not in ((1,), ()):
            given = x
        found = derivatives(f, given, len(expected) - 1)
    for value, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(np.ravel(value), wanted, rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize(
    ("f", "x", "value", "gradient"),
    [
        pytest.param(F.max, [1.0, 3.0, 3.0, 0.0], 3.0, [0, 0.5, 0.5, 0], id="max of ties"),
        pytest.param(F.min, [0.0, 3.0, 0.0, 0.0], 0.0, [1 / 3, 0, 1 / 3, 1 / 3], id="min of ties"),
        pytest.param(F.norm, [0.0, 0.0], 0.0, [0, 0], id="norm at 0"),
        pytest.param(F.norm, [3e200, 4e200], 5e200, [0.6, 0.8], id="norm of large numbers"),
        pytest.param(F.norm, [3e-200, 4e-200], 5e-200, [0.6, 0.8], id="norm of small numbers"),
        pytest.param(F.norm, [inf, 1.0], inf, [nan, 0], id="norm of inf"),
        pytest.param(F.logsumexp, [1000.0, 1000.0], 1000 + math.log(2), [0.5, 0.5], id="logsumexp above"),
        pytest.param(F.logsumexp, [-1000.0, -1000.0], -1000 + math.log(2), [0.5, 0.5], id="logsumexp below"),
        pytest.param(F.logsumexp, [-inf, 0.0], 0.0, [0, 1], id="logsumexp with -inf"),
        pytest.param(F.logsumexp, [inf, 1.0], inf, [nan, 0], id="logsumexp with inf"),
        pytest.param(F.logsumexp, [-inf, -inf], -inf, [0, 0], id="logsumexp of nothing likely"),
        pytest.param(lambda x: F.softmax(x)[0], [1000.0, 0.0], 1.0, [0, 0], id="softmax above"),
        pytest.param(lambda x: F.softmax(x)[0], [-inf, 0.0], 0.0, [0, 0], id="softmax with -inf"),
        pytest.param(lambda x: F.cross_entropy(x, 0.0), [1000.0, 0.0], 0.0, [0, 0], id="cross entropy, right"),
        pytest.param(lambda x: F.cross_entropy(x, 1.0), [1000.0, 0.0], 1000.0, [1, -1], id="cross entropy, wrong"),
        pytest.param(lambda x: F.cross_entropy(x, 1.0), [-inf, 0.0], 0.0, [0, 0], id="cross entropy with -inf"),
        pytest.param(lambda x: F.log_softmax(x)[1], [1000.0, 0.0], -1000.0, [-1, 1], id="log_softmax"),
        pytest.param(F.prod, [0.0, 2.0, 3.0], 0.0, [6, 0, 0], id="prod with a zero"),
        pytest.param(F.prod, [0.0, 2.0, 0.0], 0.0, [0, 0, 0], id="prod with two zeros"),
        pytest.param(F.sum, [], 0.0, [], id="sum of nothing"),
        pytest.param(F.prod, [], 1.0, [], id="prod of nothing"),
        pytest.param(F.mean, [], nan, [], id="mean of nothing"),
    ],
)
def test_array_corners(f: Function, x: list[float], value: float, gradient: list[float]) -> None:
    v = Variable(x)
    with np.errstate(all="ignore"):
        y = f(v)
        y.backward()
    np.testing.assert_allclose(y.data, value, rtol=1e-12)
    assert v.grad is not None
    np.testing.assert_allclose(v.grad.data, gradient, rtol=1e-12)


def test_powers_of_integers() -> None:
    x = Variable(np.array([4_000_000_000]))
    assert (x**2.0).dtype == np.float64
    np.testing.assert_array_equal((x**2.0).data, [1.6e19])
    assert (Variable(np.array([3])) ** 2).dtype == np.int64


def test_large_integers_stay_exact() -> None:
    x = Variable(np.array([9007199254740993, 9007199254740992]))
    np.testing.assert_array_equal((x == 9007199254740993).data, [True, False])
    np.testing.assert_array_equal((x * 3).data, [27021597764222979, 27021597764222976])


def test_sums_of_masks_are_integers() -> None:
    m = Variable(np.array([True, True]))
    assert (F.sum_to(m, (1,)).dtype, F.sum_to(m, (2,)).dtype) == (np.int64, np.int64)
    infer = OPERATIONS["sum_to"].infer
    assert infer is not None
    assert infer(Aval((2,), np.dtype(bool)), shape=(2,)).dtype == np.int64


def test_mixed_derivative_of_pow_where_the_exponent_is_zero() -> None:
    """d/db d/dx x**b = x**(b-1) (1 + b log x): 1/x at b = 0."""
    x, b = Variable(2.0), Variable(0.0)
    F.pow(x, b).backward(create_graph=True)
    assert x.grad is not None
    gx = x.grad
    b.cleargrad()
    gx.backward()
    assert b.grad is not None
    assert b.grad.data == pytest.approx(0.5)


EDGES = [0.0, -0.0, 1.0, -1.0, 0.5, -2.5, inf, -inf, nan, 1e308, -1e308, 5e-324, 1e-310, 709.8, -745.2]
UNARY = "exp log sqrt sin cos tan sinh cosh tanh asin acos atan asinh acosh atanh log1p expm1 erf erfc neg square abs"
UNARY += " sigmoid softplus relu gelu sign floor ceil"


@pytest.mark.parametrize("name", UNARY.split())
def test_scalars_are_arrays_of_one_at_every_edge(name: str) -> None:
    f = getattr(F, name)
    with np.errstate(all="ignore"):
        for x in EDGES:
            scalar, array = f(x), f(np.array([x]))[0]
            np.testing.assert_array_max_ulp(np.float64(scalar), np.float64(array), 4)
            assert math.copysign(1.0, scalar) == math.copysign(1.0, array) or scalar != scalar


@pytest.mark.parametrize(
    "name", "add sub mul div pow maximum minimum hypot atan2 logaddexp remainder floor_divide".split()
)
def test_pairs_of_scalars_are_arrays_of_one_at_every_edge(name: str) -> None:
    f = getattr(F, name)
    with np.errstate(all="ignore"):
        for a in EDGES:
            for b in [*EDGES, 2.0, 3.0]:
                scalar, array = f(a, b), f(np.array([a]), b)[0]
                np.testing.assert_array_max_ulp(np.float64(scalar), np.float64(array), 4)


@pytest.mark.parametrize(
    ("f", "dtype"),
    [
        pytest.param(lambda x: F.exp(x["f32"]), "float32", id="F.exp([f32])"),
        pytest.param(lambda x: F.exp(x["i64"]), "float64", id="F.exp([i64])"),
        pytest.param(lambda x: F.exp(x["bool"]), "float64", id="F.exp([bool])"),
        pytest.param(lambda x: F.sqrt(x["i64"]), "float64", id="F.sqrt([i64])"),
        pytest.param(lambda x: x["f32"] * 2, "float32", id="[f32] * 2"),
        pytest.param(lambda x: 2.5 * x["f32"], "float32", id="2.5 * [f32]"),
        pytest.param(lambda x: x["f32"] * x["f64"], "float64", id="[f32] * [f64]"),
        pytest.param(lambda x: x["f32"] * Variable(2.0), "float64", id="[f32] * Variable(2.0)"),
        pytest.param(lambda x: x["i64"] * 2, "int64", id="[i64] * 2"),
        pytest.param(lambda x: x["i64"] * 2.5, "float64", id="[i64] * 2.5"),
        pytest.param(lambda x: x["i64"] / 2, "float64", id="[i64] / 2"),
        pytest.param(lambda x: x["i64"] + x["f32"], "float64", id="[i64] + [f32]"),
        pytest.param(lambda x: x["bool"] + x["i64"], "int64", id="[bool] + [i64]"),
        pytest.param(lambda x: F.sum(x["bool"]), "int64", id="F.sum([bool])"),
        pytest.param(lambda x: F.mean(x["i64"]), "float64", id="F.mean([i64])"),
        pytest.param(lambda x: F.mean(x["f32"]), "float32", id="F.mean([f32])"),
        pytest.param(lambda x: F.sigmoid(x["f32"]), "float32", id="F.sigmoid([f32])"),
        pytest.param(lambda x: F.softmax(x["f32"]), "float32", id="F.softmax([f32])"),
        pytest.param(lambda x: F.where(x["f32"] > 0, x["f32"], 0.0), "float32", id="F.where([f32] > 0, [f32], 0.0)"),
        pytest.param(lambda x: F.clip(x["i64"], 0, 1), "int64", id="F.clip([i64], 0, 1)"),
        pytest.param(lambda x: F.maximum(x["f32"], 0.0), "float32", id="F.maximum([f32], 0.0)"),
        pytest.param(lambda x: F.concat([x["f32"], x["f64"]]), "float64", id="F.concat([[f32], [f64]])"),
        pytest.param(lambda x: x["f32"] @ x["f64"], "float64", id="[f32] @ [f64]"),
        pytest.param(lambda x: F.argmax(x["f32"]), "int64", id="F.argmax([f32])"),
    ],
)
def test_dtype_promotion(f: Callable[[dict[str, Variable]], Variable], dtype: str) -> None:
    x = {
        "f32": Variable(np.array([0.5, 1.5], np.float32)),
        "f64": Variable([0.5, 1.5]),
        "i64": Variable(np.array([1, 2])),
        "bool": Variable(np.array([True, False])),
    }
    assert f(x).dtype == dtype


def test_gradients_have_the_dtype_of_their_variable() -> None:
    a, b = Variable(np.array([1.0, 2.0], np.float32)), Variable(3.0)
    F.sum(a * b).backward()
    assert a.grad is not None
    assert b.grad is not None
    assert (a.grad.dtype, b.grad.dtype, b.grad.data) == (np.float32, np.float64, 3.0)


@pytest.mark.parametrize(
    "row", [op for op in rows() if op.body is None and op.kind == "elementwise"], ids=lambda op: op.name
)
def test_inferred_dtypes_of_all_pairs(row: Operation) -> None:
    """Arrays of every dtype and Python numbers, in every place of every elementwise row."""
    values: list[Any] = [2, 0.5, *(np.array([1, 0, 1]).astype(dtype) for dtype in DTYPES)]
    if not row.attributes and row.name != "where":
        values.append(True)
    numbers = [{}, {"value": 1}, {"value": 0.5}, {"min": 0}, {"max": 0.5}, {"min": 0, "max": 1}]
    for attrs in [a for a in numbers if a.keys() <= {a.name for a in row.attributes}]:
        try:
            full = row.bind([0.0] * len(row.operands), attrs)[1]
        except AutogradError:
            continue
        for xs in product(values, repeat=len(row.operands)):
            avals = [aval(x) for x in xs]
            with np.errstate(all="ignore"):
                try:
                    y = row.run(xs, full)
                except AutogradError as error:
                    with pytest.raises(type(error)):
                        row.infer(*avals, **full)  # type: ignore[misc]
                    continue
            assert row.infer is not None
            assert row.infer(*avals, **full) == Aval(shape_of(y), dtype_of(y)), (row.name, xs, full)
