"""Tracers: stand-ins for values that pass every operation on them to a recorder.

The recorder defines their meaning: a tape records operations for reverse mode, forward mode computes tangents, a batch
adds an axis, a trace records steps. Each recorder has a level. If tracers of several recorders are operands of one
operation, the recorder of the highest level runs first, on values that contain the tracers of lower levels. Thus
transforms nest in any order.
"""

from functools import partial
from operator import index
from typing import Any, NoReturn, Protocol, Self

import numpy as np
import numpy.typing as npt

from engine.core.attributes import Attributes
from engine.core.errors import InvalidValueError, LeakedValueError, LostDerivativeError, NotScalarError
from engine.core.lost_derivatives import advice, place
from engine.core.operation import Operation
from engine.core.operators import Operators
from engine.core.values import Array, Aval, DType, Operand, Shape, Value, shape_of


class Recorder(Protocol):
    """Receiver of operations on tracers.

    transform: its name for users. is_over: its function has returned, and its tracers have expired.
    """

    level: int
    transform: str
    is_over: bool

    def record(self, op: Operation, args: tuple[Operand, ...], attrs: Attributes, **extra: Any) -> "Tracer":
        """Run or record an operation on tracers, variables and raw values; return its result."""


class Tracer(Operators):
    """Stand-in for a value; its recorder defines its content.

    _content: slots that must agree for two tracers of one recorder to be the same value (see `powers`); () if two
    tracers never are.
    """

    __slots__ = ("recorder",)
    _alone = "stop_gradient(x)"

    _content: tuple[str, ...] = ()
    recorder: Any
    #: True for a value on a tape, and for a value that carries a derivative.
    is_taped = False
    carries_derivative = False

    @property
    def held(self) -> tuple[Operand | None, ...]:
        """The values that the tracer holds, its primal first."""
        return ()

    @property
    def _may_be_differentiated(self) -> bool:
        """True if derivatives of the value are taken (see `powers`)."""
        return True

    def concrete(self) -> Value:
        """Return the number that the tracer represents, for Python's control flow.

        Raises:
            InvalidValueError: the number is not known yet (tracing), or differs from row to row (batching).
            LeakedValueError: its transform has ended.
        """
        raise NotImplementedError

    def is_differentiated(self) -> bool:
        """Return whether it carries a derivative, which a plain number would lose."""
        return False

    def check_alive(self) -> None:
        """Check that its transform has not ended.

        Raises:
            LeakedValueError: the transform has ended.
        """
        check_alive(self.recorder)

    def item(self) -> Value:
        """Return the only element as a Python number, without its derivative; `float(x)` raises instead of losing it.

        Raises:
            NotScalarError: there are several elements, or none.
        """
        value = self.concrete()
        if self.size != 1:
            raise NotScalarError(f"expected one element, this value has shape {self.shape}")
        return value.item() if isinstance(value, np.ndarray | np.generic) else value

    def _number(self) -> Value:
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

    def __deepcopy__(self, memo: object) -> Self:
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

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:
        value = self.concrete()
        self._check_lost("a NumPy array")
        return np.array(value, dtype=dtype)

    def _as_raw(self) -> Value:
        return self.__array__()

    def _as_index(self) -> Array:
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
        """Return the value for `str`, or its shape and dtype if there is no value."""
        return self._described()


class Symbol(Tracer):
    """Traced value: shape and dtype without a number, at an index of its recorder's trace."""

    __slots__ = ("aval", "index")
    _alone = ""

    _content = ("index",)

    def __init__(self, aval: Aval, recorder: Recorder, index: int = -1) -> None:
        self.aval = aval
        self.recorder = recorder
        self.index = index

    @property
    def shape(self) -> Shape:
        """Lengths of the axes."""
        return self.aval.shape

    @property
    def dtype(self) -> DType:
        """The dtype."""
        return self.aval.dtype

    @property
    def _may_be_differentiated(self) -> bool:
        return False

    def concrete(self) -> Value:
        """Raise, as the number is not known while a function is traced.

        Raises:
            InvalidValueError: always, if the trace is in progress.
            LeakedValueError: the trace has ended.
        """
        self.check_alive()
        raise InvalidValueError(
            f"a value of shape {self.shape} is not known while a function is traced, so Python cannot branch on it or "
            f"compute with its number{advice()}; use where(condition, x, y) in place of if, and of a mask x[condition]"
            f"{place()}"
        )


def top(args: tuple[object, ...]) -> Any:
    """Return the recorder of the highest level among some operands, at least one of which is a tracer."""
    found: Any = None
    for x in args:
        if isinstance(x, Tracer) and (found is None or x.recorder.level > found.level):
            found = x.recorder
    return found


def end(*recorders: Recorder) -> None:
    """End recorders, as their function has returned: from now on they refuse operations."""
    for recorder in recorders:
        recorder.is_over = True
        # This avoids a check in every operation. It binds the name, as binding the recorder would make a cycle.
        recorder.record = partial(_refuse, recorder.transform)  # type: ignore[method-assign]


def check_alive(recorder: Recorder) -> None:
    """Check that a transform has not ended.

    Raises:
        LeakedValueError: the transform has ended.
    """
    if recorder.is_over:
        _refuse(recorder.transform)


def _refuse(transform: str, *_: object, **__: object) -> NoReturn:
    raise LeakedValueError(
        f"{transform}: a value of its function is used after it has ended; return it from the function "
        f"(beside the result with has_aux=True) instead of keeping it{place()}"
    )


def is_differentiated(value: object) -> bool:
    """Return whether a value held by a tracer carries a derivative."""
    return isinstance(value, Tracer) and value.is_differentiated()


def as_strong(value: Value) -> Value:
    """Return a value held by a tracer as an operand one level below: a float becomes a strong float64 scalar."""
    return np.float64(value) if type(value) is float else value


def concrete(value: Any) -> Value:
    """Return the number or array that a value of any kind represents."""
    if isinstance(value, Tracer):
        return value.concrete()
    if shape_of(value):
        return value if isinstance(value, np.ndarray) else np.asarray(value.data)
    return value.item() if hasattr(value, "item") else value


def shown(value: object) -> str:
    """Return the text of a value held by a tracer, for `str`."""
    if isinstance(value, Tracer):
        return value._shown()
    number = concrete(value)
    return np.array2string(number, separator=" ", threshold=20) if isinstance(number, np.ndarray) else repr(number)
