"""Tracers: stand-ins for values that hand every operation on them to a recorder.

A recorder gives them their meaning: a tape remembers operations, a forward pass carries tangents along, a batch adds an
axis, a trace writes a graph. Each has a level; where tracers of several meet in one operation, the highest level acts
first, on values in which those below are contained. So they nest in any order.
"""

from operator import index
from typing import Any, NoReturn, Protocol

import numpy as np

from engine.errors import InvalidValueError
from engine.operators import Operators
from engine.values import Aval, Shape, shape_of


class Recorder(Protocol):
    """What operations on tracers are handed to."""

    level: int

    def record(self, op: Any, args: tuple[Any, ...], attrs: dict[str, Any], **extra: Any) -> Any:
        """Takes an operation with its operands (tracers, variables and raw values) and returns its result."""


class Tracer(Operators):
    """Stands for a value; what it is made of is its recorder's business.

    _content: the slots that make two of one recorder the same value (see `powers`); () where none do.
    """

    __slots__ = ("recorder",)

    _content: tuple[str, ...] = ()
    recorder: Any
    #: Whether it is on a tape, and whether there is a derivative beside its value.
    is_taped = False
    carries_derivative = False

    @property
    def held(self) -> tuple[Any, ...]:
        """The values that it is made of, its own first."""
        return ()

    @property
    def shape(self) -> Shape:
        """Lengths of the axes."""
        raise NotImplementedError

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype."""
        raise NotImplementedError

    @property
    def _is_differentiated(self) -> bool:
        """Whether derivatives are taken of it (see `powers`)."""
        return True

    def concrete(self) -> Any:
        """The number behind it, for Python's control flow.

        Raises:
            InvalidValueError: there is none yet, or there are many at once.
        """
        raise NotImplementedError

    def __bool__(self) -> bool:
        return bool(self.concrete())

    def __float__(self) -> float:
        return float(self.concrete())

    def __int__(self) -> int:
        return int(self.concrete())

    def __index__(self) -> int:
        return index(self.concrete())

    def item(self) -> Any:
        """The only element as a Python number."""
        value = self.concrete()
        return value if type(value) is float else value.item()

    def __array__(self, *args: Any, **keywords: Any) -> NoReturn:
        raise InvalidValueError("a NumPy function would lose the derivative; use engine.functions")


class Symbol(Tracer):
    """Stands for a value of which only shape and dtype are known, at a place in its recorder's graph."""

    __slots__ = ("aval", "place")

    _content = ("place",)

    def __init__(self, aval: Aval, recorder: Recorder, place: int = -1) -> None:
        self.aval = aval
        self.recorder = recorder
        self.place = place

    @property
    def shape(self) -> Shape:
        """Lengths of the axes."""
        return self.aval.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype."""
        return self.aval.dtype

    @property
    def _is_differentiated(self) -> bool:
        return False

    def concrete(self) -> Any:
        """There is no number while a program is looked at rather than run."""
        raise InvalidValueError(
            f"a value of shape {self.shape} is not known while a function is traced, so Python cannot branch on it; "
            "use where(condition, x, y)"
        )


def top(args: tuple[Any, ...]) -> Any:
    """The recorder of the highest level among some operands, of which one at least is a tracer."""
    return max((x.recorder for x in args if isinstance(x, Tracer)), key=_level)


def _level(recorder: Recorder) -> int:
    return recorder.level


def lowered(value: Any) -> Any:
    """A value that a tracer holds, as an operand one level below: a scalar keeps a dtype of its own there."""
    return np.float64(value) if type(value) is float else value


def concrete(value: Any) -> Any:
    """The number that a value of any kind comes down to."""
    if isinstance(value, Tracer):
        return value.concrete()
    if shape_of(value):
        return np.asarray(getattr(value, "data", value))
    return value.item() if hasattr(value, "item") else value
