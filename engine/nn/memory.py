"""What recurrent layers remember has to fit what comes next."""

from engine.core.errors import ShapeMismatchError
from engine.core.values import Shaped


def check_batch(layer: str, a: Shaped, h: Shaped) -> None:
    """Makes sure that a layer's next state has the shape of the one before; else it would be broadcast.

    Raises:
        ShapeMismatchError: it has another one.
    """
    if a.shape != h.shape:
        raise ShapeMismatchError(
            f"{layer}: x gives a state of shape {a.shape}, the call before gave {h.shape}; "
            "call reset_state() before another batch"
        )
