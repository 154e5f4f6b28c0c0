"""Values in answers: raw values -> JSON in the three encodings; those of requests are read by the engine's literals."""

import base64
import math
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from engine.values import FLOAT32, FLOAT64, Value

_OPTIONS = orjson.OPT_SERIALIZE_NUMPY


def dumps(document: Any) -> bytes:
    """JSON of an answer, whose values `encode` has made."""
    return orjson.dumps(document, option=_OPTIONS)


def encode_all(values: Mapping[str, Any], encoding: str) -> dict[str, Any]:
    """Every value in a mapping, in its lists and in its mappings, encoded."""
    return {name: _encode_any(value, encoding) for name, value in values.items()}


def _encode_any(value: Any, encoding: str) -> Any:
    if isinstance(value, Mapping):
        return encode_all(value, encoding)
    return [encode(item, encoding) for item in value] if isinstance(value, list) else encode(value, encoding)


def encode(value: Value, encoding: str) -> Any:
    """A raw value as a document that `dumps` writes.

    Args:
        value: a float or an array.
        encoding: "nested" (numbers and lists), or "flat" and "base64" (array objects, scalars included).

    >>> dumps(encode(float("inf"), "nested"))
    b'"Infinity"'
    >>> dumps(encode(np.array([[1.0, np.nan]], np.float32), "flat"))
    b'{"shape":[1,2],"dtype":"float32","data":[1.0,"NaN"]}'
    """
    if encoding == "nested":
        return _number(value) if type(value) is float else _nested(value)
    array = np.asarray(value)
    about = {"shape": array.shape, "dtype": str(array.dtype)}
    if encoding == "flat":
        return about | {"data": _nested(array.reshape(-1))}
    return about | {"base64": base64.b64encode(_little_endian(array)).decode()}


def _number(number: float) -> float | str:
    if math.isfinite(number):
        return number
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"


def _nested(array: npt.NDArray[Any]) -> Any:
    if array.dtype == FLOAT32:
        # Exactly the same numbers, so that a reader who takes them for float64 is right as well.
        array = array.astype(FLOAT64)
    if array.ndim == 0:
        item = array.item()
        return _number(item) if isinstance(item, float) else item
    if array.dtype == FLOAT64 and not np.isfinite(array).all():
        return _with_words(array)
    return np.ascontiguousarray(array)


def _with_words(array: npt.NDArray[Any]) -> Any:
    items = array.astype(object)
    items[np.isnan(array)] = "NaN"
    items[array == np.inf] = "Infinity"
    items[array == -np.inf] = "-Infinity"
    return items.tolist()


def _little_endian(array: npt.NDArray[Any]) -> bytes:
    return (array if sys.byteorder == "little" else array.byteswap()).tobytes()
