"""MessagePack: bytes -> a document whose large binary parts are views of these bytes, and documents -> bytes.

msgspec reads and writes. A map is read as its keys and the undecoded bytes of its values, so that each map is seen:
its header says how many entries were written, which its keys have to match, and `bin` values become views.
"""

from collections.abc import Iterator, Mapping
from math import inf
from typing import Any, NoReturn

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Raw

from app.wire.document import (
    CONTAINER_BYTES,
    ITEM_BYTES,
    KEY_BYTES,
    MalformedBodyError,
    too_deep,
    too_many_bytes,
    twice_in_one_object,
)
from engine.core import LimitExceededError

#: Header bytes. `fix` headers carry a length below 16 in their low half; the others are followed by 2 or 4 bytes of it.
_FIX_MAP, _FIX_ARRAY, _FIX_END = 0x80, 0x90, 0xA0
_BIN, _ARRAY, _MAP = (0xC4, 0xC5, 0xC6), (0xDC, 0xDD), (0xDE, 0xDF)
_FALSE, _TRUE, _FLOAT32, _FLOAT64, _INT64 = 0xC2, 0xC3, 0xCA, 0xCB, 0xD3
#: Bytes of the headers of lists and maps that are not 1.
_HEADER_BYTES = {0xDC: 3, 0xDD: 5, 0xDE: 3, 0xDF: 5}
#: A view keeps the whole body alive: shorter parts than this fraction of it are copied, since they may be cached.
_LARGEST_SHARE = 16
#: Levels of plain lists that are decoded in one go; images by batch and channel have 4.
_LEVELS = 6
#: Elements up to which an array is written faster by way of Python's numbers than as one block.
_LARGEST_LIST = 400

#: msgspec's messages and plainer ones.
_REASONS = {
    "truncated": "the body ends before the item does, or a length in the item is too large",
    "Invalid UTF-8": "a text is not UTF-8",
    "invalid opcode": "byte 0xc1, which MessagePack does not use",
    "trailing characters": "the document ends before the body does",
}

_Scalar = float | int | bool | str | None


def _lists_of_scalars(levels: int) -> Any:
    """Return the type of a scalar, or of lists of scalars that are nested at most `levels` deep."""
    return _Scalar if levels == 0 else _Scalar | list[_lists_of_scalars(levels - 1)]  # type: ignore[misc]


# Extension types, timestamps and keys other than texts fit none of these types.
_NESTED: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(_lists_of_scalars(_LEVELS) | dict[str, Raw])
_FLAT: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(_lists_of_scalars(1) | dict[str, Raw])
_ITEMS = msgspec.msgpack.Decoder(list[Raw])
_VIEW = msgspec.msgpack.Decoder(memoryview)


def decode(body: bytes, max_depth: int, max_bytes: float = inf, max_items: float = inf) -> Any:
    """Decode one document; its `bin` values are memoryviews of `body`, or bytes where they are short.

    Args:
        body: one whole MessagePack document.
        max_depth: of nested lists and maps.
        max_bytes: estimated size of the document in memory, as `app.wire.document` counts it.
        max_items: of all lists and maps together.

    Raises:
        LimitExceededError: a limit is exceeded, found before the objects are made.
        MalformedBodyError: `body` is not one whole document, has a key twice, or holds something unknown to JSON.

    >>> decode(bytes.fromhex("82a17801a17993c0c3cb3fe0000000000000"), 2)
    {'x': 1, 'y': [None, True, 0.5]}
    """
    if not body:
        raise MalformedBodyError("the body is empty; expected a MessagePack map")
    # An item takes a byte or more: in a short body nothing has to be counted.
    is_short = len(body) * (CONTAINER_BYTES + ITEM_BYTES) <= max_bytes and len(body) <= max_items
    reader = _Reader(max_depth, len(body) / _LARGEST_SHARE, None if is_short else _Budget(max_bytes, max_items))
    try:
        return reader.document(body)
    except RecursionError:
        raise too_deep(max_depth) from None


class _Budget:
    """Running count of the items of a document and of the bytes that they will take."""

    __slots__ = ("_bytes", "_items", "_max_bytes", "_max_items")

    def __init__(self, max_bytes: float, max_items: float) -> None:
        self._bytes = self._items = 0
        self._max_bytes = max_bytes
        self._max_items = max_items

    def spend(self, items: int, nbytes: int) -> None:
        """Count items that are about to be made; raise LimitExceededError if they are too many."""
        self._items += items
        self._bytes += nbytes
        if self._items > self._max_items:
            raise LimitExceededError(
                f"the lists and maps of the body have {self._items:,} items or more, the limit is "
                f"{self._max_items:,.0f}; send large arrays as binary data (setting PULLBACK_MAX_ELEMENTS)"
            )
        if self._bytes > self._max_bytes:
            raise too_many_bytes(self._bytes, f"{self._items:,} items of lists and maps", self._max_bytes)


class _Reader:
    """Decoder of a body, item by item, where a list of scalars is one item. It keeps a stack and never recurses."""

    def __init__(self, max_depth: int, shortest_view: float, budget: _Budget | None) -> None:
        self._max_depth = max_depth
        self._shortest_view = shortest_view
        self._budget = budget
        #: Lists and maps that are not complete, each inside the one before: with its items that are not decoded yet.
        self._open: list[tuple[Any, Iterator[tuple[Any, bytes | Raw]]]] = []

    def document(self, body: bytes) -> Any:
        """Decode a whole body."""
        found = [None]
        stack = self._open
        stack.append((found, iter([(0, body)])))
        while stack:
            holder, items = stack[-1]
            depth = len(stack)
            for key, raw in items:
                try:
                    holder[key] = self._item(raw, depth - 1)
                except msgspec.DecodeError as error:
                    raise MalformedBodyError(f"the item at byte {_offset(raw, body)}: {_reason(error)}") from None
                if len(stack) > depth:
                    break
            else:
                stack.pop()
        return found[0]

    def _item(self, raw: bytes | Raw, depth: int) -> Any:
        """Decode an item that `depth` lists and maps hold; open it if its own items are still to be decoded."""
        if self._budget is None and depth + _LEVELS < self._max_depth:
            decoder = _NESTED
        else:
            decoder = _FLAT
            self._check(memoryview(raw), depth)
        try:
            item = decoder.decode(raw)
        except msgspec.ValidationError:
            return self._special(raw)
        if type(item) is dict:
            if len(item) != _length(memoryview(raw)):
                _fail_duplicate(raw)
            if item:
                # Values are replaced while they are iterated over; keys stay.
                self._open.append((item, iter(item.items())))
        return item

    def _special(self, raw: bytes | Raw) -> Any:
        """Decode anything but a scalar, a list of scalars, or a map whose keys are texts."""
        view = memoryview(raw)
        if view[0] in _BIN:
            data = _VIEW.decode(raw)
            return data if len(data) >= self._shortest_view else bytes(data)
        if _is_list(view[0]):
            if self._budget is not None:
                # Each item may be a list or map, and is an object before it is decoded.
                self._budget.spend(0, _length(view) * CONTAINER_BYTES)
            items: list[Any] = _ITEMS.decode(raw)
            self._open.append((items, enumerate(items)))
            return items
        if _is_map(view[0]):
            raise msgspec.DecodeError("the map has a key that is not a text") from None
        raise msgspec.DecodeError("an extension type or a timestamp; expected a type that JSON has too") from None

    def _check(self, view: memoryview, depth: int) -> None:
        """Check that a list or map may be decoded."""
        is_map = _is_map(view[0])
        if not is_map and not _is_list(view[0]):
            return
        if depth >= self._max_depth:
            raise too_deep(self._max_depth)
        if self._budget is not None:
            length = _length(view)
            self._budget.spend(length, CONTAINER_BYTES + length * (ITEM_BYTES + KEY_BYTES * is_map))


def _offset(raw: bytes | Raw, body: bytes) -> int:
    """Return where the bytes of an item begin in the body that they are a view of."""
    return int(np.frombuffer(raw, np.uint8).ctypes.data - np.frombuffer(body, np.uint8).ctypes.data)


def _reason(error: msgspec.DecodeError) -> str:
    """Return msgspec's message in plainer words."""
    text = str(error).removeprefix("MessagePack data is malformed: ")
    return next((ours for theirs, ours in _REASONS.items() if theirs in text), text)


def _is_map(tag: int) -> bool:
    return _FIX_MAP <= tag < _FIX_ARRAY or tag in _MAP


def _is_list(tag: int) -> bool:
    return _FIX_ARRAY <= tag < _FIX_END or tag in _ARRAY


def _length(view: memoryview) -> int:
    """Return the length in the header of a list or map; a smaller one if the body ends inside the header."""
    tag = view[0]
    return tag & 0x0F if tag < _FIX_END else int.from_bytes(view[1 : _HEADER_BYTES[tag]], "big")


def _fail_duplicate(raw: bytes | Raw) -> NoReturn:
    """Raise MalformedBodyError for a map, naming the first key that it has twice."""
    view = memoryview(raw)
    # The same bytes are a list of keys and values.
    keys = _ITEMS.decode(_list_header(2 * _length(view)) + view[_HEADER_BYTES.get(view[0], 1) :])[::2]
    names = [msgspec.msgpack.decode(key) for key in keys]
    seen: set[str] = set()
    twice = next(name for name in names if name in seen or seen.add(name))  # type: ignore[func-returns-value]
    raise twice_in_one_object(twice)


def encode(document: Any) -> bytes:
    """Encode a document.

    Args:
        document: None, bools, numbers, texts, lists, tuples and mappings with texts for keys; bytes and memoryviews,
            which are written as `bin`; arrays, which are written as nested lists of numbers.

    >>> encode({"x": [1, 0.5, True]}).hex(" ")
    '81 a1 78 93 01 cb 3f e0 00 00 00 00 00 00 c3'
    >>> decode(encode(np.array([[1, 2], [3, 4]])), 2)
    [[1, 2], [3, 4]]
    """
    try:
        return _ENCODER.encode(document)
    except ValueError as error:
        raise LimitExceededError(f"MessagePack cannot hold the document: {error}") from None


def _converted(item: Any) -> Any:
    """An object that msgspec does not know as one that it knows."""
    if isinstance(item, np.ndarray):
        return item.tolist() if item.size <= _LARGEST_LIST else Raw(_rows(item))
    if isinstance(item, np.generic):
        return item.item()
    if isinstance(item, Mapping):
        return dict(item)
    raise TypeError(f"{type(item).__name__} cannot be written as MessagePack")


_ENCODER = msgspec.msgpack.Encoder(enc_hook=_converted)


def _rows(array: npt.NDArray[Any]) -> bytes:
    """Encode an array as nested lists, all at once: first the numbers, then headers of lists from the inside out."""
    if array.dtype == np.bool_:
        block = np.where(array, _TRUE, _FALSE).astype(np.uint8)[..., None]
    else:
        tag = {"f8": _FLOAT64, "f4": _FLOAT32, "i8": _INT64}[array.dtype.str[1:]]
        block = np.empty((*array.shape, 1 + array.itemsize), np.uint8)
        block[..., 0] = tag
        big = np.ascontiguousarray(array, array.dtype.newbyteorder(">"))
        block[..., 1:] = big.reshape(*array.shape, 1).view(np.uint8)
    for axis in reversed(range(array.ndim)):
        lead, length = array.shape[:axis], array.shape[axis]
        head = np.frombuffer(_list_header(length), np.uint8)
        items = block.reshape(*lead, length * block.shape[-1])
        block = np.empty((*lead, len(head) + items.shape[-1]), np.uint8)
        block[..., : len(head)] = head
        block[..., len(head) :] = items
    return block.tobytes()


def _list_header(length: int) -> bytes:
    if length < 2**4:
        return bytes([_FIX_ARRAY + length])
    if length < 2**16:
        return bytes([_ARRAY[0]]) + length.to_bytes(2, "big")
    if length < 2**32:
        return bytes([_ARRAY[1]]) + length.to_bytes(4, "big")
    raise LimitExceededError(f"a list of length {length:,}; MessagePack has lengths below {2**32:,}")
