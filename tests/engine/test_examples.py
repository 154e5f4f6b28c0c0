"""The ancestor's quickstart, snippet by snippet with every printed digit, and the examples that it leads to."""

import math
from typing import Any

import numpy as np
import pytest

from engine import Variable, no_grad
from engine import functions as F
from engine.nn.models import LSTM, MLP
from engine.nn.optimizers import SGD, Adam

Capture = pytest.CaptureFixture[str]


def matyas(x: Any, y: Any) -> Any:
    z0 = 0.26 * (F.pow(x, 2.0) + F.pow(y, 2.0))
    z1 = 0.48 * (x * y)
    return z0 - z1


def rosenbrock(x: Any, y: Any) -> Any:
    return 100 * (y - x**2) ** 2 + (x - 1) ** 2


class TestQuickstart:
    def test_forward(self, capsys: Capture) -> None:
        x = Variable(0.5)
        y = F.square(F.exp(F.square(x)))
        print(y)
        assert capsys.readouterr().out == "variable(1.648721270700128)\n"

    def test_backward(self, capsys: Capture) -> None:
        x = Variable(0.5)
        y = F.square(F.exp(F.square(x)))
        y.backward()
        print(x.grad)
        assert capsys.readouterr().out == "variable(3.297442541400256)\n"

    def test_composite_function(self, capsys: Capture) -> None:
        x, y = Variable(1.0), Variable(1.0)
        z = matyas(x, y)
        z.backward()
        print(x.grad, y.grad)
        assert capsys.readouterr().out == "variable(0.040000000000000036) variable(0.040000000000000036)\n"

    def test_higher_order_gradients(self, capsys: Capture) -> None:
        x = Variable(1.0)
        y = F.sin(x)
        y.backward(create_graph=True)
        print(y)
        print(x.grad)
        for _ in range(5):
            gx = x.grad
            assert gx is not None
            x.cleargrad()
            gx.backward(create_graph=True)
            print(x.grad)
        assert capsys.readouterr().out.splitlines() == [
            "variable(0.8414709848078965)",
            "variable(0.5403023058681398)",
            "variable(-0.8414709848078965)",
            "variable(-0.5403023058681398)",
            "variable(0.8414709848078965)",
            "variable(0.5403023058681398)",
            "variable(-0.8414709848078965)",
        ]

    def test_no_grad_builds_no_graph_and_ends_with_an_exception(self) -> None:
        x = Variable(0.5)

        def forward() -> Any:
            with no_grad():
                y = F.exp(x)
                assert y.creator is None
                raise KeyError("early")

        with pytest.raises(KeyError, match="early"):
            forward()
        assert F.exp(x).creator is not None

    def test_gradients_accumulate_until_they_are_cleared(self) -> None:
        x = Variable(3.0)
        for expected in (6.0, 12.0, 18.0):
            F.square(x).backward()
            assert x.grad is not None
            assert x.grad.data == expected
        x.cleargrad()
        assert x.grad is None
        F.square(x).backward()
        assert str(x.grad) == "variable(6.0)"


class TestDescent:
    def test_rosenbrock_by_gradient_descent(self) -> None:
        x0, x1 = Variable(0.0), Variable(2.0)
        for _ in range(10_000):
            y = rosenbrock(x0, x1)
            x0.cleargrad()
            x1.cleargrad()
            y.backward()
            assert x0.grad is not None
            assert x1.grad is not None
            x0.data = x0.data - 0.001 * x0.grad.data
            x1.data = x1.data - 0.001 * x1.grad.data
        assert (x0.data, x1.data) == (0.9944984367782456, 0.9890050527419593)

    def test_rosenbrock_by_the_optimizer(self) -> None:
        x0, x1 = Variable(0.0), Variable(2.0)
        optimizer = SGD([x0, x1], learning_rate=0.001)
        for _ in range(10_000):
            y = rosenbrock(x0, x1)
            x0.cleargrad()
            x1.cleargrad()
            y.backward()
            optimizer.step()
        assert (x0.data, x1.data) == (0.9944984367782456, 0.9890050527419593)

    def test_newtons_method_takes_the_gradient_of_the_gradient(self) -> None:
        x = Variable(2.0)
        steps = 0
        while abs(x.data - 1.0) > 1e-12:
            steps += 1
            assert steps <= 8
            y = x**4 - 2 * x**2
            x.cleargrad()
            y.backward(create_graph=True)
            gx = x.grad
            assert gx is not None
            x.cleargrad()
            gx.backward()
            assert x.grad is not None
            x.data = x.data - gx.data / x.grad.data
        assert x.data == 1.0


class TestLearning:
    def test_mlp_learns_a_sine(self) -> None:
        rng = np.random.default_rng(0)
        x = rng.random((100, 1))
        t = np.sin(2 * np.pi * x) + 0.1 * rng.random((100, 1))
        model = MLP([10, 1], rng=rng)
        optimizer = Adam(model, alpha=0.05)
        losses = []
        for _ in range(1000):
            loss = F.mean_squared_error(model(x), t)
            model.cleargrads()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[0] > 0.3
        assert losses[-1] < 0.005

    def test_lstm_learns_a_noisy_sine_and_predicts_a_cosine(self) -> None:
        """The ancestor's command `lstm` in small: truncated backpropagation, then prediction without a tape."""
        rng = np.random.default_rng(0)
        noise = 0.05
        curve = np.sin(np.linspace(0, 2 * math.pi, 201)) + rng.uniform(-noise, noise, 201)
        data, label = curve[:-1, np.newaxis], curve[1:, np.newaxis]
        batch, bptt_length = 10, 5
        model = LSTM(hidden_size=10, out_size=1, rng=rng)
        optimizer = SGD(model, learning_rate=0.05)
        losses = []
        for _ in range(30):
            model.reset_state()
            loss, total = Variable(0.0), 0.0
            for count in range(1, len(data) // batch + 1):
                rows = slice((count - 1) * batch, count * batch)
                loss = loss + F.mean_squared_error(model(data[rows]), label[rows])
                if count % bptt_length == 0:
                    model.cleargrads()
                    loss.backward()
                    loss.unchain_backward()
                    optimizer.step()
                    total += loss.item()
                    loss = Variable(0.0)
            losses.append(total / count)
        assert losses[-1] < 0.1 * losses[0]

        cosine = np.cos(np.linspace(0, 4 * math.pi, 200))
        model.reset_state()
        with no_grad():
            predicted = [model(np.array([[value]])).item() for value in cosine[:-1]]
        assert np.mean((np.array(predicted) - cosine[1:]) ** 2) < 0.1
