"""Values: parts of documents -> raw values, and raw values -> documents in the four encodings."""

import base64
import math
import sys
from collections.abc import Mapping
from math import isfinite
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from app.wire.media import JSON
from app.wire.pieces import Base64, Large, Writer, is_large
from engine.core import FLOAT32, FLOAT64, Loc, Value
from engine.programs import decode_value, strong_value

DType = np.dtype[Any]
_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_PASSTHROUGH_DATACLASS


def decode(value: Any, loc: Loc, dtype: DType | None) -> Value:
    """Decode a value of a document to a raw value.

    Args:
        value: a number, bool or word such as "NaN", nested lists of them, or an array object.
        loc: its path in the request, for messages.
        dtype: to convert to, without loss; None for the value's own.

    Raises:
        InvalidValueError: it is not a value, or does not convert to `dtype`.

    >>> decode(3, (), None), decode([1, "NaN"], (), None)
    (3.0, array([ 1., nan]))
    """
    return strong_value(decode_value(value, loc, dtype))


def dumps(document: Any) -> bytes:
    """Write a response whose values `encode` has made as JSON."""
    writer = Writer()
    return writer.filled(orjson.dumps(document, writer.mark, _OPTIONS))


def encode_all(values: Mapping[str, Any], encoding: str, media_type: str = JSON) -> dict[str, Any]:
    """Encode every value in a mapping, in its lists and in its mappings."""
    if encoding == "nested":
        # Most values are finite numbers.
        return {
            name: value if type(value) is float and isfinite(value) else _encode_any(value, encoding, media_type)
            for name, value in values.items()
        }
    return {name: _encode_any(value, encoding, media_type) for name, value in values.items()}


def _encode_any(value: Any, encoding: str, media_type: str) -> Any:
    if isinstance(value, Mapping):
        return encode_all(value, encoding, media_type)
    if isinstance(value, list):
        return [encode(item, encoding, media_type) for item in value]
    return encode(value, encoding, media_type)


def encode(value: Value, encoding: str, media_type: str = JSON) -> Any:
    """Encode a raw value as a document for `app.wire.codecs.encode`.

    Args:
        value: a float or an array.
        encoding: "nested" (numbers and lists), or "flat", "base64" and, in MessagePack alone, "binary" (array objects,
            scalars included).
        media_type: of the response; in JSON numbers that are not finite become words.

    >>> dumps(encode(float("inf"), "nested"))
    b'"Infinity"'
    >>> dumps(encode(np.array([[1.0, np.nan]], np.float32), "flat"))
    b'{"shape":[1,2],"dtype":"float32","data":[1.0,"NaN"]}'
    """
    nested = _nested if media_type == JSON else _plain
    if encoding == "nested":
        return nested(value)
    array = np.asarray(value)
    about = {"shape": array.shape, "dtype": str(array.dtype)}
    if encoding == "flat":
        return about | {"data": nested(array.reshape(-1))}
    data = _little_endian(array)
    if encoding == "binary":
        return about | {"data": data}
    return about | {"base64": Base64(data) if media_type == JSON else base64.b64encode(data).decode()}


def _plain(value: Value) -> Any:
    return value.item() if isinstance(value, np.ndarray) and value.ndim == 0 else value


def _number(number: float) -> float | str:
    if math.isfinite(number):
        return number
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"


def _nested(value: Value) -> Any:
    if type(value) is float:
        return _number(value)
    array = np.asarray(value)
    if is_large(array):
        return Large(array, _nested)
    if array.dtype == FLOAT32:
        # The digits of float64 give exactly the same number, to readers of float32 and of float64.
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


def _little_endian(array: npt.NDArray[Any]) -> memoryview:
    """Return the bytes of an array in C order; no copy is made if they lie like that."""
    contiguous = np.ascontiguousarray(array if sys.byteorder == "little" else array.byteswap())
    return contiguous.reshape(-1).view(np.uint8).data
