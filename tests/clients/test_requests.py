"""How many requests, and how many bytes, ordinary programs of the SDK cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import engine
from pullback import Variable, connect, layers, models, no_grad, optimizers, transforms
from pullback import functions as F

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from tests.clients.proxy import Proxy

STEPS = 20
#: Three a step, one to make the session, one to spare.
HAND_WRITTEN = 3 * STEPS + 2


def data(rows: int = 16, columns: int = 3) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    random = np.random.default_rng(5)
    x = random.standard_normal((rows, columns))
    return x, np.sin(x.sum(axis=1, keepdims=True))


def test_quickstart(proxy: Proxy, capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[str] = []

    def note(request: httpx.Request) -> None:
        seen.append(request.url.path)

    with connect(proxy.url, event_hooks={"request": [note]}):
        x = Variable(0.5)
        y = F.square(F.exp(F.square(x)))
        y.backward()
        print(y)
        print(x.grad)
        assert proxy.count <= 3, proxy.exchanges
        assert len(seen) == proxy.count
    assert capsys.readouterr().out == "variable(1.648721270700128)\nvariable(3.297442541400256)\n"


def test_quickstart_in_one_print(proxy: Proxy, capsys: pytest.CaptureFixture[str]) -> None:
    with connect(proxy.url):
        x, y = Variable(1.0), Variable(1.0)
        z = 0.26 * (x**2 + y**2) - 0.48 * x * y
        z.backward()
        print(x.grad, y.grad)
        assert proxy.count <= 2 + 1, proxy.exchanges
    assert capsys.readouterr().out == "variable(0.040000000000000036) variable(0.040000000000000036)\n"


def test_nothing_is_sent_before_something_is_looked_at(proxy: Proxy) -> None:
    with connect(proxy.url):
        before = proxy.count
        x = Variable(np.ones(5))
        for _ in range(100):
            x = F.sin(x) + 1.0
        y = F.sum(x)
        y.backward()
        x.cleargrad()
        with no_grad():
            z = y * 2.0
        assert proxy.count == before
        assert isinstance(z.item(), float)
        assert proxy.count == before + 1
        assert isinstance(z.item(), float)
        assert z.shape == ()
        assert z.dtype == np.float64
        assert proxy.count == before + 1, "what was seen is known"


LOOKS: dict[str, Callable[[Any], object]] = {
    "data": lambda loss: loss.data,
    "item": lambda loss: loss.item(),
    "float of item": lambda loss: float(loss.item()),
    "str": str,
    "repr": repr,
    "format": lambda loss: f"{loss:.3f}",
    "f-string": lambda loss: f"{loss}",
    "if": bool,
    "compare": lambda loss: loss.data < 0.1,
}


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("late", [True, False], ids=["after", "before"])
def test_an_optimizer_step_is_one_request(proxy: Proxy, look: str, late: bool) -> None:
    """Whether the loss is looked at after the step or before it."""
    x, t = data()
    with connect(proxy.url):
        model = models.MLP([8, 1], activation="tanh", rng=0)
        optimizer = optimizers.Adam(model, alpha=0.05)

        def step() -> None:
            loss = F.mean_squared_error(model(x), t)
            if not late:
                LOOKS[look](loss)
            model.cleargrads()
            loss.backward()
            optimizer.step()
            if late:
                LOOKS[look](loss)

        step()
        before = proxy.count
        for _ in range(STEPS):
            step()
        assert proxy.count - before == STEPS, proxy.exchanges[before : before + 5]


@pytest.mark.parametrize("kind", ["SGD", "Momentum", "Adam", "AdamW"])
def test_the_first_step_makes_lazy_parameters(proxy: Proxy, kind: str) -> None:
    """The shapes of what goes into a layer have to be known for that: at most a request a layer more."""
    x, t = data()
    with connect(proxy.url):
        model = models.MLP([8, 4, 1], rng=0)
        optimizer = getattr(optimizers, kind)(model)
        before = proxy.count
        loss = F.mean_squared_error(model(Variable(x)), t)
        loss.backward()
        optimizer.step()
        assert loss.item() > 0
        assert proxy.count - before <= 1 + 3, proxy.exchanges


def test_an_lstm_step_over_time_is_one_request(proxy: Proxy) -> None:
    x, _ = data(1, 12)
    with connect(proxy.url):
        model = models.LSTM(4, 1, rng=0)
        optimizer = optimizers.SGD(model, learning_rate=0.01)

        def step() -> None:
            model.reset_state()
            loss: Any = 0.0
            for i in range(11):
                loss = loss + F.mean_squared_error(model(x[:, i : i + 1]), x[:, i + 1 : i + 2])
            model.cleargrads()
            loss.backward()
            loss.unchain_backward()
            optimizer.step()
            loss.item()

        step()
        before = proxy.count
        for _ in range(5):
            step()
        assert proxy.count - before == 5, proxy.exchanges


def test_twenty_steps_by_hand(proxy: Proxy, capsys: pytest.CaptureFixture[str]) -> None:
    lr = 0.1
    with connect(proxy.url):
        w = Variable(2.0)
        for _ in range(STEPS):
            loss = (w - 1.0) ** 2
            loss.backward()
            w.data = w.data - lr * w.grad.data
            w.cleargrad()
            print(loss)
        assert proxy.count <= HAND_WRITTEN, proxy.count
        found = w.data
    local = engine.Variable(2.0)
    for _ in range(STEPS):
        loss = (local - 1.0) ** 2
        loss.backward()
        local.data = local.data - lr * local.grad.data
        local.cleargrad()
        print(loss)
    assert found == local.data
    lines = capsys.readouterr().out.splitlines()
    assert lines[:STEPS] == lines[STEPS:]


ORDERS = ("update, clear, print", "print, update, clear", "clear, backward, print, update", "clear, update, .data")


@pytest.mark.parametrize("order", ORDERS)
def test_twenty_steps_by_hand_of_four_parameters(proxy: Proxy, order: str, capsys: pytest.CaptureFixture[str]) -> None:
    lr = 0.1
    x, t = data()
    random = np.random.default_rng(1)
    starts = [random.standard_normal(shape) for shape in ((3, 5), (1, 5), (5, 1), (1, 1))]

    def train(make: Any, functions: Any) -> list[Any]:
        parameters = [make(start) for start in starts]
        w1, b1, w2, b2 = parameters

        def update() -> None:
            for parameter in parameters:
                parameter.data = parameter.data - lr * parameter.grad.data

        def clear() -> None:
            for parameter in parameters:
                parameter.cleargrad()

        for _ in range(STEPS):
            h = functions.tanh(functions.matmul(x, w1) + b1)
            loss = functions.mean_squared_error(functions.matmul(h, w2) + b2, t)
            if order.startswith("clear"):
                clear()
            loss.backward()
            if order.startswith("print"):
                print(loss)
            elif "backward, print" in order:
                print(loss.item())
            update()
            if order.endswith(".data"):
                print(loss.data)
            if not order.startswith("clear"):
                clear()
            if order.startswith("update"):
                print(loss)
        return [parameter.data for parameter in parameters]

    with connect(proxy.url):
        found = train(Variable, F)
        assert proxy.count <= HAND_WRITTEN, proxy.count
    expected = train(engine.Variable, engine.functions)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:STEPS] == lines[STEPS:]


def test_twenty_steps_by_hand_of_a_model(proxy: Proxy, capsys: pytest.CaptureFixture[str]) -> None:
    lr = 0.1
    x, t = data()

    def train(package: Any, functions: Any) -> None:
        model = package.MLP([5, 1], activation="tanh", rng=3)
        for _ in range(STEPS):
            loss = functions.mean_squared_error(model(x), t)
            loss.backward()
            for w in model.params().values():
                w.data = w.data - lr * w.grad.data
                w.cleargrad()
            print(loss)

    with connect(proxy.url):
        train(models, F)
        assert proxy.count <= HAND_WRITTEN, proxy.count
    train(engine.models, engine.functions)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:STEPS] == lines[STEPS:]


USES: dict[str, Callable[[Any, Any], Any]] = {
    "function": F.matmul,
    "operator": lambda X, w: X @ w,
    "elementwise": lambda X, w: (X * F.transpose(w)) + X,
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("is_looked_at", [True, False], ids=["looked at", "not looked at"])
def test_a_constant_is_sent_once(proxy: Proxy, use: str, is_looked_at: bool) -> None:
    X = np.random.default_rng(0).standard_normal((1000, 100))
    with connect(proxy.url):
        w = Variable(np.ones((100, 1)))
        for _ in range(STEPS):
            loss = F.mean(F.square(USES[use](X, w)))
            w.cleargrad()
            loss.backward()
            if is_looked_at:
                loss.item()
        loss.item()
        assert X.nbytes < proxy.sent_bytes < 1.2 * X.nbytes


def test_a_constant_in_many_operations_of_one_run_is_sent_once(proxy: Proxy) -> None:
    X = np.random.default_rng(0).standard_normal(10_000)
    with connect(proxy.url):
        x = Variable(1.0)
        y: Any = 0.0
        for _ in range(10):
            y = y + F.sum(x * X)
        assert y.item() == pytest.approx(10 * X.sum())
        assert proxy.sent_bytes < 1.2 * X.nbytes


def test_views_of_one_array_are_right(proxy: Proxy) -> None:
    """Rows of a batch are views of the same memory at other places: none may be taken for another."""
    X = np.arange(12.0).reshape(6, 2)
    with connect(proxy.url):
        x = Variable(1.0)
        for _ in range(3):
            for i in range(0, 6, 2):
                np.testing.assert_array_equal((x * X[i : i + 2]).data, X[i : i + 2])
                np.testing.assert_array_equal((x * X[i : i + 2].T).data, X[i : i + 2].T)


def test_evaluations_of_a_layer_in_test_mode(proxy: Proxy) -> None:
    X, _ = data()
    with connect(proxy.url):
        layer = layers.Linear(2, 3, rng=0)
        before = proxy.count
        with no_grad():
            for _ in range(5):
                assert layer(X).data.shape == (16, 2)
        assert proxy.count - before == 5


def test_a_transform_is_one_request(proxy: Proxy) -> None:
    """Where no shape is asked for inside of the function."""
    with connect(proxy.url):
        before = proxy.count
        value, gradient = transforms.value_and_grad(lambda x: F.sum(F.sin(x) * x))(np.ones(3))
        assert value == pytest.approx(3 * np.sin(1))
        np.testing.assert_allclose(gradient, np.sin(1) + np.cos(1))
        assert proxy.count - before == 1, proxy.exchanges[before:]


def test_parameters_are_read_in_one_request(proxy: Proxy) -> None:
    from pullback import state_dict

    X, _ = data()
    with connect(proxy.url):
        model = models.MLP([4, 4, 1], rng=0)
        model(X).data  # noqa: B018
        before = proxy.count
        assert len(state_dict(model)) == 6
        assert proxy.count - before <= 1
