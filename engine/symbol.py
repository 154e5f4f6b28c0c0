"""Symbol: a value of which only shape and dtype are known; operations on it are handed to its recorder."""

from typing import Any, Protocol

import numpy as np

from engine.operators import Operators
from engine.values import Aval, Shape


class Recorder(Protocol):
    """What an operation on symbols is handed to."""

    def record(self, op: Any, args: tuple[Any, ...], attrs: dict[str, Any]) -> "Symbol":
        """Takes the operation with its operands (symbols, and raw values for constants) and returns its result."""


class Symbol(Operators):
    """Stands for a value while a program is looked at rather than run."""

    __slots__ = ("aval", "recorder")

    def __init__(self, aval: Aval, recorder: Recorder) -> None:
        self.aval = aval
        self.recorder = recorder

    @property
    def shape(self) -> Shape:
        """Lengths of the axes."""
        return self.aval.shape

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.aval.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype."""
        return self.aval.dtype
