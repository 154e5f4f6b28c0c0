"""Optimizers: their steps happen on the server, in the run that computed the gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from pullback.attributes import NUMBER, Attribute
from pullback.current import current
from pullback.errors import BadAttributeError, NotSupportedError, WrongConnectionError
from pullback.hooks import Hook
from pullback.layers import Layer
from pullback.recorder import Batch, Recorder
from pullback.values import as_raw
from pullback.variable import Variable

Params = Layer | Mapping[str, Variable] | Sequence[Variable]
Array = np.ndarray[Any, Any]


class Optimizer:
    """Base: subclasses say of which `kind` they are on the server, and how they are configured.

    Args:
        params: a layer or model, whose parameters are looked up at each step; or variables by name, or in a list, which
            are then named by position.
        config: as the server's kind has it.
        hooks: applied in order before each step.
    """

    kind: str

    def __init__(self, params: Params, config: dict[str, Any], hooks: Sequence[Hook] = ()) -> None:
        for hook in hooks:
            if not isinstance(hook, Hook):
                raise NotSupportedError(
                    f"{self.kind}: hooks run on the server, which has {', '.join(('WeightDecay', 'ClipGrad'))}; "
                    f"{hook!r} is none of them. Change gradients by x.grad = ... before a step"
                )
        self._source = params
        self.hooks = list(hooks)
        self._config = config
        self._id = ""
        self._ids: list[str] = []
        self._recorder: Recorder | None = None
        self._batch: Batch | None = None
        self._place = 0
        self._names: list[str] = []

    def params(self) -> dict[str, Variable]:
        """The parameters by name."""
        if isinstance(self._source, Layer):
            return self._source.params()
        if isinstance(self._source, Mapping):
            return dict(self._source)
        return {str(i): p for i, p in enumerate(self._source)}

    def step(self) -> None:
        """Updates every parameter that has a gradient.

        Raises (where a value is looked at):
            InvalidValueError: a parameter that was computed: only leaves can be updated. Nothing is changed then.
        """
        params = self.params()
        recorder = self._made(params)
        recorder.about_to_step(bool(self.hooks))
        recorder.record({"do": "step", "id": self._id})
        recorder.changed(list(params.values()))

    def _made(self, params: dict[str, Variable]) -> Recorder:
        """Makes it on the server, where it is not there yet or has other parameters by now."""
        recorder = next((p._recorder for p in params.values()), None) or current()
        for name, p in params.items():
            if p._recorder is not recorder:
                raise WrongConnectionError(f"{self.kind}: parameter {name} belongs to another connection than others")
        ids = [recorder.id_of(p) for p in params.values()]
        is_there = self._recorder is recorder and self._batch is not None and self._batch.failure(self._place) is None
        if is_there and ids == self._ids:
            return recorder
        state = self.state_dict() if is_there else {}
        self._forget()
        self._id = recorder.new_id()
        command: dict[str, Any] = {"do": "optimizer", "id": self._id, "kind": self.kind}
        command |= {"config": self._config, "params": ids}
        if self.hooks:
            command["hooks"] = [hook.document() for hook in self.hooks]
        self._batch, self._place = recorder.record(command)
        self._recorder, self._ids, self._names = recorder, ids, list(params)
        if state:
            recorder.record({"do": "load", "id": self._id, "state": self._by_id(state)})
        return recorder

    def state_dict(self) -> dict[str, Array]:
        """What is kept, by name: `t`, the number of steps, and such as `velocity.linear[0].w`."""
        if self._recorder is None:
            return {"t": np.asarray(0)}
        found = self._recorder.flush([self._id])[self._id]["state"]
        names = dict(zip(self._ids, self._names, strict=True))
        return {key: np.asarray(value) for key, value in _renamed(found, names).items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state_dict` gave, all of it or nothing; load a model's own state first.

        Raises:
            UnknownNameError: names that are missing or that this optimizer does not have.
            ShapeMismatchError: a value that has not the shape of its parameter.
            BadAttributeError: a `t` that is no non-negative integer.
        """
        recorder = self._made(self.params())
        recorder.record({"do": "load", "id": self._id, "state": self._by_id(state)})
        recorder.flush()

    def _by_id(self, state: Mapping[str, Any]) -> dict[str, Any]:
        ids = dict(zip(self._names, self._ids, strict=True))
        return _renamed({key: as_raw(value) for key, value in state.items()}, ids)

    def _forget(self) -> None:
        if self._recorder is not None and self._id:
            self._recorder.forget(self._id, self._batch, self._place)

    def __del__(self) -> None:
        # One that was refused its configuration has nothing on the server.
        if getattr(self, "_id", ""):
            self._forget()


def _renamed(state: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """A state whose parameters are called otherwise: `velocity.w` as `velocity.v7`."""
    found = {}
    for key, value in state.items():
        what, dot, name = key.partition(".")
        found[f"{what}.{names.get(name, name)}" if dot else key] = value
    return found


def _number(optimizer: str, attribute: str, value: Any) -> float:
    number: float = Attribute(attribute, NUMBER).parse(value, optimizer)
    return number


def _decay(optimizer: str, attribute: str, value: Any) -> float:
    number = _number(optimizer, attribute, value)
    if not 0.0 <= number < 1.0:
        raise BadAttributeError(f"{optimizer}: attribute {attribute} is {value!r}; expected a number from 0 to below 1")
    return number


class SGD(Optimizer):
    """Gradient descent: p -= learning_rate * g.

    >>> x = Variable(1.0)
    >>> (x * x).backward()
    >>> SGD([x], learning_rate=0.1).step()
    >>> print(x)
    variable(0.8)

    Raises:
        BadAttributeError: a learning rate that is no number.
    """

    kind = "sgd"

    def __init__(self, params: Params, learning_rate: float = 0.01, *, hooks: Sequence[Hook] = ()) -> None:
        self.learning_rate = _number("sgd", "learning_rate", learning_rate)
        super().__init__(params, {"learning_rate": self.learning_rate}, hooks)


class Momentum(Optimizer):
    """Gradient descent with momentum: v = momentum * v - learning_rate * g; p += v.

    Source: Polyak, Some methods of speeding up the convergence of iteration methods (1964).

    Raises:
        BadAttributeError: an argument that is no number.
    """

    kind = "momentum"

    def __init__(
        self, params: Params, learning_rate: float = 0.01, momentum: float = 0.9, *, hooks: Sequence[Hook] = ()
    ) -> None:
        self.learning_rate = _number("momentum", "learning_rate", learning_rate)
        self.momentum = _number("momentum", "momentum", momentum)
        super().__init__(params, {"learning_rate": self.learning_rate, "momentum": self.momentum}, hooks)


class Adam(Optimizer):
    """Steps scaled by running means of the gradient and of its square.

    Source: Kingma and Ba, Adam (2015), section 2.

    Raises:
        BadAttributeError: an argument that is no number; a beta that is not in [0, 1).
    """

    kind = "adam"

    def __init__(
        self,
        params: Params,
        alpha: float = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        *,
        hooks: Sequence[Hook] = (),
    ) -> None:
        self.alpha = _number("adam", "alpha", alpha)
        self.beta1 = _decay("adam", "beta1", beta1)
        self.beta2 = _decay("adam", "beta2", beta2)
        super().__init__(params, {"alpha": self.alpha, "beta1": self.beta1, "beta2": self.beta2}, hooks)


class AdamW(Optimizer):
    """Adam, and then p *= 1 - alpha_t * weight_decay: the decay is not mixed into the gradient.

    Source: Loshchilov and Hutter, Decoupled weight decay regularization (2019), algorithm 2.

    Raises:
        BadAttributeError: an argument that is no number; a beta that is not in [0, 1).
    """

    kind = "adamw"

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
        self.alpha = _number("adamw", "alpha", alpha)
        self.beta1 = _decay("adamw", "beta1", beta1)
        self.beta2 = _decay("adamw", "beta2", beta2)
        self.weight_decay = _number("adamw", "weight_decay", weight_decay)
        config = {
            "alpha": self.alpha,
            "beta1": self.beta1,
            "beta2": self.beta2,
            "weight_decay": self.weight_decay,
        }
        super().__init__(params, config, hooks)


#: kind -> optimizer, as documents name them
OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {"sgd": SGD, "momentum": Momentum, "adam": Adam, "adamw": AdamW}
