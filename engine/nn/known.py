"""Facts about a parameter that can be read without computing anything."""

from engine.core.values import Shape
from engine.core.variable import Variable


def known_shape(p: Variable) -> Shape | None:
    """Return the shape of a parameter."""
    return p.shape
