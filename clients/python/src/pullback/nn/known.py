"""Facts about a parameter that can be read without a request."""

from __future__ import annotations

from pullback.core.values import Shape, shape_of
from pullback.core.variable import Variable


def known_shape(p: Variable) -> Shape | None:
    """Return the shape of a parameter; None if only the server knows it."""
    if p._raw is not None:
        return shape_of(p._raw)
    return None if p._known is None else p._known[0]
