"""Tracers for reverse mode, forward mode and batching, over values of any kind."""

from engine.tracers.batching import Batch
from engine.tracers.forward import Forward
from engine.tracers.reverse import Tape

__all__ = ["Batch", "Forward", "Tape"]
