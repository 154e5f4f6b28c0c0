"""Gradients of slices that cover an array are put side by side; bits and layouts stay those of the tape."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from engine import Variable
from engine import functions as F
from engine.core.errors import ShapeMismatchError
from engine.core.values import aval
from engine.plans.plan import Plan
from engine.plans.trace import Trace
from engine.transforms import grad, value_and_grad
from engine.transforms.compilation import compile

Array = npt.NDArray[Any]
Function = Callable[..., Any]
X = np.random.default_rng(3).standard_normal((6, 8))
X[0, :4] = [0.0, -0.0, np.nan, np.inf]

#: Slices whose gradients cover an array, or do not: (the places of slices, whether they do).
SLICES: dict[str, tuple[list[Any], bool]] = {
    "two of rows": ([np.s_[:2], np.s_[2:]], True),
    "three of columns": ([np.s_[:, :2], np.s_[:, 2:3], np.s_[:, 3:]], True),
    "in another order": ([np.s_[:, 5:], np.s_[:, :2], np.s_[:, 2:5]], True),
    "counted from the end": ([np.s_[:-1], np.s_[-1:]], True),
    "with a step of one": ([np.s_[:3:1, :], np.s_[3:]], True),
    "a gap": ([np.s_[:2], np.s_[3:]], False),
    "a gap at the end": ([np.s_[:2], np.s_[2:5]], False),
    "one twice": ([np.s_[:3], np.s_[:3]], False),
    "one over two that cover": ([np.s_[:4], np.s_[2:4], np.s_[4:]], True),
    "overlapping": ([np.s_[:4], np.s_[2:]], False),
    "rows and columns": ([np.s_[:3], np.s_[:, 4:]], False),
    "both axes": ([np.s_[:3, :4], np.s_[3:, :4], np.s_[:3, 4:], np.s_[3:, 4:]], False),
    "with steps": ([np.s_[::2], np.s_[1::2]], False),
    "backwards": ([np.s_[2::-1], np.s_[3:]], False),
    "one row and the rest": ([np.s_[0], np.s_[1:]], False),
    "lists": ([[0, 1, 2], np.s_[3:]], False),
    "an empty one beside": ([np.s_[:3], np.s_[3:3], np.s_[3:]], True),
    "all of it": ([np.s_[:]], False),
}
FUNCTIONS = (F.sin, F.exp, lambda y: y * -2.0, lambda y: y * 0.0)


def loss_of(places: list[Any]) -> Function:
    return lambda x: added([F.sum(FUNCTIONS[k](x[place])) for k, place in enumerate(places)])


def added(terms: list[Any]) -> Any:
    first, *rest = terms
    for term in rest:
        first = first + term
    return first


def on_tape(loss: Function, x: Array) -> Array:
    v = Variable(x)
    with np.errstate(all="ignore"):
        loss(v).backward()
    found: Array = v.grad.data  # type: ignore[union-attr]
    return found


def assert_same_bits(found: Array, expected: Array) -> None:
    np.testing.assert_array_equal(found, expected, strict=True)
    numbers = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(found)[numbers], np.signbit(expected)[numbers])


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", SLICES)
def test_gradients_of_slices(name: str, dtype: Any) -> None:
    places, covers = SLICES[name]
    loss, x = loss_of(places), X.astype(dtype)
    h = compile(grad(loss))
    for given in (x, np.asfortranarray(x)):
        assert_same_bits(h(given), on_tape(loss, given))
    assert ("concat" in h.source(x)) == (covers and dtype == np.float64)


def test_what_is_added_to_other_things_than_zeros_is_not_put_side_by_side() -> None:
    def f(x: Any) -> Any:
        return F.slice_add(F.slice_add(F.exp(x), x[:3], np.s_[:3]), x[3:], np.s_[3:])

    with np.errstate(all="ignore"):
        assert_same_bits(compile(f)(X), f(Variable(X)).data)


def test_an_update_that_is_repeated_is_not_put_side_by_side() -> None:
    def f(x: Any) -> Any:
        zeros = F.zeros_like(x)
        return F.slice_add(zeros, x[0], np.s_[:3]) + F.slice_add(zeros, x[3:], np.s_[3:])

    trace = Trace()
    plan = Plan(trace, [f(trace.input("x", aval(X)))])
    assert "concat" not in plan.source
    assert_same_bits(plan.run({"x": X})[0], f(Variable(X)).data)


def test_very_many_slices_stay_additions() -> None:
    x = np.arange(200.0)
    loss = loss_of_many(range(0, 200, 2))
    h = compile(grad(loss))
    assert_same_bits(h(x), on_tape(loss, x))
    assert "concat" not in h.source(x)


def loss_of_many(begins: range) -> Function:
    return lambda x: added([F.sum(F.sin(x[b : b + 2])) for b in begins])


def test_second_gradients_pass_through() -> None:
    def second(x: Any) -> Any:
        return F.sum(F.square(grad(loss_of([np.s_[:, :3], np.s_[:, 3:]]))(x)))

    x = X[1:]
    value, found = compile(value_and_grad(second))(x)
    expected_value, expected = value_and_grad(second)(x)
    np.testing.assert_allclose(value, expected_value, rtol=1e-12)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_joined_arrays_lie_row_after_row_on_both_sides() -> None:
    def total(x: Any) -> Any:
        return F.sum(F.concat([x, F.exp(x)], axis=1))

    x = np.asfortranarray(np.random.default_rng(5).standard_normal((300, 70)))
    assert F.concat([Variable(x), Variable(x)]).data.flags.c_contiguous
    np.testing.assert_array_equal(compile(total)(x), total(Variable(x)).data)


@pytest.mark.parametrize("parts", [1_001, 10**7, 2**62])
def test_an_axis_of_length_0_has_no_more_than_so_many_parts(parts: int) -> None:
    assert len(F.split(np.zeros(0), 1_000)) == 1_000
    with pytest.raises(ShapeMismatchError, match=rf"split: {parts} parts of an axis of length 0; at most 1000"):
        F.split(np.zeros(0), parts)
