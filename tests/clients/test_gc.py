"""What Python no longer holds goes from the server too, and nothing that is still needed does."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import engine
from pullback import Variable, connect, dot, models, no_grad, optimizers
from pullback import functions as F

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pullback import Connection
    from tests.clients.proxy import Proxy

FEW = 12


@pytest.fixture
def connection(server: Any) -> Iterator[Connection]:
    with connect(server.base_url, seed=0) as made:
        yield made


def held(connection: Connection) -> int:
    """How many variables the server has once it was told what went."""
    gc.collect()
    Variable(0.0).item()
    return len(connection.variables())


def test_variables_of_a_loop_go(connection: Connection) -> None:
    w = Variable(2.0)
    for _ in range(50):
        loss = F.square(F.sin(w) * 2.0 - 1.0)
        loss.backward()
        w.data = w.data - 0.1 * w.grad.data
        w.cleargrad()
        loss.item()
    assert held(connection) <= FEW


def test_variables_of_a_training_go(connection: Connection) -> None:
    x = np.random.default_rng(0).standard_normal((8, 3))
    model = models.MLP([4, 1], rng=0)
    optimizer = optimizers.Adam(model)
    counts = []
    for _ in range(30):
        loss = F.mean(F.square(model(x)))
        model.cleargrads()
        loss.backward()
        optimizer.step()
        loss.item()
        counts.append(len(connection.variables()))
    assert max(counts[5:]) == min(counts[5:]), "not one more a step"
    assert held(connection) <= 4 + FEW


def test_variables_that_nobody_looked_at_go(connection: Connection) -> None:
    for i in range(100):
        Variable(float(i)) * 2.0
        connection.flush()
    assert held(connection) <= FEW


def test_one_run_that_makes_and_forgets(connection: Connection) -> None:
    x = Variable(1.0)
    y: Any = x
    for _ in range(200):
        y = y + 1.0
    assert y.item() == 201.0
    assert held(connection) <= FEW


@pytest.mark.thorough
def test_constants_do_not_pile_up(connection: Connection) -> None:
    """Arrays that were used as constants are kept for another use, but not without end."""
    x = Variable(1.0)
    for i in range(100):
        F.sum(x * np.full(125_000, float(i))).item()
    assert connection.session.info().bytes < 80e6
    assert held(connection) <= 100


def test_a_session_does_not_grow(connection: Connection) -> None:
    x = np.random.default_rng(0).standard_normal((50, 20))
    model = models.MLP([10, 1], rng=0)
    optimizer = optimizers.SGD(model, 0.01)
    sizes = []
    for _ in range(40):
        loss = F.mean(F.square(model(x)))
        model.cleargrads()
        loss.backward()
        optimizer.step()
        loss.item()
        sizes.append(connection.session.info().bytes)
    assert sizes[-1] <= sizes[5] * 1.05


def test_variables_are_collected_here(connection: Connection) -> None:
    """The recorder does not keep them alive."""
    x = Variable(1.0)
    y = F.sin(x)
    y.item()
    gone = weakref.ref(y)
    del y
    gc.collect()
    assert gone() is None
    assert x.item() == 1.0


def test_what_is_needed_by_what_is_held_stays(connection: Connection) -> None:
    """The tape keeps inner variables although nobody holds them."""

    def build() -> tuple[Variable, Variable]:
        x = Variable(0.5)
        return x, F.square(F.exp(F.square(x)))

    x, y = build()
    assert y.item() == 1.648721270700128
    gc.collect()
    assert held(connection) <= FEW
    y.backward()
    assert str(x.grad) == "variable(3.297442541400256)"


def test_a_leaf_that_nobody_holds(connection: Connection) -> None:
    y = Variable(3.0) * Variable(4.0)
    gc.collect()
    z = y * y
    z.backward(retain_grad=True)
    assert z.item() == 144.0
    assert y.grad.item() == 24.0


def test_a_gradient_that_is_held_survives_cleargrad(connection: Connection) -> None:
    x = Variable([1.0, 2.0])
    for looked_at_before in (True, False):
        F.sum(x * x).backward()
        first = x.grad
        if looked_at_before:
            assert first.data.tolist() == [2.0, 4.0]
        x.cleargrad()
        assert x.grad is None
        F.sum(x**3).backward()
        second = x.grad
        x.cleargrad()
        assert first.data.tolist() == [2.0, 4.0]
        assert second.data.tolist() == [3.0, 12.0]
        assert (first + second).data.tolist() == [5.0, 16.0]


def test_a_gradient_that_is_held_while_others_add_up(connection: Connection) -> None:
    """As locally: a gradient that was held either keeps its value or is the sum; both libraries agree."""

    def run(make: Any, functions: Any) -> list[Any]:
        x = make(2.0)
        (x * x).backward()
        first = x.grad
        functions.exp(x).backward()
        second = x.grad
        return [first.data, second.data, x.grad.data]

    assert run(Variable, F) == run(engine.Variable, engine.functions)


def test_a_gradient_is_one_object_as_locally(connection: Connection) -> None:
    def run(make: Any) -> list[bool]:
        x = make(2.0)
        y = x * x
        y.backward()
        return [x.grad is x.grad, y.grad is None, x.grad.grad is None]

    assert run(Variable) == run(engine.Variable)


def higher(connection: Connection | None, x: Any, y: Any, order: int) -> list[str]:
    y.backward(create_graph=True)
    found = [str(y), str(x.grad)]
    for _ in range(order - 1):
        gx = x.grad
        x.cleargrad()
        gx.backward(create_graph=True)
        found.append(str(x.grad))
        if connection is not None:
            gc.collect()
    return found


QUICKSTART = """variable(0.8414709848078965)
variable(0.5403023058681398)
variable(-0.8414709848078965)
variable(-0.5403023058681398)
variable(0.8414709848078965)
variable(0.5403023058681398)
variable(-0.8414709848078965)"""


def test_double_backprop_to_order_six(connection: Connection) -> None:
    x = Variable(1.0)
    assert "\n".join(higher(connection, x, F.sin(x), 6)) == QUICKSTART


def test_double_backprop_without_a_look_in_between(proxy: Proxy) -> None:
    with connect(proxy.url):
        x = Variable(1.0)
        y = F.sin(x)
        y.backward(create_graph=True)
        found = []
        for _ in range(5):
            gx = x.grad
            found.append(gx)
            x.cleargrad()
            gx.backward(create_graph=True)
        before = proxy.count
        assert str(x.grad) == QUICKSTART.splitlines()[-1]
        assert proxy.count - before == 1
        assert [str(gx) for gx in found] == QUICKSTART.splitlines()[1:-1]


@pytest.mark.parametrize(
    ("text", "function"),
    [
        ("tanh", lambda f, x: f.tanh(x) * x),
        ("exp", lambda f, x: f.exp(-(x**2))),
        ("div", lambda f, x: 1.0 / (1.0 + x * x)),
        ("array", lambda f, x: f.sum(f.sin(x * np.arange(3.0)))),
    ],
)
def test_double_backprop_is_the_local_one(connection: Connection, text: str, function: Any) -> None:
    x, local = Variable(0.7), engine.Variable(0.7)
    found = higher(connection, x, function(F, x), 5)
    assert found == higher(None, local, function(engine.functions, local), 5)


def test_assigning_a_gradient_and_a_variable_to_itself(connection: Connection) -> None:
    """Names of the script may come and go in any order."""
    x = Variable(2.0)
    x = x * x
    x = x * x
    gc.collect()
    assert x.item() == 16.0
    a, b = Variable(1.0), Variable(2.0)
    for _ in range(5):
        a, b = b, a + b
    assert (a.item(), b.item()) == (13.0, 21.0)


def test_cycles_are_collected(connection: Connection) -> None:
    for _ in range(30):
        x = Variable(1.0)
        box: dict[str, Any] = {"x": x}
        box["self"] = box
        (x * 2.0).item()
        del box, x
    gc.collect()
    assert held(connection) <= FEW


def test_models_and_optimizers_go(connection: Connection) -> None:
    for seed in range(10):
        model = models.MLP([4, 1], rng=seed)
        optimizer = optimizers.Adam(model)
        F.mean(F.square(model(np.ones((2, 3))))).backward()
        optimizer.step()
        connection.flush()
        del model, optimizer
    assert held(connection) <= FEW
    others = connection.session.variables()["others"]
    assert len(others) <= 2, others


def test_an_optimizer_that_outlives_its_parameters_names(connection: Connection) -> None:
    def make() -> Any:
        w = Variable(1.0)
        return optimizers.Momentum([w], 0.1), w * w

    optimizer, loss = make()
    gc.collect()
    connection.flush()
    loss.backward()
    optimizer.step()
    assert loss.item() == 1.0
    assert next(iter(optimizer.state_dict())) is not None


def test_no_grad_keeps_nothing(connection: Connection) -> None:
    x = Variable(np.ones(10_000))
    before = None
    with no_grad():
        y = x
        for _ in range(10):
            y = F.sin(y)
            y.data  # noqa: B018
            before = before or connection.session.info().bytes
    gc.collect()
    connection.flush()
    assert connection.session.info().bytes <= before * 1.5


def test_a_tape_that_is_unchained_goes(connection: Connection) -> None:
    h: Any = Variable(np.zeros(1000))
    sizes = []
    for _ in range(20):
        h = F.tanh(h + 1.0)
        h.unchain_backward()
        h.unchain()
        h.data  # noqa: B018
        sizes.append(connection.session.info().bytes)
    assert sizes[-1] <= sizes[3] * 1.2


def test_a_picture_after_inner_variables_went(connection: Connection) -> None:
    x = Variable(1.0, name="x")
    y = F.exp(F.sin(x))
    y.item()
    gc.collect()
    text = dot(y)
    assert "sin" in text
    assert "exp" in text
    assert "x" in text
