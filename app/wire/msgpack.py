"""MessagePack: bytes -> a document whose large binary parts are views of these bytes, and documents -> bytes.

Nothing is made by a length that is only announced: each item takes a byte or more, so what announces more items than
there are bytes left is refused before its first item is read. Format: https://github.com/msgpack/msgpack.
"""

import struct
from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from app.wire.document import MalformedBodyError, too_deep
from engine.core import LimitExceededError

_NIL, _NEVER, _FALSE, _TRUE, _FLOAT64 = 0xC0, 0xC1, 0xC2, 0xC3, 0xCB
_CONSTANTS = {_NIL: None, _FALSE: False, _TRUE: True}
#: Tags of numbers of a fixed width, and what they are to `struct` and NumPy.
_NUMBERS = dict(zip(range(0xCA, 0xD4), "fdBHIQbhiq", strict=True))
#: How they are read, and how many bytes they take with the tag.
_READERS = {
    tag: (struct.Struct(f">{code}").unpack_from, struct.calcsize(f">B{code}")) for tag, code in _NUMBERS.items()
}
#: Tags of what has a length: its kind, and of how many bytes the length is.
_LENGTHS = {
    0xC4: ("bin", 1),
    0xC5: ("bin", 2),
    0xC6: ("bin", 4),
    0xD9: ("str", 1),
    0xDA: ("str", 2),
    0xDB: ("str", 4),
    0xDC: ("array", 2),
    0xDD: ("array", 4),
    0xDE: ("map", 2),
    0xDF: ("map", 4),
}
#: The tag that a short length is added to, and which lengths are short.
_FIXED = {"map": (0x80, 16), "array": (0x90, 16), "str": (0xA0, 32), "bin": (0, 0)}
_TAGS = {kind: [(tag, width) for tag, (its, width) in _LENGTHS.items() if its == kind] for kind in _FIXED}
#: A view keeps the whole body: what is less of it than one part of so many is copied, for it may be kept for long.
_LARGEST_SHARE = 16
#: Lists of fewer numbers are read one by one.
_SHORTEST_RUN = 16


def decode(body: bytes, max_depth: int) -> Any:
    """The document that `body` holds; what is binary in it is a memoryview of `body`, or bytes where it is short.

    Raises:
        LimitExceededError: it is nested deeper than `max_depth`.
        MalformedBodyError: it is not one whole MessagePack document, or holds what JSON has no counterpart for.

    >>> decode(bytes.fromhex("82a17801a17993c0c3cb3fe0000000000000"), 2)
    {'x': 1, 'y': [None, True, 0.5]}
    """
    reader = _Reader(body, max_depth)
    document = reader.value(0)
    reader.check_end()
    return document


class _Reader:
    """Where in a body the next item begins."""

    __slots__ = ("_at", "_body", "_max_depth", "_view")

    def __init__(self, body: bytes, max_depth: int) -> None:
        self._body = body
        self._view = memoryview(body)
        self._at = 0
        self._max_depth = max_depth

    def value(self, depth: int) -> Any:
        """The next item, which `depth` lists and maps hold."""
        at, body = self._at, self._body
        if at >= len(body):
            self._fail_short(at, "an item")
        tag = body[at]
        self._at = at + 1
        if tag < 0x80 or tag >= 0xE0:
            return tag if tag < 0x80 else tag - 0x100
        if tag < 0xC0:
            if tag >= 0xA0:
                return self._text(tag & 0x1F)
            return self._list(tag & 0x0F, depth + 1) if tag >= 0x90 else self._map(tag & 0x0F, depth + 1)
        if tag in _CONSTANTS:
            return _CONSTANTS[tag]
        if tag in _NUMBERS:
            return self._number(tag)
        if tag in _LENGTHS:
            return self._long(tag, depth)
        what = "byte 0xc1, which begins nothing" if tag == _NEVER else "an extension type; expected what JSON has too"
        raise MalformedBodyError(f"byte {at}: {what}")

    def check_end(self) -> None:
        """Refuses a body that goes on."""
        rest = len(self._body) - self._at
        if rest:
            raise MalformedBodyError(f"byte {self._at}: the document ends here, {rest} more bytes follow")

    def _long(self, tag: int, depth: int) -> Any:
        kind, width = _LENGTHS[tag]
        length = int.from_bytes(self._bytes(width, "a length"), "big")
        if kind == "str":
            return self._text(length)
        if kind == "bin":
            data = self._bytes(length, "binary data")
            return data if length * _LARGEST_SHARE >= len(self._body) else bytes(data)
        return self._list(length, depth + 1) if kind == "array" else self._map(length, depth + 1)

    def _number(self, tag: int) -> float:
        read, width = _READERS[tag]
        start = self._at
        self._bytes(width - 1, "a number")
        number: float = read(self._body, start)[0]
        return number

    def _bytes(self, length: int, what: str) -> memoryview:
        start = self._at
        if length > len(self._body) - start:
            self._fail_short(start, f"{what} of {length} bytes")
        self._at = start + length
        return self._view[start : self._at]

    def _text(self, length: int) -> str:
        start = self._at
        data = self._bytes(length, "a text")
        try:
            return str(data, "utf-8")
        except UnicodeDecodeError as error:
            wrong = start + error.start
            raise MalformedBodyError(f"byte {wrong} is 0x{self._body[wrong]:02x}: the text is not UTF-8") from None

    def _map(self, length: int, depth: int) -> dict[str, Any]:
        self._open("map", length, 2 * length, depth)
        found: dict[str, Any] = {}
        for _ in range(length):
            at = self._at
            key = self.value(depth)
            if type(key) is not str:
                raise MalformedBodyError(f"byte {at}: a key that is no text")
            if key in found:
                raise MalformedBodyError(f'the key "{key}" stands twice in one object')
            found[key] = self.value(depth)
        return found

    def _list(self, length: int, depth: int) -> list[Any]:
        self._open("list", length, length, depth)
        if length >= _SHORTEST_RUN:
            run = self._run(length)
            if run is not None:
                return run
        found: list[Any] = []
        append, body, numbers = found.append, self._body, _READERS
        # All but what is a number is left to `value`: a call an item would cost thrice as much.
        for _ in range(length):
            at = self._at
            if at >= len(body):
                self._fail_short(at, "an item")
            tag = body[at]
            if tag < 0x80:
                append(tag)
                self._at = at + 1
            elif tag in numbers:
                read, width = numbers[tag]
                if at + width > len(body):
                    self._fail_short(at, f"a number of {width} bytes")
                append(read(body, at + 1)[0])
                self._at = at + width
            elif tag in _CONSTANTS:
                append(_CONSTANTS[tag])
                self._at = at + 1
            else:
                append(self.value(depth))
        return found

    def _run(self, length: int) -> list[Any] | None:
        """The next items where all are numbers of one form."""
        tag = self._body[self._at]
        if tag < 0x80 or tag >= 0xE0:
            items = np.dtype([("number", "i1")])
        elif tag in _NUMBERS:
            items = np.dtype([("tag", "u1"), ("number", f">{_NUMBERS[tag]}")])
        else:
            return None
        size = length * items.itemsize
        if size > len(self._body) - self._at:
            return None
        read = np.frombuffer(self._view[self._at : self._at + size], items)
        same = read["tag"] == tag if tag in _NUMBERS else read["number"] >= -0x20
        if not same.all():
            return None
        self._at += size
        numbers: list[Any] = read["number"].tolist()
        return numbers

    def _open(self, what: str, length: int, items: int, depth: int) -> None:
        if depth > self._max_depth:
            raise too_deep(self._max_depth)
        if items > len(self._body) - self._at:
            self._fail_short(self._at, f"a {what} of {length} items")

    def _fail_short(self, at: int, what: str) -> NoReturn:
        if not self._body:
            raise MalformedBodyError("the body is empty; expected a MessagePack map")
        raise MalformedBodyError(f"byte {at}: {what} was announced, {len(self._body) - at} bytes follow")


def encode(document: Any) -> bytes:
    """A document as MessagePack.

    document: None, bools, numbers, texts, lists, tuples and mappings with texts for keys; bytes and memoryviews, which
        are written as binary data; arrays, which are written as nested lists of numbers.

    >>> encode({"x": [1, 0.5, True]}).hex(" ")
    '81 a1 78 93 01 cb 3f e0 00 00 00 00 00 00 c3'
    >>> decode(encode(np.array([[1, 2], [3, 4]])), 2)
    [[1, 2], [3, 4]]
    """
    pieces: list[bytes | memoryview] = []
    _write(document, pieces)
    return b"".join(pieces)


def _write(item: Any, pieces: list[bytes | memoryview]) -> None:
    match item:
        case None | True | False:
            pieces.append(bytes([_NIL if item is None else _TRUE if item else _FALSE]))
        case float():
            pieces.append(struct.pack(">Bd", _FLOAT64, item))
        case int():
            pieces.append(_integer(item))
        case str():
            text = item.encode()
            pieces += (_head("str", len(text)), text)
        case bytes() | memoryview():
            pieces += (_head("bin", len(item)), item)
        case Mapping():
            pieces.append(_head("map", len(item)))
            for key, value in item.items():
                _write(key, pieces)
                _write(value, pieces)
        case list() | tuple():
            pieces.append(_head("array", len(item)))
            for value in item:
                _write(value, pieces)
        case np.ndarray():
            pieces.append(_rows(item))
        case _:
            raise TypeError(f"{type(item).__name__} cannot be written as MessagePack")


def _head(kind: str, length: int) -> bytes:
    """The tag of what has a length, and the length."""
    first, below = _FIXED[kind]
    if length < below:
        return bytes([first + length])
    for tag, width in _TAGS[kind]:
        if length < 256**width:
            return bytes([tag]) + length.to_bytes(width, "big")
    raise LimitExceededError(f"a {kind} of length {length}; MessagePack has lengths below {2**32}")


def _integer(number: int) -> bytes:
    if -0x20 <= number < 0x80:
        return bytes([number & 0xFF])
    if -(2**63) <= number < 2**63:
        return struct.pack(">Bq", 0xD3, number)
    return struct.pack(">BQ", 0xCF, number)


def _rows(array: npt.NDArray[Any]) -> bytes:
    """An array as nested lists, written all at once: the items first, then the heads of lists, from the inmost out."""
    if array.dtype == np.bool_:
        block = np.where(array, _TRUE, _FALSE).astype(np.uint8)[..., None]
    else:
        tag = {"f8": _FLOAT64, "f4": 0xCA, "i8": 0xD3}[array.dtype.str[1:]]
        block = np.empty((*array.shape, 1 + array.itemsize), np.uint8)
        block[..., 0] = tag
        big = np.ascontiguousarray(array, array.dtype.newbyteorder(">"))
        block[..., 1:] = big.reshape(*array.shape, 1).view(np.uint8)
    for axis in reversed(range(array.ndim)):
        lead, length = array.shape[:axis], array.shape[axis]
        head = np.frombuffer(_head("array", length), np.uint8)
        items = block.reshape(*lead, length * block.shape[-1])
        block = np.empty((*lead, len(head) + items.shape[-1]), np.uint8)
        block[..., : len(head)] = head
        block[..., len(head) :] = items
    return block.tobytes()
