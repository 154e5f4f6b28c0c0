"""Python's operators for variables and traced values, written once."""

import math
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from .attributes import Axes, Given
from .errors import InvalidValueError
from .lost_derivatives import function_name, numpy_refusal, place
from .table import CALLS
from .trees import Function
from .values import DType, Shape, Value, as_dtype

#: A variable, or a traced value: operators return the same kind.
S = TypeVar("S", bound="Operators")
#: Result of operations: an operand of some kind, as their operands are. `Any`, as callers need not tell which.
Result = Any


def _mask(symbol: str, *masks: Given) -> Given:
    """Check that all operands of a bitwise operator are masks; return the first.

    Raises:
        InvalidValueError: an operand is not a mask.
    """
    for mask in masks:
        if str(getattr(mask, "dtype", type(mask).__name__)) != "bool":
            raise InvalidValueError(f"{symbol}: expected masks (dtype bool), got {getattr(mask, 'dtype', mask)}")
    return masks[0]


def _is_flag(index: Given) -> bool:
    """Return whether an index is a single boolean."""
    if hasattr(index, "_as_index"):
        return bool(index.shape == () and index.dtype == bool)
    return isinstance(index, bool | np.bool_)


#: With an array on the left, Python's operators arrive here as ufuncs.
_OPERATORS: dict[np.ufunc, str] = {
    np.add: "add",
    np.subtract: "sub",
    np.multiply: "mul",
    np.divide: "div",
    np.floor_divide: "floor_divide",
    np.remainder: "remainder",
    np.power: "pow",
    np.matmul: "matmul",
    np.less: "less",
    np.less_equal: "less_equal",
    np.greater: "greater",
    np.greater_equal: "greater_equal",
    np.equal: "equal",
    np.not_equal: "not_equal",
}
_OTHER_OPERATORS: dict[np.ufunc, Function] = {
    np.divmod: lambda x, y: (CALLS["floor_divide"](x, y), CALLS["remainder"](x, y)),
    np.bitwise_and: lambda x, y: CALLS["logical_and"](_mask("&", x, y), y),
    np.bitwise_or: lambda x, y: CALLS["logical_or"](_mask("|", x, y), y),
    np.bitwise_xor: lambda x, y: CALLS["logical_xor"](_mask("^", x, y), y),
}
#: NumPy functions that need no values.
_QUERIES: dict[Function, Function] = {
    np.shape: lambda x: x.shape,
    np.ndim: lambda x: x.ndim,
    np.size: lambda x, axis=None: x.size if axis is None else x.shape[axis],
}


def _left(name: str) -> Callable[[S, Given], S]:
    """Return the method of a binary operator for a value on its left."""

    def method(self: Given, other: Given) -> Result:
        return CALLS[name](self, other)

    return method


def _right(name: str) -> Callable[[S, Given], S]:
    """Return the method of a binary operator for a value on its right."""

    def method(self: Given, other: Given) -> Result:
        return CALLS[name](other, self)

    return method


def _left_mask(name: str, symbol: str) -> Callable[[S, Given], S]:
    """Return the method of an operator of masks for a mask on its left."""

    def method(self: Given, other: Given) -> Result:
        return CALLS[name](self, _mask(symbol, other, self))

    return method


def _right_mask(name: str, symbol: str) -> Callable[[S, Given], S]:
    """Return the method of an operator of masks for a mask on its right."""

    def method(self: Given, other: Given) -> Result:
        return CALLS[name](_mask(symbol, other, self), self)

    return method


class Operators:
    """Mixin: each Python operator calls the corresponding row of the table."""

    __slots__ = ()
    __hash__ = object.__hash__

    #: Expression for the value without its derivative, for messages.
    _alone = "x.data"

    @property
    def shape(self) -> Shape:
        """Lengths of the axes."""
        raise NotImplementedError

    @property
    def dtype(self) -> DType:
        """The dtype."""
        raise NotImplementedError

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Given, **keywords: object) -> Result:
        name = _OPERATORS.get(ufunc)
        if name is not None and not keywords and method == "__call__":
            return CALLS[name](*inputs)
        operation = name or _OTHER_OPERATORS.get(ufunc)
        if operation is not None and "out" in keywords:
            raise InvalidValueError(
                f"np.{ufunc.__name__}: an array of NumPy's holds no derivative, so nothing is added or written into it "
                f"in place; write y = y + x in place of y += x{place()}"
            )
        if callable(operation) and method == "__call__" and not keywords:
            return operation(*inputs)
        raise numpy_refusal(ufunc.__name__ if method == "__call__" else f"{ufunc.__name__}.{method}", self._alone)

    def __array_function__(
        self, function: Function, types: object, args: tuple[Given, ...], keywords: dict[str, Given]
    ) -> Result:
        query = _QUERIES.get(function)
        if query is not None:
            return query(*args, **keywords)
        raise numpy_refusal(function_name(function), self._alone)

    def _as_raw(self) -> Value:
        """Return the value in a form that `as_raw` accepts."""
        return self.data  # type: ignore[attr-defined]

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def __len__(self) -> int:
        if not self.shape:
            raise InvalidValueError("len: a scalar has no length")
        return self.shape[0]

    def __iter__(self: S) -> Iterator[S]:
        return (self[i] for i in range(len(self)))

    def __neg__(self: S) -> S:
        return CALLS["neg"](self)

    def __pos__(self: S) -> S:
        return self

    def __abs__(self: S) -> S:
        return CALLS["abs"](self)

    __add__, __radd__ = _left("add"), _right("add")
    __sub__, __rsub__ = _left("sub"), _right("sub")
    __mul__, __rmul__ = _left("mul"), _right("mul")
    __truediv__, __rtruediv__ = _left("div"), _right("div")
    __floordiv__, __rfloordiv__ = _left("floor_divide"), _right("floor_divide")
    __mod__, __rmod__ = _left("remainder"), _right("remainder")
    __pow__, __rpow__ = _left("pow"), _right("pow")
    __matmul__, __rmatmul__ = _left("matmul"), _right("matmul")
    __lt__, __gt__ = _left("less"), _left("greater")
    __le__, __ge__ = _left("less_equal"), _left("greater_equal")
    __and__, __rand__ = _left_mask("logical_and", "&"), _right_mask("logical_and", "&")
    __or__, __ror__ = _left_mask("logical_or", "|"), _right_mask("logical_or", "|")
    __xor__, __rxor__ = _left_mask("logical_xor", "^"), _right_mask("logical_xor", "^")

    def __invert__(self: S) -> S:
        return CALLS["logical_not"](_mask("~", self))

    def __divmod__(self: S, other: Given) -> tuple[S, S]:
        return self // other, self % other

    def __rdivmod__(self: S, other: Given) -> tuple[S, S]:
        return other // self, other % self

    def __round__(self: S, digits: object = None) -> S:
        if digits is not None:
            raise InvalidValueError("round: to whole numbers only; write F.round(x * 10**n) / 10**n for n digits")
        return CALLS["round"](self)

    def __eq__(self, other: Given) -> Result:
        if other is None:
            return False
        return CALLS["equal"](self, other)

    def __ne__(self, other: Given) -> Result:
        if other is None:
            return True
        return CALLS["not_equal"](self, other)

    def __getitem__(self: S, index: Given) -> S:
        if _is_flag(index):
            # By itself, True inserts a new axis of length 1 and False one of length 0.
            whole = CALLS["slice"](self, (None,))
            return whole if index else CALLS["slice"](whole, (slice(0, 0),))
        return CALLS["slice"](self, index if isinstance(index, tuple) else (index,))

    @property
    def T(self: S) -> S:
        """The value with its axes in reverse order."""
        return CALLS["transpose"](self)

    def astype(self: S, dtype: npt.DTypeLike) -> S:
        """Convert to another dtype; differentiable between floating dtypes."""
        return CALLS["astype"](self, str(as_dtype(dtype)))

    def reshape(self: S, *shape: Given) -> S:
        """Reshape to `shape`, given as a tuple or as separate integers; one length may be -1."""
        return CALLS["reshape"](self, shape[0] if len(shape) == 1 else shape)

    def sum(self: S, axes: Axes = None, keepdims: bool = False) -> S:
        """Sum over `axes`; None for all."""
        return CALLS["sum"](self, axes=axes, keepdims=keepdims)

    def mean(self: S, axes: Axes = None, keepdims: bool = False) -> S:
        """Mean over `axes`; None for all."""
        return CALLS["mean"](self, axes=axes, keepdims=keepdims)
