"""Layers: formulas, names of parameters, lazily made weights, state."""

import math
from typing import Any

import numpy as np
import pytest

from engine import Variable, no_grad
from engine import functions as F
from engine.core.errors import BadAttributeError, ShapeMismatchError
from engine.nn.layers import LAYERS, LSTM, RNN, Layer, Linear
from engine.transforms.numerical import check_gradients

X = np.random.default_rng(0).normal(size=(3, 2))
GATES = ("f", "i", "o", "u")


def sigmoid(a: Any) -> Any:
    return 1 / (1 + np.exp(-a))


class TestLinear:
    def test_formula(self) -> None:
        linear = Linear(4, 2, rng=0)
        linear.params()["b"].data = np.arange(4.0).reshape(1, 4)
        np.testing.assert_allclose(linear(Variable(X)).data, X @ linear.params()["w"].data + np.arange(4.0), rtol=1e-15)

    def test_leading_axes_are_a_batch(self) -> None:
        linear = Linear(4, rng=0)
        x = np.random.default_rng(1).normal(size=(5, 3, 2))
        y = linear(x)
        assert y.shape == (5, 3, 4)
        np.testing.assert_allclose(y.data[1], linear(x[1]).data, rtol=1e-15)

    def test_weights_are_made_by_the_first_call(self) -> None:
        linear = Linear(4, rng=0)
        assert list(linear.params()) == ["b"]
        linear(X)
        w = linear.params()["w"]
        assert w.shape == (2, 4)
        linear(X)
        assert linear.params()["w"] is w

    def test_weights_are_scaled_by_the_number_of_inputs(self) -> None:
        w = Linear(300, 400, rng=0).params()["w"].data
        assert w.std() == pytest.approx(1 / math.sqrt(400), rel=0.01)
        assert abs(w.mean()) < 0.001

    def test_bias(self) -> None:
        b = Linear(4, rng=0).params()["b"]
        assert b.shape == (1, 4)
        assert not b.data.any()
        assert list(Linear(4, 2, bias=False, rng=0).params()) == ["w"]

    def test_a_seed_gives_the_same_weights_and_a_generator_goes_on(self) -> None:
        a, b = Linear(4, 2, rng=7), Linear(4, rng=7)
        b(X)
        assert np.array_equal(a.params()["w"].data, b.params()["w"].data)
        rng = np.random.default_rng(7)
        c, d = Linear(4, 2, rng=rng), Linear(4, 2, rng=rng)
        assert np.array_equal(a.params()["w"].data, c.params()["w"].data)
        assert not np.array_equal(c.params()["w"].data, d.params()["w"].data)

    def test_no_inputs(self) -> None:
        assert np.array_equal(Linear(2, rng=0)(np.zeros((3, 0))).data, np.zeros((3, 2)))

    def test_gradients(self) -> None:
        linear = Linear(3, 2, rng=0)

        def f(x: Any, w: Any, b: Any) -> Any:
            linear.w, linear.b = w, b
            return F.tanh(linear(x))

        report = check_gradients(f, X, *(p.data for p in linear.params().values()))
        assert report.ok, report


class TestRNN:
    def test_formula_over_time(self) -> None:
        rnn = RNN(4, rng=0)
        h = np.zeros((3, 4))
        for t in range(3):
            y = rnn(Variable(X * t))
            p = {name: v.data for name, v in rnn.params().items()}
            h = np.tanh(X * t @ p["x2h.w"] + p["x2h.b"] + h @ p["h2h.w"])
            np.testing.assert_allclose(y.data, h, rtol=1e-13)

    def test_names_and_shapes(self) -> None:
        rnn = RNN(4, rng=0)
        rnn(X)
        assert {name: p.shape for name, p in rnn.params().items()} == {
            "x2h.w": (2, 4),
            "x2h.b": (1, 4),
            "h2h.w": (4, 4),
        }


class TestLSTM:
    def test_formula_over_time(self) -> None:
        lstm = LSTM(4, rng=0)
        h, c = np.zeros((3, 4)), np.zeros((3, 4))
        for t in range(3):
            x = X * (t + 1)
            y = lstm(Variable(x))
            p = {name: v.data for name, v in lstm.params().items()}
            f, i, o, u = (x @ p[f"x2{k}.w"] + p[f"x2{k}.b"] + h @ p[f"h2{k}.w"] for k in GATES)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(u)
            h = sigmoid(o) * np.tanh(c)
            np.testing.assert_allclose(y.data, h, rtol=1e-13)

    def test_names_and_shapes(self) -> None:
        lstm = LSTM(4, rng=0)
        lstm(X)
        expected = {f"x2{k}.w": (2, 4) for k in GATES} | {f"x2{k}.b": (1, 4) for k in GATES}
        assert {n: p.shape for n, p in lstm.params().items()} == expected | {f"h2{k}.w": (4, 4) for k in GATES}


@pytest.mark.parametrize("kind", ["rnn", "lstm"])
class TestState:
    def test_reset(self, kind: str) -> None:
        layer = LAYERS[kind](4, rng=0)
        first, second = layer(X), layer(X)
        assert not np.array_equal(first.data, second.data)
        layer.reset_state()
        assert np.array_equal(layer(X).data, first.data)

    def test_gradients_go_back_in_time_until_unchained(self, kind: str) -> None:
        layer = LAYERS[kind](4, rng=0)
        x = Variable(X)
        layer(x)
        F.sum(y := layer(Variable(X))).backward()
        assert x.grad is not None
        x.cleargrad()
        y.unchain_backward()
        F.sum(layer(Variable(X))).backward()
        assert x.grad is None

    def test_another_batch_needs_a_reset(self, kind: str) -> None:
        layer = LAYERS[kind](4, rng=0)
        before = layer(X)
        with pytest.raises(ShapeMismatchError, match=rf"{kind}: .* \(1, 4\), .* \(3, 4\); call reset_state\(\)"):
            layer(X[:1])
        assert layer(X).shape == before.shape
        layer.reset_state()
        assert layer(X[:1]).shape == (1, 4)

    def test_without_a_tape(self, kind: str) -> None:
        layer = LAYERS[kind](4, rng=0)
        with no_grad():
            layer(X)
            assert layer(X).creator is None

    def test_second_order(self, kind: str) -> None:
        layer = LAYERS[kind](2, rng=0)
        layer(X)

        def f(a: Any, b: Any) -> Any:
            layer.reset_state()
            return layer(a) + layer(b)

        report = check_gradients(f, X, -X)
        assert report.ok, report


class TestFindingParameters:
    def test_paths(self) -> None:
        class Block(Layer):
            def __init__(self) -> None:
                self.scale = Variable(2.0)
                self.pair = (Linear(1, 1, rng=0), Linear(1, 1, bias=False, rng=0))
                self.weights = [Variable(1.0), Variable(2.0)]
                self.size = 3
                self._hidden = Variable(0.0)

        class Outer(Layer):
            def __init__(self) -> None:
                self.block = Block()
                self.blocks = [Block()]

        names = ["scale", "pair[0].w", "pair[0].b", "pair[1].w", "weights[0]", "weights[1]"]
        assert list(Block().params()) == names
        assert list(Outer().params()) == [f"{p}.{name}" for p in ("block", "blocks[0]") for name in names]

    def test_what_is_shared_is_one_parameter(self) -> None:
        class Tied(Layer):
            def __init__(self) -> None:
                self.encode = Linear(2, 2, rng=0)
                self.decode = self.encode
                self.w = self.encode.w
                self.itself = self

        assert list(Tied().params()) == ["encode.w", "encode.b"]

    def test_cleargrads(self) -> None:
        rnn = RNN(4, rng=0)
        rnn(X)
        F.sum(rnn(X)).backward()
        assert all(p.grad is not None for p in rnn.params().values())
        rnn.cleargrads()
        assert all(p.grad is None for p in rnn.params().values())

    def test_a_base_without_forward(self) -> None:
        with pytest.raises(NotImplementedError, match="Layer has no forward"):
            Layer()(1.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Linear(-1, rng=0), "linear: attribute out_size is -1; expected a non-negative integer"),
        (lambda: Linear(2, 1.5, rng=0), "linear: attribute in_size is 1.5"),
        (lambda: Linear(2, bias=1, rng=0), "linear: attribute bias is 1; expected true or false"),
        (lambda: Linear(2, rng=1.5), "linear: rng is 1.5; expected a seed"),
        (lambda: RNN("4", rng=0), "rnn: attribute hidden_size is '4'"),
        (lambda: RNN(4, rng=-1), "rnn: rng is -1"),
        (lambda: LSTM(True, rng=0), "lstm: attribute hidden_size is True"),
        (lambda: LSTM(4, rng="0"), "lstm: rng is '0'"),
    ],
)
def test_configurations_are_checked(make: Any, message: str) -> None:
    with pytest.raises(BadAttributeError, match=message):
        make()


@pytest.mark.parametrize(
    ("x", "message"),
    [(1.0, "linear: expected x with a last axis of inputs, got a scalar"), (np.zeros((3, 5)), r"linear: .*\(3, 5\)")],
)
def test_inputs_are_checked(x: Any, message: str) -> None:
    linear = Linear(2, rng=0)
    if not isinstance(x, float):
        linear(X)
    with pytest.raises(ShapeMismatchError, match=message):
        linear(x)
