"""Transforms of Python functions, traced here and run on the server: the same bits as `engine.compile`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import engine
import pullback
from engine.core import trees
from tests.clients.conftest import on_session_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RNG = np.random.default_rng(5)
V = RNG.uniform(0.5, 1.5, 4)
M = RNG.normal(size=(4, 3))
X = RNG.normal(size=(5, 4))

#: Functions of one element, from a module of functions and arguments.
SCALAR: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "quickstart": (lambda F, x: F.square(F.exp(F.square(x))), (0.5,)),
    "itself": (lambda F, x: x, (2.0,)),
    "a constant": (lambda F, x: F.stop_gradient(x) * 0.0 + 3.0, (2.0,)),
    "matyas": (lambda F, x, y: 0.26 * (x**2 + y**2) - 0.48 * x * y, (1.0, 2.0)),
    "sum of tanh": (lambda F, x: F.sum(F.tanh(x) * x), (V,)),
    "least squares": (lambda F, w: F.mean((X @ w - 1.0) ** 2), (M,)),
    "tree": (lambda F, p: F.sum(F.tanh(X @ p["w"] + p["b"])) * p["s"][0], ({"w": M, "b": V[:3], "s": [2.0]},)),
    "slices": (lambda F, x: F.sum(x[1:] ** 2) + x[0] * x[-1], (V,)),
    "indices": (lambda F, x: F.sum(x[[0, 0, 2]] * x[np.array([True, False, True, True])]), (V,)),
    "rosenbrock": (lambda F, x: F.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2), (V,)),
    "branches": (lambda F, x: F.sum(F.where(x > 1.0, F.log(x), x * x)), (V,)),
    "loop": (lambda F, x: sum((F.sin(x * k) for k in range(1, 4)), start=x), (0.7,)),
    "split": (lambda F, x: F.sum(F.split(x, 2)[0] * F.split(x, 2)[1]), (V,)),
    "shape": (lambda F, x: F.sum(F.exp(x)) / x.shape[0] + len(x) * x.ndim, (V,)),
    "float32": (lambda F, x: F.sum(F.exp(x)), (V.astype(np.float32),)),
    "linear algebra": (lambda F, a: F.log(F.det(a @ a.T + 3.0 * np.eye(3))), (M.T,)),
}
INNER = {
    "gradient of a gradient": lambda lib, F: lambda x: lib.grad(lambda z: F.sum(F.sin(z) * x))(x),
    "second derivative": lambda lib, F: lib.grad(lib.grad(F.sin)),
    "third derivative": lambda lib, F: lib.grad(lib.grad(lib.grad(F.tanh))),
    "a penalty": lambda lib, F: lib.grad(lambda x: lib.grad(F.exp)(x) ** 2 + x),
    "value and slope": lambda lib, F: lib.grad(lambda x: sum(lib.value_and_grad(F.sin)(x))),
    "closure": lambda lib, F: lib.grad(lambda x: x * lib.grad(lambda z: z * z * x)(3.0)),
}


@pytest.fixture(scope="module", autouse=True)
def session(client: pullback.Client) -> Iterator[None]:
    with on_session_of(client):
        yield


def both(transform: str, name: str, **options: Any) -> tuple[Any, Any, Any]:
    """What the SDK, a compiled function and a plain call of the engine find."""
    f, args = SCALAR[name]
    argnums = tuple(range(len(args)))

    def made(library: Any, functions: Any) -> Any:
        return getattr(library, transform)(lambda *xs: f(functions, *xs), argnums, **options)

    found = made(pullback.transforms, pullback.functions)(*args)
    local = made(engine.transforms, engine.functions)
    return found, engine.compile(local)(*args), local(*args)


def assert_same(found: Any, compiled: Any, eager: Any) -> None:
    assert trees.structure(found) == trees.structure(compiled)
    for one, same, near in zip(*map(trees.leaves, (found, compiled, eager)), strict=True):
        assert (np.shape(one), np.asarray(one).dtype) == (np.shape(same), np.asarray(same).dtype)
        assert np.asarray(one).tobytes() == np.asarray(same).tobytes()
        rtol = 1e-5 if np.asarray(one).dtype == np.float32 else 1e-12
        np.testing.assert_allclose(one, near, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("name", SCALAR)
@pytest.mark.parametrize("transform", ["grad", "value_and_grad", "jacobian"])
def test_first_derivatives(transform: str, name: str) -> None:
    assert_same(*both(transform, name))


@pytest.mark.parametrize("name", SCALAR)
def test_hessians(name: str) -> None:
    assert_same(*both("hessian", name))


@pytest.mark.parametrize("name", INNER)
def test_gradients_inside_of_functions(name: str) -> None:
    local = INNER[name](engine.transforms, engine.functions)
    found = INNER[name](pullback.transforms, pullback.functions)
    np.testing.assert_allclose(found(0.7), local(0.7), rtol=1e-12)


def test_directions() -> None:
    def f(F: Any) -> Any:
        return lambda x, w: {"y": F.tanh(x @ w), "s": F.sum(x)}

    args = (X, M)
    tangents = (X * 0.5, M + 1.0)
    ours = pullback.transforms.jvp(f(pullback.functions), args, tangents)
    assert_same(ours, *[engine.transforms.jvp(f(engine.functions), args, tangents)] * 2)
    y, pullback_ = pullback.transforms.vjp(f(pullback.functions), *args)
    z, expected = engine.transforms.vjp(f(engine.functions), *args)
    cotangent = {"y": np.ones((5, 3)), "s": 2.0}
    for one, near in zip(trees.leaves(pullback_(cotangent)), trees.leaves(expected(cotangent)), strict=True):
        np.testing.assert_allclose(one, near, rtol=1e-12, atol=1e-12)
    assert trees.structure(y) == trees.structure(z)
    vectors = pullback.transforms.hvp(lambda x: pullback.functions.sum(x**3), (V,), (V * 2,))
    np.testing.assert_allclose(vectors[0], 12 * V**2, rtol=1e-12)


def test_the_same_result_in_two_places() -> None:
    def twice(x: Any) -> Any:
        y = x * x
        return [y, y]

    y, back = pullback.transforms.vjp(twice, 3.0)
    assert y == [9.0, 9.0]
    assert back([1.0, 10.0]) == (66.0,)


def test_aux() -> None:
    def f(x: Any) -> Any:
        y = pullback.functions.sin(x)
        return y * y, {"sine": y, "said": "as it is"}

    (value, aux), slope = pullback.transforms.value_and_grad(f, has_aux=True)(0.5)
    assert aux == {"sine": np.sin(0.5), "said": "as it is"}
    assert (value, slope) == (np.sin(0.5) ** 2, pytest.approx(np.sin(1.0)))
    slope, aux = pullback.transforms.grad(f, has_aux=True)(0.5)
    assert aux["said"] == "as it is"


WRONG = [
    (lambda T, F: T.grad(lambda x: x * x)(V), "NotScalarError", ""),
    (lambda T, F: T.grad(lambda x: (x, x))(1.0), "NotScalarError", "2 values"),
    (lambda T, F: T.grad(lambda x: F.sum(x))(np.array([1, 2])), "NotDifferentiableError", ""),
    (lambda T, F: T.grad(lambda x: x, 3)(1.0), "BadAttributeError", "no argument 3"),
    (lambda T, F: T.grad(lambda x: x if x > 0 else -x)(1.0), "TraceError", "where"),
    (lambda T, F: T.grad(lambda x: float(x))(1.0), "TraceError", "looked at"),
    (lambda T, F: T.grad(lambda x: x.data)(1.0), "TraceError", "looked at"),
    (lambda T, F: T.grad(lambda x: F.sum(np.sin(x)))(V), "InvalidValueError", r"F\.sin"),
    (lambda T, F: T.grad(lambda x: F.sum(x @ x))(M), "ShapeMismatchError", "matmul"),
    (
        lambda T, F: T.grad(lambda x: F.sum(T.jacobian(lambda z: z[:, None] * z)(x)))(np.ones(40)),
        "NotSupportedError",
        "outermost",
    ),
    (lambda T, F: T.grad(lambda x: F.dropout(x))(1.0), "NotSupportedError", "test_mode"),
    (lambda T, F: T.grad(lambda x: F.dropout(np.ones(3))[0] * x)(1.0), "NotSupportedError", "test_mode"),
    (lambda T, F: T.grad(lambda x: x * pullback.Variable(2.0).data)(1.0), "TraceError", "with the Variable itself"),
    (lambda T, F: T.grad(lambda x: x * float(pullback.Variable(2.0)))(1.0), "TraceError", "with the Variable itself"),
    (lambda T, F: T.grad(lambda x: x * pullback.Variable(2.0).grad)(1.0), "TraceError", "gradient of a Variable"),
    (lambda T, F: T.grad(lambda x: F.sin(x), has_aux=True)(1.0), "BadAttributeError", "a pair"),
    (lambda T, F: T.jacobian(F.sin, mode="sideways")(1.0), "BadAttributeError", "mode"),
    (lambda T, F: T.jvp(F.sin, (V,), (1.0,)), "ShapeMismatchError", "tangent"),
    (lambda T, F: T.hvp(F.sin, (1.0,), ([1.0],)), "ShapeMismatchError", "vector"),
]


@pytest.mark.parametrize(("call", "kinds", "words"), WRONG, ids=range(len(WRONG)))
def test_what_is_wrong(call: Callable[[Any, Any], Any], kinds: str, words: str) -> None:
    with pytest.raises(Exception, match=words or None) as caught:
        call(pullback.transforms, pullback.functions)
    assert type(caught.value).__name__ in kinds.split("|")


def test_a_symbol_is_of_no_use_afterwards() -> None:
    kept: list[Any] = []
    pullback.transforms.grad(lambda x: kept.append(x) or x * x)(1.0)
    with pytest.raises(pullback.errors.TraceError, match="traced before"):
        pullback.transforms.grad(lambda x: x * kept[0])(1.0)


def test_one_request_a_call(server: Any) -> None:
    asked: list[str] = []
    hooks = {"request": [lambda request: asked.append(request.url.path)]}
    with pullback.connect(server.base_url, event_hooks=hooks):
        asked.clear()
        pullback.transforms.grad(pullback.transforms.grad(pullback.functions.sin))(1.0)
        assert asked == ["/v1/evaluate"]
        pullback.transforms.hessian(lambda x: pullback.functions.sum(x**3))(V)
        assert asked == ["/v1/evaluate", "/v1/hessian"]


@pytest.mark.parametrize("is_made_inside", [False, True])
@pytest.mark.parametrize("transform", ["grad", "value_and_grad", "hessian"])
def test_the_first_call_of_a_model_may_be_inside(transform: str, is_made_inside: bool) -> None:
    """A call that makes the weights, as in_size is left out: those that the engine makes."""

    def found(lib: Any) -> Any:
        def model() -> Any:
            return lib.models.MLP([3, 1], activation="tanh", rng=0)

        outer = model()
        f = getattr(lib.transforms, transform)(
            lambda x: lib.functions.sum((model() if is_made_inside else outer)(x[None]))
        )
        f(X[0])
        return trees.leaves(f(X[1])), None if is_made_inside else lib.state_dict(outer)

    ours, state = found(pullback)
    theirs, other_state = found(engine)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(np.asarray(one), getattr(other, "data", other), rtol=1e-12)
    assert is_made_inside or all((state[name] == other_state[name]).all() for name in other_state)
