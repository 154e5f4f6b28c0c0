"""JSON of large arrays, written in pieces.

orjson does not notice that there is no memory for its buffer: it ends the process. So nothing large is given to it at
once, and the buffer is Python's, which raises MemoryError.
"""

import base64
import math
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from itertools import zip_longest
from typing import Any

import numpy.typing as npt
import orjson

#: Elements of an array from which on it is written in pieces, and of a piece.
LARGE = 1 << 12
#: Bytes that are encoded at once; three of them are four letters.
_BASE64_BYTES = 3 << 16
_OPTIONS = orjson.OPT_SERIALIZE_NUMPY


def is_large(array: npt.NDArray[Any]) -> bool:
    """Return whether an array is to be written in pieces; rows count where they are empty."""
    return _weight(array.shape) > LARGE and len(array) > 0


def _weight(shape: tuple[int, ...]) -> int:
    return math.prod(max(length, 1) for length in shape)


@dataclass(frozen=True, slots=True)
class Large:
    """An array of a document that is written in pieces.

    form: makes what orjson writes of a small array.
    """

    array: npt.NDArray[Any]
    form: Callable[[npt.NDArray[Any]], Any]

    def parts(self) -> Iterator[bytes | memoryview]:
        """Return its JSON, in order."""
        return self._parts(self.array)

    def _parts(self, array: npt.NDArray[Any]) -> Iterator[bytes | memoryview]:
        if not is_large(array):
            yield orjson.dumps(self.form(array), option=_OPTIONS)
            return
        count = max(LARGE // _weight(array.shape[1:]), 1)
        for start in range(0, len(array), count):
            yield b"," if start else b"["
            rows = array[start : start + count]
            if count > 1:
                yield memoryview(orjson.dumps(self.form(rows), option=_OPTIONS))[1:-1]
            else:
                yield from self._parts(rows[0])
        yield b"]"


@dataclass(frozen=True, slots=True)
class Base64:
    """Bytes of a document."""

    data: bytes | memoryview

    def parts(self) -> Iterator[bytes | memoryview]:
        """Return their JSON, in order."""
        yield b'"'
        for start in range(0, len(self.data), _BASE64_BYTES):
            yield base64.b64encode(self.data[start : start + _BASE64_BYTES])
        yield b'"'


@dataclass(slots=True)
class Writer:
    """Puts values that are written in pieces into the JSON of the rest.

    found: these values, in the order in which they stand there.
    """

    found: list[Large | Base64] = field(default_factory=list)

    def mark(self, value: object) -> str:
        """Keep a value, and return what stands for it; for orjson, which asks what it cannot write."""
        if not isinstance(value, Large | Base64):
            # orjson says which type it is.
            raise TypeError
        self.found.append(value)
        return _MARK

    def filled(self, text: bytes) -> bytes:
        """Return JSON with the values in the places of their marks."""
        if not self.found:
            return text
        buffer = BytesIO()
        for between, value in zip_longest(text.split(_WRITTEN_MARK), self.found):
            buffer.write(between)
            if value is not None:
                buffer.writelines(value.parts())
        # Not a copy.
        return buffer.getvalue()


#: No text of a client has it.
_MARK = secrets.token_hex(16)
_WRITTEN_MARK = f'"{_MARK}"'.encode()
