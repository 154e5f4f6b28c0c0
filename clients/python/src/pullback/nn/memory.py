"""Check of the state of recurrent layers against the next batch; the server does it, as part of the run."""

from __future__ import annotations

import re
from typing import Any

from pullback.core.table import CALLS
from pullback.recording.entries import hint_scope


def check_batch(layer: str, a: Any, h: Any) -> None:
    """Check that the next state `a` of a layer has the shape of its state `h`; otherwise it would be broadcast.

    The check is a recorded `stack`, which requires equal shapes, so that it takes no request of its own.

    Raises (when a value is read):
        ShapeMismatchError: the shapes differ.
    """

    def explain(detail: str) -> str:
        shapes = re.findall(r"\([\d, ]*\)", detail)
        if len(shapes) != 2:
            return detail
        return (
            f"{layer}: x gives a state of shape {shapes[0]}, the call before gave {shapes[1]}; "
            "call reset_state() before another batch"
        )

    with hint_scope(explain):
        CALLS["stack"](a, h)
