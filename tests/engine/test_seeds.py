"""Seeds of layers and models: given, drawn, remembered, and enough to make the same weights again."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from engine.core.errors import BadAttributeError
from engine.nn import layers, models
from engine.nn.layers import Layer
from engine.nn.optimizers import SGD

X = np.random.default_rng(0).normal(size=(3, 2))

MAKERS: dict[str, Callable[..., Layer]] = {
    "linear": lambda **rng: layers.Linear(4, 2, **rng),
    "linear without in_size": lambda **rng: layers.Linear(4, **rng),
    "rnn": lambda **rng: layers.RNN(4, **rng),
    "lstm": lambda **rng: layers.LSTM(4, **rng),
    "mlp": lambda **rng: models.MLP([4, 1], **rng),
    "model lstm": lambda **rng: models.LSTM(4, 1, **rng),
}


def weights(layer: Layer) -> dict[str, bytes]:
    """The bits of all parameters."""
    layer(X)
    return {name: np.asarray(p.data).tobytes() for name, p in layer.params().items()}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())
class TestSeeds:
    def test_a_seed_that_is_drawn_gives_the_same_weights_again(self, make: Callable[..., Layer]) -> None:
        drawn = make()
        assert type(drawn.seed) is int
        assert 0 <= drawn.seed < 2**53
        assert weights(make(rng=drawn.seed)) == weights(drawn)

    def test_each_draws_its_own(self, make: Callable[..., Layer]) -> None:
        a, b = make(), make(rng=None)
        assert a.seed != b.seed
        assert weights(a) != weights(b)

    def test_a_seed_that_is_given_is_remembered(self, make: Callable[..., Layer]) -> None:
        for seed in (7, np.int64(7), 2**60 + 1):
            layer = make(rng=seed)
            assert type(layer.seed) is int
            assert layer.seed == seed
            assert weights(layer) == weights(make(rng=np.random.default_rng(seed)))

    def test_a_generator_has_no_seed(self, make: Callable[..., Layer]) -> None:
        rng = np.random.default_rng(7)
        first, second = make(rng=rng), make(rng=rng)
        assert first.seed is second.seed is None
        assert weights(first) != weights(second)

    def test_the_seed_is_no_parameter(self, make: Callable[..., Layer]) -> None:
        layer = make(rng=0)
        assert not any("seed" in name for name in layer.slots())

    def test_the_global_state_of_numpy_neither_matters_nor_changes(self, make: Callable[..., Layer]) -> None:
        def state() -> Any:
            return np.random.get_state(legacy=False)["state"]["key"].tobytes()

        np.random.seed(0)
        before, a = state(), make()
        assert state() == before
        np.random.seed(0)
        assert make().seed != a.seed

    @pytest.mark.parametrize("rng", [True, -1, 1.5, "7", np.random.RandomState(0)])
    def test_others_are_refused(self, make: Callable[..., Layer], rng: Any) -> None:
        with pytest.raises(BadAttributeError, match=r"rng is .*; expected a seed"):
            make(rng=rng)


def test_layers_of_a_model_share_its_generator() -> None:
    model = models.MLP([4, 1], rng=0)
    assert [layer.seed for name, layer in model.layers().items() if name] == [None, None]


def test_a_layer_of_ones_own_has_no_seed() -> None:
    class Sum(Layer):
        pass

    assert Sum().seed is None


def test_a_training_is_repeated_by_its_seed() -> None:
    def train(**rng: Any) -> tuple[int | None, dict[str, bytes]]:
        model = models.MLP([4, 1], **rng)
        optimizer = SGD(model, learning_rate=0.1)
        for _ in range(3):
            y = model(X) * model(X)
            model.cleargrads()
            y.backward(cotangent=np.ones((3, 1)))
            optimizer.step()
        return model.seed, weights(model)

    seed, first = train()
    assert train(rng=seed) == (seed, first)
