"""Optimizers: each is a rule for one parameter; the base does the rest, on raw values, nothing of it on the tape.

A step takes the parameters that have a gradient. Hooks see all of them together first; what they make of the gradients
stays in `grad`. Values are replaced, never written into, and only when everything has been computed.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from engine.core.attributes import NATURAL, NUMBER, Attribute, Given
from engine.core.errors import BadAttributeError, InvalidValueError, ShapeMismatchError, UnknownNameError
from engine.core.values import Array, Value, as_raw, canonical, shape_of
from engine.core.variable import Variable
from engine.nn.hooks import Hook, Values
from engine.nn.layers import Layer
from engine.nn.reprs import Described

Params = Layer | Mapping[str, Variable] | Sequence[Variable]


class Optimizer(Described):
    """Base: subclasses name the values that they keep for each parameter (`_kept`), and define the rule.

    Args:
        params: a layer or model, whose parameters are looked up at each step; or variables by name, or in a list, which
            are then named by position.
        hooks: applied in order before each step.
    """

    _kept: tuple[str, ...] = ()

    def __init__(self, params: Params, hooks: Sequence[Hook] = ()) -> None:
        self._source = params
        self.hooks = list(hooks)
        self._steps = 0
        self._state: dict[str, tuple[Value, ...]] = {}

    def _arguments(self) -> Iterator[tuple[str, object]]:
        """The number of parameters, made or not, the public attributes, and the hooks."""
        yield "params", len(self._source.slots() if isinstance(self._source, Layer) else self._source)
        yield from ((name, value) for name, value in vars(self).items() if name[0] != "_" and name != "hooks")
        if self.hooks:
            yield "hooks", self.hooks

    def params(self) -> dict[str, Variable]:
        """The parameters by name."""
        if isinstance(self._source, Layer):
            return self._source.params()
        if isinstance(self._source, Mapping):
            return dict(self._source)
        return {str(i): p for i, p in enumerate(self._source)}

    def _rule(self, t: int, p: Value, g: Value, *kept: Value) -> tuple[Value, ...]:
        """Return the new value of a parameter and its new kept values, which begin with 0; t counts steps from 1."""
        raise NotImplementedError(f"{type(self).__name__} has no rule")

    def step(self) -> None:
        """Update every parameter that has a gradient.

        Raises:
            InvalidValueError: a parameter that was computed: only leaves can be updated. Nothing is changed then.
            ShapeMismatchError: a parameter that has got another shape since the last step.
        """
        params = {name: p for name, p in self.params().items() if p.grad is not None}
        given = {name: _gradient(name, p) for name, p in params.items()}
        values = {name: p.data for name, p in params.items()}
        grads = given
        start = (0.0,) * len(self._kept)
        t = self._steps + 1
        state = dict(self._state)
        new: Values = {}
        with np.errstate(all="ignore"):
            for hook in self.hooks:
                grads = hook(values, grads)
            for name, value in values.items():
                _check_kept(name, value, state.get(name, start))
                found = self._rule(t, value, grads[name], *state.get(name, start))
                new[name], *kept = map(canonical, found)
                state[name] = tuple(kept)
        for name, p in params.items():
            p._data = new[name]
            if grads[name] is not given[name]:
                p.grad = Variable(grads[name])
        self._steps, self._state = t, state

    def state_dict(self) -> dict[str, Array]:
        """Return the state by name: `t`, the number of steps, and kept values such as `velocity.linear[0].w`."""
        state = {"t": np.asarray(self._steps)}
        for name, kept in self._state.items():
            state |= {f"{what}.{name}": np.array(value) for what, value in zip(self._kept, kept, strict=True)}
        return state

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Load a state that `state_dict` returned, all of it or nothing; load the state of the model first.

        Raises:
            UnknownNameError: names that are missing or that this optimizer does not have.
            ShapeMismatchError: a value that has not the shape of its parameter.
            BadAttributeError: a `t` that is no non-negative integer.
        """
        params = self.params()
        owner = {f"{what}.{name}": name for name in params for what in self._kept}
        begun = {owner[key] for key in state if key in owner}
        needed = ["t", *(key for key, name in owner.items() if name in begun)]
        wrong = [f'missing "{key}"' for key in needed if key not in state]
        wrong += [f'unexpected "{key}"' for key in state if key not in owner and key != "t"]
        if wrong:
            raise UnknownNameError(f"load_state_dict: this is no state of this optimizer: {', '.join(wrong)}")
        raws = {key: as_raw(value) for key, value in state.items()}
        for key, name in owner.items():
            if key in raws and shape_of(raws[key]) != params[name].shape:
                raise ShapeMismatchError(
                    f"load_state_dict: {key} has shape {shape_of(raws[key])}, its parameter {params[name].shape}"
                )
        t = Attribute("t", NATURAL).parse(raws["t"], "load_state_dict")
        self._steps = t
        self._state = {name: tuple(raws[f"{what}.{name}"] for what in self._kept) for name in params if name in begun}


def _check_kept(name: str, value: Value, kept: Sequence[Value]) -> None:
    """Raise ShapeMismatchError if a parameter has another shape than its kept values."""
    for one in kept:
        if shape_of(one) not in ((), shape_of(value)):
            raise ShapeMismatchError(
                f"step: parameter {name} has shape {shape_of(value)}, what is kept of earlier steps {shape_of(one)}; "
                "make a new optimizer for it"
            )


def _gradient(name: str, p: Variable) -> Value:
    grad: Any = p.grad
    if p.creator is not None:
        raise InvalidValueError(f"step: parameter {name} was computed by {p.creator.name}; expected a leaf")
    return (grad if grad.dtype == p.dtype else grad.astype(p.dtype)).data


def _number(optimizer: str, attribute: str, value: Given) -> float:
    number: float = Attribute(attribute, NUMBER).parse(value, optimizer)
    return number


def _decay(optimizer: str, attribute: str, value: Given) -> float:
    number = _number(optimizer, attribute, value)
    if not 0.0 <= number < 1.0:
        raise BadAttributeError(f"{optimizer}: attribute {attribute} is {value!r}; expected a number from 0 to below 1")
    return number


class SGD(Optimizer):
    """Gradient descent: p -= learning_rate * g.

    >>> x = Variable(1.0)
    >>> (x * x).backward()
    >>> sgd = SGD([x], learning_rate=0.1)
    >>> sgd.step()
    >>> print(x, sgd)
    variable(0.8) SGD(params=1, learning_rate=0.1)

    Raises:
        BadAttributeError: a learning rate that is no number.
    """

    def __init__(self, params: Params, learning_rate: float = 0.01, *, hooks: Sequence[Hook] = ()) -> None:
        super().__init__(params, hooks)
        self.learning_rate = _number("sgd", "learning_rate", learning_rate)

    def _rule(self, t: int, p: Value, g: Value, *kept: Value) -> tuple[Value, ...]:
        return (p - self.learning_rate * g,)


class Momentum(Optimizer):
    """Gradient descent with momentum: v = momentum * v - learning_rate * g; p += v.

    Source: Polyak, Some methods of speeding up the convergence of iteration methods (1964).

    Raises:
        BadAttributeError: an argument that is no number.
    """

    _kept = ("velocity",)

    def __init__(
        self, params: Params, learning_rate: float = 0.01, momentum: float = 0.9, *, hooks: Sequence[Hook] = ()
    ) -> None:
        super().__init__(params, hooks)
        self.learning_rate = _number("momentum", "learning_rate", learning_rate)
        self.momentum = _number("momentum", "momentum", momentum)

    def _rule(self, t: int, p: Value, g: Value, *kept: Value) -> tuple[Value, ...]:
        v = self.momentum * kept[0] - self.learning_rate * g
        return p + v, v


class Adam(Optimizer):
    """Steps scaled by running means of the gradient (m) and of its square (v).

    m += (1 - beta1) * (g - m); v += (1 - beta2) * (g**2 - v); p -= alpha_t * m / (sqrt(v) + 1e-8), where
    alpha_t = alpha * sqrt(1 - beta2**t) / (1 - beta1**t). Source: Kingma and Ba, Adam (2015), section 2.

    Raises:
        BadAttributeError: an argument that is no number; a beta that is not in [0, 1).
    """

    _kept = ("m", "v")

    def __init__(
        self,
        params: Params,
        alpha: float = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        *,
        hooks: Sequence[Hook] = (),
    ) -> None:
        super().__init__(params, hooks)
        self.alpha = _number("adam", "alpha", alpha)
        self.beta1 = _decay("adam", "beta1", beta1)
        self.beta2 = _decay("adam", "beta2", beta2)

    def _rule(self, t: int, p: Value, g: Value, *kept: Value) -> tuple[Value, ...]:
        m, v = _moments(self.beta1, self.beta2, g, *kept)
        return p - _corrected(self.alpha, self.beta1, self.beta2, t) * m / (np.sqrt(v) + _EPSILON), m, v


class AdamW(Optimizer):
    """Adam, and then p *= 1 - alpha_t * weight_decay: the decay is not mixed into the gradient.

    Source: Loshchilov and Hutter, Decoupled weight decay regularization (2019), algorithm 2.

    Raises:
        BadAttributeError: an argument that is no number; a beta that is not in [0, 1).
    """

    _kept = ("m", "v")

    def __init__(
        self,
        params: Params,
        alpha: float = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        weight_decay: float = 0.01,
        *,
        hooks: Sequence[Hook] = (),
    ) -> None:
        super().__init__(params, hooks)
        self.alpha = _number("adamw", "alpha", alpha)
        self.beta1 = _decay("adamw", "beta1", beta1)
        self.beta2 = _decay("adamw", "beta2", beta2)
        self.weight_decay = _number("adamw", "weight_decay", weight_decay)

    def _rule(self, t: int, p: Value, g: Value, *kept: Value) -> tuple[Value, ...]:
        m, v = _moments(self.beta1, self.beta2, g, *kept)
        alpha = _corrected(self.alpha, self.beta1, self.beta2, t)
        return (p - alpha * m / (np.sqrt(v) + _EPSILON)) * (1.0 - alpha * self.weight_decay), m, v


_EPSILON = 1e-8


def _moments(beta1: float, beta2: float, g: Value, m: Value, v: Value) -> tuple[Value, Value]:
    """Return the running means of g and of its square, moved towards g."""
    return m + (1.0 - beta1) * (g - m), v + (1.0 - beta2) * (g * g - v)


def _corrected(alpha: float, beta1: float, beta2: float, t: int) -> float:
    """Return the step size, corrected for means that began with 0."""
    return alpha * math.sqrt(1.0 - beta2**t) / (1.0 - beta1**t)


#: kind -> optimizer, as documents name them
OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {"sgd": SGD, "momentum": Momentum, "adam": Adam, "adamw": AdamW}
