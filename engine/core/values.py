"""Raw values: a float64 scalar is a Python `float`, all else an `ndarray` of one of four dtypes."""

from typing import Any, NamedTuple

import numpy as np

from engine.core.errors import InvalidValueError

FLOAT64, FLOAT32, INT64, BOOL = (np.dtype(name) for name in ("float64", "float32", "int64", "bool"))
DTYPES: dict[str, np.dtype[Any]] = {str(dtype): dtype for dtype in (FLOAT64, FLOAT32, INT64, BOOL)}

Shape = tuple[int, ...]
DType = np.dtype[Any]
#: Half of what NumPy allows; beyond 32 some of its functions are unsafe.
MAX_AXES = 32
Array = np.ndarray[Any, Any]
#: A raw value: `float` or `np.ndarray`; where a Variable or Symbol may stand as well, the reason is dispatch.
Value = Any


class Aval(NamedTuple):
    """What is known of a value before anything runs: its shape and dtype, and whether it is a weak Python number."""

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
        """Whether a gradient with respect to it can exist."""
        return self.dtype.kind == "f"


def canonical_dtype(dtype: DType) -> DType:
    """The one of the four dtypes that holds `dtype` without loss.

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


def as_dtype(dtype: Any) -> DType:
    """The supported dtype that a user names.

    Raises:
        InvalidValueError: it names none.
    """
    try:
        return canonical_dtype(np.dtype(dtype))
    except TypeError as error:
        raise InvalidValueError(f"unknown dtype {dtype!r}; expected one of {', '.join(DTYPES)}") from error


def canonical(value: Any) -> Value:
    """A result of NumPy's in the one form that raw values have."""
    kind = type(value)
    if kind is float:
        return value
    if kind is not np.ndarray:
        value = np.asarray(value)
    dtype = value.dtype
    if dtype is not FLOAT64 and dtype is not FLOAT32:
        value = value.astype(canonical_dtype(dtype), copy=False)
    return float(value) if value.ndim == 0 and value.dtype == FLOAT64 else value


def as_raw(value: Any, dtype: Any = None) -> Value:
    """Takes what a user gives: numbers, nested lists, arrays (always copied); Python numbers are float64.

    >>> as_raw(3), as_raw([1, 2])
    (3.0, array([1., 2.]))

    Raises:
        InvalidValueError: ragged lists, dtypes that are not supported, objects that are no numbers, lists that hold
            variables or traced values.
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


def _holds_variable(value: Any) -> bool:
    """Return whether a nested list holds what stands for a value."""
    if isinstance(value, list | tuple):
        return any(map(_holds_variable, value))
    return hasattr(value, "_as_raw")


def aval(value: Any) -> Aval:
    """Shape and dtype of a raw value, a Python number being weak."""
    kind = type(value)
    if kind is float or kind is int or kind is bool:
        return Aval((), BOOL if kind is bool else FLOAT64, kind)
    return Aval(value.shape, value.dtype)


def shape_of(value: Any) -> Shape:
    """The shape of anything that dispatch takes.

    >>> shape_of(0.5)
    ()
    """
    kind = type(value)
    return () if kind is float or kind is int or kind is bool else value.shape


def dtype_of(value: Any) -> DType:
    """The dtype of anything that dispatch takes."""
    kind = type(value)
    if kind is float or kind is int:
        return FLOAT64
    return BOOL if kind is bool else value.dtype


def stand_in(known: Aval) -> Value:
    """A value of a shape and dtype whose elements all lie in one place: it has a size but takes no memory."""
    zero = np.zeros((), known.dtype)
    return canonical(np.lib.stride_tricks.as_strided(zero, known.shape, (0,) * len(known.shape)))


def frozen(array: "Array") -> "Array":
    """The array itself where nobody can write to it, else a read-only copy."""
    base: Any = array
    while isinstance(base, np.ndarray):
        if base.flags.writeable:
            array = array.copy()
            array.flags.writeable = False
            return array
        base = base.base
    if base is not None:
        # What lies behind may be a buffer that somebody else writes to.
        array = array.copy()
        array.flags.writeable = False
    return array
