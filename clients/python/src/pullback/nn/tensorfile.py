"""Encode arrays by name as the bytes of a safetensors file, and decode them.

A file is the length of its header (8 bytes, little-endian), the header in JSON, and the bytes of all arrays.
Source: https://github.com/huggingface/safetensors#format.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

#: dtypes that are read; only the first four are written.
_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "I64": "<i8",
    "BOOL": "|b1",
    "F16": "<f2",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "|i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "|u1",
}
_CODES = {np.dtype(dtype): code for code, dtype in _DTYPES.items()}
_LENGTH_BYTES = 8
_LARGEST_HEADER = 100_000_000


def write(arrays: Mapping[str, Array]) -> bytes:
    """Encode arrays as a file; those with the largest elements come first, so that each is aligned."""
    header: dict[str, Any] = {}
    parts: list[bytes] = []
    end = 0
    for name in sorted(arrays, key=lambda name: (-arrays[name].itemsize, name)):
        array = arrays[name]
        dtype = array.dtype.newbyteorder("<")
        parts.append(np.asarray(array, dtype).tobytes())
        offsets = [end, end + len(parts[-1])]
        header[name] = {"dtype": _CODES[dtype], "shape": list(array.shape), "data_offsets": offsets}
        end = offsets[1]
    text = msgspec.json.encode(header)
    text += b" " * (-len(text) % _LENGTH_BYTES)
    return b"".join([len(text).to_bytes(_LENGTH_BYTES, "little"), text, *parts])


def read(data: bytes) -> dict[str, Array]:
    """Decode a file.

    >>> read(write({"w": np.array([1.0, 2.0])}))
    {'w': array([1., 2.])}

    Raises:
        ValueError: the bytes are not such a file, or a dtype is unknown to NumPy.
    """
    try:
        begin = _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES], "little")
        if len(data) < _LENGTH_BYTES or begin > min(len(data), _LARGEST_HEADER):
            raise ValueError("the header is longer than the file")
        header = msgspec.json.decode(data[_LENGTH_BYTES:begin])
        header.pop("__metadata__", None)
        return {name: _read_one(data[begin:], **about) for name, about in header.items()}
    except (msgspec.DecodeError, AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _read_one(data: bytes, dtype: str, shape: list[int], data_offsets: list[int]) -> Array:
    start, end = data_offsets
    if not 0 <= start <= end <= len(data):
        raise ValueError("an array lies beyond the end")
    found = np.frombuffer(data[start:end], np.dtype(_DTYPES[dtype])).reshape(shape)
    return found.astype(found.dtype.newbyteorder("="))
