"""Encoding of documents as JSON or MessagePack, with arrays bit for bit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from pullback.core.values import canonical_dtype
from pullback.errors import InvalidValueError

JSON, MSGPACK = "application/json", "application/msgpack"
#: Encoding of arrays in responses, by media type; both are exact.
ENCODINGS = {JSON: "base64", MSGPACK: "binary"}


def encode(document: Any, media_type: str) -> bytes:
    """Encode a document; arrays and NumPy's scalars in it become array objects.

    Raises:
        InvalidValueError: it contains an object that cannot be encoded.
    """
    try:
        return _MSGPACK.encode(document) if media_type == MSGPACK else _JSON.encode(_with_words(document))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidValueError(f"the request cannot be written: {error}") from None


def is_document(document: Any) -> bool:
    """Return whether a document can be encoded."""
    try:
        encode(document, MSGPACK)
    except InvalidValueError:
        return False
    return True


def _array_object(key: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, (np.ndarray, np.generic)):
        raise TypeError(f"{type(value).__name__} is no number, array, list or text")
    array = np.asarray(value)
    dtype = canonical_dtype(array.dtype)
    contiguous = np.ascontiguousarray(array, dtype.newbyteorder("<"))
    # NumPy cannot view an array without elements as bytes.
    data = contiguous.reshape(-1).view(np.uint8).data if contiguous.size else b""
    return {"shape": array.shape, "dtype": str(dtype), key: data}


def _with_words(document: Any) -> Any:
    """Return a document with texts in place of NaN and infinities, which JSON does not have."""
    if isinstance(document, Mapping):
        return {key: _with_words(item) for key, item in document.items()}
    if isinstance(document, (list, tuple)):
        return [_with_words(item) for item in document]
    if type(document) is float and not math.isfinite(document):
        return "NaN" if math.isnan(document) else "Infinity" if document > 0 else "-Infinity"
    return document


_MSGPACK = msgspec.msgpack.Encoder(enc_hook=lambda value: _array_object("data", value))
_JSON = msgspec.json.Encoder(enc_hook=lambda value: _array_object("base64", value))
