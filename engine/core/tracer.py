"""Tracers: stand-ins for values that hand every operation on them to a recorder.

A recorder gives them their meaning: a tape remembers operations, a forward pass carries tangents along, a batch adds an
axis, a trace writes a graph. Each has a level; where tracers of several meet in one operation, the highest level acts
first, on values in which those below are contained. So they nest in any order.
"""

from functools import partial
from operator import index
from typing import Any, NoReturn, Protocol, Self

import numpy as np

from engine.core.attributes import Attributes
from engine.core.errors import InvalidValueError, LeakedValueError, LostDerivativeError, NotScalarError
from engine.core.lost_derivatives import advice, place
from engine.core.operation import Operation
from engine.core.operators import Operators
from engine.core.values import Aval, DType, Shape, shape_of


class Recorder(Protocol):
    """Receiver of operations on tracers.

    transform: what users call it. is_over: its function has returned, and its tracers are of no use any longer.
    """

    level: int
    transform: str
    is_over: bool

    def record(self, op: Operation, args: tuple[Any, ...], attrs: Attributes, **extra: Any) -> Any:
        """Takes an operation with its operands (tracers, variables and raw values) and returns its result."""


class Tracer(Operators):
    """Stands for a value; what it is made of is its recorder's business.

    _content: the slots that make two of one recorder the same value (see `powers`); () where none do.
    """

    __slots__ = ("recorder",)
    _alone = "stop_gradient(x)"

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
    def dtype(self) -> DType:
        """The dtype."""
        raise NotImplementedError

    @property
    def _is_differentiated(self) -> bool:
        """Return whether derivatives are taken of it (see `powers`)."""
        return True

    def concrete(self) -> Any:
        """The number behind it, for Python's control flow.

        Raises:
            InvalidValueError: there is none yet, or there are many at once.
            LeakedValueError: its transform has ended.
        """
        raise NotImplementedError

    def is_differentiated(self) -> bool:
        """Return whether a derivative is carried through it, which a plain number would lose."""
        return False

    def check_alive(self) -> None:
        """Make sure that the transform it belongs to is still at work.

        Raises:
            LeakedValueError: it has ended.
        """
        check_alive(self.recorder)

    def item(self) -> Any:
        """The only element as a Python number, without a derivative; `float(x)` refuses to lose one."""
        value = self.concrete()
        if self.size != 1:
            raise NotScalarError(f"expected one element, this value has shape {self.shape}")
        return value.item() if isinstance(value, np.ndarray | np.generic) else value

    def _number(self) -> Any:
        value = self.item()
        self._check_lost("a number")
        return value

    def _check_lost(self, noun: str) -> None:
        if self.dtype.kind == "f" and self.is_differentiated():
            alone = "x.item() or stop_gradient(x)" if self.size == 1 else "stop_gradient(x)"
            raise LostDerivativeError(
                f"{self.recorder.transform}: as {noun} this value would lose its derivative"
                f"{advice() or '; compute with it as it is, by the functions of F'}, or {alone} for the value alone"
                f"{place()}"
            )

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: Any) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        raise InvalidValueError(
            f"{self.recorder.transform}: a value of its function is nothing outside of it, and is not pickled{place()}"
        )

    def __bool__(self) -> bool:
        return bool(self.item())

    def __float__(self) -> float:
        return float(self._number())

    def __complex__(self) -> complex:
        return complex(self._number())

    def __int__(self) -> int:
        return int(self._number())

    def __index__(self) -> int:
        if self.dtype == bool:
            raise TypeError("a mask is no integer; it indexes as a mask does")
        return index(self._number())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        value = self.concrete()
        self._check_lost("a NumPy array")
        return np.array(value, dtype=dtype)

    def _as_raw(self) -> Any:
        return self.__array__()

    def _as_index(self) -> Any:
        return np.asarray(self.concrete())

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else str(self)

    def __str__(self) -> str:
        if self.recorder.is_over:
            return f"traced({self._described()}, by {self.recorder.transform}, which has ended)"
        return f"traced({self._shown()}, by {self.recorder.transform})"

    __repr__ = __str__

    def _described(self) -> str:
        return f"{self.dtype}{list(self.shape)}"

    def _shown(self) -> str:
        """The value for `str`, its shape and dtype where there is none."""
        return self._described()


class Symbol(Tracer):
    """Stands for a value of which only shape and dtype are known, at a place in its recorder's graph."""

    __slots__ = ("aval", "place")
    _alone = ""

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
    def dtype(self) -> DType:
        """The dtype."""
        return self.aval.dtype

    @property
    def _is_differentiated(self) -> bool:
        return False

    def concrete(self) -> Any:
        """There is no number while a program is looked at rather than run."""
        self.check_alive()
        raise InvalidValueError(
            f"a value of shape {self.shape} is not known while a function is traced, so Python cannot branch on it or "
            f"compute with its number{advice()}; use where(condition, x, y) in place of if, and of a mask x[condition]"
            f"{place()}"
        )


def top(args: tuple[Any, ...]) -> Any:
    """The recorder of the highest level among some operands, of which one at least is a tracer."""
    found: Any = None
    for x in args:
        if isinstance(x, Tracer) and (found is None or x.recorder.level > found.level):
            found = x.recorder
    return found


def end(*recorders: Recorder) -> None:
    """Let recorders refuse operations from now on: the function that they were made for has returned."""
    for recorder in recorders:
        recorder.is_over = True
        # In place of a check in every operation. It holds the name alone, for the recorder holds it.
        recorder.record = partial(_refuse, recorder.transform)  # type: ignore[method-assign]


def check_alive(recorder: Recorder) -> None:
    """Make sure that a transform has not ended.

    Raises:
        LeakedValueError: it has.
    """
    if recorder.is_over:
        _refuse(recorder.transform)


def _refuse(transform: str, *_: Any, **__: Any) -> NoReturn:
    raise LeakedValueError(
        f"{transform}: a value of its function is used after it has ended; return it from the function "
        f"(beside the result with has_aux=True) instead of keeping it{place()}"
    )


def differentiated(value: Any) -> bool:
    """Return whether a derivative is carried through a value that a tracer holds."""
    return isinstance(value, Tracer) and value.is_differentiated()


def lowered(value: Any) -> Any:
    """A value that a tracer holds, as an operand one level below: a scalar keeps a dtype of its own there."""
    return np.float64(value) if type(value) is float else value


def concrete(value: Any) -> Any:
    """The number that a value of any kind comes down to."""
    if isinstance(value, Tracer):
        return value.concrete()
    if shape_of(value):
        return value if isinstance(value, np.ndarray) else np.asarray(value.data)
    return value.item() if hasattr(value, "item") else value


def shown(value: Any) -> str:
    """A value that a tracer holds, for `str`."""
    if isinstance(value, Tracer):
        return value._shown()
    number = concrete(value)
    return np.array2string(number, separator=" ", threshold=20) if isinstance(number, np.ndarray) else repr(number)
