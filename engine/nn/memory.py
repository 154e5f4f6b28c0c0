"""Check of the state that recurrent layers remember against their next input."""

from engine.core.errors import ShapeMismatchError
from engine.core.values import Shaped


def check_batch(layer: str, a: Shaped, h: Shaped) -> None:
    """Check that the next state of a layer has the shape of the previous one; otherwise it would be broadcast.

    Raises:
        ShapeMismatchError: it has another shape.
    """
    if a.shape != h.shape:
        raise ShapeMismatchError(
            f"{layer}: x gives a state of shape {a.shape}, the call before gave {h.shape}; "
            "call reset_state() before another batch"
        )
