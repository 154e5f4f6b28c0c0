"""A request taken apart: what its answer's form depends on, which is seen again and again, and values, which vary."""

from dataclasses import dataclass
from typing import Any

import orjson

from app.wire import msgpack
from app.wire.media import JSON
from app.wire.schemas import LARGEST_SEED, PROGRAM_KEYS
from engine.core import LimitExceededError

#: The forms of answers that can be written in every media type.
_ENCODINGS = ("nested", "flat", "base64")
#: The keys of an array object.
_ARRAY_KEYS = 3


@dataclass(slots=True)
class Question:
    """A request but for how its program is called.

    key: all that is not a value, in the order in which it was written; equal keys ask the same of other values.
    program: the id or name of a registered program, None where the program stands in the key.
    inputs, along: the values of inputs and of directions by name, as documents.
    seed: of random operations.
    encoding: the form of arrays in the answer.
    colons: so many colons JSON of this request has where no key stands twice and none is escaped.
    """

    key: tuple[Any, ...]
    program: str | None
    inputs: dict[str, Any]
    along: dict[str, Any]
    seed: int | None
    encoding: str
    colons: int


def take_apart(path: str, field: str, document: Any, media_type: str, answer_type: str) -> Question | None:
    """The question that a document asks; None for one that is not asked like others, or not rightly.

    Args:
        path: of the request.
        field: where directions stand: the name of a field, "backward" for its cotangent, "" where there are none.
        document: the body.
        media_type: of the body.
        answer_type: of the answer.
    """
    if type(document) is not dict:
        return None
    rest = document.copy()
    inputs = rest.pop("inputs", {})
    seed = rest.pop("seed", None)
    encoding = rest.pop("encoding", "nested")
    program = rest.pop("program", None)
    along: Any = {}
    # A field of its own, and one more inside of `backward`.
    colons = len(document) - len(rest)
    if field == "backward":
        backward = rest.get("backward")
        if type(backward) is dict:
            if backward.get("create_graph"):
                return None
            if backward.get("cotangent") is not None:
                along = {"cotangent": backward["cotangent"]}
                rest["backward"] = {key: value for key, value in backward.items() if key != "cotangent"}
    elif field:
        along = rest.pop(field, {})
        colons = len(document) - len(rest)
    if type(inputs) is not dict or type(along) is not dict:
        return None
    if not (seed is None or _is_seed(seed)) or not (encoding in _ENCODINGS or _is_binary(encoding, answer_type)):
        return None
    if "program" in document and (type(program) is not str or not rest.keys().isdisjoint(PROGRAM_KEYS)):
        return None
    try:
        written = orjson.dumps(rest) if media_type == JSON else msgpack.encode(rest)
    except (TypeError, OverflowError, LimitExceededError):
        # An integer beyond 64 bits, or nesting beyond what is written: neither is ever right.
        return None
    if media_type == JSON:
        colons += written.count(b":") + _colons_of(inputs)
        if along:
            colons += _colons_of(along)
    key = (path, written, (*inputs,), (*along,), seed is None)
    return Question(key, program, inputs, along, seed, encoding, colons)


def _colons_of(values: dict[str, Any]) -> int:
    """The colons of values by name that are right: only array objects have some inside."""
    colons = len(values)
    for value in values.values():
        if type(value) is dict:
            colons += _ARRAY_KEYS
    return colons


def _is_seed(seed: Any) -> bool:
    return type(seed) is int and 0 <= seed <= LARGEST_SEED


def _is_binary(encoding: Any, answer_type: str) -> bool:
    return bool(encoding == "binary") and answer_type != JSON
