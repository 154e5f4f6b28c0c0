# The engine's own code, from engine/operators.py by `make mirror`: do not edit.
"""Python's operators for everything that stands for a value: written once, for `Variable` and `Symbol` alike."""

import math
from typing import Any

from pullback.errors import InvalidValueError
from pullback.table import CALLS
from pullback.values import as_dtype


def _mask(symbol: str, *masks: Any) -> Any:
    """The first of some masks; bitwise operators are for masks alone.

    Raises:
        InvalidValueError: one of them is no mask.
    """
    for mask in masks:
        if str(getattr(mask, "dtype", type(mask).__name__)) != "bool":
            raise InvalidValueError(f"{symbol}: expected masks (dtype bool), got {getattr(mask, 'dtype', mask)}")
    return masks[0]


class Operators:
    """Mixin: each operator calls the table's row of that meaning."""

    __slots__ = ()
    __hash__ = object.__hash__
    # NumPy hands its operators over to ours instead of looping over elements.
    __array_ufunc__ = None

    shape: Any

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
        length: int = self.shape[0]
        return length

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    def __neg__(self) -> Any:
        return CALLS["neg"](self)

    def __pos__(self) -> Any:
        return self

    def __abs__(self) -> Any:
        return CALLS["abs"](self)

    def __add__(self, other: Any) -> Any:
        return CALLS["add"](self, other)

    def __radd__(self, other: Any) -> Any:
        return CALLS["add"](other, self)

    def __sub__(self, other: Any) -> Any:
        return CALLS["sub"](self, other)

    def __rsub__(self, other: Any) -> Any:
        return CALLS["sub"](other, self)

    def __mul__(self, other: Any) -> Any:
        return CALLS["mul"](self, other)

    def __rmul__(self, other: Any) -> Any:
        return CALLS["mul"](other, self)

    def __truediv__(self, other: Any) -> Any:
        return CALLS["div"](self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return CALLS["div"](other, self)

    def __floordiv__(self, other: Any) -> Any:
        return CALLS["floor_divide"](self, other)

    def __rfloordiv__(self, other: Any) -> Any:
        return CALLS["floor_divide"](other, self)

    def __mod__(self, other: Any) -> Any:
        return CALLS["remainder"](self, other)

    def __rmod__(self, other: Any) -> Any:
        return CALLS["remainder"](other, self)

    def __pow__(self, other: Any) -> Any:
        return CALLS["pow"](self, other)

    def __rpow__(self, other: Any) -> Any:
        return CALLS["pow"](other, self)

    def __matmul__(self, other: Any) -> Any:
        return CALLS["matmul"](self, other)

    def __rmatmul__(self, other: Any) -> Any:
        return CALLS["matmul"](other, self)

    def __lt__(self, other: Any) -> Any:
        return CALLS["less"](self, other)

    def __le__(self, other: Any) -> Any:
        return CALLS["less_equal"](self, other)

    def __gt__(self, other: Any) -> Any:
        return CALLS["greater"](self, other)

    def __ge__(self, other: Any) -> Any:
        return CALLS["greater_equal"](self, other)

    def __and__(self, other: Any) -> Any:
        return CALLS["logical_and"](self, _mask("&", other, self))

    def __rand__(self, other: Any) -> Any:
        return CALLS["logical_and"](_mask("&", other, self), self)

    def __or__(self, other: Any) -> Any:
        return CALLS["logical_or"](self, _mask("|", other, self))

    def __ror__(self, other: Any) -> Any:
        return CALLS["logical_or"](_mask("|", other, self), self)

    def __xor__(self, other: Any) -> Any:
        return CALLS["logical_xor"](self, _mask("^", other, self))

    def __rxor__(self, other: Any) -> Any:
        return CALLS["logical_xor"](_mask("^", other, self), self)

    def __invert__(self) -> Any:
        return CALLS["logical_not"](_mask("~", self))

    def __divmod__(self, other: Any) -> Any:
        return self // other, self % other

    def __rdivmod__(self, other: Any) -> Any:
        return other // self, other % self

    def __round__(self) -> Any:
        return CALLS["round"](self)

    def __eq__(self, other: Any) -> Any:
        if other is None:
            return False
        return CALLS["equal"](self, other)

    def __ne__(self, other: Any) -> Any:
        if other is None:
            return True
        return CALLS["not_equal"](self, other)

    def __getitem__(self, index: Any) -> Any:
        return CALLS["slice"](self, index if isinstance(index, tuple) else (index,))

    @property
    def T(self) -> Any:
        """All axes reversed."""
        return CALLS["transpose"](self)

    def astype(self, dtype: Any) -> Any:
        """The value in another dtype; differentiable between floating ones."""
        return CALLS["astype"](self, str(as_dtype(dtype)))

    def reshape(self, *shape: Any) -> Any:
        """The same elements in another shape, given as a tuple or as separate integers."""
        return CALLS["reshape"](self, shape[0] if len(shape) == 1 else shape)

    def sum(self, axes: Any = None, keepdims: bool = False) -> Any:
        """Sum over `axes` (all where None)."""
        return CALLS["sum"](self, axes=axes, keepdims=keepdims)

    def mean(self, axes: Any = None, keepdims: bool = False) -> Any:
        """Mean over `axes` (all where None)."""
        return CALLS["mean"](self, axes=axes, keepdims=keepdims)
