"""The repr of layers, models, optimizers and hooks: short, the same each time, and never an error."""

import functools
from typing import Any

import numpy as np
import pytest

from engine import Variable
from engine import functions as F
from engine.nn import hooks, layers, models, optimizers
from engine.nn.layers import Layer, Linear
from engine.nn.models import MLP

X = np.random.default_rng(0).normal(size=(3, 2))


def called(layer: Layer) -> Layer:
    layer(X)
    return layer


class Scale(Layer):
    def __init__(self) -> None:
        self.s = Variable(2.0)
        self.linear = [Linear(4, 2, rng=0), Linear(1, bias=False, rng=0)]
        self.note = "no parameter"


class Wide(Layer):
    def __init__(self) -> None:
        self.s = [Variable(float(n)) for n in range(100)]


class Broken(MLP):
    def __init__(self) -> None:
        pass


class Knot(Layer):
    def __init__(self) -> None:
        self.inner = MLP([1], self, rng=0)

    def _arguments(self) -> Any:
        yield "inner", self.inner


def hook(params: Any, grads: Any) -> Any:
    return grads


LAYERS = {
    "Linear(4, in_size=None, w=(None, 4), b=(1, 4), seed=0)": lambda: Linear(4, rng=0),
    "Linear(4, in_size=2, w=(2, 4), b=(1, 4), seed=0)": lambda: called(Linear(4, rng=0)),
    "Linear(4, in_size=2, bias=False, w=(2, 4), seed=7)": lambda: Linear(4, 2, bias=False, rng=np.int64(7)),
    "Linear(4, in_size=2, w=(2, 4), b=(1, 4))": lambda: Linear(4, 2, rng=np.random.default_rng(0)),
    "RNN(4, seed=0)": lambda: called(layers.RNN(4, rng=0)),
    "LSTM(4, seed=0)": lambda: layers.LSTM(4, rng=0),
    'MLP([16, 1], activation="sigmoid", seed=12345)': lambda: called(MLP([16, 1], rng=12345)),
    "MLP([16, 1], activation=tanh)": lambda: MLP((16, 1), F.tanh, rng=np.random.default_rng(0)),
    "MLP([1], activation=<lambda>, seed=0)": lambda: MLP([1], lambda x: x, rng=0),
    "MLP([1], activation=partial, seed=0)": lambda: MLP([1], functools.partial(F.softmax, axis=0), rng=0),
    'MLP([1, 1, 1, 1, 1, 1, 1, 1, ...], activation="relu", seed=0)': lambda: MLP([1] * 100, "relu", rng=0),
    "LSTM(hidden_size=4, out_size=1, seed=0)": lambda: models.LSTM(4, 1, rng=0),
    "Scale(s=(), linear[0].w=(2, 4), linear[0].b=(1, 4), linear[1].w=(None, 1))": Scale,
    "Wide(s[0]=(), s[1]=(), s[2]=(), s[3]=(), s[4]=(), s[5]=(), s[6]=(), s[7]=(), ...)": Wide,
    "Layer()": Layer,
    "Broken(...)": Broken,
    "Knot(inner=MLP([1], activation=..., seed=0))": Knot,
}

OPTIMIZERS = {
    "SGD(params=1, learning_rate=0.01)": lambda x: optimizers.SGD([x]),
    "Momentum(params=2, learning_rate=0.5, momentum=0.25)": lambda x: optimizers.Momentum(
        {"x": x, "y": x}, learning_rate=0.5, momentum=0.25
    ),
    "Adam(params=4, alpha=0.001, beta1=0.9, beta2=0.999)": lambda x: optimizers.Adam(MLP([16, 1], rng=0)),
    "AdamW(params=0, alpha=0.001, beta1=0.9, beta2=0.999, weight_decay=0.01)": lambda x: optimizers.AdamW([]),
    "SGD(params=1, learning_rate=0.01, hooks=[WeightDecay(rate=0.5), ClipGrad(max=1.0)])": lambda x: optimizers.SGD(
        [x], hooks=[hooks.WeightDecay(0.5), hooks.ClipGrad(1.0)]
    ),
}


@pytest.mark.parametrize("text", LAYERS)
def test_layers(text: str) -> None:
    assert repr(LAYERS[text]()) == text


@pytest.mark.parametrize("text", OPTIMIZERS)
def test_optimizers(text: str) -> None:
    assert repr(OPTIMIZERS[text](Variable(1.0))) == text


def test_hooks_of_ones_own_are_named() -> None:
    optimizer = optimizers.SGD([Variable(1.0)], hooks=[hook, functools.partial(hook)])
    assert repr(optimizer) == "SGD(params=1, learning_rate=0.01, hooks=[hook, partial])"


def test_a_seed_that_was_drawn_is_shown() -> None:
    model = MLP([16, 1])
    assert repr(model) == f'MLP([16, 1], activation="sigmoid", seed={model.seed})'
    linear = Linear(1)
    assert repr(linear).endswith(f"seed={linear.seed})")


def test_attributes_that_change_are_shown_and_arrays_are_not() -> None:
    sgd = optimizers.SGD([Variable(1.0)])
    sgd.learning_rate = np.float64(0.25)
    assert repr(sgd) == "SGD(params=1, learning_rate=0.25)"
    sgd.learning_rate = np.ones(1000)  # type: ignore[assignment]
    assert repr(sgd) == "SGD(params=1, learning_rate=ndarray)"


def test_a_step_changes_nothing() -> None:
    model = MLP([2, 1], rng=0)
    sgd = optimizers.SGD(model)
    model(X)
    before = repr(model), repr(sgd), repr(model.linear[0])
    y = F.sum(model(X))
    y.backward()
    sgd.step()
    assert (repr(model), repr(sgd), repr(model.linear[0])) == before


def test_what_was_not_made_is_shown() -> None:
    for kind in (Linear, MLP, layers.RNN, models.LSTM, optimizers.Adam, hooks.WeightDecay):
        assert repr(kind.__new__(kind)) == f"{kind.__name__}(...)"
