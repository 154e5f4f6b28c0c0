"""Values kept from a transform that has ended: typed errors where they are used, never an answer that holds one."""

import contextlib
import functools
import re
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from engine import Variable, compile, descent
from engine import functions as F
from engine.core.errors import AutogradError, InvalidValueError, LeakedValueError
from engine.core.tracer import Tracer
from engine.programs.tracing import trace
from engine.transforms import (
    check_grads,
    compiled,
    grad,
    hessian,
    hvp,
    jacobian,
    jvp,
    stop_gradient,
    value_and_grad,
    vjp,
    vmap,
)

Function = Callable[[Any], Any]
V = np.array([1.5, 2.5])

#: The name that the error says, and the transform: (function of one number) -> anything.
WAYS: dict[str, tuple[str, Callable[[Function], Any]]] = {
    "grad": ("grad", lambda f: grad(f)(2.0)),
    "value_and_grad": ("value_and_grad", lambda f: value_and_grad(f)(2.0)),
    "vjp": ("vjp", lambda f: vjp(f, 2.0)[1](1.0)),
    "jvp": ("jvp", lambda f: jvp(f, (2.0,), (1.0,))),
    "jacobian, reverse": ("jacobian", lambda f: jacobian(f, mode="reverse")(2.0)),
    "jacobian, forward": ("jacobian", lambda f: jacobian(f, mode="forward")(2.0)),
    "hessian": ("hessian", lambda f: hessian(f)(2.0)),
    "hvp": ("hvp", lambda f: hvp(f, (2.0,), (1.0,))),
    "vmap": ("vmap", lambda f: vmap(f)(np.array([2.0, 3.0]))),
    "compile": ("compile", lambda f: compile(f)(2.0)),
    "compiled, source": ("compile", lambda f: compiled(f).source(2.0)),
    "descent": ("grad", lambda f: descent(f)(2.0, learning_rate=0.1, steps=1)),
    "trace": ("trace", lambda f: trace(f, 2.0)),
    "grad inside of compile": ("grad", lambda f: compile(grad(f))(2.0)),
    "vmap inside of grad": ("vmap", lambda f: grad(lambda x: F.sum(vmap(f)(x)))(V)),
    "grad inside of vmap": ("grad", lambda f: vmap(grad(f))(V)),
    "grad of a variable": ("grad", lambda f: grad(f)(Variable(2.0))),
}


class Box:
    """Something that holds a value."""

    value: Any = None


def by_list(x: Any, box: Box) -> None:
    kept = [x]
    box.value = kept[0]


def by_exception(x: Any, box: Box) -> None:
    with contextlib.suppress(KeyError):
        try:
            raise KeyError(x)
        except KeyError as error:
            box.value = error.args[0]
            raise


def by_closure(x: Any, box: Box) -> None:
    box.value = functools.partial(lambda y: y, x)()


def by_computing(x: Any, box: Box) -> None:
    box.value = F.sin(x) * 2.0


def by_constant(x: Any, box: Box) -> None:
    box.value = stop_gradient(x) + 1.0


def by_generator(x: Any, box: Box) -> None:
    def values() -> Iterator[Any]:
        yield x
        yield x * 2.0

    box.value = values()
    next(box.value)


KEPT = {"a list": by_list, "an exception": by_exception, "a closure": by_closure, "computing": by_computing}
KEPT |= {"a constant": by_constant, "a generator": by_generator}

#: How a value that was kept is used.
USES: dict[str, Function] = {
    "operator": lambda x: x + 1.0,
    "operator on the right": lambda x: 1.0 - x,
    "array on the left": lambda x: V * x,
    "variable on the left": lambda x: Variable(2.0) * x,
    "function": F.sin,
    "composite": lambda x: F.norm(F.stack([x, x])),
    "comparison": lambda x: x > 0,
    "float": float,
    "int": int,
    "bool": bool,
    "item": lambda x: x.item(),
    "format": lambda x: f"{x:.2f}",
    "array": np.asarray,
    "mask": lambda x: V[x],
    "index": lambda x: F.stack([1.0, 2.0])[x],
    "method": lambda x: x.reshape(1),
    "Variable": Variable,
    "argument of grad": lambda x: grad(lambda y: y)(x),
    "argument of jvp": lambda x: jvp(lambda y: y, (x,), (1.0,)),
    "tangent": lambda x: jvp(lambda y: y, (1.0,), (x,)),
    "cotangent": lambda x: vjp(lambda y: y, 1.0)[1](x),
    "argument of vmap": lambda x: vmap(lambda y, z: y * z, in_axes=(0, None))(V, x),
    "argument of compile": lambda x: compile(lambda y: y)(x),
    "result of grad": lambda x: grad(lambda y: x)(1.0),
    "result of vjp": lambda x: vjp(lambda y: [y, x], 1.0),
    "result of jvp": lambda x: jvp(lambda y: {"a": x}, (1.0,), (1.0,)),
    "result of jacobian": lambda x: jacobian(lambda y: x, mode="forward")(1.0),
    "result of vmap": lambda x: vmap(lambda y: x)(V),
    "result of vmap for all": lambda x: vmap(lambda y: x, out_axes=None)(V),
    "result of compile": lambda x: compile(lambda y: (y, x))(1.0),
    "result of reverse": lambda x: jacobian(lambda y: x, mode="reverse")(1.0),
    "result of hessian": lambda x: hessian(lambda y: x)(1.0),
    "result of trace": lambda x: trace(lambda y: x, 1.0),
    "aux of grad": lambda x: grad(lambda y: (y, {"a": [x]}), has_aux=True)(1.0),
    "aux of jvp": lambda x: jvp(lambda y: (y, x), (1.0,), (1.0,), has_aux=True),
    "aux of jacobian": lambda x: jacobian(lambda y: (y, x), mode="forward", has_aux=True)(1.0),
    "inside of grad": lambda x: grad(lambda y: y * x)(1.0),
    "inside of jvp": lambda x: jvp(lambda y: y * x, (1.0,), (1.0,)),
    "inside of vmap": lambda x: vmap(lambda y: y * x)(V),
    "inside of compile": lambda x: compile(lambda y: y * x)(1.0),
    "inside of trace": lambda x: trace(lambda y: y * x, 1.0),
    "inside of hessian": lambda x: hessian(lambda y: y * y * x)(1.0),
}


def kept_by(way: str, keep: Callable[[Any, Box], None]) -> Any:
    """A value that a function kept from a transform."""
    box = Box()

    def f(x: Any) -> Any:
        keep(x, box)
        return x * x

    WAYS[way][1](f)
    return box.value


@pytest.mark.parametrize("way", WAYS)
def test_a_value_that_was_kept_is_refused_where_it_is_used(way: str) -> None:
    wrong = []
    transform = WAYS[way][0]
    for kept, keep in KEPT.items():
        for use, call in USES.items():
            value = kept_by(way, keep)
            try:
                found: Any = call(value) if kept != "a generator" else next(value)
            except AutogradError as error:
                found = f"{type(error).__name__}: {error.detail}"
            words = (
                rf"LeakedValueError: (\w+: )*{transform}: a value of its function is used after it has ended; return it"
            )
            if not re.match(rf"{words}.*\(test_leaked_values.py, line", str(found)):
                wrong.append((kept, use, found))
    assert wrong == []


def test_a_failed_call_has_ended() -> None:
    for way, (_, run) in WAYS.items():
        box = Box()

        def f(x: Any, box: Box = box) -> Any:
            box.value = x
            raise KeyError("a")

        with pytest.raises(KeyError):
            run(f)
        with pytest.raises(LeakedValueError):
            box.value + 1.0
        assert "has ended" in str(box.value), way


def test_an_inner_value_in_the_outer_function() -> None:
    box = Box()

    def inner(y: Any) -> Any:
        box.value = y * y
        return y * y

    inside: dict[str, Function] = {
        "grad": lambda x: grad(inner)(x) * box.value,
        "jvp": lambda x: jvp(inner, (x,), (1.0,))[1] * box.value,
        "vjp": lambda x: vjp(inner, x)[0] * box.value,
        "hessian": lambda x: hessian(inner)(x) * box.value,
        "vmap": lambda x: F.sum(vmap(inner)(F.stack([x, x]))) * box.value,
        "itself": lambda x: (grad(inner)(x), box.value)[1],
    }
    for way, (_, run) in WAYS.items():
        for name, f in inside.items():
            with pytest.raises(LeakedValueError, match="used after it has ended"):
                run(f)
            assert isinstance(box.value, Tracer), (way, name)


def test_an_outer_value_in_an_inner_function_is_alive() -> None:
    for inner in (
        grad,
        lambda f: lambda y: jvp(f, (y,), (1.0,))[1],
        lambda f: lambda y: hessian(lambda z: z * f(z))(y) / 2,
    ):
        f = lambda x, inner=inner: inner(lambda y: x * x * y)(3.0)  # noqa: E731
        assert float(grad(f)(2.0)) == 4.0
        assert jvp(f, (2.0,), (1.0,)) == (4.0, 4.0)
        assert compile(grad(f))(2.0) == 4.0
        np.testing.assert_array_equal(vmap(f)(V), V * V)
    aux = grad(lambda x: grad(lambda y: (x * y, {"outer": x, "own": y}), has_aux=True)(3.0)[1]["outer"] * x)(2.0)
    assert aux == 4.0


def test_a_thread_may_use_it_while_it_is_alive_and_not_afterwards() -> None:
    begin, found = threading.Event(), []

    def late(x: Any) -> None:
        begin.wait()
        try:
            found.append(x * 2.0)
        except LeakedValueError as error:
            found.append(error)

    threads: list[threading.Thread] = []

    def f(x: Any) -> Any:
        products: list[Any] = []
        soon = threading.Thread(target=lambda: products.append(x * x))
        soon.start()
        soon.join()
        threads.append(threading.Thread(target=late, args=(x,)))
        threads[0].start()
        return products[0]

    assert grad(f)(3.0) == 6.0
    begin.set()
    threads[0].join()
    assert isinstance(found[0], LeakedValueError)


def test_a_pullback_is_used_later() -> None:
    def f(x: Any) -> Any:
        return {"a": F.sin(x) * x, "b": x}

    y, pullback = vjp(f, 2.0)
    cotangents = [{"a": 1.0, "b": 0.0}, {"a": 0.0, "b": 3.0}]
    assert [pullback(g) for g in cotangents] == [(np.sin(2.0) + 2.0 * np.cos(2.0),), (3.0,)]
    assert y["b"] == 2.0
    # Inside of others as well, while these are at work.
    assert grad(lambda x: vjp(lambda z: z * z * z, x)[1](1.0)[0])(2.0) == 12.0
    assert grad(lambda g: pullback({"a": 0.0, "b": g})[0] * g)(2.0) == 4.0
    np.testing.assert_array_equal(vmap(lambda g: pullback({"a": 0.0, "b": g})[0])(V), V)
    box = Box()

    def keeps(x: Any) -> Any:
        y, box.value = vjp(lambda z: z * z * x, x)
        return y

    assert grad(keeps)(2.0) == 12.0
    with pytest.raises(LeakedValueError, match="grad: "):
        box.value(1.0)


def test_a_compiled_function_and_a_gradient_are_called_again() -> None:
    step = compile(value_and_grad(lambda x: F.sin(x) * x))
    assert step(1.0) == step(1.0)
    assert step(V[:1][0]) == step(float(V[0]))
    slope = grad(lambda x: x * x)
    assert [slope(x) for x in (1.0, 2.0, 3.0)] == [2.0, 4.0, 6.0]
    assert check_grads(lambda x: x * x, 2.0).ok


@pytest.mark.parametrize("way", WAYS)
def test_where_a_value_is_not_taken_out_it_is_refused(way: str) -> None:
    run = WAYS[way][1]
    hidden: list[Function] = [
        lambda x: {x: 1.0},
        lambda x: [{"a": {x * 2.0: x}}],
        lambda x: {x},
        lambda x: frozenset([x]),
        lambda x: deque([x]),
    ]
    for f in hidden:
        with pytest.raises(AutogradError):
            run(f)


def test_aux_holds_no_traced_values() -> None:
    def in_array(x: Any) -> Any:
        array = np.empty(1, dtype=object)
        array[0] = x
        return array

    hidden: dict[str, Function] = {
        "a set": lambda x: {x},
        "a key of a dict": lambda x: {"a": {x: 1.0}},
        "a deque": lambda x: [deque([1.0, x])],
        "a ndarray": in_array,
    }
    for name, aux in hidden.items():
        f = lambda x, aux=aux: (x * x, aux(x))  # noqa: E731
        for call in (
            lambda f=f: grad(f, has_aux=True)(2.0),
            lambda f=f: vjp(f, 2.0, has_aux=True),
            lambda f=f: jvp(f, (2.0,), (1.0,), has_aux=True),
            lambda f=f: jacobian(f, mode="forward", has_aux=True)(2.0),
        ):
            with pytest.raises(InvalidValueError, match=f"a traced value is (in )?{name}"):
                call()
    # What holds none comes out as it is.
    aux = {"set": {1, 2}, "text": "a", "array": np.array([None, "b"], dtype=object), "inner": [(2.0, None)]}
    found = grad(lambda x: (x * x, {**aux, "x": x}), has_aux=True)(2.0)
    assert found[1] == {**aux, "x": 2.0}


def test_answers_hold_no_traced_values() -> None:
    def f(x: Any) -> Any:
        return {"a": [x, (x * x, None)], "b": F.stack([x, x])}, {"x": x, "all": [x * 2.0, "text"], "n": 3}

    answers = [
        vjp(f, 2.0, has_aux=True)[::2],
        vjp(f, 2.0, has_aux=True)[1]({"a": [1.0, (1.0, None)], "b": V}),
        jvp(f, (2.0,), (1.0,), has_aux=True),
        jacobian(f, mode="reverse", has_aux=True)(2.0),
        jacobian(f, mode="forward", has_aux=True)(2.0),
        vmap(lambda x: f(x)[0])(V),
        compile(lambda x: f(x)[0])(2.0),
        grad(lambda x: (x * x, f(x)), has_aux=True)(2.0),
        value_and_grad(lambda x: (x * x, f(x)), has_aux=True)(2.0),
        hessian(lambda x: (x * x, f(x)), has_aux=True)(2.0),
        grad(lambda x: (grad(lambda y: x * y)(1.0), f(x)), has_aux=True)(2.0),
    ]
    for answer in answers:
        assert "traced" not in repr(answer)
        assert _tracers(answer) == []


def _tracers(tree: Any) -> list[Any]:
    if isinstance(tree, dict):
        return [found for item in (*tree, *tree.values()) for found in _tracers(item)]
    if isinstance(tree, list | tuple):
        return [found for item in tree for found in _tracers(item)]
    return [tree] if isinstance(tree, Tracer) else []
