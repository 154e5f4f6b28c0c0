"""Raw values: a float64 scalar is a Python `float`, any other value an `ndarray` of one of four dtypes."""

from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from .errors import InvalidValueError

Shape = tuple[int, ...]
DType = np.dtype[Any]

FLOAT64, FLOAT32, INT64, BOOL = (np.dtype(name) for name in ("float64", "float32", "int64", "bool"))
DTYPES: dict[str, DType] = {str(dtype): dtype for dtype in (FLOAT64, FLOAT32, INT64, BOOL)}

#: NumPy allows 64, but some of its functions are unsafe beyond 32.
MAX_AXES = 32
Array = np.ndarray[Any, Any]
#: A raw value: `float` or `np.ndarray`. It is `Any`, as NumPy takes both alike, and rows run on tracers too.
Value = Any


class Shaped(Protocol):
    """Value with a shape, a dtype and arithmetic: an array, a variable or a traced value."""

    @property
    def shape(self) -> Shape:
        """Lengths of the axes."""

    @property
    def dtype(self) -> DType:
        """The dtype."""

    # Not typed further: mypy would compare all overloads of NumPy's operators, for minutes.
    def __neg__(self) -> Value: ...
    def __add__(self, other: Value, /) -> Value: ...
    def __radd__(self, other: Value, /) -> Value: ...
    def __sub__(self, other: Value, /) -> Value: ...
    def __rsub__(self, other: Value, /) -> Value: ...
    def __mul__(self, other: Value, /) -> Value: ...
    def __rmul__(self, other: Value, /) -> Value: ...
    def __truediv__(self, other: Value, /) -> Value: ...
    def __rtruediv__(self, other: Value, /) -> Value: ...


#: Operand or result of an operation: a number, an array, a variable or a traced value.
Operand = float | Array | Shaped


class Aval(NamedTuple):
    """Abstract value: shape and dtype. weak: the type of a Python number, which adopts the dtype of other operands."""

    shape: Shape
    dtype: DType
    weak: type | None = None

    @property
    def size(self) -> int:
        """Number of elements."""
        n = 1
        for length in self.shape:
            n *= length
        return n

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self.size * self.dtype.itemsize

    @property
    def is_floating(self) -> bool:
        """True if the dtype is floating, as differentiation requires."""
        return self.dtype.kind == "f"


def canonical_dtype(dtype: DType) -> DType:
    """Return the supported dtype that represents `dtype` without loss.

    Raises:
        InvalidValueError: there is none (complex, strings, objects, unsigned 64 bit).
    """
    if dtype.kind == "f" and dtype.itemsize <= 8:
        return FLOAT64 if dtype.itemsize == 8 else FLOAT32
    if dtype.kind == "i" or (dtype.kind == "u" and dtype.itemsize < 8):
        return INT64
    if dtype.kind == "b":
        return BOOL
    raise InvalidValueError(f"dtype {dtype} is not supported; expected one of {', '.join(DTYPES)}")


def as_dtype(dtype: npt.DTypeLike) -> DType:
    """Convert a user's dtype (a name, a type or a NumPy dtype) to a supported dtype.

    Raises:
        InvalidValueError: it is unknown or not supported.
    """
    try:
        return canonical_dtype(np.dtype(dtype))
    except TypeError as error:
        raise InvalidValueError(f"unknown dtype {dtype!r}; expected one of {', '.join(DTYPES)}") from error


def canonical(value: Value) -> Value:
    """Convert a result of NumPy to canonical form: float for a float64 scalar, otherwise an array of a supported dtype.

    Raises:
        InvalidValueError: no supported dtype represents it.
    """
    kind = type(value)
    if kind is float:
        return value
    if kind is not np.ndarray:
        value = np.asarray(value)
    dtype = value.dtype
    if dtype is not FLOAT64 and dtype is not FLOAT32:
        value = value.astype(canonical_dtype(dtype), copy=False)
    return float(value) if value.ndim == 0 and value.dtype == FLOAT64 else value


def as_raw(value: object, dtype: npt.DTypeLike | None = None) -> Value:
    """Convert a user's number, nested list or array (always copied) to a raw value; Python numbers become float64.

    >>> as_raw(3), as_raw([1, 2])
    (3.0, array([1., 2.]))

    Raises:
        InvalidValueError: ragged lists, unsupported dtypes, objects that are not numbers, lossy conversions to `dtype`,
            lists that hold variables or traced values.
    """
    if dtype is None and (type(value) is float or type(value) is int):
        try:
            return float(value)
        except OverflowError as error:
            raise InvalidValueError("an integer is more than float64 holds") from error
    if hasattr(value, "_as_raw"):
        value = value._as_raw()
    try:
        array = np.array(value)
    except Exception as error:
        if isinstance(value, list | tuple) and _holds_variable(value):
            raise InvalidValueError(
                "a list holds variables or traced values; put them together with F.stack or F.concat"
            ) from error
        if not isinstance(error, ValueError | TypeError | OverflowError):
            raise
        raise InvalidValueError(f"expected a number, a rectangular nested list or an array: {error}") from error
    if array.dtype == object:
        raise InvalidValueError(f"expected a number, a rectangular nested list or an array, got {type(value).__name__}")
    target = canonical_dtype(array.dtype)
    if target == INT64 and not isinstance(value, (np.ndarray, np.generic)):
        target = FLOAT64
    if dtype is None:
        return canonical(array.astype(target, copy=False))
    with np.errstate(all="ignore"):
        converted = array.astype(as_dtype(dtype))
        if converted.dtype.kind != "f" and not np.array_equal(converted, array):
            raise InvalidValueError(f"a value does not convert to {converted.dtype} without loss")
    return canonical(converted)


def _holds_variable(value: object) -> bool:
    """Return whether a nested list holds variables or traced values."""
    if isinstance(value, list | tuple):
        return any(map(_holds_variable, value))
    return hasattr(value, "_as_raw")


def aval(value: Value) -> Aval:
    """Return shape and dtype of a raw value; a Python number is weak."""
    kind = type(value)
    if kind is float or kind is int or kind is bool:
        return Aval((), BOOL if kind is bool else FLOAT64, kind)
    return Aval(value.shape, value.dtype)


def shape_of(value: Operand) -> Shape:
    """Return the shape of any operand: number, array, variable or tracer.

    >>> shape_of(0.5)
    ()
    """
    # Comparing types takes less time than isinstance, which mypy would follow.
    kind: type = type(value)
    return () if kind is float or kind is int or kind is bool else value.shape  # type: ignore[union-attr]


def dtype_of(value: Operand) -> DType:
    """Return the dtype of any operand: number, array, variable or tracer."""
    kind: type = type(value)
    if kind is float or kind is int:
        return FLOAT64
    return BOOL if kind is bool else value.dtype  # type: ignore[union-attr]  # as in shape_of


def stand_in(known: Aval) -> Value:
    """Return a placeholder of that shape and dtype; its elements share one memory location, so it takes no memory."""
    zero = np.zeros((), known.dtype)
    return canonical(np.lib.stride_tricks.as_strided(zero, known.shape, (0,) * len(known.shape)))


def frozen(array: "Array") -> "Array":
    """Return the array itself if it cannot be written to, otherwise a read-only copy."""
    base: object = array
    while isinstance(base, np.ndarray):
        if base.flags.writeable:
            array = array.copy()
            array.flags.writeable = False
            return array
        base = base.base
    if base is not None:
        # The base may be a buffer that other code writes to.
        array = array.copy()
        array.flags.writeable = False
    return array
