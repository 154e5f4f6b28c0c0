"""Models: composition, activations, names, and a model of one's own."""

from typing import Any

import numpy as np
import pytest

from engine import Variable
from engine import functions as F
from engine.core.errors import BadAttributeError
from engine.nn.layers import Linear
from engine.nn.models import LSTM, MLP, MODELS, Model
from engine.nn.optimizers import SGD
from engine.transforms.numerical import check_gradients

X = np.random.default_rng(0).normal(size=(5, 2))


class TestMLP:
    @pytest.mark.parametrize(
        ("activation", "function"),
        [("sigmoid", F.sigmoid), ("relu", F.relu), ("tanh", np.tanh), ("gelu", F.gelu), (F.sin, np.sin)],
    )
    def test_the_activation_stands_between_the_layers(self, activation: Any, function: Any) -> None:
        model = MLP([4, 3, 2], activation, rng=0)
        y = model(Variable(X))
        a = X
        for k in range(3):
            w, b = (model.params()[f"linear[{k}].{name}"].data for name in "wb")
            a = a @ w + b if k == 2 else np.asarray(function(a @ w + b))
        np.testing.assert_allclose(y.data, a, rtol=1e-13)

    def test_sigmoid_is_the_default(self) -> None:
        assert np.array_equal(MLP([4, 1], rng=0)(X).data, MLP([4, 1], F.sigmoid, rng=0)(X).data)

    def test_names(self) -> None:
        model = MLP((4, 1), rng=0)
        assert list(model.params()) == ["linear[0].b", "linear[1].b"]
        model(X)
        assert list(model.params()) == ["linear[0].w", "linear[0].b", "linear[1].w", "linear[1].b"]

    def test_one_layer_has_no_activation(self) -> None:
        model = MLP([1], "relu", rng=3)
        np.testing.assert_allclose(model(X).data, X @ model.params()["linear[0].w"].data, rtol=1e-15)

    def test_a_seed_gives_the_same_model(self) -> None:
        a, b, c = (MLP([4, 3], rng=seed) for seed in (0, 0, 1))
        assert np.array_equal(a(X).data, b(X).data)
        assert not np.array_equal(a(X).data, c(X).data)
        assert not np.array_equal(a.params()["linear[0].w"].data[:, :3], a.params()["linear[1].w"].data[:2])

    def test_second_order(self) -> None:
        report = check_gradients(MLP([4, 2], "tanh", rng=0), X)
        assert report.ok, report


class TestLSTM:
    def test_names(self) -> None:
        model = LSTM(3, 1, rng=0)
        model(X)
        gates = [f"lstm.x2{k}.{p}" for k in "fiou" for p in "wb"] + [f"lstm.h2{k}.w" for k in "fiou"]
        assert list(model.params()) == [*gates, "linear.w", "linear.b"]

    def test_reset_state_reaches_the_layer(self) -> None:
        model = LSTM(3, 1, rng=0)
        first, second = model(X), model(X)
        assert not np.array_equal(first.data, second.data)
        model.reset_state()
        assert np.array_equal(model(X).data, first.data)


def test_a_model_of_ones_own_trains() -> None:
    class TwoLayers(Model):
        def __init__(self) -> None:
            rng = np.random.default_rng(0)
            self.first, self.second = Linear(10, rng=rng), Linear(1, rng=rng)

        def forward(self, x: Any) -> Any:
            return self.second(F.sigmoid(self.first(x)))

    model = TwoLayers()
    t = np.sin(X[:, :1])
    optimizer = SGD(model, learning_rate=0.2)
    losses = []
    for _ in range(200):
        loss = F.mean_squared_error(model(X), t)
        model.cleargrads()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]
    assert list(model.params()) == ["first.w", "first.b", "second.w", "second.b"]


@pytest.mark.parametrize(
    ("kind", "config", "message"),
    [
        ("mlp", {"out_sizes": []}, r"mlp: attribute out_sizes is \[\]; expected a list of at least one size"),
        ("mlp", {"out_sizes": 3}, "mlp: attribute out_sizes is 3"),
        ("mlp", {"out_sizes": [3, -1]}, "mlp: attribute out_sizes is -1; expected a non-negative integer"),
        ("mlp", {"out_sizes": [3], "activation": "rleu"}, "mlp: attribute activation is 'rleu'; .*; nearest: relu"),
        ("mlp", {"out_sizes": [3], "activation": "sum"}, "expected an elementwise operation of one operand"),
        ("mlp", {"out_sizes": [3], "activation": "add"}, "expected an elementwise operation of one operand"),
        ("mlp", {"out_sizes": [3], "activation": "sign"}, "expected an elementwise operation of one operand"),
        ("mlp", {"out_sizes": [3], "activation": 3}, "mlp: attribute activation is 3"),
        ("mlp", {"out_sizes": [3], "rng": True}, "mlp: rng is True"),
        ("lstm", {"hidden_size": -2, "out_size": 1}, "lstm: attribute hidden_size is -2"),
        ("lstm", {"hidden_size": 2, "out_size": "1"}, "linear: attribute out_size is '1'"),
    ],
)
def test_configurations_are_checked(kind: str, config: dict[str, Any], message: str) -> None:
    with pytest.raises(BadAttributeError, match=message):
        MODELS[kind](**{"rng": 0} | config)
