"""Optimizers: their steps run on the server, in the run that computes the gradients."""

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
from pullback.recording.entries import hint_scope
from pullback.recording.recorder import Recorder

Params = Layer | Mapping[str, Variable] | Sequence[Variable]
Array = np.ndarray[Any, Any]


class Optimizer(Described):
    """Base of optimizers: a subclass has its `kind` on the server, and in `_fields` a parser for each attribute.

    Args:
        params: a layer or model, whose parameters are looked up at each step; or variables by name; or a list of
            variables, whose names are their positions.
        hooks: applied in order before each step.
    """

    kind: str
    _fields: Mapping[str, Callable[[str, str, Any], float]]

    def __init__(self, params: Params, hooks: Sequence[Hook] = ()) -> None:
        self._source = params
        self.hooks = list(hooks)
        self._config()
        self._remote: _RemoteOptimizer | None = None

    def _arguments(self) -> Iterator[tuple[str, Any]]:
        """The number of parameters, made or not, the public attributes, and the hooks."""
        yield "params", len(self._source.slots() if isinstance(self._source, Layer) else self._source)
        yield from ((name, value) for name, value in vars(self).items() if name[0] != "_" and name != "hooks")
        if self.hooks:
            yield "hooks", self.hooks

    def params(self) -> dict[str, Variable]:
        """Return the parameters by name."""
        if isinstance(self._source, Layer):
            return self._source.params()
        if isinstance(self._source, Mapping):
            return dict(self._source)
        return {str(i): p for i, p in enumerate(self._source)}

    def step(self) -> None:
        """Update every parameter that has a gradient.

        Raises (when a value is read):
            InvalidValueError: a parameter is not a leaf; no parameter is updated.
        """
        params = self.params()
        remote = self._on_server(params)
        remote.step(self._config(), list(params.values()))

    def state_dict(self) -> dict[str, Array]:
        """Return the state by name: `t`, the number of steps, and arrays such as `velocity.linear[0].w`."""
        if self._remote is None or not self._remote.exists():
            return {"t": np.asarray(0)}
        return self._remote.state()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Replace the state by one from `state_dict`, all of it or nothing; load the model's own state first.

        Raises:
            UnknownNameError: a name is missing or unknown.
            ShapeMismatchError: a value has another shape than its parameter.
            BadAttributeError: `t` is not a non-negative integer.
        """
        remote = self._on_server(self.params())
        remote.load(state)
        remote.recorder.outbox.flush()

    def _config(self) -> dict[str, Any]:
        """Return the configuration for a command, from the present values of attributes and hooks."""
        for hook in self.hooks:
            if not isinstance(hook, Hook):
                raise NotSupportedError(
                    f"{self.kind}: hooks run on the server, which has WeightDecay and ClipGrad; {hook!r} is none of "
                    "them. Change gradients by x.grad = ... before a step"
                )
        config = {name: parse(self.kind, name, getattr(self, name)) for name, parse in self._fields.items()}
        return {"config": config, "hooks": [hook.document() for hook in self.hooks]}

    def _on_server(self, params: dict[str, Variable]) -> _RemoteOptimizer:
        """Return the optimizer on the server; make one if there is none or the parameters have changed."""
        recorder = next((p._recorder for p in params.values()), None) or current()
        for name, p in params.items():
            if p._recorder is not recorder:
                raise WrongConnectionError(f"{self.kind}: parameter {name} belongs to another connection than others")
        ids = {recorder.id_of(p): name for name, p in params.items()}
        before = self._remote
        exists = before is not None and before.recorder is recorder and before.exists()
        if before is not None and exists and before.names == ids:
            return before
        state = before.state() if before is not None and exists else {}
        after = _RemoteOptimizer(self.kind, recorder, ids, self._config())
        kept = {key: value for key, value in state.items() if key == "t" or key.partition(".")[2] in params}
        if kept:
            after.load(kept)
        self._remote = after
        return after


class _RemoteOptimizer:
    """Optimizer on the server; names: the names of its parameters by their ids."""

    def __init__(self, kind: str, recorder: Recorder, names: dict[str, str], config: dict[str, Any]) -> None:
        self.recorder, self.names = recorder, names
        self.id = recorder.outbox.new_id()
        command = {"do": "optimizer", "id": self.id, "kind": kind, "params": list(names), **config}
        self._entry = recorder.outbox.record(command)
        #: Configurations and the commands that set them: a step that is refused leaves the one before it.
        self._configured = [(config, self._entry)]

    def exists(self) -> bool:
        """Return whether the command that made it has not been refused."""
        return self._entry.error is None

    def step(self, config: dict[str, Any], params: Sequence[Variable]) -> None:
        """Record a step, with the configuration if that has changed."""
        while self._configured[-1][1].error is not None:
            self._configured.pop()
        is_new = config != self._configured[-1][0]
        with hint_scope(self.named):
            command = {"do": "step", "id": self.id, **(config if is_new else {})}
            entry = self.recorder.step(command, params, bool(config["hooks"]))
        if is_new:
            self._configured = [*self._configured[-1:], (config, entry)]

    def state(self) -> dict[str, Array]:
        """Return the state, with the names of parameters."""
        found = self.recorder.outbox.flush([self.id])[self.id]["state"]
        return {key: np.asarray(value) for key, value in _renamed(found, self.names).items()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Record a command that replaces the state."""
        ids = {name: each for each, name in self.names.items()}
        raws = {key: as_raw(value) for key, value in state.items()}
        with hint_scope(self.named):
            self.recorder.outbox.record({"do": "load", "id": self.id, "state": _renamed(raws, ids)})

    def named(self, text: str) -> str:
        """Return a message of the server with the names of parameters in place of their ids."""
        return _ID.sub(lambda found: self.names.get(found[0], found[0]), text)

    def __del__(self) -> None:
        # If the command could not be recorded, there is nothing on the server.
        if hasattr(self, "_entry"):
            self.recorder.outbox.forget(self.id, self._entry)


_ID = re.compile(r"[A-Za-z_]\w*")


def _renamed(state: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Return a state with other names of parameters, such as `velocity.v7` for `velocity.w`."""
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
        BadAttributeError: the learning rate is not a number.
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
        BadAttributeError: an argument is not a number.
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
        BadAttributeError: an argument is not a number, or a beta is not in [0, 1).
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
    """Adam, followed by p *= 1 - alpha_t * weight_decay: the decay is not added to the gradient.

    Source: Loshchilov and Hutter, Decoupled weight decay regularization (2019), algorithm 2.

    Raises:
        BadAttributeError: an argument is not a number, or a beta is not in [0, 1).
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
