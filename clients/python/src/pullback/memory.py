"""What recurrent layers remember has to fit what comes next: the server looks, with the rest of the run."""

from __future__ import annotations

from typing import Any

from pullback.recorder import hinted
from pullback.table import CALLS


def check_batch(layer: str, a: Any, h: Any) -> None:
    """Makes sure that a layer's next state has the shape of the one before; else it would be broadcast.

    Nothing is looked at here: only what has one shape can be stacked.

    Raises (where a value is looked at):
        ShapeMismatchError: it has another one.
    """
    with hinted(
        f"{layer}: x gives a state of another shape than the call before; call reset_state() before another batch"
    ):
        CALLS["stack"](a, h)
