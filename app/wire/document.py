"""Bytes of JSON -> a document, without what JSON leaves open: duplicate keys, bare NaN, endless nesting."""

import json
import re
from collections import deque
from collections.abc import Iterator
from math import inf
from typing import Any, NoReturn

import numpy as np
import orjson

from engine.core import LimitExceededError

_NOT_MARKS = bytes(set(range(256)) - set(b'"[]{}:'))
_CONSTANT = re.compile(r"-?(NaN|Infinity)\b")
#: Searching for one byte takes a tenth of the time of searching for two.
_MINUS = ord("-")
#: -0 written as an integer.
_ZERO = re.compile(rb"-0(?![.\deE])")
_STRING_OR_ZERO = re.compile(rb'("[^"\\]*(?:\\.[^"\\]*)*")|(?<![\deE.+-])-0(?![.\deE])', re.DOTALL)
_CHUNK = 1 << 16
_PIECE = 1 << 11

#: Estimated bytes of a list or object, of an item of either, and of a key, as CPython makes them. An estimate above the
#: size is no harm: honest documents are mostly numbers, one item each.
CONTAINER_BYTES, ITEM_BYTES, KEY_BYTES = 72, 32, 100
#: Beginning of orjson's message if there is no memory for its buffer.
_NO_MEMORY = "Not enough memory"
#: Bytes that orjson's reader asks for, for each byte of a body.
_READER = 13
#: Memory that is there in any case, in bytes: no room is made for less.
_PLENTY = 16 * 2**20


class MalformedBodyError(Exception):
    """Bytes that are not a document in their encoding."""


def parse(body: bytes, max_depth: int, max_bytes: float = inf) -> Any:
    """Parse a JSON document.

    Args:
        body: one whole document.
        max_depth: of nested lists and objects.
        max_bytes: estimated size of the document in memory.

    Raises:
        LimitExceededError: it is nested deeper or would be larger, found before the parser sees it.
        MalformedBodyError: it is not JSON, is not UTF-8, or has a key twice in one object.
        MemoryError: there is not enough memory to parse it.
    """
    marks = _marks(body)
    # Marks inside strings count too, so these are upper bounds; most of the time they are enough.
    opened, colons = marks.count(b"[") + marks.count(b"{"), marks.count(b":")
    _check_bytes(body, opened, colons, max_bytes)
    is_flat = opened <= max_depth
    keys = colons if is_flat else _survey(marks, max_depth)
    try:
        document = loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedBodyError(_explain(body, error)) from None
    if _has_more_keys(keys, document) and (not is_flat or _has_more_keys(_survey(marks, max_depth), document)):
        _name_duplicate(body)
    return document


def _check_bytes(body: bytes, opened: int, colons: int, max_bytes: float) -> None:
    """Check the estimated size of a document; raise LimitExceededError if it is above `max_bytes`."""
    least = CONTAINER_BYTES * opened + KEY_BYTES * colons
    # Each comma is followed by an item: only a long body can have too many of them.
    if least + ITEM_BYTES * len(body) / 2 <= max_bytes:
        return
    commas = body.count(b",")
    needed = least + ITEM_BYTES * commas
    if needed > max_bytes:
        raise too_many_bytes(needed, f"{opened:,} opening brackets, {commas:,} commas and {colons:,} colons", max_bytes)


def loads(body: bytes) -> Any:
    """Parse JSON; the number -0 becomes -0.0, as in most readers, and not an integer without its sign.

    Raises:
        orjson.JSONDecodeError: it is not JSON.
        MemoryError: there is not enough memory.
    """
    if _MINUS not in body or _ZERO.search(body) is None:
        return _loads(body)
    try:
        document = _loads(_STRING_OR_ZERO.sub(lambda found: found[1] or b"-0.0", body))
    except orjson.JSONDecodeError:
        # Positions in the message are those of the body as it came.
        return _loads(body)
    _make_seeds_integers(document)
    return document


def _loads(body: bytes) -> Any:
    """Parse JSON by orjson, which has other words for a lack of memory, or ends the process."""
    if _READER * len(body) > _PLENTY:
        _make_room(body)
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if error.msg.startswith(_NO_MEMORY):
            raise MemoryError(error.msg) from None
        raise
    except SystemError as error:
        # orjson goes on for a while after CPython found no memory for an object.
        if isinstance(error.__cause__, MemoryError):
            raise error.__cause__ from None
        raise


def _make_room(body: bytes) -> None:
    """Make sure that there is memory for the objects that orjson makes of a body.

    Raises:
        MemoryError: there is not enough.
    """
    opened, colons = body.count(b"[") + body.count(b"{"), body.count(b":")
    objects = CONTAINER_BYTES * opened + KEY_BYTES * colons + ITEM_BYTES * body.count(b",")
    # This is not touched, and so costs nothing.
    np.empty(_READER * len(body) + 2 * objects, np.uint8)


def _make_seeds_integers(document: Any) -> None:
    """Make seeds that are -0.0 the integer 0, in a request and in its commands."""
    if type(document) is not dict:
        return
    commands = document.get("commands")
    for item in [document, *(commands if type(commands) is list else [])]:
        if type(item) is dict and type(item.get("seed")) is float and item["seed"] == 0:
            item["seed"] = 0


def too_deep(max_depth: int) -> LimitExceededError:
    """Return the refusal of a body that is nested too deep, in any encoding."""
    return LimitExceededError(f"the body is nested deeper than {max_depth} levels (setting PULLBACK_MAX_DEPTH)")


def too_many_bytes(needed: int, counted: str, max_bytes: float) -> LimitExceededError:
    """Return the refusal of a body that would be too large as a document, in any encoding."""
    return LimitExceededError(
        f"the body would take about {needed:,} bytes of memory once parsed ({counted} were counted), the limit is "
        f"{max_bytes:,.0f}; large arrays are smallest as base64, or as binary data in MessagePack "
        "(setting PULLBACK_MAX_DOCUMENT_BYTES)"
    )


def twice_in_one_object(key: str) -> MalformedBodyError:
    """Return the refusal of a body with a duplicate key, in any encoding."""
    return MalformedBodyError(f'the key "{key}" stands twice in one object')


def _marks(body: bytes) -> bytes:
    """Return the quotes, brackets and colons of a body, without those that are escaped."""
    if b"\\" in body:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    if len(body) > _CHUNK:
        body = _without_plain_numbers(body)
    return body.translate(None, _NOT_MARKS)


def _without_plain_numbers(body: bytes) -> bytes:
    """Drop the pieces of a body that have nothing but digits, points, signs and commas in them."""
    codes = np.frombuffer(body, np.uint8)
    pieces = codes[: len(codes) // _PIECE * _PIECE].reshape(-1, _PIECE)
    has_more = (pieces.max(axis=1) > ord("9")) | (pieces.min(axis=1) < ord("+"))
    kept: bytes = pieces[has_more].tobytes()
    return kept + body[pieces.size :]


def _survey(marks: bytes, max_depth: int) -> int:
    """Count the keys of a body, if it is JSON, without parsing.

    Raises:
        LimitExceededError: brackets, of whatever kind, are nested deeper than `max_depth`.
    """
    keys = depth = 0
    for piece in _outside_strings(marks):
        keys += piece.count(b":")
        opened = piece.count(b"[") + piece.count(b"{")
        closed = len(piece) - piece.count(b":") - opened
        if depth + opened > max_depth:
            codes = np.frombuffer(piece.translate(None, b":"), np.uint8)
            # In ASCII the closing bracket of either kind is the opening one plus 2: bit 2 tells them apart.
            if depth + np.cumsum(np.where(codes & 0x04, -1, 1)).max() > max_depth:
                raise too_deep(max_depth)
        depth += opened - closed
    return keys


def _outside_strings(marks: bytes) -> Iterator[bytes]:
    """Yield the brackets and colons outside strings, piece by piece: splitting at quotes makes many short strings."""
    inside = 0
    for start in range(0, len(marks), _CHUNK):
        parts = marks[start : start + _CHUNK].split(b'"')
        yield b"".join(parts[inside::2])
        inside ^= (len(parts) - 1) % 2


def _has_more_keys(written: int, document: Any) -> bool:
    """Return whether more keys were written than the objects of the document have: one of them stands twice."""
    waiting: deque[Any] = deque([document])
    while waiting and written:
        item = waiting.popleft()
        if type(item) is dict:
            written -= len(item)
            # Objects go first: long lists of numbers need no look once all keys are accounted for.
            waiting.extendleft(value for value in item.values() if type(value) is dict)
            waiting.extend(value for value in item.values() if type(value) is list)
        elif type(item) is list and not {dict, list}.isdisjoint(map(type, item)):
            waiting.extend(value for value in item if type(value) is dict or type(value) is list)
    return written > 0


def _name_duplicate(body: bytes) -> NoReturn:
    def check(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        seen = set()
        for key, _ in pairs:
            if key in seen:
                raise twice_in_one_object(key)
            seen.add(key)
        return {}

    # Numbers are not looked at, and one of very many digits would be refused by Python's int.
    json.loads(body, object_pairs_hook=check, parse_int=str)
    raise MalformedBodyError("a key stands twice in one object")


def _explain(body: bytes, error: orjson.JSONDecodeError) -> str:
    if not body.strip():
        return "the body is empty; expected a JSON object"
    try:
        text = body.decode()
    except UnicodeDecodeError as wrong:
        return f"the body is not UTF-8: byte {wrong.start} is 0x{body[wrong.start]:02x}"
    if text.startswith("\ufeff"):
        return "the body begins with a byte order mark; JSON has none"
    where = f"line {error.lineno}, column {error.colno}"
    constant = _CONSTANT.match(text, max(error.pos - text[: error.pos].endswith("-"), 0))
    if constant:
        return f'{where}: bare {constant[0]} is not JSON; write "{constant[0]}"'.replace('"-NaN"', '"NaN"')
    if "infinity" in error.msg:
        return f'{where}: the number is beyond float64; write "Infinity" or "-Infinity" for an infinite one'
    return f"{where}: {error.msg}"
