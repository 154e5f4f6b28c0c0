"""Hooks: changes that an optimizer makes to all gradients before it updates the parameters, on the server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from pullback.core.attributes import NUMBER, Attribute
from pullback.nn.reprs import Described


class Hook(Described):
    """Base of hooks: `kind` is the name of the hook on the server, `_field` that of its only attribute."""

    kind: str
    _field: str

    def document(self) -> dict[str, Any]:
        """Return the hook as part of a command, with the present value of its attribute."""
        value = Attribute(self._field, NUMBER).parse(getattr(self, self._field), self.kind)
        return {"kind": self.kind, self._field: value}

    def _arguments(self) -> Iterator[tuple[str, Any]]:
        yield self._field, getattr(self, self._field)


class WeightDecay(Hook):
    """Add rate * parameter to each gradient: the derivative of a penalty rate / 2 * parameter**2.

    >>> WeightDecay(0.5)
    WeightDecay(rate=0.5)

    Raises:
        BadAttributeError: `rate` is not a number.
    """

    kind = "weight_decay"
    _field = "rate"

    def __init__(self, rate: float) -> None:
        self.rate: float = Attribute("rate", NUMBER).parse(rate, self.kind)


class ClipGrad(Hook):
    """Scale all gradients by one factor if their common norm is above `max`.

    The factor is max / (norm + 1e-6).
    Source: Pascanu, Mikolov and Bengio, On the difficulty of training recurrent neural networks (2013).

    Raises:
        BadAttributeError: `max` is not a number.
    """

    kind = "clip_grad"
    _field = "max"

    def __init__(self, max: float) -> None:
        self.max: float = Attribute("max", NUMBER).parse(max, self.kind)


#: kind -> hook, as documents name them
HOOKS: dict[str, Callable[..., Hook]] = {"weight_decay": WeightDecay, "clip_grad": ClipGrad}
