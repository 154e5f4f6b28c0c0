"""Attributes of operations: their types, and the conversion of values from users and documents to those types."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import BadAttributeError
from .values import DTYPES, INT64, MAX_AXES, Array

#: The attributes of one call, by name, parsed.
Attributes = dict[str, Any]
#: A value as a user or a document gives it. It is `Any` because parsing tries what its type may not have, and raises.
Given = Any
#: One axis, several, or None for all.
Axes = int | Sequence[int] | None
#: Marks an attribute without a default.
REQUIRED: Any = type("Required", (), {"__repr__": lambda self: "required"})()


#: A slice as text, `start:stop` or `start:stop:step`; each part is optional.
_BOUNDS = re.compile(r"(-?[0-9]{1,19})?:(-?[0-9]{1,19})?(?::(-?[0-9]{1,19})?)?")


@dataclass(frozen=True, slots=True)
class AttributeType:
    """Type of an attribute; batching uses it to shift axes past the batch axis.

    name, expected: shown to users. parse: return the canonical, hashable value or raise ValueError.
    """

    name: str
    expected: str
    parse: Callable[[Given], Any]


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of an operation.

    spellings: other names for it. leads: it is a string that a variadic operation also accepts before its operands.
    """

    name: str
    type: AttributeType
    default: object = REQUIRED
    spellings: tuple[str, ...] = ()
    leads: bool = False

    def parse(self, value: Given, op: str) -> Any:
        """Return the value in its canonical form; `op` is the name of the operation for messages.

        Raises:
            BadAttributeError: the value does not have the type of the attribute.
        """
        if value is None and self.default is None:
            return None
        try:
            return self.type.parse(value)
        except (ValueError, TypeError, OverflowError) as error:
            more = f" ({error})" if type(error) is ValueError and str(error) else ""
            raise BadAttributeError(
                f"{op}: attribute {self.name} is {_shown(value)}; expected {self.type.expected}{more}"
            ) from error


def _shown(value: object) -> str:
    if isinstance(value, int) and abs(value) > 2**64:
        return "a large integer"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _int(value: Given) -> int:
    if type(value) is int and -(2**63) <= value < 2**63:
        return value
    if isinstance(value, (bool, np.bool_, str)):
        raise ValueError
    number = int(value)
    if number != value or not -(2**63) <= number < 2**63:
        raise ValueError
    return number


def _ints(value: Given) -> tuple[int, ...]:
    if isinstance(value, (str, dict)):
        raise ValueError
    if len(value) > MAX_AXES:
        raise ValueError(f"at most {MAX_AXES} of them")
    return tuple(_int(item) for item in value)


def _number(value: Given) -> float | int:
    """Parse a number; an integer stays an integer, so that clipping integers by integers gives integers."""
    if isinstance(value, str):
        numbers = {"NaN": np.nan, "Infinity": np.inf, "-Infinity": -np.inf}
        if value not in numbers:
            raise ValueError
        return numbers[value]
    if isinstance(value, (bool, np.bool_)):
        raise ValueError
    return value if type(value) is int and abs(value) <= 2**53 else float(value)


def _sizes(value: Given) -> tuple[int, ...] | int:
    return tuple(_int(item) for item in value) if isinstance(value, (list, tuple, np.ndarray)) else _int(value)


def _natural(value: Given) -> int:
    number = _int(value)
    if number < 0:
        raise ValueError
    return number


def _bool(value: object) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError
    return bool(value)


def _axes(value: Given) -> tuple[int, ...] | int:
    if type(value) is tuple and len(value) <= MAX_AXES:
        return tuple(map(_int, value))
    return _int(value) if isinstance(value, (int, float, np.integer)) else _ints(value)


def _shape(value: Given) -> tuple[int, ...]:
    shape = (_int(value),) if isinstance(value, (int, float, np.integer)) else _ints(value)
    if any(length < -1 for length in shape) or shape.count(-1) > 1:
        raise ValueError
    return shape


def _dtype(value: object) -> str:
    if not isinstance(value, (str, type, np.dtype)):
        raise ValueError
    name = value if isinstance(value, str) else str(np.dtype(value))
    if name not in DTYPES:
        raise ValueError
    return name


def _known(value: Given) -> Given:
    """Return the array behind a variable or traced value in an index; return any other item unchanged.

    Raises:
        InvalidValueError: the value is unknown while a function is traced or batched.
    """
    return value._as_index()[()] if hasattr(value, "_as_index") else value


def _flags(item: Given) -> Given:
    """Convert a nested list of booleans to a mask; return any other item unchanged."""
    if not isinstance(item, list):
        return item
    first: Given = item
    while isinstance(first, list) and first:
        first = first[0]
    if not isinstance(_known(first), (bool, np.bool_)):
        return item
    try:
        mask = np.array(item)
    except ValueError:
        raise ValueError("a mask must be rectangular") from None
    if mask.dtype != bool:
        raise ValueError("a mask has booleans alone")
    return mask


class Integers:
    """Array of integers in an attribute: hashable, and a read-only copy of the caller's array."""

    __slots__ = ("_hash", "array")

    def __init__(self, array: Array) -> None:
        self.array = np.array(array, INT64, order="C")
        self.array.flags.writeable = False
        self._hash: int | None = None

    def __eq__(self, other: object) -> bool:
        return type(other) is Integers and np.array_equal(self.array, other.array)

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash((self.array.shape, self.array.tobytes()))
        return self._hash

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:
        return np.array(self.array, dtype) if copy else np.asarray(self.array, dtype)

    def __reduce__(self) -> tuple[type["Integers"], tuple[Array]]:
        return Integers, (self.array,)

    def __repr__(self) -> str:
        return repr(self.nested())

    def nested(self) -> Any:
        """Return the integers as nested tuples.

        >>> Integers(np.array([[0, 2], [1, 1]])).nested()
        ((0, 2), (1, 1))
        """
        return _tuples(self.array.tolist())


def _tuples(items: Given) -> Any:
    return tuple(map(_tuples, items)) if isinstance(items, list) else items


def _indices(value: Given) -> Integers | int:
    """Parse an integer, an array of integers or rectangular nested lists of integers."""
    value = _known(value)
    if isinstance(value, Integers):
        return value
    if isinstance(value, np.ndarray):
        return Integers(_whole(value)) if value.ndim else _int(value.item())
    return Integers(_stacked(value)) if isinstance(value, (list, tuple)) else _int(value)


def _whole(array: Array) -> Array:
    """Return an array whose elements are all whole numbers, of any dtype.

    Raises:
        ValueError: an element is not a whole number, or does not fit in int64.
    """
    if array.dtype.kind == "i" or not array.size:
        return array
    if array.dtype.kind == "u" and array.max() < 2**63:
        return array
    if array.dtype.kind == "f" and (np.abs(array) < 2.0**63).all() and (np.trunc(array) == array).all():
        return array
    if array.dtype.kind == "O":
        return _stacked(array.tolist())
    raise ValueError


def _stacked(items: Given) -> Array:
    """Convert nested lists of integers to an int64 array."""
    if not isinstance(items, (list, tuple)):
        return np.array(_int(_known(items)), INT64)
    if set(map(type, items)) <= {int}:
        return np.array(items, INT64)
    parts = [_stacked(item) for item in items]
    if len({part.shape for part in parts}) > 1:
        raise ValueError("lists must be rectangular")
    return np.array(parts, INT64)


def _index(value: Given) -> tuple[object, ...]:
    """Parse an index into items: int, ("slice", start, stop, step), None (a new axis), Ellipsis, ("ints", Integers).

    A mask becomes, for each of its axes, the indices of its true elements and the length of the axis:
    ("ints", Integers, length). Besides Python's and JSON's own forms, the strings "newaxis", "..." and
    "start:stop:step" are accepted.
    """
    items: list[object] = []
    if isinstance(value, (list, tuple)) and len(value) > 2 * MAX_AXES:
        raise ValueError(f"at most {2 * MAX_AXES} of them")
    for item in value if isinstance(value, (list, tuple)) else (value,):
        item = _flags(_known(item))
        if item is None or (isinstance(item, str) and item == "newaxis"):
            items.append(None)
        elif item is Ellipsis or (isinstance(item, str) and item == "..."):
            items.append(Ellipsis)
        elif isinstance(item, str) and (bounds := _BOUNDS.fullmatch(item)):
            items.append(("slice", *_slice(*(int(bound) if bound else None for bound in bounds.groups()))))
        elif isinstance(item, slice):
            items.append(("slice", *_slice(item.start, item.stop, item.step)))
        elif isinstance(item, dict):
            unknown = set(item) - {"start", "stop", "step"}
            if unknown:
                raise ValueError(f"a slice has start, stop and step, not {sorted(unknown)}")
            items.append(("slice", *_slice(item.get("start"), item.get("stop"), item.get("step"))))
        elif isinstance(item, tuple) and item and item[0] in ("slice", "ints"):
            items.append(item if item[0] == "slice" else ("ints", _indices(item[1]), *item[2:]))
        elif hasattr(item, "dtype") and item.dtype == bool and item.ndim:
            items += [("ints", _indices(axis), n) for axis, n in zip(np.nonzero(item), item.shape, strict=True)]
        elif isinstance(item, (list, tuple)) or getattr(item, "ndim", 0) > 0:
            items.append(("ints", _indices(item)))
        else:
            items.append(_int(item))
    if items.count(Ellipsis) > 1:
        raise ValueError("more than one ...")
    return tuple(items)


def slice_item(
    start: int | None = None, stop: int | None = None, step: int | None = None
) -> tuple[str | int | None, ...]:
    """Return the canonical form of a slice in an index."""
    return "slice", start, stop, step


def _slice(*bounds: Given) -> tuple[int | None, ...]:
    if bounds[2] == 0:
        raise ValueError("a step of 0")
    return tuple(None if bound is None else _int(bound) for bound in bounds)


def _ratio(value: Given) -> float:
    ratio = _number(value)
    if not 0.0 <= ratio <= 1.0:
        raise ValueError
    return ratio


def _order(value: Given) -> float:
    number = {"inf": np.inf, "Infinity": np.inf}.get(value) if isinstance(value, str) else float(value)
    if number not in (1.0, 2.0, np.inf):
        raise ValueError
    return number


#: Well below 170, beyond which factorials overflow float64.
_MAX_DEGREE = 100


def _degree(value: Given) -> int:
    number = _natural(value)
    if number > _MAX_DEGREE:
        raise ValueError
    return number


def _contraction(value: Given) -> tuple[tuple[int, ...], tuple[int, ...]] | int:
    if isinstance(value, (int, float, np.integer)):
        return _natural(value)
    if isinstance(value, (str, dict)) or len(value) != 2:
        raise ValueError
    first, second = ((axes,) if isinstance(axes, int) else axes for axes in map(_axes, value))
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} axes do not pair")
    return first, second


def _subscripts(value: Given) -> str:
    """Parse einsum subscripts: remove spaces; if the output is missing, append the one that NumPy assumes."""
    if not isinstance(value, str):
        raise ValueError
    text = "".join(value.split())
    operands, arrow, output = text.partition("->")
    for axes in (*operands.split(","), output):
        indices = axes.replace("...", "", 1)
        wrong = [index for index in indices if not (index.isascii() and index.isalpha())]
        if wrong:
            raise ValueError(f'"{wrong[0]}" is no index')
        if len(indices) > MAX_AXES:
            raise ValueError(f"at most {MAX_AXES} indices an operand")
    letters = [letter for letter in operands if letter.isalpha()]
    if not arrow:
        once = sorted(letter for letter in set(letters) if letters.count(letter) == 1)
        return f"{operands}->{'...' if '...' in operands else ''}{''.join(once)}"
    for letter in output.replace("...", ""):
        if letter not in letters:
            raise ValueError(f'output index "{letter}" is in no operand')
        if output.count(letter) > 1:
            raise ValueError(f'output index "{letter}" is written twice')
    return text


SIZES = AttributeType("sizes", "an integer or a list of integers", _sizes)
COUNTS = AttributeType("counts", "an integer or a list of integers", _axes)
INT = AttributeType("int", "an integer", _int)
NATURAL = AttributeType("natural", "a non-negative integer", _natural)
REPEATS = AttributeType("repeats", "a non-negative integer", _natural)
NUMBER = AttributeType("number", "a number", _number)
BOOL = AttributeType("bool", "true or false", _bool)
AXIS = AttributeType("axis", "an axis (an integer)", _int)
AXES = AttributeType("axes", "an axis or a list of axes (integers)", _axes)
SHAPE = AttributeType("shape", "a list of lengths (integers; one may be -1 where it can be inferred)", _shape)
DTYPE = AttributeType("dtype", f"one of {', '.join(DTYPES)}", _dtype)
INDICES = AttributeType("indices", "an integer or a nested list of integers", _indices)
INDEX = AttributeType(
    "index", 'a list of integers, {"start", "stop", "step"}, "newaxis", "..." and lists of integers', _index
)
RATIO = AttributeType("ratio", "a number from 0 to 1", _ratio)
NORM_ORDER = AttributeType("order", '1, 2 or "inf"', _order)
DEGREE = AttributeType("degree", f"an integer from 0 to {_MAX_DEGREE}", _degree)
CONTRACTION = AttributeType(
    "contraction", "a non-negative integer, or two lists of as many axes (integers)", _contraction
)
SUBSCRIPTS = AttributeType("subscripts", 'a string such as "ij,jk->ik", with a letter for each axis', _subscripts)
