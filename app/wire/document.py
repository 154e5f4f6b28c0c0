"""Bytes of JSON -> a document, refusing what JSON leaves open: keys twice, bare NaN, nesting without end."""

import json
import re
from collections import deque
from collections.abc import Iterator
from typing import Any, NoReturn

import numpy as np
import orjson

from engine.core import LimitExceededError

_NOT_MARKS = bytes(set(range(256)) - set(b'"[]{}:'))
_CONSTANT = re.compile(r"-?(NaN|Infinity)\b")
#: To look for one byte takes a tenth of what it takes to look for two.
_MINUS = ord("-")
#: -0 written as an integer.
_ZERO = re.compile(rb"-0(?![.\deE])")
_STRING_OR_ZERO = re.compile(rb'("[^"\\]*(?:\\.[^"\\]*)*")|(?<![\deE.+-])-0(?![.\deE])', re.DOTALL)
_NO_MEMORY = "Not enough memory"
#: Bytes that orjson's reader takes for each byte of a body, and Python for each thing that is made of it; what is in
#: strings counts too.
_READER = 13
_LIST, _OBJECT, _ITEM, _KEY = 80, 320, 48, 140
_CHUNK = 1 << 16
_PIECE = 1 << 11


class MalformedBodyError(Exception):
    """Bytes that are no document in their encoding."""


def parse(body: bytes, max_depth: int) -> Any:
    """The document that `body` holds.

    Raises:
        LimitExceededError: it is nested deeper than `max_depth`, found before any parser sees it.
        MalformedBodyError: it is no JSON, is not UTF-8, or has a key twice in one object.
    """
    marks = _marks(body)
    # What is in strings counts too, so that these are bounds; most of the time they are enough.
    is_flat = marks.count(b"[") + marks.count(b"{") <= max_depth
    keys = marks.count(b":") if is_flat else _survey(marks, max_depth)
    try:
        document = loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedBodyError(_explain(body, error)) from None
    if _has_more_keys(keys, document) and (not is_flat or _has_more_keys(_survey(marks, max_depth), document)):
        _name_duplicate(body)
    return document


def loads(body: bytes) -> Any:
    """The document that JSON holds; the number -0 is -0.0, as for most readers, and not an integer without its sign.

    Raises:
        orjson.JSONDecodeError: it is no JSON.
        MemoryError: there was not enough.
    """
    if _MINUS not in body or _ZERO.search(body) is None:
        return _loads(body)
    try:
        document = _loads(_STRING_OR_ZERO.sub(lambda found: found[1] or b"-0.0", body))
    except orjson.JSONDecodeError:
        # Places in the message are those of the body as it came.
        return _loads(body)
    _make_seeds_whole(document)
    return document


def _loads(body: bytes) -> Any:
    """Read JSON by orjson, which has other words for a lack of memory, or none."""
    if len(body) > _CHUNK:
        _make_room(body)
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if error.msg.startswith(_NO_MEMORY):
            raise MemoryError(error.msg) from None
        raise
    except SystemError as error:
        # An element could not be made, and orjson forgot to say so.
        raise MemoryError(str(error)) from None


def _make_room(body: bytes) -> None:
    """Make sure that there is memory for what orjson makes of a body: it may end the process where there is none.

    Raises:
        MemoryError: there is not enough.
    """
    lists, objects, commas, keys = (body.count(mark) for mark in (b"[", b"{", b",", b":"))
    needed = _READER * len(body) + _LIST * lists + _OBJECT * objects + _ITEM * commas + _KEY * keys
    # It is not touched, so that it costs nothing.
    np.empty(needed, np.uint8)


def _make_seeds_whole(document: Any) -> None:
    """Seeds of a request and of its commands, where 0 is an integer."""
    if type(document) is not dict:
        return
    commands = document.get("commands")
    for item in [document, *(commands if type(commands) is list else [])]:
        if type(item) is dict and type(item.get("seed")) is float and item["seed"] == 0:
            item["seed"] = 0


def too_deep(max_depth: int) -> LimitExceededError:
    """The refusal of a body in any encoding."""
    return LimitExceededError(f"the body is nested deeper than {max_depth} levels (setting PULLBACK_MAX_DEPTH)")


def _marks(body: bytes) -> bytes:
    """The quotes, brackets and colons of a body, without those that are escaped."""
    if b"\\" in body:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    if len(body) > _CHUNK:
        body = _without_plain_numbers(body)
    return body.translate(None, _NOT_MARKS)


def _without_plain_numbers(body: bytes) -> bytes:
    """A body without those of its pieces that have nothing but digits, points, signs and commas in them."""
    codes = np.frombuffer(body, np.uint8)
    pieces = codes[: len(codes) // _PIECE * _PIECE].reshape(-1, _PIECE)
    has_more = (pieces.max(axis=1) > ord("9")) | (pieces.min(axis=1) < ord("+"))
    kept: bytes = pieces[has_more].tobytes()
    return kept + body[pieces.size :]


def _survey(marks: bytes, max_depth: int) -> int:
    """The number of keys, were it JSON, found without parsing.

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
    """The brackets and colons that are in no string, piece by piece: of many short strings, few are there at a time."""
    inside = 0
    for start in range(0, len(marks), _CHUNK):
        parts = marks[start : start + _CHUNK].split(b'"')
        yield b"".join(parts[inside::2])
        inside ^= (len(parts) - 1) % 2


def _has_more_keys(written: int, document: Any) -> bool:
    """Whether more keys were written than the objects of the document have, that is, one of them twice."""
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
                raise MalformedBodyError(f'the key "{key}" stands twice in one object')
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
        return f'{where}: the number is beyond float64; write "Infinity" or "-Infinity" for what has no end'
    return f"{where}: {error.msg}"
