"""Templates of requests that differ in the numbers of their inputs alone.

In a body that equals an earlier one letter by letter but for these numbers, only they are parsed and checked; its
answer is the earlier one with other numbers in it.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite

import orjson

from app.http.endpoints import Endpoint
from app.http.preparations import Hit
from app.wire.media import JSON
from app.wire.values import dumps, encode
from engine.core import Lru, Value
from engine.programs import ScalarFunction

_INPUTS = b'"inputs"'
#: A number as JSON has it, but for -0 as an integer, which is rare and read by `app.wire.document.loads`.
_NUMBER = rb"(?:-?[1-9][0-9]*|0|-0(?=[.eE]))(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"
_STRING_OR_NUMBER = re.compile(rb'"[^"]*"|(-?[0-9][0-9.eE+-]*)')
#: Objects that stand for a template.
_TEMPLATE_BYTES = 4000

#: The path, and what stands in the body before and after the inputs.
_Key = tuple[str, bytes, bytes]


@dataclass(frozen=True, slots=True)
class _Template:
    """One request and its answer.

    inputs: what the inputs look like; a group for each number.
    order: which of the numbers the program reads, in order.
    compute: from these to all values.
    text: of the answer, with a place for each value that it shows.
    shown: which of the values these are.
    """

    inputs: re.Pattern[bytes]
    order: Sequence[int]
    compute: Callable[[Sequence[float]], list[Value]]
    text: bytes
    shown: Sequence[int]

    def answer(self, given: bytes) -> bytes | None:
        """The answer for inputs that look like that."""
        found = self.inputs.fullmatch(given)
        if found is None:
            return None
        numbers = [float(text) for text in found.groups()]
        if not all(map(isfinite, numbers)):
            return None
        values = self.compute([numbers[k] for k in self.order])
        return self.text % tuple([_dumps(values[k]) for k in self.shown])


class Templates:
    """Templates by what stands around the numbers.

    Args:
        limit_entries, limit_bytes: how much is kept; what was not used for the longest time gives way.
    """

    def __init__(self, limit_entries: int, limit_bytes: int) -> None:
        self.kept: Lru[_Key, _Template] = Lru(limit_entries, limit_bytes)

    def answer(self, path: str, body: bytes) -> bytes | None:
        """The answer to a body that is like one before, None for any other."""
        start = body.find(_INPUTS)
        end = body.find(b"}", start)
        if start < 0 or end < 0:
            return None
        template = self.kept.get((path, body[:start], body[end:]))
        return None if template is None else template.answer(body[start:end])

    def learn(self, endpoint: Endpoint, body: bytes, hit: Hit) -> None:
        """Keeps what is known of a JSON body with a program of its own, and of its answer as nested JSON."""
        computed = hit.entry.executable.scalar_function
        # Without a backslash each quotation mark begins or ends a string: the only "inputs" is the field.
        is_plain = body.count(_INPUTS) == 1 and b"\\" not in body
        if computed is None or not is_plain or any(type(value) is not float for value in hit.inputs.values()):
            return
        names, compute = computed
        start = body.find(_INPUTS)
        end = body.find(b"}", start)
        inputs = _around_numbers(body[start:end])
        if len(inputs) != len(hit.inputs) + 1:
            return
        places = {name: k for k, name in enumerate(hit.inputs)}
        pattern = (b"(%s)" % _NUMBER).join(map(re.escape, inputs))
        text, shown = _around_values(endpoint, hit, computed)
        template = _Template(re.compile(pattern), [places[name] for name in names], compute, text, shown)
        size = _TEMPLATE_BYTES + 4 * len(body) + len(text) + hit.entry.nbytes
        self.kept.put((endpoint.path, body[:start], body[end:]), template, size)


def _around_numbers(text: bytes) -> list[bytes]:
    """Return the text before, between and after the numbers that are in no string."""
    pieces, end = [], 0
    for found in _STRING_OR_NUMBER.finditer(text):
        if found[1] is not None:
            pieces.append(text[end : found.start()])
            end = found.end()
    return [*pieces, text[end:]]


def _dumps(value: Value) -> bytes:
    return orjson.dumps(value if isfinite(value) else encode(value, "nested"))


def _around_values(endpoint: Endpoint, hit: Hit, computed: ScalarFunction) -> tuple[bytes, list[int]]:
    """The text of an answer with places for values, and which values they are for."""
    names, compute = computed
    count = len(compute([1.0] * len(names)))
    # Numbers that no name contains: each stands where its value will.
    marks = [float(f"1.{k:06d}e-300") for k in range(1, count + 1)]
    places = {dumps(mark): k for k, mark in enumerate(marks)}
    document = endpoint.document(hit.entry.executable.result(marks), hit.entry.program, "nested", JSON)
    written = re.split(b"(%s)" % b"|".join(map(re.escape, places)), dumps(document))
    text = b"%b".join(piece.replace(b"%", b"%%") for piece in written[::2])
    return text, [places[mark] for mark in written[1::2]]
