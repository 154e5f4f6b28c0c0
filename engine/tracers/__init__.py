"""Tracers for reverse mode, forward mode and batching, over values of any kind."""

from engine.tracers.batching import (
    Batch,
    Batched,
    aligned,
    flattened,
    leading,
    loop,
    permuted,
    raised,
    repeated,
    reshaped,
)
from engine.tracers.forward import Forward
from engine.tracers.reverse import Tape, Taped

__all__ = [
    "Batch",
    "Batched",
    "Forward",
    "Tape",
    "Taped",
    "aligned",
    "flattened",
    "leading",
    "loop",
    "permuted",
    "raised",
    "repeated",
    "reshaped",
]
