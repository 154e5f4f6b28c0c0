"""Models: layers made of layers. `Model` is `Layer` by another name; subclass it in the same way."""

from collections.abc import Callable, Iterator, Sequence

from ..core.attributes import Given
from ..core.errors import BadAttributeError
from ..core.messages import nearest
from ..core.operators import Result
from ..core.signatures import Argument
from ..core.table import activations
from ..core.variable import Variable
from ..random import Rng, seeded
from . import layers
from .layers import Layer as Model
from .layers import Linear, units

Activation = Callable[[Given], Result]

__all__ = ["LSTM", "MLP", "MODELS", "Model"]


class MLP(Model):
    """Multilayer perceptron: linear layers with an activation between them, none after the last.

    Args:
        out_sizes: how many units each layer has.
        activation: a function of one value, or the name of an elementwise operation ("relu", "tanh", ...).
        rng: a seed or generator for the weights, which the first call makes; left out, a seed is drawn from the
            system's entropy. `seed` is the one that was given or drawn.

    Source: Rumelhart, Hinton and Williams, Learning representations by back-propagating errors (1986).

    >>> mlp = MLP([10, 1], activation="relu", rng=0)
    >>> mlp(Variable([[1.0, 2.0]])).shape, sorted(mlp.params())
    ((1, 1), ['linear[0].b', 'linear[0].w', 'linear[1].b', 'linear[1].w'])
    >>> mlp
    MLP([10, 1], activation="relu", seed=0)

    Raises:
        BadAttributeError: no sizes, or such as are no non-negative integers; an activation that is not known.
    """

    def __init__(
        self, out_sizes: Sequence[int], activation: str | Activation = "sigmoid", *, rng: Rng | None = None
    ) -> None:
        if not isinstance(out_sizes, list | tuple) or not out_sizes:
            raise BadAttributeError(f"mlp: attribute out_sizes is {out_sizes!r}; expected a list of at least one size")
        self.seed, rng = seeded(rng, "mlp")
        self.linear = [Linear(units("mlp", "out_sizes", n), rng=rng) for n in out_sizes]
        self._given = activation
        self._activation = activation if callable(activation) else _elementwise(activation)

    def _arguments(self) -> Iterator[tuple[str, object]]:
        yield "", [linear._out_size for linear in self.linear]
        yield "activation", self._given
        yield from self._seed_argument()

    def forward(self, x: Argument) -> Variable:
        """x: (..., in_size). Returns (..., out_sizes[-1])."""
        *hidden, last = self.linear
        for linear in hidden:
            x = self._activation(linear(x))
        return last(x)


class LSTM(Model):
    """An LSTM layer and a linear one after it.

    Args:
        hidden_size: units of the LSTM layer.
        out_size: length of the last axis of what it returns.
        rng: a seed or generator for the weights; left out, a seed is drawn (`seed`).

    >>> model = LSTM(hidden_size=4, out_size=1, rng=0)
    >>> model(Variable([[0.5]])).shape
    (1, 1)
    >>> model.reset_state()
    >>> model
    LSTM(hidden_size=4, out_size=1, seed=0)

    Raises:
        BadAttributeError: sizes that are no non-negative integers.
        ShapeMismatchError: a call with another batch than the one before it.
    """

    def __init__(self, hidden_size: int, out_size: int, *, rng: Rng | None = None) -> None:
        self.seed, rng = seeded(rng, "lstm")
        self.lstm = layers.LSTM(hidden_size, rng=rng)
        self.linear = Linear(out_size, rng=rng)

    def _arguments(self) -> Iterator[tuple[str, object]]:
        yield "hidden_size", self.lstm._hidden_size
        yield "out_size", self.linear._out_size
        yield from self._seed_argument()

    def forward(self, x: Argument) -> Variable:
        """x: (batch, in_size). Returns (batch, out_size)."""
        return self.linear(self.lstm(x))


def _elementwise(name: object) -> Activation:
    known = activations()
    if not isinstance(name, str) or name not in known:
        near = nearest(str(name), list(known))
        raise BadAttributeError(
            f"mlp: attribute activation is {name!r}; expected an elementwise operation of one operand{near}"
        )
    return known[name]


#: kind -> model, as documents name them
MODELS: dict[str, Callable[..., Model]] = {"mlp": MLP, "lstm": LSTM}
