"""Traces that are kept: which calls trace again, and that nothing a function reads counts as it was."""

from __future__ import annotations

import gc
import itertools
import math
import random
import threading
import types
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import pullback
from pullback import Connection, Variable, errors, transforms
from pullback import functions as F
from pullback.recording import trace_cache
from pullback.transforms import grad, value_and_grad

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.app.conftest import Server

pytestmark = pytest.mark.usefixtures("connection")


class Counted:
    """Counts the calls of a function; the count is not a part of what the function reads."""

    def __init__(self) -> None:
        self.calls = itertools.count()
        self.so_far = 0

    def __call__(self) -> None:
        next(self.calls)

    @property
    def count(self) -> int:
        """How often it was called before."""
        return int(repr(self.calls)[len("count(") : -1])


def long(x: Any) -> Any:
    """A function of more nodes than are sent each time."""
    for _ in range(40):
        x = F.tanh(x * 1.01)
    return F.sum(x)


def test_a_function_is_called_once_for_each_form() -> None:
    counted = Counted()

    def f(x: Any) -> Any:
        counted()
        return F.sum(x * x)

    slope = transforms.compile(grad(f))
    for k in range(3):
        assert slope(float(k)) == 2.0 * k
    assert counted.count == 1
    np.testing.assert_array_equal(slope(np.array([1.0, 2.0])), [2.0, 4.0])
    np.testing.assert_array_equal(slope(np.array([3.0, 2.0])), [6.0, 4.0])
    assert counted.count == 2
    slope(np.ones(2, np.float32))
    assert counted.count == 3
    for k in range(2):
        grad(f)(float(k))
    assert counted.count == 5, "a transform that is not compiled calls its function each time"


def test_containers_are_a_part_of_the_form() -> None:
    slope = grad(lambda p: p[0] if isinstance(p, tuple) else sum(p.values()) * 2.0)
    assert slope((1.0,)) == (1.0,)
    assert slope({"a": 1.0}) == {"a": 2.0}
    assert slope({"b": 1.0}) == {"b": 2.0}
    assert slope((1.0,)) == (1.0,)


def test_later_calls_send_the_id_of_a_large_program(server: Server) -> None:
    asked: list[tuple[str, int]] = []
    hooks = {"request": [lambda request: asked.append((request.url.path, len(request.content)))]}
    with pullback.connect(server.base_url, event_hooks=hooks) as connection:
        asked.clear()
        slope = grad(long)
        expected = [slope(0.5) for _ in range(3)]
        assert len(set(expected)) == 1
        assert [path for path, _ in asked] == ["/v1/evaluate", "/v1/programs", "/v1/evaluate", "/v1/evaluate"]
        assert asked[2][1] == asked[3][1] < 200 < asked[0][1]
        for each in connection.client.programs.list(limit=100).programs:
            if each.nodes is not None and each.nodes > 80:
                connection.client.programs.delete(each.id)
        asked.clear()
        assert slope(0.5) == expected[0], "a program that the server forgot is sent again"
        assert [path for path, _ in asked] == ["/v1/evaluate", "/v1/evaluate"]
        asked.clear()
        assert slope(0.5) == expected[0]
        assert [path for path, _ in asked] == ["/v1/programs", "/v1/evaluate"]


def test_a_server_that_keeps_no_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Any, call: Any) -> Any:
        if call.path == "/v1/programs":
            raise errors.ForbiddenError("no")
        return perform(self, call)

    perform = pullback.Client._do
    monkeypatch.setattr(pullback.Client, "_do", refuse)
    slope = grad(long)
    assert slope(0.5) == slope(0.5) == slope(0.5)


# Arguments that are not differentiated


def test_other_arrays_and_floats_are_inputs() -> None:
    counted = Counted()

    def loss(w: Any, x: Any, rate: float, power: int) -> Any:
        counted()
        return F.sum((x @ w) ** power) * rate

    w, x = np.ones(2), np.eye(2)
    for rate in (1.0, 2.0, 3.0):
        np.testing.assert_array_equal(grad(loss)(w, x * rate, rate, 2), 2.0 * rate**3 * w)
    np.testing.assert_array_equal(grad(loss)(w, x, 1.0, 3), 3.0 * w)
    assert counted.count == 4


def test_other_arguments_that_a_function_looks_at() -> None:
    def f(x: Any, y: Any, t: float) -> Any:
        return x * float(np.sum(np.sqrt(y))) if t > 0 else x * math.exp(t)

    y = np.array([1.0, 4.0])
    assert grad(f)(1.0, y, 1.0) == 3.0
    y[0] = 9.0
    assert grad(f)(1.0, y, 1.0) == 5.0
    assert grad(f)(1.0, y, 2.0) == 5.0
    assert grad(f)(1.0, y, -1.0) == math.exp(-1.0)
    assert grad(f)(1.0, y, -2.0) == math.exp(-2.0)
    assert grad(lambda x, i: F.sum(x[i]))(np.ones(3), np.array([0, 2])).tolist() == [1.0, 0.0, 1.0]
    assert grad(lambda x, i: F.sum(x[i]))(np.ones(3), np.array([0, 1])).tolist() == [1.0, 1.0, 0.0]
    assert grad(lambda x, ws: F.sum(F.stack(ws) * x))(1.0, [1.0, 2.0]) == 3.0


def test_a_float_beside_float32_has_no_dtype_of_its_own() -> None:
    x = np.ones(2, np.float32)
    for rate in (2.0, 3.0):
        value, slope = value_and_grad(lambda x, rate: F.sum(x * rate))(x, rate)
        assert value.dtype == slope.dtype == np.float32
        assert slope.tolist() == [rate, rate]


# Things that a function reads from outside

SCALE = 1.0
TABLE = {"scale": 1.0, "list": [1.0]}
WEIGHTS = np.ones(2)
THIS = types.ModuleType("settings")
THIS.rate = 1.0  # type: ignore[attr-defined]


class Settings:
    rate = 1.0


class Model:
    def __init__(self) -> None:
        self.w = np.ones(2)
        self.scale = 1.0

    def loss(self, x: Any) -> Any:
        return F.sum(self.w * x) * self.scale

    def __call__(self, x: Any) -> Any:
        return self.loss(x)


def helper(x: Any) -> Any:
    return x * SCALE


def set_scale(to: float) -> None:
    global SCALE
    SCALE = to


def outside() -> dict[str, tuple[Callable[[Any], Any], Callable[[float], Any]]]:
    """For each way of reading: a function of a vector, and a change of what it reads to a number."""
    w, cell, model = np.ones(2), 1.0, Model()
    space = types.SimpleNamespace(rate=1.0)
    table, scalar, v = {"deep": [{"w": 1.0}]}, np.array(1.0), Variable([1.0, 1.0])

    def rebind(to: float) -> None:
        nonlocal cell
        cell = to

    def nested(x: Any) -> Any:
        return (lambda z: helper(z))(x)

    def given_as_default(x: Any, w: Any = w) -> Any:
        return w * x

    return {
        "array": (lambda x: x * w, lambda to: w.fill(to)),
        "view of an array": (lambda x: x * w[::-1], lambda to: w.fill(to)),
        "computed from an array": (lambda x: x * np.sqrt(w * w), lambda to: w.fill(to)),
        "number of an array": (lambda x: x * float(w[0]), lambda to: w.fill(to)),
        "branch on an array": (lambda x: x * 5.0 if w[0] == 5.0 else x, lambda to: w.fill(to)),
        "scalar array": (lambda x: x * scalar, lambda to: scalar.fill(to)),
        "global array": (lambda x: x * WEIGHTS, lambda to: WEIGHTS.fill(to)),
        "functions of an array": (lambda x: x * F.abs(w), lambda to: w.fill(to)),
        "cell": (lambda x: x * cell, rebind),
        "global": (lambda x: x * SCALE, set_scale),
        "helper": (helper, set_scale),
        "helper in a lambda": (nested, set_scale),
        "dict": (lambda x: x * TABLE["scale"], lambda to: TABLE.update(scale=to)),
        "deep": (lambda x: x * table["deep"][0]["w"], lambda to: table["deep"][0].update(w=to)),
        "list": (lambda x: x * sum(TABLE["list"]), lambda to: TABLE.update(list=[to])),
        "class": (lambda x: x * Settings.rate, lambda to: setattr(Settings, "rate", to)),
        "module": (lambda x: x * THIS.rate, lambda to: setattr(THIS, "rate", to)),
        "namespace": (lambda x: x * space.rate, lambda to: setattr(space, "rate", to)),
        "method": (model.loss, lambda to: setattr(model, "scale", to)),
        "callable object": (model, lambda to: setattr(model, "scale", to)),
        "array of an object": (model.loss, lambda to: model.w.fill(to)),
        "new array of an object": (lambda x: x * model.w, lambda to: setattr(model, "w", np.full(2, to))),
        "default": (given_as_default, lambda to: w.fill(to)),
        "variable": (lambda x: x * v, lambda to: setattr(v, "data", np.full(2, to))),
        "variables alone": (lambda x: x * (v * v / v), lambda to: setattr(v, "data", np.full(2, to))),
        "variable of another shape": (lambda x: x * v, lambda to: setattr(v, "data", np.array(to))),
    }


@pytest.mark.parametrize(
    "name",
    outside_names := [
        "array",
        "view of an array",
        "computed from an array",
        "number of an array",
        "branch on an array",
        "scalar array",
        "global array",
        "functions of an array",
        "cell",
        "global",
        "helper",
        "helper in a lambda",
        "dict",
        "deep",
        "list",
        "class",
        "module",
        "namespace",
        "method",
        "callable object",
        "array of an object",
        "new array of an object",
        "default",
        "variable",
        "variables alone",
        "variable of another shape",
    ],
)
def test_no_old_number(name: str) -> None:
    f, change = outside()[name]
    slope = grad(lambda x: F.sum(f(x)))
    before = slope(np.ones(2))
    np.testing.assert_array_equal(slope(np.ones(2)), before)
    change(5.0)
    try:
        np.testing.assert_array_equal(slope(np.ones(2)), 5.0 * before)
    finally:
        change(1.0)
    np.testing.assert_array_equal(slope(np.ones(2)), before)


def test_every_way_of_reading_is_tested() -> None:
    assert list(outside()) == outside_names


def test_an_array_that_a_trace_cannot_see_is_an_input() -> None:
    counted = Counted()
    w = np.ones(2)
    read = types.SimpleNamespace(w=iter([w] * 3))

    def f(x: Any) -> Any:
        counted()
        return F.sum(x * next(read.w))

    slope = grad(f)
    for to in (1.0, 2.0, 3.0):
        w.fill(to)
        assert slope(np.ones(2)).tolist() == [to, to]
    assert counted.count == 3


def test_a_variable_is_read_as_it_is() -> None:
    counted = Counted()
    v = Variable([1.0, 2.0])
    optimizer = pullback.optimizers.SGD([v], learning_rate=1.0)

    def f(x: Any) -> Any:
        counted()
        return F.sum(v * x * v)

    slope = grad(f)
    assert slope(np.ones(2)).tolist() == [1.0, 4.0]
    F.sum(v).backward()
    optimizer.step()
    assert slope(np.ones(2)).tolist() == [0.0, 1.0]
    assert counted.count == 2


def test_a_model_inside_of_a_function() -> None:
    model = pullback.layers.Linear(1, in_size=2, rng=0)
    slope = grad(lambda x: F.sum(model(x)))
    for factor in (1.0, 2.0):
        model.w.data = np.array([[1.0], [3.0]]) * factor
        assert slope(np.ones(2)).tolist() == [factor, 3.0 * factor]


# Functions that are not pure


def test_random_numbers_are_drawn_at_each_call() -> None:
    rng = np.random.default_rng(0)
    mine = random.Random(0)
    ways: list[Callable[[], float]] = [np.random.normal, random.random, rng.normal, mine.random]
    for draw in ways:
        slope = grad(lambda x, draw=draw: x * draw())
        assert len({slope(1.0) for _ in range(4)}) == 4
    again = np.random.default_rng(0)
    assert [grad(lambda x: x * again.normal())(1.0) for _ in range(2)] == list(np.random.default_rng(0).normal(size=2))


def test_counters_go_on() -> None:
    count, state = [0], {"calls": 0}

    def f(x: Any) -> Any:
        count[0] += 1
        state["calls"] += 1
        return x * count[0]

    assert [grad(f)(1.0) for _ in range(3)] == [1.0, 2.0, 3.0]
    assert state == {"calls": 3}


def test_the_rule_of_purity_for_what_cannot_be_seen(capsys: pytest.CaptureFixture[str]) -> None:
    steps = itertools.count(1)

    def f(x: Any) -> Any:
        print("called")
        return x * next(steps)

    slope = transforms.compile(grad(f))
    assert [slope(1.0) for _ in range(3)] == [1.0, 1.0, 1.0]
    assert capsys.readouterr().out == "called\n"
    assert [grad(f)(1.0) for _ in range(3)] == [2.0, 3.0, 4.0]
    assert capsys.readouterr().out == "called\n" * 3


SCALE = 1.0


class Scaled:
    rate = 1.0

    def penalty(self, w: Any) -> Any:
        return SCALE * w * w

    def loss(self, w: Any) -> Any:
        return self.penalty(w) * self.rate


def test_what_is_read_behind_methods_and_classes_counts_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    slope = grad(Scaled().loss)
    assert slope(1.0) == 2.0
    monkeypatch.setitem(globals(), "SCALE", 5.0)
    assert slope(1.0) == 10.0
    monkeypatch.setattr(Scaled, "rate", 2.0)
    assert slope(1.0) == 20.0


def test_arguments_that_are_not_differentiated_are_what_they_are() -> None:
    assert grad(lambda x, t: x * t if isinstance(t, float) else x * 0.0)(1.0, 0.5) == 0.5
    assert grad(lambda x, t: x * {0.5: 7.0}.get(t, 1.0))(1.0, 0.5) == 7.0


def test_generators_that_a_function_makes_draw_anew() -> None:
    slopes = [grad(lambda x: x * np.random.default_rng().normal())(1.0) for _ in range(3)]
    assert len(set(slopes)) == 3


def test_the_shape_of_a_variable_counts_as_it_is() -> None:
    v = Variable([1.0, 2.0])
    slope = grad(lambda x: F.sum(x) / v.shape[0])
    assert slope(np.ones(2)).tolist() == [0.5, 0.5]
    v.data = np.ones(4)
    assert slope(np.ones(2)).tolist() == [0.25, 0.25]


def test_what_stands_beside_a_result_is_the_caller_s_own() -> None:
    slope = grad(lambda x: (F.sum(x * x), np.zeros(2)), has_aux=True)
    slope(np.ones(2))[1][0] = 99.0
    assert slope(np.ones(2))[1].tolist() == [0.0, 0.0]


# Bounds, threads, connections


def test_traces_are_bounded(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_cache, "_MOST", 5)
    traces = trace_cache.trace_cache_of(connection.client)
    for n in range(1, 12):
        assert transforms.compile(grad(F.sum))(np.ones(n)).tolist() == [1.0] * n
    assert len(traces) == 5
    monkeypatch.setattr(trace_cache, "_MOST_BYTES", 1000)
    large = [np.ones(100) for _ in range(3)]
    for w in large:
        assert transforms.compile(grad(lambda x, w=w: F.sum(x * w)))(1.0) == 100.0
    assert len(traces) == 1


def test_a_function_that_reads_too_much_is_called_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pullback.recording.environment._MOST", 3)
    counted = Counted()
    read = [[1.0], [2.0], [3.0]]

    def f(x: Any) -> Any:
        counted()
        return x * read[2][0]

    assert grad(f)(1.0) == grad(f)(1.0) == 3.0
    assert counted.count == 2


def test_traces_end_with_their_client(server: Server) -> None:
    with pullback.connect(server.base_url) as connection:

        def check(v: Variable) -> None:
            assert grad(lambda x: x * v)(1.0) == 2.0

        check(Variable(2.0))
        ref = weakref.ref(trace_cache.trace_cache_of(connection.client))
    del connection
    gc.collect()
    assert ref() is None


def test_connections_have_traces_of_their_own(server: Server) -> None:
    slope = grad(long)
    expected = [slope(0.5), slope(0.5)]
    with pullback.connect("local"):
        assert [slope(0.5), slope(0.5), slope(0.5)] == [expected[0]] * 3
    assert slope(0.5) == expected[0]


def test_threads(connection: Connection) -> None:
    w = np.ones(3)
    slope = grad(lambda x, y: F.sum(F.sin(x * w) * y))
    barrier = threading.Barrier(8)

    def call(k: int) -> bool:
        barrier.wait()
        x = np.full(3, k / 10)
        return all(np.allclose(slope(x, float(n)), np.cos(x) * n) for n in range(10))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(call, range(8)))


def test_an_error_leaves_nothing_behind() -> None:
    flag = [True]

    def f(x: Any) -> Any:
        if flag[0]:
            raise ZeroDivisionError("mine")
        return x * x

    with pytest.raises(ZeroDivisionError, match="mine"):
        grad(f)(1.0)
    flag[0] = False
    assert grad(f)(1.0) == 2.0
