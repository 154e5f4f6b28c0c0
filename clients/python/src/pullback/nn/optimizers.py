"""Optimizers: their steps happen on the server, in the run that computed the gradients."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from pullback.core.attributes import NUMBER, Attribute
from pullback.core.current import current
from pullback.core.values import as_raw
from pullback.core.variable import Variable
from pullback.errors import BadAttributeError, NotSupportedError, WrongConnectionError
from pullback.nn.hooks import Hook
from pullback.nn.layers import Layer
from pullback.nn.reprs import Described
from pullback.recording.entries import hinted
from pullback.recording.recorder import Recorder

Params = Layer | Mapping[str, Variable] | Sequence[Variable]
Array = np.ndarray[Any, Any]


class Optimizer(Described):
    """Base: subclasses say of which `kind` they are on the server, and which attributes configure them.

    Args:
        params: a layer or model, whose parameters are looked up at each step; or variables by name, or in a list, which
            are then named by position.
        hooks: applied in order before each step.
    """

    kind: str
    _fields: Mapping[str, Callable[[str, str, Any], float]]

    def __init__(self, params: Params, hooks: Sequence[Hook] = ()) -> None:
        self._source = params
        self.hooks = list(hooks)
        self._config()
        self._made: _Made | None = None

    def _arguments(self) -> Iterator[tuple[str, Any]]:
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

    def step(self) -> None:
        """Updates every parameter that has a gradient.

        Raises (where a value is looked at):
            InvalidValueError: a parameter that was computed: only leaves can be updated. Nothing is changed then.
        """
        params = self.params()
        made = self._there(params)
        made.step(self._config(), list(params.values()))

    def state_dict(self) -> dict[str, Array]:
        """What is kept, by name: `t`, the number of steps, and such as `velocity.linear[0].w`."""
        if self._made is None or not self._made.is_there():
            return {"t": np.asarray(0)}
        return self._made.state()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state_dict` gave, all of it or nothing; load a model's own state first.

        Raises:
            UnknownNameError: names that are missing or that this optimizer does not have.
            ShapeMismatchError: a value that has not the shape of its parameter.
            BadAttributeError: a `t` that is no non-negative integer.
        """
        made = self._there(self.params())
        made.load(state)
        made.recorder.outbox.flush()

    def _config(self) -> dict[str, Any]:
        """What it is configured with by now: attributes may have changed since the last step."""
        for hook in self.hooks:
            if not isinstance(hook, Hook):
                raise NotSupportedError(
                    f"{self.kind}: hooks run on the server, which has WeightDecay and ClipGrad; {hook!r} is none of "
                    "them. Change gradients by x.grad = ... before a step"
                )
        config = {name: parse(self.kind, name, getattr(self, name)) for name, parse in self._fields.items()}
        return {"config": config, "hooks": [hook.document() for hook in self.hooks]}

    def _there(self, params: dict[str, Variable]) -> _Made:
        """What it is on the server: made now, where it is not there or has other parameters by now."""
        recorder = next((p._recorder for p in params.values()), None) or current()
        for name, p in params.items():
            if p._recorder is not recorder:
                raise WrongConnectionError(f"{self.kind}: parameter {name} belongs to another connection than others")
        ids = {recorder.id_of(p): name for name, p in params.items()}
        made = self._made
        is_there = made is not None and made.recorder is recorder and made.is_there()
        if made is not None and is_there and made.names == ids:
            return made
        state = made.state() if made is not None and is_there else {}
        after = _Made(self.kind, recorder, ids, self._config())
        kept = {key: value for key, value in state.items() if key == "t" or key.partition(".")[2] in params}
        if kept:
            after.load(kept)
        self._made = after
        return after


class _Made:
    """An optimizer on the server; `names`: of its parameters by their ids."""

    def __init__(self, kind: str, recorder: Recorder, names: dict[str, str], config: dict[str, Any]) -> None:
        self.recorder, self.names = recorder, names
        self.id = recorder.outbox.new_id()
        command = {"do": "optimizer", "id": self.id, "kind": kind, "params": list(names), **config}
        self._entry = recorder.outbox.record(command)
        #: How it was configured, and by what: a step that was refused has configured nothing.
        self._configured = [(config, self._entry)]

    def is_there(self) -> bool:
        """Whether it came to be, as far as is known."""
        return self._entry.error is None

    def step(self, config: dict[str, Any], params: Sequence[Variable]) -> None:
        """Records a step, and with it how it is configured, if that has changed."""
        while self._configured[-1][1].error is not None:
            self._configured.pop()
        is_new = config != self._configured[-1][0]
        with hinted(self.named):
            command = {"do": "step", "id": self.id, **(config if is_new else {})}
            entry = self.recorder.step(command, params, bool(config["hooks"]))
        if is_new:
            self._configured = [*self._configured[-1:], (config, entry)]

    def state(self) -> dict[str, Array]:
        """What it keeps, by names of parameters."""
        found = self.recorder.outbox.flush([self.id])[self.id]["state"]
        return {key: np.asarray(value) for key, value in _renamed(found, self.names).items()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Gives it a state."""
        ids = {name: each for each, name in self.names.items()}
        raws = {key: as_raw(value) for key, value in state.items()}
        with hinted(self.named):
            self.recorder.outbox.record({"do": "load", "id": self.id, "state": _renamed(raws, ids)})

    def named(self, text: str) -> str:
        """What the server says, with names in place of ids."""
        return _ID.sub(lambda found: self.names.get(found[0], found[0]), text)

    def __del__(self) -> None:
        # One that could not be recorded has nothing on the server.
        if hasattr(self, "_entry"):
            self.recorder.outbox.forget(self.id, self._entry)


_ID = re.compile(r"[A-Za-z_]\w*")


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
    >>> sgd = SGD([x], learning_rate=0.1)
    >>> sgd.step()
    >>> print(x, sgd)
    variable(0.8) SGD(params=1, learning_rate=0.1)

    Raises:
        BadAttributeError: a learning rate that is no number.
    """

    kind = "sgd"
    _fields = MappingProxyType({"learning_rate": _number})

    def __init__(self, params: Params, learning_rate: float = 0.01, *, hooks: Sequence[Hook] = ()) -> None:
        self.learning_rate = _number("sgd", "learning_rate", learning_rate)
        super().__init__(params, hooks)


class Momentum(Optimizer):
    """Gradient descent with momentum: v = momentum * v - learning_rate * g; p += v.

    Source: Polyak, Some methods of speeding up the convergence of iteration methods (1964).

    Raises:
        BadAttributeError: an argument that is no number.
    """

    kind = "momentum"
    _fields = MappingProxyType({"learning_rate": _number, "momentum": _number})

    def __init__(
        self, params: Params, learning_rate: float = 0.01, momentum: float = 0.9, *, hooks: Sequence[Hook] = ()
    ) -> None:
        self.learning_rate = _number("momentum", "learning_rate", learning_rate)
        self.momentum = _number("momentum", "momentum", momentum)
        super().__init__(params, hooks)


class Adam(Optimizer):
    """Steps scaled by running means of the gradient and of its square.

    Source: Kingma and Ba, Adam (2015), section 2.

    Raises:
        BadAttributeError: an argument that is no number; a beta that is not in [0, 1).
    """

    kind = "adam"
    _fields = MappingProxyType({"alpha": _number, "beta1": _decay, "beta2": _decay})

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
        super().__init__(params, hooks)


class AdamW(Optimizer):
    """Adam, and then p *= 1 - alpha_t * weight_decay: the decay is not mixed into the gradient.

    Source: Loshchilov and Hutter, Decoupled weight decay regularization (2019), algorithm 2.

    Raises:
        BadAttributeError: an argument that is no number; a beta that is not in [0, 1).
    """

    kind = "adamw"
    _fields = MappingProxyType({"alpha": _number, "beta1": _decay, "beta2": _decay, "weight_decay": _number})

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
        super().__init__(params, hooks)


#: kind -> optimizer, as documents name them
OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {"sgd": SGD, "momentum": Momentum, "adam": Adam, "adamw": AdamW}
