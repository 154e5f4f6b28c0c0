"""Compiled Python functions: they return what the function returns, whatever it is given and wherever it is used."""

import functools
import gc
import threading
import tracemalloc
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import pytest

from engine import Variable
from engine import functions as F
from engine.core import trees
from engine.core.errors import AutogradError, InvalidValueError, NotSupportedError
from engine.core.values import as_raw
from engine.nn.layers import Linear
from engine.transforms import grad, hessian, hvp, jacobian, jvp, value_and_grad, vjp, vmap
from engine.transforms.compilation import compile, compiled
from tests.engine.same import assert_same

Function = Callable[..., Any]


class Pair(NamedTuple):
    a: Any
    b: Any


class Names(list[Any]):
    """A container of a kind of its own."""


def draw(seed: int, *shape: int) -> Any:
    return np.random.default_rng(seed).standard_normal(shape)


def single(seed: int, *shape: int) -> Any:
    return draw(seed, *shape).astype(np.float32)


# What is given: every form is traced anew, and each is right.

FORMS: dict[str, Any] = {
    "number": 2.5,
    "integer": 3,
    "negative zero": -0.0,
    "NumPy's number": np.float64(2.5),
    "single number": np.float32(2.5),
    "vector": draw(1, 3),
    "longer vector": draw(2, 4),
    "matrix": draw(3, 2, 3),
    "single matrix": single(4, 2, 3),
    "single 0-d": np.array(1.5, np.float32),
    "0-d": np.array(1.5),
    "empty": np.zeros((0, 3)),
    "transposed": draw(5, 3, 2).T,
    "every other": draw(6, 6)[::2],
    "backwards": draw(7, 3)[::-1],
    "repeated": np.broadcast_to(draw(8, 1), (5,)),
    "read-only": np.broadcast_to(draw(9, 3), (3,)),
    "other byte order": draw(10, 3).astype(">f8"),
    "half": draw(11, 3).astype(np.float16),
}


def test_each_form_of_argument_is_right_and_stays_right() -> None:
    def f(x: Any) -> Any:
        return F.sin(x) * 2.0 + x * x, x / 4.0

    g = compile(f)
    for _ in range(2):
        for x in FORMS.values():
            assert_same(g(x), trees.map_leaves(as_raw, f(as_raw(x))))


CONTAINERS: dict[str, tuple[Any, ...]] = {
    "list": ([1.0, 2.0],),
    "tuple": ((1.0, 2.0),),
    "named tuple": (Pair(1.0, draw(1, 2)),),
    "list of a kind of its own": (Names([1.0, 2.0]),),
    "dict": ({"a": 1.0, "b": 2.0},),
    "dict in another order": ({"b": 2.0, "a": 1.0},),
    "ordered dict": (OrderedDict(b=2.0, a=1.0),),
    "odd keys": ({None: 1.0, 0: 2.0, ("a", 1): 3.0, 'x"]; raise SystemExit #': 4.0, "λ": 5.0, float("inf"): 6.0},),
    "none": ([None, 1.0, (None,)],),
    "nothing": ([], (), {}, 1.0),
    "deep": ([[[[[[1.0]]]]], {"a": {"b": [(2.0, Pair(None, 3.0))]}}],),
    "arrays and numbers": ([draw(2, 3), 1.0, single(3, 2), np.float32(2.0), np.float64(3.0)],),
}


def doubled(*trees: Any) -> Any:
    """Every leaf twice as large, in the containers that were given."""
    return [_doubled(tree) for tree in trees]


def _doubled(tree: Any) -> Any:
    if tree is None:
        return None
    if isinstance(tree, dict):
        return {key: _doubled(item) for key, item in tree.items()}
    if isinstance(tree, Pair):
        return Pair(*map(_doubled, tree))
    if isinstance(tree, list | tuple):
        return type(tree)(map(_doubled, tree))
    return 2.0 * tree


def test_containers_come_back_as_the_function_returns_them() -> None:
    g = compile(doubled)
    for _ in range(2):
        for args in CONTAINERS.values():
            assert_same(g(*args), trees.map_leaves(as_raw, doubled(*args)))
            assert [list(item) for item in g(*args) if isinstance(item, dict)] == [
                list(item) for item in args if isinstance(item, dict)
            ]


def test_a_change_of_form_is_seen_in_every_place() -> None:
    """The code for the last form finds out that it does not fit, be it called with more, fewer or other containers."""
    g = compile(lambda x: doubled(x))
    given = [1.0, [1.0], (1.0,), [1.0, 2.0], {"a": 1.0}, {"b": 1.0}, {"a": 1.0, "b": 2.0}, Pair(1.0, 2.0), None]
    given += [[None], [1.0, None], [[1.0]], draw(1, 2), draw(1, 3), single(1, 2), np.arange(2), np.array([True]), True]
    for one in given:
        for other in given:
            assert_same(g(one), [_doubled(one) if one is not True else 2.0])
            assert_same(g(other), [_doubled(other) if other is not True else 2.0])


ALTERNATING: dict[str, tuple[Function, list[tuple[Any, ...]]]] = {
    "integers for numbers": (lambda x, y: x / y, [(1, 2.0), (1.0, 2), (3, 2), (np.array(1.5), 2.0)]),
    "truths": (lambda x: x * 2.0, [(True,), (np.True_,), (np.array(False),)]),
    "integers of NumPy's": (lambda x: x * 2, [(np.int64(2),), (np.int8(-3),), (np.uint32(2**31),), (np.array(5),)]),
    "single numbers": (lambda x: x * 2, [(np.float32(1.5),), (np.float16(0.5),), (np.array(2.5, np.float32),)]),
    "numbers and arrays": (lambda x: x * x, [(2.0,), (draw(1, 3),), (np.float64(3.0),), (draw(1, 4),)]),
    "in containers": (lambda p: p["a"][0] * p["b"], [({"a": [1], "b": 2.0},), ({"a": (1.0,), "b": draw(1, 3)},)]),
    "numbers of arguments": (lambda *xs: sum(xs, 0.0), [(1.0,), (1.0, 2), (1, 2.0, 3.0), ()]),
}


@pytest.mark.parametrize("name", ALTERNATING)
def test_forms_that_alternate_are_looked_at_in_full_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    f, given = ALTERNATING[name]
    g = compile(f)
    for args in given:
        g(*args)
    monkeypatch.setattr("engine.core.trees.leaves", None)
    found = [g(*args) for args in given * 3]
    monkeypatch.undo()
    for one, args in zip(found, given * 3, strict=True):
        assert_same(one, trees.map_leaves(as_raw, f(*trees.map_leaves(as_raw, args))))


def test_integers_too_large_are_refused_by_code_too() -> None:
    g = compile(lambda x: x * 2.0)
    assert g(2**60) == 2.0**61
    with pytest.raises(InvalidValueError, match="more than float64 holds"):
        g(10**400)


# Numbers have no dtype of their own, NumPy's scalars have one.


WEAK: dict[str, Function] = {
    "product": lambda a, x: a * x,
    "function of the number": lambda a, x: F.exp(a) * x,
    "sums of numbers": lambda a, x: (a * 2.0 + 1.0) * x - a,
    "power": lambda a, x: x**a,
    "where": lambda a, x: F.where(x > a, x, a),
    "maximum": lambda a, x: F.maximum(x, a),
    "constant": lambda a, x: x * np.float32(3.0) + 2,
    "strong constant": lambda a, x: x * np.float64(3.0),
}


@pytest.mark.parametrize("name", WEAK)
@pytest.mark.parametrize("a", [1.5, 2], ids=["float", "int"])
def test_numbers_promote_as_they_do_without(name: str, a: Any) -> None:
    f, x = WEAK[name], np.abs(single(1, 4))
    assert_same(compile(f)(a, x), f(a, x), rtol=1e-6)


@pytest.mark.parametrize("name", WEAK)
@pytest.mark.parametrize("kind", [np.float64, np.float32])
def test_scalars_with_a_dtype_promote_as_on_the_tape(name: str, kind: Any) -> None:
    f, x = WEAK[name], np.abs(single(1, 4))
    assert_same(compile(f)(kind(1.5), x), f(Variable(kind(1.5)), Variable(x)).data, rtol=1e-6)


@pytest.mark.parametrize("name", sorted(set(WEAK) - {"power"}))
@pytest.mark.parametrize("argnums", [0, 1, (0, 1)], ids=str)
def test_numbers_promote_as_they_do_where_they_are_differentiated(name: str, argnums: Any) -> None:
    def loss(a: Any, x: Any) -> Any:
        return F.sum(WEAK[name](a, x))

    f, x = value_and_grad(loss, argnums), np.abs(single(1, 4))
    assert_same(compile(f)(1.5, x), f(1.5, x), rtol=1e-5)


# How it is called.


class Scaled:
    """Callable in several ways."""

    factor = 3.0

    def method(self, x: Any, y: Any = 2.0) -> Any:
        return self.factor * x + y

    def __call__(self, x: Any, /, *, scale: Any = 2.0) -> Any:
        return x * scale


def with_defaults(x: Any, y: Any = 2.0, *, z: Any = 3.0) -> Any:
    return x + y * z


CALLS: dict[str, tuple[Function, tuple[Any, ...], dict[str, Any]]] = {
    "defaults": (with_defaults, (1.0,), {}),
    "one default": (with_defaults, (1.0, 5.0), {}),
    "keywords": (with_defaults, (), {"x": 1.0, "y": draw(1, 2)}),
    "keywords in another order": (with_defaults, (), {"z": 4.0, "y": 3.0, "x": 1.0}),
    "all by keyword": (lambda x, y: x - y, (), {"y": 1.0, "x": 3.0}),
    "any number": (lambda *xs: sum(xs, 0.0), (1.0, 2.0, 3.0), {}),
    "any keywords": (lambda **xs: {k: 2.0 * x for k, x in xs.items()}, (), {"b": 1.0, "a": 2.0}),
    "none": (lambda: (1.0, draw(1, 2)), (), {}),
    "method": (Scaled().method, (1.0,), {}),
    "object": (Scaled(), (1.0,), {"scale": 5.0}),
    "partial": (functools.partial(with_defaults, y=7.0), (1.0,), {"z": draw(2, 2)}),
    "without a signature": (dict, (), {"a": 1.0, "b": [2.0]}),
    "parameters called as what the code has": (
        lambda latest, call, x0, v1, np: latest - call * x0 / v1 + np,
        (1.0, 2.0, 3.0, 4.0, 5.0),
        {},
    ),
    "names beyond ASCII": (lambda λ, ξ: λ**2 * ξ, (3.0, 2.0), {}),
}


@pytest.mark.parametrize("name", CALLS)
def test_it_is_called_as_the_function_is(name: str) -> None:
    f, args, keywords = CALLS[name]
    g = compile(f)
    for _ in range(2):
        assert_same(g(*args, **keywords), f(*args, **keywords))


def test_a_call_that_does_not_fit_says_what_python_says() -> None:
    g = compile(lambda x, y: x)
    for args in [(), (1.0,), (1.0, 2.0, 3.0)]:
        with pytest.raises(TypeError, match="argument"):
            g(*args)
    assert g(1.0, 2.0) == 1.0


def test_the_name_and_documentation_are_kept() -> None:
    @compiled
    def energy(x: Any) -> Any:
        """Of a spring."""
        return x * x / 2.0

    assert (energy.__name__, energy.__doc__, energy(3.0)) == ("energy", "Of a spring.", 4.5)


# Results belong to the caller.


def test_results_are_shared_with_nothing() -> None:
    captured = draw(1, 40, 40)

    def f(x: Any, y: Any) -> Any:
        h = F.sin(x)
        views = [F.transpose(x), x[::2], F.reshape(h, [-1]), F.transpose(h), F.broadcast_to(y, (3, 40))]
        return [x, x, h, h, y, captured, captured, x * 1.0, F.squeeze(y), *views]

    g = compile(f)
    x, y = draw(2, 40, 40), draw(3, 40)
    results = [*g(x, y), *g(x, y)]
    for k, result in enumerate(results):
        assert result.flags.writeable
        assert not any(np.shares_memory(result, other) for other in (x, y, captured, *results[:k]))
    before = [x.copy(), y.copy(), captured.copy()]
    for result in results:
        result[...] = -1.0
    assert_same([x, y, captured], before)
    assert_same(g(x, y), [np.array(item) for item in f(x, y)])


def test_results_outlive_later_calls() -> None:
    g = compile(lambda x: (F.sin(x) * F.cos(x), F.exp(-x * x)))
    inputs = [draw(seed, 3000) for seed in range(20)]
    found = [g(x) for x in inputs]
    for x, (first, second) in zip(inputs, found, strict=True):
        assert_same([first, second], [np.sin(x) * np.cos(x), np.exp(-x * x)])


# What is read besides the arguments.


@pytest.mark.parametrize("size", [3, 3000])
def test_captured_arrays_count_as_they_were(size: int) -> None:
    w = np.ones(size)

    def f(x: Any) -> Any:
        before = x * w
        w[0] = 2.0
        return before, x * w

    g = compile(f)
    first, second = g(1.0)
    assert (first[0], second[0]) == (1.0, 2.0)
    w[:] = 7.0
    first, second = g(1.0)
    assert (first[0], second[0], second[1]) == (1.0, 2.0, 1.0)


def test_a_captured_array_is_kept_once() -> None:
    w = draw(1, 1000)
    g: Any = compile(lambda x: F.sum(x * w) + F.sum(F.sin(w) * x) + F.max(w * x * x))
    assert g.source(1.0).splitlines()[0].count("c") <= 3
    assert_same(g(2.0), float(np.sum(2 * w) + np.sum(np.sin(w) * 2) + np.max(w * 4)))


def outer(f: Function) -> Function:
    """A function that is traced on what is around it."""
    return lambda x: compile(lambda y: f(x, y))(2.0)


captures: dict[str, Callable[[], Any]] = {
    "variable": lambda: compile(lambda x: x * Variable(2.0))(1.0),
    "variable returned": lambda: compile(lambda x: Variable(2.0))(1.0),
    "what comes of a variable": lambda: compile(lambda x: (x, F.sin(Variable(2.0))))(1.0),
    "layer": lambda: compile(lambda x: Linear(2, 3, rng=0)(x))(draw(1, 4, 3)),
    "traced": lambda: compile(outer(lambda x, y: x * y))(3.0),
    "traced with a number before": lambda: compile(outer(lambda x, y: y * 5.0 + x))(3.0),
    "traced and returned": lambda: compile(outer(lambda x, y: x))(3.0),
    "differentiated": lambda: grad(outer(lambda x, y: x * y))(3.0),
    "differentiated and returned": lambda: grad(outer(lambda x, y: [x, y][0]))(3.0),
    "pushed forward": lambda: jvp(outer(lambda x, y: x * y), (3.0,), (1.0,)),
    "batched": lambda: vmap(outer(lambda x, y: x * y))(draw(1, 3)),
}


@pytest.mark.parametrize("name", captures)
def test_what_would_be_lost_is_refused(name: str) -> None:
    with pytest.raises(InvalidValueError, match=r"a variable, or a value of a function around it"):
        captures[name]()


REFUSED: dict[str, tuple[Function, tuple[Any, ...], type[AutogradError], str]] = {
    "if": (lambda x: 1.0 if x > 0 else 2.0, (1.0,), InvalidValueError, "not known while a function is traced"),
    "while": (lambda x: [x for _ in iter(lambda: bool(x < 3), False)], (1.0,), InvalidValueError, "not known"),
    "range": (lambda x, n: [x for _ in range(n)], (1.0, 3), InvalidValueError, "not known"),
    "index": (lambda x, n: x[n], (draw(1, 3), 1), InvalidValueError, "not known"),
    "list": (lambda x, n: [x, x][n], (1.0, 1), InvalidValueError, "not known"),
    "float": (lambda x: float(x), (1.0,), InvalidValueError, "not known"),
    "NumPy": (lambda x: np.asarray(x), (1.0,), InvalidValueError, "would lose the derivative"),
    "variable": (lambda x: x, (Variable(1.0),), InvalidValueError, "give it `x.data`"),
    "text": (lambda x: x, ("abc",), InvalidValueError, "not supported"),
    "complex": (lambda x: x, (1j,), InvalidValueError, "not supported"),
    "object": (lambda x: x, (object(),), InvalidValueError, "got object"),
    "large integer": (lambda x: x, (10**400,), InvalidValueError, "more than float64 holds"),
    "returns text": (lambda x: "abc", (1.0,), InvalidValueError, "not supported"),
    "returns a set": (lambda x: {1}, (1.0,), InvalidValueError, "got set"),
    "seed": (lambda x: F.dropout(x, rng=3), (draw(1, 3),), NotSupportedError, "dropout: a function that is traced"),
    "generator": (lambda x: F.dropout(x, rng=np.random.default_rng(1)), (draw(1, 3),), NotSupportedError, "before"),
    "no generator": (lambda x: F.dropout(x), (draw(1, 3),), NotSupportedError, "random"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_compiled_is_refused(name: str) -> None:
    f, args, error, message = REFUSED[name]
    g = compile(f)
    for _ in range(2):
        with pytest.raises(error, match=message):
            g(*args)


def test_what_the_function_raises_comes_through_and_leaves_nothing_behind() -> None:
    class OwnError(Exception):
        pass

    fails = [True]

    def f(x: Any, y: Any) -> Any:
        if fails:
            raise OwnError("mine", 3)
        return x * y

    g = compile(f)
    with pytest.raises(OwnError) as caught:
        g(2.0, 3.0)
    assert caught.value.args == ("mine", 3)
    fails.clear()
    assert (g(2.0, 3.0), g(2.0, 4.0)) == (6.0, 8.0)


def test_data_on_which_an_operation_is_not_defined() -> None:
    def f(x: Any, places: Any) -> Any:
        return F.sum(F.take(F.exp(x), places, axis=0) * 2.0)

    g = compile(f)
    x, places = draw(1, 2000), np.array([0, 5, 1999])
    for _ in range(3):
        with pytest.raises(InvalidValueError, match="take: index 2000 is out of range"):
            g(x, places + 1)
        assert_same(g(x, places), f(x, places))


# Under and around transforms.


def energy(x: Any) -> Any:
    return F.sum(F.sin(x) * x**3) + F.prod(x)


X = np.array([0.5, -1.25, 2.0])
TRANSFORMED: dict[str, Function] = {
    "grad": lambda f: grad(f)(X),
    "value_and_grad": lambda f: value_and_grad(f)(X),
    "jacobian": lambda f: jacobian(f)(X),
    "hessian": lambda f: hessian(f)(X),
    "jvp": lambda f: jvp(f, (X,), (X,)),
    "vjp": lambda f: vjp(f, X)[1](2.0),
    "hvp": lambda f: hvp(f, (X,), (X,)),
    "vmap": lambda f: vmap(f)(np.stack([X, -X])),
    "rows of a gradient": lambda f: vmap(grad(f))(np.stack([X, -X])),
    "third derivative": lambda f: jacobian(hessian(f))(X),
}


@pytest.mark.parametrize("name", TRANSFORMED)
def test_inside_of_transforms(name: str) -> None:
    g = compile(energy)
    for _ in range(2):
        assert_same(TRANSFORMED[name](g), TRANSFORMED[name](energy))
        assert_same(g(X), energy(X))


AROUND: dict[str, Function] = {
    "grad": grad(energy),
    "hessian": hessian(energy),
    "jacobian": jacobian(lambda x: x * F.sin(x), mode="forward"),
    "jvp": lambda x: jvp(energy, (x,), (x,)),
    "vjp": lambda x: vjp(energy, x)[1](1.0),
    "hvp": lambda x: hvp(energy, (x,), (x,)),
    "vmap": vmap(lambda x: x * F.exp(x)),
    "rows of a gradient": vmap(grad(lambda x: x * F.sin(x))),
    "compiled": compile(energy),
    "compiled gradient": compile(grad(compile(energy))),
    "gradient of a compiled gradient": grad(lambda x: F.sum(compile(grad(energy))(x) ** 2)),
}


@pytest.mark.parametrize("name", AROUND)
def test_around_transforms(name: str) -> None:
    g = compile(AROUND[name])
    for x in (X, 2.0 * X):
        assert_same(g(x), AROUND[name](x), rtol=1e-11)


def test_a_function_that_calls_itself_on_constants() -> None:
    @compiled
    def f(x: Any) -> Any:
        return x * 2.0 if x.shape == (1,) else x * f(np.ones(1))

    assert_same(f(np.ones(3)), np.full(3, 2.0))


def test_equal_keys_of_other_types_are_another_form() -> None:
    g = compile(lambda d: {key: value * 2.0 for key, value in d.items()})
    for _ in range(2):
        for key in (1, True, 1.0):
            [(found, value)] = g({key: 3.0}).items()
            assert (type(found), value) == (type(key), 6.0)


def test_what_contains_itself_is_refused() -> None:
    endless: list[Any] = [1.0]
    endless.append(endless)
    with pytest.raises(InvalidValueError, match="nested more than 100 deep, or contain themselves"):
        compile(lambda p: p[0])(endless)


# Text is never code.


def test_nothing_that_a_user_wrote_is_in_the_code() -> None:
    words = ["'); raise SystemExit #", "__import__('os')", "λ", "\n\n", "ij,jk->ik", "{0}"]
    keys = dict.fromkeys(words, 2.0)
    g: Any = compile(lambda d, A: ({k: v * 1e300 * 1e300 for k, v in d.items()}, F.einsum("ij,jk->ik", A, A)))
    source = g.source(keys, np.eye(2))
    assert not any(word in source for word in words)
    found, _ = g(keys, np.eye(2))
    assert found == dict.fromkeys(words, np.inf)


def test_numbers_of_every_kind_as_constants() -> None:
    numbers = [1e400, -1e400, -0.0, 0.0, 5e-324, -1e308, 1e22, 2**62, -(2**53), True, 0.1, -3, float("nan")]

    def f(x: Any) -> Any:
        return [x * number for number in numbers] + [number - x for number in numbers] + numbers

    for x in (1.5, -2.0, np.array([1.5, -2.0, 0.0])):
        with np.errstate(all="ignore"):
            expected = trees.map_leaves(as_raw, f(x))
        found = compile(f)(x)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)
            np.testing.assert_array_equal(np.signbit(one) | np.isnan(one), np.signbit(other) | np.isnan(other))


# Many calls, many threads.


def test_threads_that_call_one_function_never_mix_results() -> None:
    g = compile(value_and_grad(lambda x: F.sum(F.sin(x) * F.exp(-x * x) + F.square(F.cos(x)))))
    inputs = [draw(seed, size) for seed in range(8) for size in (5, 1500, 3000)]
    expected = [value_and_grad(lambda x: F.sum(F.sin(x) * F.exp(-x * x) + F.square(F.cos(x))))(x) for x in inputs]

    def work(start: int) -> None:
        for n in range(60):
            k = (start * 7 + n) % len(inputs)
            assert_same(g(inputs[k]), expected[k])

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(16)))


def test_threads_that_call_it_with_different_numbers_of_arguments() -> None:
    g = compile(lambda *xs: sum(xs, 0.0))

    def work(n: int) -> None:
        for k in range(400):
            assert g(*[1.0] * ((n + k) % 5)) == (n + k) % 5

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(16)))


def test_threads_trace_once() -> None:
    traced = []
    together = threading.Barrier(16)

    def f(x: Any) -> Any:
        traced.append(x)
        return x * 2.0

    g = compile(f)

    def work(n: int) -> Any:
        together.wait()
        return g(float(n))

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(work, range(16))) == [2.0 * n for n in range(16)]
    assert len(traced) == 1


def test_forms_not_used_for_longest_give_way() -> None:
    traced = []

    def f(x: Any) -> Any:
        traced.append(x.shape)
        return x * 2.0

    g = compile(f)
    for n in (*range(1, 65), 1, 65, 1, 66, 1, 2):
        assert_same(g(np.ones(n)), np.full(n, 2.0))
    assert [shape[0] for shape in traced] == [*range(1, 67), 2]


def test_memory_is_flat() -> None:
    g = compile(value_and_grad(lambda p, x: F.sum(F.tanh(p["w"] * x) ** 2) + p["b"] / x[0]))
    given = {"w": draw(1, 1200), "b": 2.0}, draw(2, 1200)
    scalar = compile(grad(lambda x: F.log(x) * F.exp(x)))

    def run(times: int) -> None:
        for n in range(times):
            g(*given)
            scalar(float(n % 3))

    run(50)
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        run(10_000)
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - before < 20_000
    finally:
        tracemalloc.stop()


def test_compiled_gathers_refuse_what_is_out_of_range() -> None:
    x, places = np.arange(4.0), np.array([0, 4])
    for f in (lambda x, places: F.take(x, places), lambda x, places: F.scatter_add(x, places, 1.0)):
        with pytest.raises(InvalidValueError, match="index 4 is out of range for an axis of length 4"):
            compiled(f)(x, places)
