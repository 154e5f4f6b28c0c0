"""Errors in the middle: what stands, what does not, and the line that is named."""

from __future__ import annotations

import contextlib
import inspect
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import engine
import engine.core.errors
import pullback
from pullback import (
    Client,
    Connection,
    Variable,
    connect,
    errors,
    layers,
    models,
    ones,
    optimizers,
)
from pullback import functions as F
from tests.app.clocked import CLOCKED, SharedClock
from tests.app.conftest import start_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.app.clocked import CLOCKED, SharedClock
from tests.app.conftest import Server


def line() -> int:
    """Of the caller."""
    frame = inspect.currentframe()
    assert frame is not None and frame.f_back is not None
    return frame.f_back.f_lineno


def assert_names(error: BaseException, lineno: int) -> None:
    """The error says where in this file the operation was recorded."""
    text = "\n".join([str(error), *getattr(error, "__notes__", [])])
    assert re.search(rf"test_errors\.py\D{{1,10}}{lineno}\b", text), text


def test_an_error_in_the_middle(connection: Connection) -> None:
    x = Variable([1.0, 2.0])
    before = x * 2.0
    failing, at = x + np.ones(3), line()
    later = before * 3.0
    dependent = failing * 2.0
    leaf = Variable([5.0, 6.0])
    with pytest.raises(errors.ShapeMismatchError, match=r"\(2,\).*\(3,\)") as caught:
        failing.data  # noqa: B018
    assert_names(caught.value, at)
    for lost in (failing, dependent, later):
        with pytest.raises(errors.ShapeMismatchError) as caught:
            lost.data  # noqa: B018
        assert_names(caught.value, at)
    assert before.data.tolist() == [2.0, 4.0]
    assert x.data.tolist() == [1.0, 2.0]
    assert leaf.data.tolist() == [5.0, 6.0]
    assert (leaf + before).data.tolist() == [7.0, 10.0]


@pytest.mark.parametrize("look", ["before", "leaf"])
def test_an_error_in_the_middle_is_seen_by_whoever_looks_next(connection: Connection, look: str) -> None:
    """What was computed before it, and leaves, are valid all the same."""
    x = Variable([1.0, 2.0])
    before = x * 2.0
    failing, at = x + np.ones(3), line()
    leaf = Variable([5.0, 6.0])
    try:
        found = (before if look == "before" else leaf).data
    except errors.ShapeMismatchError as error:
        assert_names(error, at)
        found = (before if look == "before" else leaf).data
    assert found.tolist() == ([2.0, 4.0] if look == "before" else [5.0, 6.0])
    with pytest.raises(errors.ShapeMismatchError) as caught:
        failing.data  # noqa: B018
    assert_names(caught.value, at)


def test_two_errors(connection: Connection) -> None:
    x = Variable([1.0, 2.0])
    first, at = x + np.ones(3), line()
    second, also_at = F.matmul(x, np.ones((3, 3))), line()
    with pytest.raises(errors.ShapeMismatchError) as caught:
        first.data  # noqa: B018
    assert_names(caught.value, at)
    with pytest.raises(errors.ShapeMismatchError) as caught:
        second.data  # noqa: B018
    assert re.search(rf"\b({at}|{also_at})\b", str(caught.value))
    third, third_at = x[5], line()
    with pytest.raises(errors.PullbackError) as caught:
        third.data  # noqa: B018
    assert_names(caught.value, third_at)


def test_an_error_of_a_backward(connection: Connection) -> None:
    x = Variable([1.0, 2.0])
    y = x * x
    at = line() + 1
    y.backward(cotangent=np.ones(3))
    with pytest.raises(errors.ShapeMismatchError) as caught:
        x.grad.data  # noqa: B018
    assert_names(caught.value, at)
    y.backward()
    assert x.grad.data.tolist() == [2.0, 4.0]


def test_an_error_does_not_stop_an_update_that_came_before(connection: Connection) -> None:
    x = Variable([1.0, 2.0])
    F.sum(x * x).backward()
    optimizers.SGD([x], learning_rate=0.25).step()
    failing = x + np.ones(3)
    with pytest.raises(errors.ShapeMismatchError):
        failing.data  # noqa: B018
    assert x.data.tolist() == [0.5, 1.0]
    with pytest.raises(errors.ShapeMismatchError):
        failing.data  # noqa: B018
    assert x.data.tolist() == [0.5, 1.0], "once"


def test_an_error_at_the_end_of_a_block(server: Server) -> None:
    """What nobody looks at is not raised into an error that is under way; a flush says it."""

    def block(ending: Callable[[Connection], Any]) -> None:
        with connect(server.base_url) as made:
            y = Variable([1.0, 2.0]) + np.ones(3)
            ending(made)
            del y

    with pytest.raises(errors.ShapeMismatchError):
        block(lambda made: made.flush())
    with pytest.raises(ZeroDivisionError):
        block(lambda made: 1 / 0)


SLOW_STEPS = 60


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server to which each command seems to take a second, with the usual deadline."""
    folder = tmp_path_factory.mktemp("hasty")
    clock = SharedClock.made(folder / "clock", tick=1.0)
    with start_server(folder, CLOCKED, test_clock=str(clock.folder)) as running:
        yield running.base_url


def test_what_takes_too_long(hasty: str) -> None:
    """It is an error as any other: what was computed before it stays, and what is asked later is answered."""
    made = connect(hasty)
    x = Variable(2.0)
    before = x * 3.0
    matrix = ones((2, 2))
    slow: Any = matrix
    for _ in range(SLOW_STEPS):
        slow = F.tanh(F.matmul(slow, matrix))
    with pytest.raises(errors.DeadlineExceededError):
        slow.data  # noqa: B018
    later = x + 1.0
    assert later.item() == 3.0
    with contextlib.suppress(errors.DeadlineExceededError):
        assert before.item() == 6.0
    made.close()


def test_a_run_of_a_session_that_takes_too_long(hasty: str) -> None:
    with Client(hasty) as client:
        session = client.session()
        session.run([{"do": "variable", "id": "m", "value": np.ones((2, 2))}])
        slow = [{"do": "apply", "op": "matmul", "args": ["m", "m"], "out": ["m"]}] * SLOW_STEPS
        with pytest.raises(errors.DeadlineExceededError):
            session.run(slow)
        one = session.run([{"do": "variable", "id": "x", "value": 1.0}], fetch=["x"])
        assert one.fetched["x"]["value"] == 1.0


def test_errors_name_the_line_of_the_user(connection: Connection) -> None:
    """Not a line of a layer or model of the SDK, and not one of the operators."""
    model = models.MLP([3, 1], rng=0)
    model(np.ones((2, 4))).data  # noqa: B018
    at = line() + 2
    with pytest.raises(errors.ShapeMismatchError) as caught:
        model(np.ones((2, 5))).data  # noqa: B018
    assert_names(caught.value, at)
    x = Variable(np.ones((2, 2)))
    y = Variable(np.ones((3, 3)))
    for operation in (lambda: x @ y, lambda: x + y, lambda: x[7], lambda: x.reshape(5)):
        with pytest.raises(errors.PullbackError) as caught:
            operation().data  # noqa: B018
        assert_names(caught.value, at + 4)


BAD_ARGUMENTS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "softmax": lambda e, f, x: f.softmax(x, axis=7),
    "sum": lambda e, f, x: f.sum(x, axes=5),
    "both": lambda e, f, x: f.sum(x, axis=0, axes=0),
    "None among others": lambda e, f, x: f.concat([x, None], axis=0),
    "None in where": lambda e, f, x: f.where(x > 1.0, None, x),
    "clip": lambda e, f, x: f.clip(x),
    "nothing": lambda e, f, x: f.sin(),
    "too many": lambda e, f, x: f.sin(x, x),
    "reshape": lambda e, f, x: f.reshape(x, (7, 7)),
    "dropout": lambda e, f, x: f.dropout(x, ratio=2.0, rng=1),
    "einsum": lambda e, f, x: f.einsum("ij,jkl", x, x),
    "labels": lambda e, f, x: f.cross_entropy(x, np.array([0.5, 1.0])),
    "labels out of range": lambda e, f, x: f.cross_entropy(x, np.array([0, 9])),
    "text": lambda e, f, x: f.sin("text"),
    "None": lambda e, f, x: f.sin(None),
    "+ text": lambda e, f, x: x + "text",
    "+ None": lambda e, f, x: x + None,
    "None +": lambda e, f, x: None + x,
    "key": lambda e, f, x: x["key"],
    "index": lambda e, f, x: x[0, 0, 0],
    "index out of range": lambda e, f, x: x[5],
    "** method": lambda e, f, x: x**x.item,
    "%": lambda e, f, x: x % 2,
    "//": lambda e, f, x: x // 2,
    "activation": lambda e, f, x: e.models.MLP([2], activation="rellu", rng=0),
    "size": lambda e, f, x: e.layers.Linear(-1, 2, rng=0),
    "no rng": lambda e, f, x: e.layers.Linear(1, 2, rng=None),
    "learning rate": lambda e, f, x: e.optimizers.SGD([x], learning_rate="fast"),
    "beta": lambda e, f, x: e.optimizers.Adam([x], beta1=2.0),
    "params": lambda e, f, x: e.optimizers.SGD(3.0),
    "ClipGrad": lambda e, f, x: e.hooks.ClipGrad("much"),
    "no values": lambda e, f, x: e.Variable(),
    "dtype": lambda e, f, x: e.Variable(1.0, dtype="complex128"),
    "lossy": lambda e, f, x: e.Variable(1.5, dtype="int64"),
    "many": lambda e, f, x: e.Variable([1.0], [1.0, 2.0]),
    "negative shape": lambda e, f, x: e.zeros((-1, 2)),
    "float shape": lambda e, f, x: e.ones(2.5),
    "item": lambda e, f, x: x.item(),
    "float": lambda e, f, x: float(x),
    "bool": lambda e, f, x: bool(x),
    "len": lambda e, f, x: len(e.Variable(1.0)),
    "iter": lambda e, f, x: list(e.Variable(1.0)),
    "numpy": lambda e, f, x: np.sin(x),
    "asarray": lambda e, f, x: np.asarray(x),
    "in-place": lambda e, f, x: x.__setitem__(0, 1.0),
    "subclass": lambda e, f, x: type("Mine", (type(x),), {}),
    "backward of integers": lambda e, f, x: f.sum(e.Variable(np.arange(3))).backward(),
    "backward of a cotangent": lambda e, f, x: (x * 2.0).backward(cotangent=np.ones(7)),
    "set": lambda e, f, x: setattr(x, "shape", (4,)),
    "data": lambda e, f, x: setattr(x, "data", "text"),
    "grad": lambda e, f, x: setattr(x, "grad", "text"),
    "grad of another shape": lambda e, f, x: setattr(x, "grad", e.Variable(np.ones(7))),
    "grad that is none": lambda e, f, x: x.grad.data,
    "unknown function": lambda e, f, x: f.sine(x),
    "unknown state": lambda e, f, x: e.load_state_dict(e.layers.Linear(1, 2, rng=0), {"w": [[1.0], [2.0]]}),
    "state of another shape": lambda e, f, x: e.load_state_dict(
        e.layers.Linear(1, 2, rng=0), {"w": [[1.0]], "b": [[0.0]]}
    ),
}


def refusal(package: Any, call: Callable[[Any, Any, Any], Any]) -> str:
    """The class of the error of a call, or of a look at what came of it; at its words if it has none."""
    x = package.Variable([[1.0, 2.0], [3.0, 4.0]])
    try:
        found = call(package, package.functions, x)
        getattr(found, "data", None)
        getattr(x.grad, "data", None)
    except (engine.errors.AutogradError, errors.PullbackError, TypeError, AttributeError, ValueError) as error:
        return type(error).__name__ if str(error) else "no words"
    return "none"


@pytest.mark.parametrize("name", BAD_ARGUMENTS)
def test_bad_arguments_are_refused_as_locally(connection: Connection, name: str) -> None:
    """With the same class; and the next operation works."""
    assert refusal(pullback, BAD_ARGUMENTS[name]) == refusal(engine, BAD_ARGUMENTS[name])
    x = Variable([1.0, 2.0])
    assert (x * 2.0).data.tolist() == [2.0, 4.0]


@pytest.mark.parametrize("rng", [np.random.default_rng(0), "seed", -1, 0.5, True], ids=str)
def test_dropout_takes_a_seed(connection: Connection, rng: Any) -> None:
    x = Variable([1.0, 2.0])
    with pytest.raises(errors.AutogradError):
        F.dropout(x, rng=rng).data  # noqa: B018
    assert (x * 2.0).data.tolist() == [2.0, 4.0]


def test_hooks_of_the_users_own(connection: Connection) -> None:
    """They would have to run on the server."""
    with pytest.raises(errors.NotSupportedError):
        optimizers.SGD([Variable(1.0)], hooks=[lambda params, grads: grads])  # type: ignore[list-item]


def test_an_unknown_function_names_the_nearest() -> None:
    with pytest.raises(AttributeError):
        F.sine  # noqa: B018


@pytest.mark.parametrize("kind", ["rnn", "lstm"])
def test_another_batch_needs_a_reset(connection: Connection, kind: str) -> None:
    layer, x = layers.LAYERS[kind](4, rng=0), np.ones((3, 2))
    before = layer(x).data
    y = layer(x[:1])
    message = rf"{kind}: .* \(1, 4\), .* \(3, 4\); call reset_state\(\)"
    with pytest.raises(errors.ShapeMismatchError, match=message):
        y.data  # noqa: B018
    # It remembers what was refused, until it is reset.
    with pytest.raises(errors.ShapeMismatchError, match=message):
        layer(x)
    layer.reset_state()
    assert np.array_equal(layer(x).data, before)


@pytest.mark.parametrize("kind", optimizers.OPTIMIZERS)
def test_a_step_that_fails_changes_nothing(connection: Connection, kind: str) -> None:
    p, q = Variable([1.0, 2.0]), Variable(1.0)
    optimizer = optimizers.OPTIMIZERS[kind]({"p": p, "q": q})
    (F.sum(p) * q).backward()
    optimizer.step()
    before = p.data, q.data, optimizer.state_dict()
    # Only on the server can a parameter be computed: here it would be another variable.
    name = connection._recorder.id_of(q)
    connection.session.run([{"do": "apply", "op": "mul", "args": [name, 1.0], "out": [name]}])
    connection.session.run([{"do": "backward", "of": name, "retain_grad": True}])
    optimizer.step()
    with pytest.raises(errors.InvalidValueError, match="step: parameter q was computed by mul; expected a leaf"):
        connection.flush()
    assert np.array_equal(p.data, before[0]) and q.item() == before[1]
    after = optimizer.state_dict()
    assert all(np.array_equal(after[key], value) for key, value in before[2].items())


def test_a_learning_rate_that_changes(connection: Connection) -> None:
    def trained(library: Any) -> Any:
        w = library.Variable([1.0, -2.0])
        optimizer = library.optimizers.Momentum([w], learning_rate=0.5, momentum=0.5)
        for step in range(6):
            library.functions.sum(w * w).backward()
            optimizer.learning_rate = 0.1 / (step + 1)
            if step == 3:
                optimizer.hooks.append(library.hooks.ClipGrad(0.5))
            optimizer.step()
            w.cleargrad()
        return w.data, optimizer.state_dict()["velocity.0"]

    for found, expected in zip(trained(pullback), trained(engine), strict=True):
        assert found.tobytes() == expected.tobytes()
