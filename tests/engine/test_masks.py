"""Masks and integers that are computed, as indices: as in NumPy where they are known, refused where they are not."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from engine import Variable, compile
from engine import functions as F
from engine.core.errors import BadAttributeError, InvalidValueError
from engine.programs.tracing import trace
from engine.transforms import grad, hessian, hvp, jacobian, jvp, stop_gradient, value_and_grad, vjp, vmap

A = np.array([[1.0, -2.0, 3.0], [-4.0, 5.0, 0.5]])
V = np.array([1.5, -2.0, 0.0, 3.0])
S = np.array(2.0)
KEPT = np.array([True, False, False, True])

#: (values, function of values of any kind -> index); the index is computed on NumPy's arrays as well.
INDICES: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "comparison": (V, lambda x: x > 0),
    "negated": (V, lambda x: ~(x > 0)),
    "both": (V, lambda x: (x > 0) & (x < 2)),
    "with an array": (V, lambda x: (x > 0) & KEPT),
    "none": (V, lambda x: x > 9),
    "all": (V, lambda x: x < 9),
    "array": (V, lambda x: KEPT),
    "list": (V, lambda x: [True, False, False, True]),
    "list of NumPy's": (V, lambda x: list(KEPT)),
    "list of comparisons": (V, lambda x: [x[0] > 0, x[1] > 0, x[2] > 0, x[3] > 0]),
    "list of comparisons and booleans": (V, lambda x: [x[0] > 0, True, x[2] > 0, False]),
    "computed from what is kept": (V, lambda x: _stopped(x) > 0),
    "isfinite": (V, lambda x: (F if not isinstance(x, np.ndarray) else np).isfinite(x)),
    "two axes": (A, lambda x: x > 0),
    "nested list": (A, lambda x: [[True, False, True], [False, False, True]]),
    "nested list of comparisons": (A, lambda x: [[x[0, 0] > 0, True, False], [x[1, 0] > 0, False, x[1, 2] > 0]]),
    "rows": (A, lambda x: x[:, 0] > 0),
    "columns": (A, lambda x: (slice(None), x[0] > 0)),
    "columns after an ellipsis": (A, lambda x: (..., x[0] > 0)),
    "rows and a column": (A, lambda x: (x[:, 0] > 0, 1)),
    "rows and a slice": (A, lambda x: (x[:, 0] > 0, slice(None, None, 2))),
    "a row and columns": (A, lambda x: (0, x[0] > 0)),
    "rows and a new axis": (A, lambda x: (x[:, 0] > 0, None)),
    "rows and integers": (A, lambda x: (x[:, 0] > 0, [2])),
    "rows and columns": (A, lambda x: (x[:, 0] > 0, x[0] < -1)),
    "a slice of rows and columns": (A, lambda x: (slice(1, None), x[1] > 0)),
    "a number": (S, lambda x: x > 0),
    "a number, not": (S, lambda x: x < 0),
    "a single boolean": (V, lambda x: x[0] > 0),
    "a single boolean, not": (V, lambda x: x[0] < 0),
    "True": (V, lambda x: True),
    "False of NumPy's": (A, lambda x: np.False_),
    "argmax": (V, lambda x: (F if not isinstance(x, np.ndarray) else np).argmax(x)),
    "argmax in a tuple": (A, lambda x: (1, (F if not isinstance(x, np.ndarray) else np).argmax(x[1]))),
    "argmax of rows": (A, lambda x: ([0, 1], _argmax(x))),
    "list with an argmax": (V, lambda x: [0, (F if not isinstance(x, np.ndarray) else np).argmax(x), 0]),
    "a slice up to an argmax": (V, lambda x: slice(None, (F if not isinstance(x, np.ndarray) else np).argmax(x))),
}


#: Those that depend on no value.
NOT_COMPUTED = ("array", "list", "list of NumPy's", "nested list", "True", "False of NumPy's")


def _stopped(x: Any) -> Any:
    return x if isinstance(x, np.ndarray) else stop_gradient(x)


def _argmax(x: Any) -> Any:
    return np.argmax(x, axis=1) if isinstance(x, np.ndarray) else F.argmax(x, 1)


def cubes(index: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The sum of the cubes of the elements at an index."""
    return lambda x: F.sum(F.pow(x[index(x)], 3.0))


def on_tape(f: Callable[[Any], Any], x: Any) -> Any:
    v = Variable(x)
    f(v).backward()
    return v.grad.data if v.grad is not None else None


#: First derivatives, and second ones along ones.
FIRST: dict[str, Callable[[Any, Any], Any]] = {
    "tape": on_tape,
    "grad": lambda f, x: grad(f)(x),
    "value_and_grad": lambda f, x: value_and_grad(f)(x)[1],
    "vjp": lambda f, x: vjp(f, x)[1](1.0)[0],
    "jacobian, reverse": lambda f, x: jacobian(f, mode="reverse")(x),
    "jacobian, forward": lambda f, x: jacobian(f, mode="forward")(x),
    "jacobian of rows": lambda f, x: jacobian(lambda y: F.stack([f(y), 2.0 * f(y)]))(x)[0],
    "grad of a variable": lambda f, x: grad(f)(Variable(x)).data,
}
SECOND: dict[str, Callable[[Any, Any], Any]] = {
    "hessian": lambda f, x: np.reshape(hessian(f)(x), (np.size(x), np.size(x))).sum(0).reshape(np.shape(x)),
    "hvp": lambda f, x: hvp(f, (x,), (np.ones_like(x),))[0],
    "grad of jvp": lambda f, x: grad(lambda y: jvp(f, (y,), (np.ones_like(x),))[1])(x),
    "grad of grad": lambda f, x: grad(lambda y: F.sum(grad(f)(y)))(x),
}


def test_masks_are_those_of_numpy() -> None:
    wrong: list[Any] = []
    for name, (x, index) in INDICES.items():
        raw = x.copy()
        # How often each element is taken.
        count = np.bincount(np.ravel(np.arange(x.size).reshape(x.shape)[index(raw)]), minlength=x.size)
        count = count.reshape(x.shape)
        f = cubes(index)
        values = {"tape": f(Variable(x)).data, "vjp": vjp(f, x)[0], "jvp": jvp(f, (x,), (x,))[0]}
        shapes = {"tape": Variable(x)[index(Variable(x))].shape, "vjp": np.shape(vjp(lambda y, i=index: y[i(y)], x)[0])}
        wrong += [(name, way, y) for way, y in values.items() if not np.isclose(y, (x[index(raw)] ** 3).sum())]
        wrong += [(name, way, shape) for way, shape in shapes.items() if shape != x[index(raw)].shape]
        first, second = 3.0 * count * x**2, 6.0 * count * x
        wrong += [(name, way) for way, d in FIRST.items() if not _same(d(f, x), first)]
        wrong += [(name, way) for way, d in SECOND.items() if not _same(d(f, x), second)]
        if not np.isclose(jvp(f, (x,), (x,))[1], (first * x).sum()):
            wrong.append((name, "jvp"))
    assert wrong == []


def _same(found: Any, expected: Any) -> bool:
    return np.shape(found) == np.shape(expected) and np.allclose(found, expected, rtol=1e-12)


def test_a_mask_of_another_length_is_refused() -> None:
    def short(x: Any) -> Any:
        return x[:2] > 0

    masks: dict[str, tuple[Any, Callable[[Any], Any]]] = {
        "short": (V, short),
        "short array": (V, lambda x: np.array([True, False])),
        "short list": (V, lambda x: [True, False]),
        "long": (V, lambda x: np.ones(5, bool)),
        "rows": (A, lambda x: np.array([True, False, True])),
        "columns": (A, lambda x: (slice(None), np.array([True, False]))),
        "transposed": (A, lambda x: np.ones((3, 2), bool)),
        "none of them": (V, lambda x: np.zeros(3, bool)),
    }
    ways = {**FIRST, **SECOND, "compile": lambda f, x: compile(f)(x), "vmap": lambda f, x: vmap(f)(np.stack([x, x]))}
    for name, (x, index) in masks.items():
        with pytest.raises(IndexError):
            x[index(x)]
        for way, derivative in ways.items():
            if name == "short" and way in ("compile", "vmap"):
                continue
            with pytest.raises(BadAttributeError, match="mask of length"):
                derivative(cubes(index), x)


UNKNOWN: dict[str, Callable[[Any, Any], Any]] = {
    "compile": lambda f, x: compile(f)(x),
    "compiled grad": lambda f, x: compile(grad(f))(x),
    "vmap": lambda f, x: vmap(f)(np.stack([x, x])),
    "vmap of grad": lambda f, x: vmap(grad(f))(np.stack([x, x])),
    "grad of vmap": lambda f, x: grad(lambda y: F.sum(vmap(f)(y)))(np.stack([x, x])),
    "trace": lambda f, x: trace(f, x),
}


@pytest.mark.parametrize("way", UNKNOWN)
def test_a_mask_that_is_not_known_is_refused(way: str) -> None:
    for name, (x, index) in INDICES.items():
        if name in NOT_COMPUTED:
            UNKNOWN[way](cubes(index), x)
            continue
        with pytest.raises(InvalidValueError, match=r"where\(condition, x, y\) in place of if, and of a mask") as found:
            UNKNOWN[way](cubes(index), x)
        assert "test_masks.py, line" in found.value.detail, name


def test_masks_of_what_is_known_work_everywhere() -> None:
    known = compile(lambda x: F.sum(x[KEPT] ** 2))
    assert known(V) == 11.25
    assert vmap(lambda x: x[KEPT])(np.stack([V, V])).tolist() == [[1.5, 3.0]] * 2
    assert vmap(lambda row, mask: row * F.sum(V[mask > 0]), in_axes=(0, None))(V, V).tolist() == (V * 4.5).tolist()


def test_mixed_lists_are_refused() -> None:
    for index in ([True, 2, 0, 1], [True, [False, True]], [[True, False], [True]]):
        with pytest.raises(BadAttributeError):
            Variable(V)[index]
