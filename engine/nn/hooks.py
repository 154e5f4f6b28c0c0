"""Hooks: functions that an optimizer applies to all gradients together before it updates the parameters.

A hook takes the values of the parameters that have a gradient, and the gradients, both by name; it returns new ones.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np

from engine.core.attributes import NUMBER, Attribute
from engine.core.values import Value
from engine.nn.reprs import Described

Values = dict[str, Value]
Hook = Callable[[Values, Values], Values]


class WeightDecay(Described):
    """Adds rate * parameter to each gradient: the derivative of a penalty rate / 2 * parameter**2.

    >>> WeightDecay(0.5)({"w": 2.0}, {"w": 1.0})
    {'w': 2.0}
    >>> WeightDecay(0.5)
    WeightDecay(rate=0.5)

    Raises:
        BadAttributeError: a rate that is no number.
    """

    def __init__(self, rate: float) -> None:
        self.rate: float = Attribute("rate", NUMBER).parse(rate, "weight_decay")

    def _arguments(self) -> Iterator[tuple[str, object]]:
        yield "rate", self.rate

    def __call__(self, params: Values, grads: Values) -> Values:
        """Gradients with the penalty's added."""
        return {name: g + self.rate * params[name] for name, g in grads.items()}


class ClipGrad(Described):
    """Scales all gradients by one factor where their common norm is above `max`; below it they stay as they are.

    The factor is max / (norm + 1e-6).
    Source: Pascanu, Mikolov and Bengio, On the difficulty of training recurrent neural networks (2013).

    >>> ClipGrad(1.0)({}, {"w": 0.5, "b": 0.25})
    {'w': 0.5, 'b': 0.25}

    Raises:
        BadAttributeError: a `max` that is no number.
    """

    def __init__(self, max: float) -> None:
        self.max: float = Attribute("max", NUMBER).parse(max, "clip_grad")

    def _arguments(self) -> Iterator[tuple[str, object]]:
        yield "max", self.max

    def __call__(self, params: Values, grads: Values) -> Values:
        """Gradients, scaled where they are too large."""
        norm = math.sqrt(sum(float(np.vdot(g, g)) for g in grads.values()))
        factor = self.max / (norm + 1e-6)
        return grads if factor >= 1.0 else {name: g * factor for name, g in grads.items()}


#: kind -> hook, as documents name them
HOOKS: dict[str, Callable[..., Hook]] = {"weight_decay": WeightDecay, "clip_grad": ClipGrad}
