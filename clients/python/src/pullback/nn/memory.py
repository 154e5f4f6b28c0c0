"""What recurrent layers remember has to fit what comes next: the server looks, with the rest of the run."""

from __future__ import annotations

import re
from typing import Any

from pullback.core.table import CALLS
from pullback.recording.entries import hinted


def check_batch(layer: str, a: Any, h: Any) -> None:
    """Makes sure that a layer's next state has the shape of the one before; else it would be broadcast.

    Nothing is looked at here: only what has one shape can be stacked.

    Raises (where a value is looked at):
        ShapeMismatchError: it has another one.
    """

    def told(detail: str) -> str:
        shapes = re.findall(r"\([\d, ]*\)", detail)
        if len(shapes) != 2:
            return detail
        return (
            f"{layer}: x gives a state of shape {shapes[0]}, the call before gave {shapes[1]}; "
            "call reset_state() before another batch"
        )

    with hinted(told):
        CALLS["stack"](a, h)
