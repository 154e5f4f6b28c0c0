"""Derivatives that would be lost without a word on the SDK, as on the engine."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import pullback
from pullback import functions as F
from pullback.errors import InvalidValueError, LostDerivativeWarning, TraceError
from pullback.transforms import grad, hessian, hvp, jacobian, jvp, stop_gradient, value_and_grad, vjp

pytestmark = pytest.mark.usefixtures("connected")

V = np.array([1.5, -2.0, 3.0])
WAYS: dict[str, Callable[[Callable[[Any], Any]], Any]] = {
    "grad": lambda f: grad(f)(2.0),
    "value_and_grad": lambda f: value_and_grad(f)(2.0),
    "vjp": lambda f: vjp(f, 2.0),
    "jvp": lambda f: jvp(f, (2.0,), (1.0,)),
    "jacobian": lambda f: jacobian(f)(2.0),
    "hessian": lambda f: hessian(f)(2.0),
    "hvp": lambda f: hvp(f, (2.0,), (1.0,)),
    "grad inside of grad": lambda f: grad(lambda x: x * grad(f)(x))(2.0),
}


def test_what_needs_a_number_is_refused_in_a_trace() -> None:
    refused: dict[str, tuple[Callable[[Any], Any], type[Exception], str]] = {
        "float": (lambda x: x * float(x), TraceError, "where"),
        "math.sin": (lambda x: x * math.sin(x), TraceError, r"use F\.sin \("),
        "item": (lambda x: x * x.item(), TraceError, "where"),
        "if": (lambda x: x if x > 0 else -x, TraceError, "where"),
        "a format": (lambda x: x * len(f"{x:.2f}"), TraceError, "where"),
        "np.asarray": (lambda x: x * np.asarray(x), TraceError, "where"),
        "np.sin": (lambda x: x * np.sin(x), InvalidValueError, r"use F\.sin \("),
        "np.sum": (lambda x: x * np.sum(x), InvalidValueError, r"use F\.sum \("),
        "np.concatenate": (lambda x: x * np.concatenate([x, x]), InvalidValueError, r"F\.concat"),
        "a list": (lambda x: F.sum([x, x]), InvalidValueError, r"F\.stack"),
        "a mask": (lambda x: F.sum(F.stack([x, x])[F.stack([x, x]) > 0]), TraceError, "mask"),
        "in place": (lambda x: F.sum(np.zeros(2).__iadd__(x)), InvalidValueError, r"y = y \+ x"),
    }
    for way, run in WAYS.items():
        for name, (f, kind, words) in refused.items():
            with pytest.raises(kind, match=words) as found:
                run(f)
            assert "test_lost_derivatives.py, line" in str(found.value) or name == "a list", (way, name)


def test_a_symbol_that_was_kept_is_refused() -> None:
    uses: dict[str, Callable[[Any], Any]] = {
        "operator": lambda x: x + 1.0,
        "array on the left": lambda x: V * x,
        "function": F.sin,
        "inside": lambda x: grad(lambda y: y * x)(1.0),
        "result": lambda x: grad(lambda y: x)(1.0),
        "result of vjp": lambda x: vjp(lambda y: {"a": y, "b": x}, 1.0),
        "aux": lambda x: grad(lambda y: (y * y, [x]), has_aux=True)(1.0),
    }
    for way, run in WAYS.items():
        for name, use in uses.items():
            kept: list[Any] = []
            run(lambda x, kept=kept: kept.append(x) or x * x)
            with pytest.raises(TraceError, match=r"has returned; return it|traced before") as found:
                use(kept[0])
            assert "test_lost_derivatives.py, line" in str(found.value), (way, name)


def test_what_loses_nothing_works() -> None:
    assert grad(lambda x: x * len(f"{x} {x!s}") * 0.0 + x)(1.0) == 1.0
    assert grad(lambda x: F.sum(V * x))(1.0) == 2.5
    assert grad(lambda x: np.float64(2.0) * x)(1.0) == 2.0
    assert grad(lambda x: F.sum(x[V > 0] ** 2))(V).tolist() == [3.0, 0.0, 6.0]
    assert grad(lambda x: F.sum(x * (np.array([0.0, 0.0, 1.0]) < x)))(V).tolist() == [1.0, 0.0, 1.0]


def test_masks_of_variables() -> None:
    x = pullback.Variable(V)
    for mask in (x > 0, V > 0, [True, False, True], (x > 0) & (V < 9), pullback.Variable(V > 0)):
        x.cleargrad()
        F.sum(x[mask] ** 2.0).backward()
        assert x.grad is not None
        assert x.grad.data.tolist() == [3.0, 0.0, 6.0]
    np.testing.assert_array_equal(np.arange(3)[x > 0], [0, 2])


def test_a_number_of_a_recorded_variable_warns() -> None:
    x = pullback.Variable(2.0)
    y = x * x
    for v in (x, y):
        for take in (float, int, complex):
            with pytest.warns(LostDerivativeWarning, match=r"x\.item\(\)") as found:
                take(v)
            assert [warning.filename for warning in found] == [__file__]
        with pytest.warns(LostDerivativeWarning, match=r"x\.data"):
            pullback.Variable(v)
    with pytest.warns(LostDerivativeWarning, match=r"use F\.sin"):
        math.sin(x)
    y.backward()
    assert x.grad is not None
    assert (float(x.grad), float(x.grad * 2.0), x.item(), f"{y:.1f}") == (4.0, 8.0, 2.0, "4.0")
    with pullback.no_grad():
        assert float(x) == 2.0
        z = x * 3.0
    assert (float(z), float(stop_gradient(x))) == (6.0, 2.0)
    for refused in (np.asarray, np.sin, np.sum, np.linalg.norm):
        with pytest.raises(InvalidValueError, match=r"x\.data"):
            refused(pullback.Variable(V))
    with pytest.raises(InvalidValueError, match=r"F\.stack"):
        F.sum([x, y])
