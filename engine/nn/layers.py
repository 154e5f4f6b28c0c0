"""Layers: functions with parameters, which are found by name, and with state, which can be reset.

Parameters (variables) and layers within a layer stand in its attributes, alone or in a list; an attribute whose name
begins with an underscore is the layer's own affair. Names are paths: `linear[0].w`, `lstm.x2f.b`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ParamSpec, Protocol, TypeVar

import numpy as np

from .. import functions as F
from ..core.attributes import BOOL, NATURAL, Attribute, Given
from ..core.errors import ShapeMismatchError
from ..core.operators import Result
from ..core.signatures import Argument
from ..core.values import Shape, as_raw, shape_of
from ..core.variable import Variable
from ..random import Rng, seeded, zeros
from .known import known_shape
from .memory import check_batch
from .reprs import Described


@dataclass(frozen=True, slots=True)
class Unmade:
    """Stands in the attribute of a parameter that the first call makes; None is a length that is not known yet."""

    shape: tuple[int | None, ...]

    def fits(self, shape: Shape) -> bool:
        """Return whether the parameter may have that shape."""
        return len(shape) == len(self.shape) and all(n in (None, m) for n, m in zip(self.shape, shape, strict=True))


Parameter = Variable | Unmade


@dataclass(frozen=True, slots=True)
class Slot:
    """Location of a parameter: an attribute of a layer."""

    layer: "Layer"
    attribute: str
    parameter: Parameter


P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)


class _HasForward(Protocol[P, R_co]):
    """Type of a layer with respect to its `forward`."""

    def forward(self, *xs: P.args, **options: P.kwargs) -> R_co: ...


class Layer(Described):
    """Base of layers and models: assign parameters and layers as attributes, and write `forward`.

    >>> class Scale(Layer):
    ...     def __init__(self):
    ...         self.s = Variable(2.0)
    ...     def forward(self, x):
    ...         return self.s * x
    >>> scale = Scale()
    >>> print(scale(Variable(3.0)), scale.params())
    variable(6.0) {'s': variable(2.0)}
    >>> scale
    Scale(s=())
    """

    #: The seed of its weights, given or drawn; as `rng` it gives the same weights. None if a generator was given, or if
    #: the layer draws nothing.
    seed: int | None = None
    #: State of a recurrent layer after its last call.
    _memory: tuple[Variable, ...] = ()

    def __call__(self: "_HasForward[P, R_co]", *xs: P.args, **options: P.kwargs) -> R_co:
        """Call `forward`, with its types."""
        return self.forward(*xs, **options)

    def forward(self, *xs: Given, **options: Given) -> Result:
        """Compute the result of the layer; each layer defines its own."""
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def _arguments(self) -> Iterator[tuple[str, object]]:
        """Shapes of the parameters as far as they are known (None: a length that is not), and the seed."""
        for name, slot in self.slots().items():
            p = slot.parameter
            yield name, p.shape if isinstance(p, Unmade) else known_shape(p)
        yield from self._seed_argument()

    def _seed_argument(self) -> Iterator[tuple[str, object]]:
        """The seed for the repr, if the layer has one."""
        if isinstance(self.seed, int):
            yield "seed", self.seed

    def slots(self) -> dict[str, Slot]:
        """Return the location of each parameter by name, made or not; a shared one has its first name."""
        return dict(_slots(self, "", {id(self)}))

    def params(self) -> dict[str, Variable]:
        """Return the parameters that are made, by name."""
        return {name: slot.parameter for name, slot in self.slots().items() if isinstance(slot.parameter, Variable)}

    def cleargrads(self) -> None:
        """Clear the gradients of all parameters."""
        for p in self.params().values():
            p.cleargrad()

    def layers(self) -> dict[str, "Layer"]:
        """Return all layers by name, this one under the empty name; a shared one has its first name."""
        return dict(_layers(self, "", set()))

    def reset_state(self) -> None:
        """Clear the state that recurrent layers keep from earlier calls."""
        self._memory = ()
        for _, _, value in _attributes(self):
            if isinstance(value, Layer):
                value.reset_state()


def _attributes(layer: Layer) -> Iterator[tuple[str, str, object]]:
    """Yield name, attribute and value of each possible parameter or layer."""
    for attribute, value in list(vars(layer).items()):
        if attribute.startswith("_"):
            continue
        if isinstance(value, list | tuple):
            yield from ((f"{attribute}[{i}]", attribute, item) for i, item in enumerate(value))
        else:
            yield attribute, attribute, value


def _layers(layer: Layer, name: str, seen: set[int]) -> Iterator[tuple[str, Layer]]:
    seen.add(id(layer))
    yield name, layer
    for attribute, _, value in _attributes(layer):
        if isinstance(value, Layer) and id(value) not in seen:
            yield from _layers(value, f"{name}.{attribute}" if name else attribute, seen)


def _slots(layer: Layer, prefix: str, seen: set[int]) -> Iterator[tuple[str, Slot]]:
    for name, attribute, value in _attributes(layer):
        if not isinstance(value, Layer | Variable | Unmade) or id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Layer):
            yield from _slots(value, f"{prefix}{name}.", seen)
        else:
            yield f"{prefix}{name}", Slot(layer, attribute, value)


class Linear(Layer):
    """x @ w + b.

    Args:
        out_size: length of the last axis of what it returns.
        in_size: length of the last axis of x; left out, the first call finds it and makes w then.
        bias: whether there is a b.
        rng: a seed or generator, for w: normal, divided by sqrt(in_size). Left out, a seed is drawn from the system's
            entropy; `seed` is the one that was given or drawn.

    `w` has shape (in_size, out_size), `b` (1, out_size) and begins with zeros.
    Source: Glorot and Bengio, Understanding the difficulty of training deep feedforward neural networks (2010).

    >>> linear = Linear(3, rng=0)
    >>> linear(Variable([[1.0, 2.0]])).shape, sorted(linear.params())
    ((1, 3), ['b', 'w'])
    >>> linear
    Linear(3, in_size=2, w=(2, 3), b=(1, 3), seed=0)
    >>> drawn = Linear(3, 2)
    >>> bool((Linear(3, 2, rng=drawn.seed).w.data == drawn.w.data).all())
    True

    Raises:
        BadAttributeError: sizes that are no non-negative integers; an rng that is no seed or generator.
        ShapeMismatchError: a call with x of another last axis.
    """

    def __init__(self, out_size: int, in_size: int | None = None, bias: bool = True, *, rng: Rng | None = None) -> None:
        self._out_size = units("linear", "out_size", out_size)
        self.seed, self._rng = seeded(rng, "linear")
        self.w: Parameter = Unmade((None, self._out_size))
        if in_size is not None:
            self.w = self._weights(units("linear", "in_size", in_size))
        if Attribute("bias", BOOL).parse(bias, "linear"):
            self.b: Variable | None = zeros((1, self._out_size))
            self.b.name = "b"
        else:
            self.b = None

    def _arguments(self) -> Iterator[tuple[str, object]]:
        yield "", self._out_size
        shape = self.w.shape if isinstance(self.w, Unmade) else known_shape(self.w)
        yield "in_size", None if shape is None else shape[0]
        if self.b is None:
            yield "bias", False
        yield from super()._arguments()

    def _weights(self, in_size: int) -> Variable:
        # Drawn as an array: the SDK has no value of a variable while a function is traced.
        drawn = self._rng.standard_normal((in_size, self._out_size))
        return Variable(drawn / np.sqrt(max(1, in_size)), name="w")

    def forward(self, x: Argument) -> Variable:
        """x: (..., in_size). Returns (..., out_size)."""
        if isinstance(self.w, Unmade):
            shape = shape_of(as_raw(x) if isinstance(x, list | tuple | np.generic) else x)
            if not shape:
                raise ShapeMismatchError("linear: expected x with a last axis of inputs, got a scalar")
            self.w = self._weights(shape[-1])
        return F.linear(x, self.w) if self.b is None else F.linear(x, self.w, self.b)


class RNN(Layer):
    """h = tanh(x2h(x) + h2h(h)): remembers h from call to call, beginning without one.

    Args:
        hidden_size: length of the last axis of h, which it returns.
        rng: a seed or generator for the weights; left out, a seed is drawn (`seed`).

    Source: Elman, Finding structure in time (1990).

    >>> rnn = RNN(4, rng=0)
    >>> rnn(Variable([[1.0, 2.0]])).shape, sorted(rnn.params())
    ((1, 4), ['h2h.w', 'x2h.b', 'x2h.w'])
    >>> rnn
    RNN(4, seed=0)

    Raises:
        BadAttributeError: as `Linear`.
        ShapeMismatchError: a call with another batch than the one before it.
    """

    def __init__(self, hidden_size: int, *, rng: Rng | None = None) -> None:
        n = self._hidden_size = units("rnn", "hidden_size", hidden_size)
        self.seed, rng = seeded(rng, "rnn")
        self.x2h = Linear(n, rng=rng)
        self.h2h = Linear(n, n, bias=False, rng=rng)

    def _arguments(self) -> Iterator[tuple[str, object]]:
        yield "", self._hidden_size
        yield from self._seed_argument()

    def forward(self, x: Argument) -> Variable:
        """x: (batch, in_size). Returns h: (batch, hidden_size)."""
        a = self.x2h(x)
        if self._memory:
            (h,) = self._memory
            check_batch("rnn", a, h)
            a = a + self.h2h(h)
        h = F.tanh(a)
        self._memory = (h,)
        return h


class LSTM(Layer):
    """Long short-term memory: gates f, i, o and the candidate u decide what the cell c keeps.

    f, i, o = sigmoid(x2?(x) + h2?(h)), u = tanh(x2u(x) + h2u(h)), c = f * c + i * u, h = o * tanh(c).

    Args:
        hidden_size: length of the last axis of h, which it returns.
        rng: a seed or generator for the weights; left out, a seed is drawn (`seed`).

    Source: Gers, Schmidhuber and Cummins, Learning to forget (2000).

    >>> lstm = LSTM(4, rng=0)
    >>> lstm(Variable([[1.0, 2.0]])).shape, len(lstm.params())
    ((1, 4), 12)

    Raises:
        BadAttributeError: as `Linear`.
        ShapeMismatchError: a call with another batch than the one before it.
    """

    def __init__(self, hidden_size: int, *, rng: Rng | None = None) -> None:
        n = self._hidden_size = units("lstm", "hidden_size", hidden_size)
        self.seed, rng = seeded(rng, "lstm")
        self.x2f, self.x2i, self.x2o, self.x2u = (Linear(n, rng=rng) for _ in range(4))
        self.h2f, self.h2i, self.h2o, self.h2u = (Linear(n, n, bias=False, rng=rng) for _ in range(4))

    def _arguments(self) -> Iterator[tuple[str, object]]:
        yield "", self._hidden_size
        yield from self._seed_argument()

    def forward(self, x: Argument) -> Variable:
        """x: (batch, in_size). Returns h: (batch, hidden_size)."""
        f, i, o, u = self.x2f(x), self.x2i(x), self.x2o(x), self.x2u(x)
        c = None
        if self._memory:
            h, c = self._memory
            check_batch("lstm", f, h)
            f, i, o, u = f + self.h2f(h), i + self.h2i(h), o + self.h2o(h), u + self.h2u(h)
        kept = F.sigmoid(i) * F.tanh(u)
        c = kept if c is None else F.sigmoid(f) * c + kept
        h = F.sigmoid(o) * F.tanh(c)
        self._memory = h, c
        return h


def units(layer: str, attribute: str, value: Given) -> int:
    """A number of units.

    Raises:
        BadAttributeError: it is no non-negative integer.
    """
    n: int = Attribute(attribute, NATURAL).parse(value, layer)
    return n


#: kind -> layer, as documents name them
LAYERS: dict[str, Callable[..., Layer]] = {"linear": Linear, "rnn": RNN, "lstm": LSTM}
