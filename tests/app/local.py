"""The commands of a session done by plain calls of the engine: what the server is compared with."""

from __future__ import annotations

from typing import Any

import numpy as np

from engine import Variable, no_grad, test_mode
from engine import functions as F
from engine.nn.hooks import HOOKS
from engine.nn.layers import LAYERS, Layer
from engine.nn.models import MODELS
from engine.nn.optimizers import OPTIMIZERS, Optimizer
from engine.nn.state import load_state_dict, state_dict


class Local:
    """A session without a server."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.ids: dict[str, Any] = {}
        self.nograd, self.train = False, True
        self.params: dict[str, Any] = {}

    def drawing(self) -> dict[str, Any]:
        """Where dropout draws from."""
        return {"rng": self.rng}

    def __getitem__(self, name: str) -> Any:
        owner, _, path = name.partition(".")
        return self.ids[owner].params()[path] if path else self.ids[name]

    def given(self, arg: Any) -> Any:
        if isinstance(arg, str):
            held = self[arg]
            return np.float64(held) if type(held) is float else held
        return np.array(arg) if isinstance(arg, list) else arg

    def do(self, command: dict[str, Any]) -> None:
        fields = {key: value for key, value in command.items() if key != "do"}
        getattr(self, command["do"])(**fields)

    def variable(self, id: str, value: Any, name: str | None = None, constant: bool = False) -> None:
        v = Variable(value, name=name)
        self.ids[id] = v.data if constant else v

    def apply(
        self, out: list[str], op: str = "", args: Any = (), attrs: dict[str, Any] | None = None, expr: str = ""
    ) -> None:
        def run() -> Any:
            if expr:
                functions = {name: getattr(F, name) for name in dir(F)}
                names = {
                    name: self.given(name) for name in self.ids if not isinstance(self.ids[name], Layer | Optimizer)
                }
                if "dropout" in expr:
                    functions["dropout"] = lambda x, ratio=0.5: F.dropout(x, ratio=ratio, **self.drawing())
                return eval(expr, functions, names)
            more = self.drawing() if op == "dropout" else {}
            return getattr(F, op)(*map(self.given, args), **(attrs or {}), **more)

        found = self.flagged(run)
        found = found if isinstance(found, tuple) else (found,)
        self.ids |= dict(zip(out, found, strict=True))

    def flagged(self, run: Any) -> Any:
        if self.nograd:
            with no_grad():
                return run()
        if not self.train:
            with test_mode():
                return run()
        return run()

    def backward(self, of: str, cotangent: Any = None, **options: bool) -> None:
        seed = self[cotangent] if isinstance(cotangent, str) else cotangent
        self.flagged(lambda: self[of].backward(cotangent=seed, **options))

    def grad(self, of: str, out: str) -> None:
        self.ids[out] = self[of].grad

    def assign(self, id: str, **given: Any) -> None:
        data = given["value"] if "value" in given else self[given["from"]]
        data = data.data if isinstance(data, Variable) else data
        v = self[id]
        if isinstance(v, Variable):
            v.unchain()
            v.data = data
        else:
            self.ids[id] = Variable(data).data

    def cleargrad(self, ids: list[str] | None = None) -> None:
        for name in self.ids if ids is None else ids:
            held = self[name]
            if isinstance(held, Layer):
                held.cleargrads()
            elif isinstance(held, Variable):
                held.cleargrad()

    def unchain(self, id: str) -> None:
        self[id].unchain()

    def unchain_backward(self, id: str) -> None:
        self[id].unchain_backward()

    def delete(self, ids: list[str]) -> None:
        for name in ids:
            del self.ids[name]

    def set(self, nograd: bool | None = None, train: bool | None = None) -> None:
        self.nograd = self.nograd if nograd is None else nograd
        self.train = self.train if train is None else train

    def layer(self, id: str, kind: str, config: dict[str, Any]) -> None:
        self.ids[id] = LAYERS[kind](**config, rng=self.rng)

    def model(self, id: str, kind: str, config: dict[str, Any]) -> None:
        self.ids[id] = MODELS[kind](**config, rng=self.rng)

    def call(self, id: str, args: list[Any], out: list[str]) -> None:
        self.ids[out[0]] = self.flagged(lambda: self.ids[id](*map(self.given, args)))

    def reset_state(self, id: str) -> None:
        self.ids[id].reset_state()

    def load(self, id: str, state: dict[str, Any]) -> None:
        held = self.ids[id]
        if isinstance(held, Optimizer):
            held.load_state_dict(state)
        else:
            load_state_dict(held, state)

    def optimizer(self, id: str, kind: str, params: Any, config: Any = None, hooks: Any = ()) -> None:
        made = [HOOKS[hook["kind"]](**{k: v for k, v in hook.items() if k != "kind"}) for hook in hooks]
        source = self.ids[params] if isinstance(params, str) else {name: self[name] for name in params}
        self.ids[id] = OPTIMIZERS[kind](source, **(config or {}), hooks=made)

    def step(self, id: str) -> None:
        self.ids[id].step()

    def seen(self) -> dict[str, Any]:
        """Values and gradients of all there is."""
        return {name: _seen(held) for name, held in self.ids.items()}


def _seen(held: Any) -> Any:
    if isinstance(held, Layer):
        return {"state": {name: np.asarray(x) for name, x in state_dict(held).items()}}
    if isinstance(held, Optimizer):
        return {"state": {name: np.asarray(x) for name, x in held.state_dict().items()}}
    if isinstance(held, Variable):
        return {"value": np.asarray(held.data), "grad": None if held.grad is None else np.asarray(held.grad.data)}
    return {"value": np.asarray(held), "grad": None}
