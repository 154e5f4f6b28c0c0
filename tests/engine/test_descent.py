"""Descent: all steps inside one plan against a loop in Python over the gradient on the tape."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from engine import Variable
from engine import functions as F
from engine.core import trees
from engine.core.errors import (
    AutogradError,
    BadAttributeError,
    InvalidValueError,
    NotDifferentiableError,
    NotScalarError,
    NotSupportedError,
)
from engine.transforms import grad, vmap
from engine.transforms.compilation import compile, descent
from tests.engine.same import assert_same

STEPS = [0, 1, 2, 7]


def draw(seed: int, *shape: int) -> Any:
    return np.random.default_rng(seed).standard_normal(shape)


def looped(
    loss: Callable[..., Any], args: tuple[Any, ...], rate: Any, steps: int, argnums: int | tuple[int, ...] = 0
) -> Any:
    """The same descent, a step at a time."""
    places = argnums if isinstance(argnums, tuple) else (argnums,)
    found = list(args)
    for _ in range(steps):
        slopes = grad(loss, places)(*found)
        for place, slope in zip(places, slopes, strict=True):
            pairs = zip(trees.leaves(found[place]), trees.leaves(slope), strict=True)
            found[place] = trees.unflatten(found[place], iter([x - rate * g for x, g in pairs]))
    moved = tuple(found[place] for place in places)
    return moved if isinstance(argnums, tuple) else moved[0]


def deep(w: Any, X: Any) -> Any:
    """Reads what is made of X alone in several places, among results that need memory of the same size."""
    a = F.sin(X)
    b = F.exp(0.1 * a * w)
    c = F.tanh(F.cos(b * X) + w)
    d = F.sin(c * c)
    return F.mean(d * b) + F.mean(F.square(a + c)) + F.mean(F.transpose(F.cos(X)) * w)


@pytest.mark.parametrize("side", [3, 31, 32, 50])
@pytest.mark.parametrize("steps", STEPS)
def test_what_is_computed_before_the_loop_is_there_in_every_round(side: int, steps: int) -> None:
    w, X = draw(1, side, side), draw(2, side, side)
    found = descent(deep)(w, X, learning_rate=50.0, steps=steps)
    assert_same(found, looped(deep, (w, X), 50.0, steps))


@pytest.mark.parametrize("side", [190, 220])
def test_regions_that_mix_what_moves_with_what_does_not(side: int) -> None:
    w, X = draw(1, side, side), draw(2, side, side)
    found = descent(deep)(w, X, learning_rate=50.0, steps=4)
    assert_same(found, looped(deep, (w, X), 50.0, 4), rtol=1e-11, atol=1e-12)


def rosenbrock(x: Any, y: Any) -> Any:
    return (1.0 - x) ** 2 + 100.0 * (y - x**2) ** 2


def wild(x: Any) -> Any:
    """Divides by zero, overflows and leaves domains as it goes."""
    return F.log(x) + 1.0 / (x - 1.0) + F.exp(x * x) + F.sqrt(x)


SCALAR: dict[str, tuple[Callable[..., Any], tuple[float, ...], float]] = {
    "rosenbrock": (rosenbrock, (-1.2, 1.0), 1e-3),
    "rosenbrock that diverges": (rosenbrock, (-1.2, 1.0), 0.05),
    "quartic that overflows": (lambda x: x**4, (3.0,), 0.1),
    "cube root": (lambda x: x ** (1.0 / 3.0), (0.5,), 1.0),
    "division by zero in the third step": (lambda x: 1.0 / x + 2.0 * x, (1.0,), 1.0),
    "logarithm that reaches zero": (lambda x: F.log(x) * x, (1.0,), 1.0),
    "logarithm of what is negative": (lambda x: F.log(x), (0.5,), 1.0),
    "exponential that overflows": (lambda x: -F.exp(x * x), (1.0,), 0.25),
    "everything": (wild, (1.0,), 0.5),
    "everything, from elsewhere": (wild, (2.0,), 0.125),
    "only the gradient divides": (lambda x: F.sqrt(x), (0.0,), 1.0),
    "before the loop": (lambda x, y: x * x * F.log(y) / y, (1.0, 0.0), 0.1),
    "not a number": (lambda x: x * x, (float("nan"),), 0.1),
    "infinite": (lambda x: x * x, (float("inf"),), 0.1),
    "choices": (lambda x: F.where(x > 0, x * x, -x) + F.maximum(x, 0.5) + F.abs(x), (0.75,), 0.25),
    "functions with attributes": (lambda x: F.clip(x, -1.0, 1.0) * x + F.gelu(x), (0.75,), 0.25),
}


@pytest.mark.parametrize("name", SCALAR)
@pytest.mark.parametrize("steps", [0, 1, 2, 3, 10, 40])
def test_numbers_move_as_in_a_loop_to_the_last_bit(name: str, steps: int) -> None:
    loss, args, rate = SCALAR[name]
    expected = looped(loss, args, rate, steps)
    found = descent(loss)(*args, learning_rate=rate, steps=steps)
    assert type(found) is float
    assert repr(found) == repr(expected)


@pytest.mark.parametrize("steps", STEPS)
def test_several_arguments_move_together(steps: int) -> None:
    for argnums in [(0, 1), (1, 0), (-1, 0), (1,)]:
        found = descent(rosenbrock, argnums)(-1.2, 1.0, learning_rate=1e-3, steps=steps)
        assert repr(found) == repr(looped(rosenbrock, (-1.2, 1.0), 1e-3, steps, argnums))
    assert descent(rosenbrock, [0, 1])(-1.2, 1.0, learning_rate=1e-3, steps=steps) == looped(
        rosenbrock, (-1.2, 1.0), 1e-3, steps, (0, 1)
    )


def network(params: Any, x: Any, t: Any) -> Any:
    h = F.tanh(x @ params["w"][0] + params["b"])
    return F.mean(F.square(h @ params["w"][1] - t)) + params["c"][0] ** 2 * params["rate"]


@pytest.mark.parametrize("rows", [5, 300])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("steps", STEPS)
def test_parameters_in_containers(rows: int, dtype: Any, steps: int) -> None:
    params = {
        "w": [draw(1, 4, 8).astype(dtype), draw(2, 8, 2).astype(dtype)],
        "b": draw(3, 8).astype(dtype),
        "c": (1.5, None),
        "rate": 3,
    }
    data = draw(4, rows, 4).astype(dtype), draw(5, rows, 2).astype(dtype)
    given = {**params, "rate": 3.0}
    found = descent(network)(params, *data, learning_rate=0.1, steps=steps)
    precision = {} if dtype == np.float64 else {"rtol": 1e-5, "atol": 1e-6}
    assert_same(found, looped(network, (given, *data), 0.1, steps), **precision)


def test_what_the_loss_does_not_read_stays_where_it_is() -> None:
    y = draw(1, 3)
    for steps in STEPS:
        found = descent(lambda x, y: x * x, (1, 0))(1.0, y, learning_rate=0.25, steps=steps)
        assert_same(found, (y, 0.5**steps))
        assert_same(descent(lambda x, y: x * x, 1)(1.0, y, learning_rate=0.25, steps=steps), y)
        assert descent(lambda x: F.stop_gradient(x), 0)(2.0, learning_rate=0.25, steps=steps) == 2.0


@pytest.mark.parametrize("steps", STEPS)
def test_results_are_shared_with_nothing(steps: int) -> None:
    w, X = draw(1, 40, 40), draw(2, 40, 40)
    before = w.copy(), X.copy()
    descend = descent(lambda w, v, X: deep(w, X) + F.sum(v * w), (0, 1))
    results = [*descend(w, w, X, learning_rate=0.1, steps=steps), *descend(w, w, X, learning_rate=0.1, steps=steps)]
    for k, result in enumerate(results):
        assert result.flags.writeable
        assert not any(np.shares_memory(result, other) for other in (w, X, *results[:k]))
        result[...] = 0.0
    assert_same((w, X), before)


RATES = [0.1, np.float64(0.1), np.array(0.1), np.float32(0.1), 1, 0, -0.5, float("inf"), float("nan")]


@pytest.mark.parametrize("rate", RATES, ids=repr)
def test_rates_are_numbers_of_any_kind(rate: Any) -> None:
    for steps in (3, np.int64(3)):
        found = descent(lambda x: x**3)(1.5, learning_rate=rate, steps=steps)
        assert repr(found) == repr(looped(lambda x: x**3, (1.5,), float(rate), 3))
    x = draw(1, 3).astype(np.float32)
    assert_same(
        descent(lambda x: F.sum(x**3))(x, learning_rate=rate, steps=1),
        looped(lambda x: F.sum(x**3), (x,), float(rate), 1),
        rtol=1e-6,
    )


def test_under_transforms_every_step_is_seen() -> None:
    def after(x: Any, rate: Any) -> Any:
        return descent(lambda x: x**4 - x)(x, learning_rate=rate, steps=3)

    def written_out(x: Any, rate: Any) -> Any:
        for _ in range(3):
            x = x - rate * (4.0 * x**3 - 1.0)
        return x

    for argnums in (0, 1, (0, 1)):
        assert_same(grad(after, argnums)(0.5, 0.1), grad(written_out, argnums)(0.5, 0.1))
        assert_same(compile(grad(after, argnums))(0.5, 0.1), grad(written_out, argnums)(0.5, 0.1))
    x = draw(1, 4)
    assert_same(vmap(lambda x: after(x, 0.1))(x), written_out(x, 0.1))


REFUSED: dict[str, tuple[dict[str, Any], tuple[Any, ...], dict[str, Any], type[AutogradError], str]] = {
    "negative steps": ({}, (1.0,), {"steps": -1}, BadAttributeError, "steps is -1"),
    "half a step": ({}, (1.0,), {"steps": 1.5}, BadAttributeError, "steps is 1.5"),
    "steps that are true": ({}, (1.0,), {"steps": True}, BadAttributeError, "steps is True"),
    "rate that is text": ({}, (1.0,), {"learning_rate": "fast"}, BadAttributeError, "learning_rate is 'fast'"),
    "rates": ({}, (1.0,), {"learning_rate": [0.1, 0.2]}, BadAttributeError, "learning_rate is"),
    "rate beyond floats": ({}, (1.0,), {"learning_rate": 10**400}, BadAttributeError, "learning_rate is a large"),
    "variable": ({}, (Variable(1.0),), {}, InvalidValueError, "give it `x.data`"),
    "integers": ({}, (np.array(3),), {}, NotDifferentiableError, "int64"),
    "vector": ({}, (np.ones(3),), {}, NotScalarError, "one element"),
    "no arguments": ({}, (), {}, BadAttributeError, "argnums is 0"),
    "no such argument": ({"argnums": 3}, (1.0,), {}, BadAttributeError, "argnums is 3"),
    "argument twice": ({"argnums": (0, -1)}, (1.0,), {}, BadAttributeError, "twice"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_makes_no_sense_is_refused(name: str) -> None:
    made, args, keywords, error, message = REFUSED[name]
    descend = descent(lambda x: x * x, **made)
    for _ in range(2):
        with pytest.raises(error, match=message):
            descend(*args, **{"learning_rate": 0.1, "steps": 2, **keywords})
    if not made:
        assert descend(1.0, learning_rate=0.25, steps=2) == 0.25


def test_random_losses_are_refused() -> None:
    with pytest.raises(NotSupportedError, match="draws no random numbers"):
        descent(lambda x: F.sum(F.dropout(x, rng=1)))(np.ones(3), learning_rate=0.1, steps=1)


def test_threads_share_it() -> None:
    descend = descent(deep)
    inputs = [(draw(seed, 40, 40), draw(seed + 100, 40, 40)) for seed in range(6)]
    expected = [descend(w, X, learning_rate=1.0, steps=5) for w, X in inputs]

    def work(n: int) -> None:
        for k in range(8):
            w, X = inputs[(n + k) % len(inputs)]
            np.testing.assert_array_equal(
                descend(w, X, learning_rate=1.0, steps=5), expected[(n + k) % len(inputs)], strict=True
            )

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(16)))
