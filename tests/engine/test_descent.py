"""Descent: all steps inside one plan against a loop in Python over the gradient on the tape."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from engine import functions as F
from engine import trees
from engine.compiled import descent
from engine.transforms import grad
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
            found[place] = trees.filled(found[place], iter([x - rate * g for x, g in pairs]))
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
