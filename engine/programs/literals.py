"""Decode values of documents to literals: numbers, words such as "NaN", nested lists and array objects.

Lists are flattened level by level and checked by type, which runs in C and never recurses; Python loops over elements
only to find the one at fault.
"""

import base64
import binascii
import math
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from operator import countOf
from types import EllipsisType
from typing import Any, Never

import numpy as np

from engine.core import (
    DTYPES,
    FLOAT32,
    FLOAT64,
    INT64,
    MAX_AXES,
    Array,
    DType,
    InvalidValueError,
    Loc,
    Value,
    canonical,
    frozen,
    nearest,
)
from engine.core.values import BOOL
from engine.graph import Literal, quoted

#: Numbers that JSON has no literal for.
WORDS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
ARRAY_FIELDS = ("shape", "dtype", "data", "base64")

_EXPECTED = (
    'expected a number, true, false, "NaN", "Infinity" or "-Infinity", a nested list of these or an array object'
)
#: Integers of at least this magnitude become floats, as in most readers of JSON.
_TOO_LARGE = 2**63
_BYTES = (bytes, bytearray, memoryview)


def decode_value(value: Any, loc: Loc = (), dtype: DType | None = None) -> Literal:
    """Decode a value of a document to a literal, which is weak unless it is an array object or a dtype is given.

    value: a number, bool or word, nested lists of them, or an array object with `shape`, `dtype` and `data` (a flat
        list, or little-endian bytes) or `base64`.
    loc: its path; errors add the index of the element at fault.
    dtype: the dtype to convert to. Numbers are rounded to a floating dtype, as all decimals are; a conversion that
        loses a fraction, NaN or magnitude is refused. An array of another dtype must convert exactly.

    Raises:
        InvalidValueError: it is none of these, is ragged, mixes bools with numbers, or does not convert.

    >>> decode_value(2).value, decode_value([[1, 2], ["NaN", 4]]).value.tolist()
    (2, [[1.0, 2.0], [nan, 4.0]])
    >>> decode_value([1, [2]])
    Traceback (most recent call last):
    engine.core.errors.InvalidValueError: a list at index [1] beside 1; lists must be rectangular
    """
    if type(value) is dict:
        array = _array_object(value, loc)
        if dtype is not None and array.dtype != dtype:
            array = _recast(array, dtype, loc)
        return _frozen(array, is_weak=False)
    leaves, shape, kinds = _flattened(value, loc) if type(value) is list else ([value], (), {type(value)})
    if not (kinds <= {int, float} or kinds == {bool}):
        leaves, kinds = _without_words(leaves, kinds, shape, loc)
    if dtype is None and not shape:
        return _weak_number(leaves[0], loc)
    array = _array(leaves, kinds, dtype or (BOOL if bool in kinds else FLOAT64), shape, loc)
    is_integral = kinds <= {int} and (dtype is not None or bool((np.abs(array) < float(_TOO_LARGE)).all()))
    return _frozen(array, is_weak=dtype is None, is_integral=is_integral)


def strong_value(literal: Literal) -> Value:
    """Return the raw value of a literal without other operands: a number is float64, true and false are bool.

    >>> strong_value(decode_value(3)), strong_value(decode_value(True))
    (3.0, array(True))
    """
    value = literal.value
    return float(value) if type(value) is int else frozen(np.array(value)) if type(value) is bool else value


def described(value: Any) -> str:
    """Return a part of a document as it is written there, shortened for a message."""
    match value:
        case None | True | False:
            return {None: "null", True: "true", False: "false"}[value]
        case list():
            return "a list"
        case dict():
            return "an object"
        case str():
            return quoted(value)
        case int() if abs(value) >= 2**64:
            return "a large integer"
        case EllipsisType():
            return '"..."'
        case bytes() | bytearray() | memoryview():
            return "bytes"
    return quoted(repr(value)).strip('"')


def _weak_number(value: float, loc: Loc) -> Literal:
    if _overflows(value):
        _fail(f"{described(value)} is more than float64 holds", loc)
    if type(value) is int and not -_TOO_LARGE <= value < _TOO_LARGE:
        value = float(value)
    return Literal(value, is_weak=True, is_integral=type(value) is int)


def _frozen(array: Array, is_weak: bool, is_integral: bool = False) -> Literal:
    array.flags.writeable = False
    if isinstance(array.base, np.ndarray):
        array.base.flags.writeable = False
    return Literal(canonical(array), is_weak, is_integral)


def _flattened(value: list[Any], loc: Loc) -> tuple[list[Any], tuple[int, ...], set[type]]:
    """Return the elements of nested lists, their shape, and the set of types of the elements."""
    level = value
    shape: tuple[int, ...] = (len(value),)
    kinds = _kinds(level)
    while list in kinds:
        if len(kinds) > 1 or len(set(map(len, level))) > 1:
            _fail_ragged(level, shape, loc)
        if len(shape) == MAX_AXES:
            _fail(f"lists are nested deeper than {MAX_AXES} axes", loc)
        shape = (*shape, len(level[0]))
        level = list(chain.from_iterable(level))
        kinds = _kinds(level)
    return level, shape, kinds


def _kinds(items: list[Any]) -> set[type]:
    """Return the set of types of some values; usually there is one, and counting it is faster than collecting all."""
    first = type(items[0]) if items else float
    return {first} if countOf(map(type, items), first) == len(items) > 0 else set(map(type, items))


def _fail_ragged(level: list[Any], shape: tuple[int, ...], loc: Loc) -> Never:
    first = level[0]
    odd = _first(level, lambda item: (type(item) is list) != (type(first) is list))
    if odd >= 0:
        what = f"{_shown(level, odd, shape)} beside {described(first)}"
    else:
        odd = _first(level, lambda item: len(item) != len(first))
        what = f"{_shown(level, odd, shape)} has {len(level[odd])} items, the first has {len(first)}"
    _fail_at(f"{what}; lists must be rectangular", odd, shape, loc)


def _without_words(
    leaves: list[Any], kinds: set[type], shape: tuple[int, ...], loc: Loc
) -> tuple[list[Any], set[type]]:
    """Replace words by their numbers, after checking that all elements are numbers or words, or all are bools."""
    odd = _first(
        leaves, lambda item: type(item) not in (int, float, bool) and not (type(item) is str and item in WORDS)
    )
    if odd >= 0:
        _fail_at(f"{_shown(leaves, odd, shape)}; {_EXPECTED}", odd, shape, loc)
    if bool in kinds:
        odd = _first(leaves, lambda item: (type(item) is bool) != (type(leaves[0]) is bool))
        rule = "true and false do not mix with numbers"
        _fail_at(f"{_shown(leaves, odd, shape)} beside {described(leaves[0])}; {rule}", odd, shape, loc)
    return [WORDS[item] if type(item) is str else item for item in leaves], kinds - {str} | {float}


def _array(leaves: list[Any], kinds: set[type], dtype: DType, shape: tuple[int, ...], loc: Loc) -> Array:
    """Convert elements, all numbers or all bools, to an array of a shape and dtype."""
    if dtype == INT64 and kinds == {int, float}:
        # Conversion by way of floats would round large integers.
        leaves = [int(item) if type(item) is float and item.is_integer() else item for item in leaves]
        kinds = set(map(type, leaves))
    if dtype == INT64 and kinds == {int}:
        try:
            return np.array(leaves, INT64).reshape(shape)
        except OverflowError:
            _fail_conversion(_first(leaves, lambda item: not -(2**63) <= item < 2**63), leaves, dtype, shape, loc)
    try:
        # Unlike `np.array`, it need not find a dtype first, which saves a quarter of the time.
        array = np.fromiter(leaves, BOOL if bool in kinds else FLOAT64, len(leaves))
    except OverflowError:
        _fail_conversion(_first(leaves, _overflows), leaves, FLOAT64, shape, loc)
    if array.dtype == dtype:
        return array.reshape(shape)
    if dtype == FLOAT32 and array.dtype == FLOAT64:
        with np.errstate(all="ignore"):
            narrow = array.astype(FLOAT32)
        wrong = (np.isfinite(array) & ~np.isfinite(narrow)) | ((narrow == 0) & (array != 0))
        if wrong.any():
            _fail_conversion(int(wrong.argmax()), leaves, dtype, shape, loc)
        return narrow.reshape(shape)
    return _recast(array.reshape(shape), dtype, loc)


def _recast(array: Array, dtype: DType, loc: Loc) -> Array:
    """Convert an array to another dtype, exactly."""
    with np.errstate(all="ignore"):
        there = array.astype(dtype)
        back = there.astype(array.dtype)
    exact = (back == array) | ((array != array) & (there != there))
    if array.dtype == INT64 and dtype.kind == "f":
        # A float of 2**63 has no defined conversion back.
        exact &= there < 2.0**63
    if array.dtype.kind == "f" and dtype == INT64:
        exact &= (-(2.0**63) <= array) & (array < 2.0**63)
    if not exact.all():
        _fail_conversion(int(exact.argmin()), array.reshape(-1).tolist(), dtype, array.shape, loc)
    return there


def _array_object(value: dict[Any, Any], loc: Loc) -> Array:
    """Decode an array object; check its fields against each other before anything of its size is allocated."""
    for key in value:
        if key not in ARRAY_FIELDS:
            known = nearest(str(key), list(ARRAY_FIELDS)) or f"; an array object has {', '.join(ARRAY_FIELDS)}"
            _fail(f"unknown field {quoted(key)}{known}", (*loc, str(key)))
    for key in ("shape", "dtype"):
        if key not in value:
            _fail(f'an array object needs shape, dtype and data or base64; "{key}" is missing', loc)
    if ("data" in value) == ("base64" in value):
        _fail("an array object needs either data or base64", loc)
    name = value["dtype"]
    if not isinstance(name, str) or name not in DTYPES:
        _fail(f"unknown dtype {described(name)}; expected one of {', '.join(DTYPES)}", (*loc, "dtype"))
    shape = _shape(value["shape"], DTYPES[name].itemsize, (*loc, "shape"))
    if "base64" in value:
        return _from_base64(value["base64"], DTYPES[name], shape, (*loc, "base64"))
    data, data_loc = value["data"], (*loc, "data")
    if isinstance(data, _BYTES):
        return _from_bytes(memoryview(data), "data", DTYPES[name], shape, data_loc)
    if not isinstance(data, list):
        _fail(f"data is {described(data)}; expected a flat list", data_loc)
    if len(data) != math.prod(shape):
        _fail(f"data has {len(data)} elements; shape {list(shape)} has {math.prod(shape)}", data_loc)
    kinds = set(map(type, data))
    if not (kinds <= {int, float} or kinds == {bool}):
        data, kinds = _without_words(data, kinds, (len(data),), data_loc)
    return _array(data, kinds, DTYPES[name], (len(data),), data_loc).reshape(shape)


def _shape(given: Any, itemsize: int, loc: Loc) -> tuple[int, ...]:
    if not isinstance(given, list):
        _fail(f"shape is {described(given)}; expected a list of lengths", loc)
    for axis, length in enumerate(given):
        if type(length) is not int or length < 0:
            _fail(f"length {described(length)} of axis {axis}; expected an integer from 0", (*loc, axis))
    if len(given) > MAX_AXES:
        _fail(f"shape has {len(given)} axes; at most {MAX_AXES} are possible", loc)
    # The other lengths of an empty array count as well.
    if math.prod(length for length in given if length) * itemsize >= 2**63:
        _fail("shape is larger than any memory", loc)
    return tuple(given)


def _from_base64(text: Any, dtype: DType, shape: tuple[int, ...], loc: Loc) -> Array:
    if not isinstance(text, str):
        _fail(f"base64 is {described(text)}; expected a string", loc)
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidValueError(f"base64 cannot be decoded: {error}", loc) from None
    return _from_bytes(memoryview(data), "base64", dtype, shape, loc)


def _from_bytes(data: memoryview, what: str, dtype: DType, shape: tuple[int, ...], loc: Loc) -> Array:
    wanted = math.prod(shape) * dtype.itemsize
    if data.nbytes != wanted:
        _fail(f"{what} holds {data.nbytes} bytes; shape {list(shape)} of {dtype} takes {wanted}", loc)
    if dtype == BOOL and (np.frombuffer(data, np.uint8) > 1).any():
        _fail(f"{what} holds bytes other than 0 and 1; those of bool are these", loc)
    array = np.frombuffer(data, dtype.newbyteorder("<")).astype(dtype, copy=False)
    # Copy unaligned data once: NumPy would copy it at every use, and sum in another order.
    return (array if array.flags.aligned else array.copy()).reshape(shape)


def _fail(detail: str, loc: Loc) -> Never:
    raise InvalidValueError(detail, loc)


def _fail_at(detail: str, i: int, shape: tuple[int, ...], loc: Loc) -> Never:
    raise InvalidValueError(detail, (*loc, *_index(i, shape)))


def _fail_conversion(i: int, items: Sequence[Any], dtype: DType, shape: tuple[int, ...], loc: Loc) -> Never:
    _fail_at(f"{_shown(items, i, shape)} does not convert to {dtype} without loss", i, shape, loc)


def _first(items: Iterable[Any], is_odd: Callable[[Any], bool]) -> int:
    """Return the index of the first odd item, or -1 if there is none."""
    return next((i for i, item in enumerate(items) if is_odd(item)), -1)


def _overflows(number: float) -> bool:
    try:
        float(number)
    except OverflowError:
        return True
    return False


def _index(i: int, shape: tuple[int, ...]) -> list[int]:
    """Return the multi-index of the i-th item in C order, in nested lists of that shape."""
    return [int(n) for n in np.unravel_index(i, shape)]


def _shown(items: Sequence[Any], i: int, shape: tuple[int, ...]) -> str:
    """Describe an item, with its index if it is in a list."""
    return described(items[i]) + (f" at index {_index(i, shape)}" if shape else "")
