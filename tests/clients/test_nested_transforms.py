"""vmap, compile, descent and check_grads, and transforms inside of each other: the results of the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import engine
import pullback
from engine.core.errors import AutogradError
from pullback import functions, transforms
from pullback.core import trees
from pullback.transforms import compilation
from tests.clients.conftest import on_session_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.app.conftest import Server

V = np.linspace(0.5, 1.5, 3)
M = np.arange(6.0).reshape(2, 3) / 5
W = np.full((3, 2), 0.3)
SINGLE = np.ones(3, np.float32)

CASES: dict[str, Callable[[Any, Any], Any]] = {
    "jacobian of grad": lambda T, F: T.jacobian(T.grad(lambda x: F.sum(F.sin(x) * x**2)))(V),
    "grad of jacobian": lambda T, F: T.grad(lambda x: F.sum(T.jacobian(lambda z: F.sin(z) * F.sum(z))(x) ** 2))(V),
    "grad of hessian": lambda T, F: T.grad(lambda x: F.sum(T.hessian(lambda z: F.sum(z**3) * F.sum(z))(x)))(V),
    "grad of hvp": lambda T, F: T.grad(lambda x: F.sum(T.hvp(lambda z: F.sum(z**4), (x,), (x * 2.0,))[0]))(V),
    "grad of jvp": lambda T, F: T.grad(lambda x: F.sum(T.jvp(lambda z: F.tanh(z) * z, (x,), (V,))[1] ** 2))(V),
    "jvp of jvp": lambda T, F: T.jvp(lambda x: T.jvp(lambda z: F.tanh(z) * z, (x,), (V,))[1], (V,), (V,)),
    "grad of vjp": lambda T, F: T.grad(lambda x: F.sum(T.vjp(lambda z: M @ F.exp(z), x)[1](np.ones(2))[0]))(V),
    "grad of jacobian of a number": lambda T, F: T.grad(lambda x: T.jacobian(F.sin)(x))(0.5),
    "grad of jacobian by two arguments": lambda T, F: T.grad(
        lambda x: sum(
            F.sum(b) for b in T.jacobian(lambda a, b: {"y": a * b, "z": F.sum(a * a * b)}, (0, 1))(x, x * 2.0)["y"]
        )
    )(V),
    "hessian of jvp": lambda T, F: T.hessian(lambda x: F.sum(T.jvp(F.exp, (x,), (V,))[1]))(V),
    "grad of jvp at a kink": lambda T, F: T.grad(lambda x: F.sum(T.jvp(F.abs, (x,), (V,))[1] * x))(
        np.array([0.0, -1.0, 2.0])
    ),
    "vmap": lambda T, F: T.vmap(lambda x, w: F.tanh(x @ w), in_axes=(0, None))(M, W),
    "vmap over other axes": lambda T, F: T.vmap(
        lambda x, w: {"a": F.sum(x * w), "b": x}, in_axes=(1, 0), out_axes={"a": 0, "b": 1}
    )(M, V),
    "vmap without an axis of results": lambda T, F: T.vmap(
        lambda x, w: (F.sum(x), F.sum(w)), in_axes=(0, None), out_axes=(0, None)
    )(M, V),
    "vmap of results that are alike": lambda T, F: T.vmap(lambda x, w: (F.sum(x), F.sum(w), 3.0), in_axes=(0, None))(
        M, V
    ),
    "vmap of a constant": lambda T, F: T.vmap(lambda x: 3.0)(M),
    "vmap of grad": lambda T, F: T.vmap(T.grad(lambda x: x**3))(V),
    "vmap of value_and_grad": lambda T, F: T.vmap(T.value_and_grad(lambda x: F.sum(F.sin(x) * V)))(M),
    "vmap of jacobian": lambda T, F: T.vmap(T.jacobian(lambda x: F.sin(x) * F.sum(x)))(M),
    "vmap of hessian": lambda T, F: T.vmap(T.hessian(lambda x: F.sum(x**3) * F.sum(x)))(M),
    "vmap of jvp": lambda T, F: T.vmap(lambda x, t: T.jvp(F.tanh, (x,), (t,)))(M, M * 2),
    "grad of vmap": lambda T, F: T.grad(lambda w: F.sum(T.vmap(lambda x: F.tanh(x @ w))(M) ** 2))(W),
    "grad of vmap by what all rows share": lambda T, F: T.grad(
        lambda w: F.sum(T.vmap(lambda x, w: F.tanh(x @ w), (0, None))(M, w) ** 2)
    )(W),
    "grad of vmap over other axes": lambda T, F: T.grad(
        lambda x: F.sum(T.vmap(lambda r, c: r * F.sum(c), (1, 1), 1)(x, x))
    )(M),
    "grad of vmap of grad": lambda T, F: T.grad(lambda x: F.sum(T.vmap(T.grad(F.sin))(x)))(V),
    "vmap of vmap": lambda T, F: T.vmap(T.vmap(F.sin))(M),
    "vmap of vmap, crossed": lambda T, F: T.vmap(lambda a: T.vmap(lambda b: a * b)(V))(V),
    "jacobian of vmap": lambda T, F: T.jacobian(T.vmap(lambda r: F.sum(r**2)))(M),
    "compile": lambda T, F: T.compile(lambda p, k: {"a": F.sum(p["x"] ** 2) * k, "b": [p["x"], 1.0]})({"x": V}, 3),
    "compile of value_and_grad": lambda T, F: T.compile(T.value_and_grad(lambda x: F.square(F.exp(F.square(x)))))(0.5),
    "value_and_grad of compile": lambda T, F: T.value_and_grad(T.compile(lambda x: F.square(F.exp(F.square(x)))))(0.5),
    "compile of vmap": lambda T, F: T.compile(T.vmap(lambda x: F.sum(x) * x))(M),
    "vmap of compile": lambda T, F: T.vmap(T.compile(lambda x: F.sum(x) * x))(M),
    "compile with float32": lambda T, F: T.compile(lambda x, k: x * k)(SINGLE, 3.0),
    "compile with integers": lambda T, F: T.compile(lambda x: (x, x + 1))(np.array([1, 2])),
    "compile with a boolean": lambda T, F: T.compile(lambda x: F.where(x, 1.0, 2.0))(True),
    "compile of nothing": lambda T, F: T.compile(lambda x: None)(True),
    "compile with a keyword": lambda T, F: T.compile(lambda x, k=2.0: x * k)(1.0, k=3.0),
    "descent": lambda T, F: T.descent(lambda x, y: (x - 3.0) ** 2 + (y + 1.0) ** 2, (0, 1))(
        0.0, 0.0, learning_rate=0.1, steps=37
    ),
    "descent of a tree": lambda T, F: T.descent(lambda p, X: F.mean((X @ p["w"] + p["b"] - 1.0) ** 2))(
        {"w": V, "b": 0.0}, M, learning_rate=0.1, steps=100
    ),
    "descent without a step": lambda T, F: T.descent(lambda x: x * x)(2.0, learning_rate=0.1, steps=0),
    "grad of descent": lambda T, F: T.grad(
        lambda r: T.descent(lambda x: (x - 3.0) ** 4)(0.0, learning_rate=r, steps=3)
    )(0.01),
    "descent with float32": lambda T, F: T.descent(lambda x: F.sum(x * x))(SINGLE, learning_rate=0.1, steps=5),
    "descent by negative steps": lambda T, F: T.descent(lambda x: x * x)(2.0, learning_rate=0.1, steps=-1),
    "descent of a vector": lambda T, F: T.descent(lambda x: x)(V, learning_rate=0.1, steps=1),
    "descent of integers": lambda T, F: T.descent(lambda x: F.sum(x))(np.array([1, 2]), learning_rate=0.1, steps=1),
    "vmap over an axis that is not there": lambda T, F: T.vmap(F.sin, in_axes=2)(V),
    "vmap over no axis": lambda T, F: T.vmap(F.sin, in_axes=None)(V),
    "vmap of unequal rows": lambda T, F: T.vmap(lambda a, b: a * b)(V, M),
    "vmap of rows that differ, as one": lambda T, F: T.vmap(F.sin, out_axes=None)(V),
    "vmap with axes of another form": lambda T, F: T.vmap(F.sin, in_axes=({"a": 0},))(V),
    "vmap to an axis that is not there": lambda T, F: T.vmap(F.sin, out_axes=3)(V),
    "compile that returns text": lambda T, F: T.compile(lambda x: "text")(1.0),
    "compile of text": lambda T, F: T.compile(lambda x: x)("text"),
    "vmap of shapes that do not fit": lambda T, F: T.vmap(lambda x: x @ x)(M.reshape(1, 2, 3)),
    "vmap of no rows": lambda T, F: T.vmap(F.sin)(np.zeros((0, 3))),
    "check_grads": lambda T, F: T.check_grads(lambda x: F.sum(F.sin(x) * x), V).ok,
    "check_grads of a tree": lambda T, F: (
        T.check_grads(lambda p, n: F.sum(F.tanh(p["w"])) * p["b"] ** n, {"w": V, "b": 2.0}, 3).ok
    ),
    "check_grads at a kink": lambda T, F: T.check_grads(lambda x: F.abs(x), 0.0).ok,
    "check_grads of a lost derivative": lambda T, F: T.check_grads(lambda x: x * F.stop_gradient(x), 2.0).ok,
}


@pytest.fixture(scope="module", autouse=True)
def session(client: pullback.Client) -> Iterator[None]:
    with on_session_of(client):
        yield


def found(case: Callable[[Any, Any], Any], package: Any, F: Any) -> Any:
    try:
        return case(package, F)
    except (AutogradError, pullback.errors.PullbackError) as error:
        return type(error).__name__


@pytest.mark.parametrize("name", CASES)
def test_the_engine_finds_the_same(name: str) -> None:
    here = found(CASES[name], transforms, functions)
    expected = found(CASES[name], engine.transforms, engine.functions)
    assert trees.structure(here) == trees.structure(expected)
    for one, other in zip(trees.leaves(here), trees.leaves(expected), strict=True):
        assert type(one) is type(other)
        if isinstance(one, np.ndarray):
            assert (one.shape, one.dtype) == (other.shape, other.dtype)
        if isinstance(one, str):
            assert one == other
        else:
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-15)


def test_everything_of_the_engine_is_there() -> None:
    assert set(engine.transforms.__all__) == set(transforms.__all__)
    assert all(hasattr(transforms, name) for name in transforms.__all__)


@pytest.mark.parametrize("x", [0.5, V, V.astype(np.float32)], ids=["number", "array", "float32"])
def test_compiled_programs_have_the_bits_of_the_engine(x: Any) -> None:
    def made(package: Any, F: Any) -> Any:
        return package.compile(package.value_and_grad(lambda x: F.sum(F.exp(F.sin(x)) * F.tanh(x * 3.0))))(x)

    for one, other in zip(made(transforms, functions), made(engine.transforms, engine.functions), strict=True):
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


def test_the_text_of_a_compiled_function() -> None:
    text = transforms.compile(lambda x, y: functions.sin(x) * y).source(1.0, 2.0)
    assert "sin(" in text
    assert "*" in text


def test_a_compiled_function_takes_no_variables() -> None:
    with pytest.raises(pullback.errors.InvalidValueError, match=r"x\.data"):
        transforms.compile(lambda x: x)(pullback.Variable(1.0))
    with pytest.raises(pullback.errors.InvalidValueError, match=r"x\.data"):
        transforms.descent(lambda x: x)(pullback.Variable(1.0), learning_rate=0.1, steps=1)


def test_rows_are_one_request(server: Server) -> None:
    asked: list[str] = []
    hooks = {"request": [lambda request: asked.append(request.url.path)]}
    with pullback.connect(server.base_url, event_hooks=hooks):
        asked.clear()
        slopes = transforms.vmap(transforms.grad(lambda x: x**3))
        assert slopes(V).tolist() == pytest.approx((3 * V**2).tolist())
        assert slopes(np.ones(1000)).tolist() == [3.0] * 1000
        assert asked == ["/v1/evaluate"] * 2


def test_a_descent_makes_several_steps_in_a_request(server: Server) -> None:
    asked: list[str] = []
    hooks = {"request": [lambda request: asked.append(request.url.path)]}
    with pullback.connect(server.base_url, event_hooks=hooks):
        descend = transforms.descent(lambda x: (x - 3.0) ** 2)
        descend(0.0, learning_rate=0.1, steps=20)
        asked.clear()
        descend(1.0, learning_rate=0.2, steps=20)
        assert len(asked) <= 20 // compilation._MOST_STEPS + 3


def test_vmap_reads_what_is_there_at_each_call() -> None:
    w = np.array([1.0, 2.0, 3.0])
    rows = transforms.vmap(lambda x: functions.sum(x * w))
    assert rows(np.ones((2, 3))).tolist() == [6.0, 6.0]
    w[0] = 5.0
    assert rows(np.ones((2, 3))).tolist() == [10.0, 10.0]
    assert rows(np.ones((4, 3))).tolist() == [10.0] * 4


WRONG: list[tuple[Callable[[Any, Any], Any], str]] = [
    (lambda T, F: T.grad(lambda x: F.sum(T.vmap(F.sin)(x)))(np.zeros(0)), "outermost"),
    (lambda T, F: T.grad(lambda x: F.sum(T.vmap(F.sin)(x)))(np.zeros(60_000)), "outermost"),
    (lambda T, F: T.grad(lambda x: F.sum(T.jacobian(F.sin)(x)))(np.zeros(2000)), "vjp, jvp, hvp"),
    (lambda T, F: T.vmap(lambda x, w: w, (0, None), None)(np.zeros((0, 2)), V), "out_axes=0"),
]


@pytest.mark.parametrize(("call", "words"), WRONG, ids=range(len(WRONG)))
def test_what_is_not_supported(call: Callable[[Any, Any], Any], words: str) -> None:
    with pytest.raises(pullback.errors.NotSupportedError, match=words):
        call(transforms, functions)
