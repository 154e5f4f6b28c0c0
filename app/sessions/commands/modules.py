"""Commands that make, call and load layers and models."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field, StrictStr

from app.sessions.commands.base import Command, Id, IdOrValue, Ids, Made, bind_all, check_elements, operand_of, value_of
from app.sessions.commands.kinds import Config, check_config, check_kind
from app.sessions.session import MODULES, Module, Session
from app.wire.schemas import Value
from engine.core import FLOAT64, ArityError, shape_of
from engine.graph import quoted
from engine.nn import Layer, Linear, Unmade, load_state_dict

#: Values per linear layer: its result, and those of gates and activations.
_VALUES_PER_LINEAR = 4
#: Stands for any larger number, infinity included.
_UNLIMITED = 2.0**62


class _MakeModule(Command):
    """Base of the commands that make layers and models."""

    id: Id
    kind: StrictStr
    config: Config

    def run(self, session: Session) -> Made:
        """See `Command`."""
        makers = MODULES[self.name_of]
        check_kind(self.name_of, self.kind, makers)
        check_config(self.kind, self.config, makers[self.kind])
        _check_sizes(session, self.config)
        layer = makers[self.kind](**self.config, rng=session.rng)
        session.bind(self.id, Module(self.name_of, self.kind, dict(self.config), layer), ("id",))
        return ()


class MakeLayer(_MakeModule, do="layer"):
    """A layer, whose parameters are variables `l.w`."""


class MakeModel(_MakeModule, do="model"):
    """A model, whose parameters are variables `m.linear[0].w`."""


class Call(Command, do="call"):
    """Call a layer or a model."""

    id: Id
    args: list[IdOrValue] = Field(description="Ids or values.")
    out: Ids | None = Field(None, description="Default: v1, v2, ...")

    def run(self, session: Session) -> Made:
        """See `Command`."""
        layer = session.module(self.id, ("id",)).layer
        if len(self.args) != 1:
            raise ArityError(f"{quoted(self.id)}: got {len(self.args)} arguments; expected 1", ("args",))
        x = operand_of(session, self.args[0], ("args", 0))
        _check_call(session, layer, shape_of(x))
        with session.mode():
            y = layer(x)
        return bind_all(session, [y], self.out)


class ResetState(Command, do="reset_state"):
    """Reset the state of recurrent layers."""

    id: Id

    def run(self, session: Session) -> Made:
        """See `Command`."""
        session.module(self.id, ("id",)).layer.reset_state()
        return ()


class Load(Command, do="load"):
    """Load a state into a layer, a model or an optimizer."""

    id: Id
    state: dict[str, Value] = Field(description="Values by name, as fetch gives them.")

    def run(self, session: Session) -> Made:
        """See `Command`."""
        raws = {name: value_of(session, value, ("state", name)) for name, value in self.state.items()}
        load_state(session, self.id, raws)
        return ()


def load_state(session: Session, name: str, state: Mapping[str, Any]) -> None:
    """Load the values of a state into a layer, a model or an optimizer; raises like `load_state_dict`."""
    held = session.find(name, ("id",))
    if isinstance(held, Module):
        load_state_dict(held.layer, state)
    else:
        session.steps(name, ("id",)).optimizer.load_state_dict(state)


def _check_sizes(session: Session, config: Mapping[str, Any]) -> None:
    """Raise LimitExceededError if a parameter that is made at once would be too large."""
    given = [n for value in config.values() for n in (value if isinstance(value, list) else [value])]
    needed = max(map(_size, given), default=0.0)
    for key in ("hidden_size", "in_size"):
        needed *= max(_size(config.get(key)), 1.0)
    check_elements(session, int(min(needed, _UNLIMITED)))


def _size(value: Any) -> float:
    """Return a number of units, 2 or 2.0, as a float; 0 for anything else, which the layer refuses."""
    return float(value) if type(value) in (int, float) and value > 0 else 0.0


def _check_call(session: Session, layer: Layer, shape: Sequence[int]) -> None:
    """Raise LimitExceededError if a call would make too large a value, weights of the first call included."""
    linears = [found for found in layer.layers().values() if isinstance(found, Linear)]
    widths = [found._out_size for found in linears]
    rows, last = math.prod(shape[:-1]), shape[-1] if shape else 0
    made = 0
    for n, found in enumerate(linears):
        check_elements(session, rows * widths[n])
        if isinstance(found.w, Unmade):
            inputs = max([last, *widths[:n], *widths[n + 1 :]])
            check_elements(session, inputs * widths[n])
            made += inputs * widths[n]
        made += _VALUES_PER_LINEAR * rows * widths[n]
    session.spend(made * FLOAT64.itemsize)
