"""Checks of documents against the models of requests; pydantic's errors become faults in our words."""

import json
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from app.wire.media import JSON, MSGPACK
from app.wire.schemas.body import Body
from app.wire.schemas.programs import PROGRAM_KEYS, BackwardOptions, ProgramSource
from engine.core import MAX_FAULTS, Fault, Faults, InvalidValueError, Loc, nearest

#: Letters of a name that are compared with the known ones.
LONGEST_NEAR = 64
Source = TypeVar("Source", bound=ProgramSource)
Model = TypeVar("Model", bound=Body)


def check(model: type[Source], document: Any, answer_type: str = JSON) -> Source:
    """Check a document against a request with a program; `answer_type` is the media type of the response.

    Raises:
        InvalidValueError: with every wrong field.
    """
    faults = Faults()
    given = [key for key in PROGRAM_KEYS if key in document] if isinstance(document, dict) else PROGRAM_KEYS[:1]
    if len(given) != 1:
        msg = f'exactly one of "expr", "graph" and "program" is expected; found {" and ".join(given) or "none"}'
        faults.add(InvalidValueError, msg)
    return check_body(model, document, answer_type, faults)


def check_body(model: type[Model], document: Any, answer_type: str = JSON, faults: Faults | None = None) -> Model:
    """Check a document against a request, or a part of one; `answer_type` is the media type of the response.

    faults: those that are known already.

    Raises:
        InvalidValueError: with every wrong field.
    """
    if not isinstance(document, dict):
        raise InvalidValueError(f"the body is {_shown(document)}; expected an object")
    faults = Faults() if faults is None else faults
    if answer_type == JSON and document.get("encoding") == "binary" and "encoding" in model.model_fields:
        msg = f'encoding is "binary", which JSON cannot carry; expected "base64", or Accept: {MSGPACK}'
        faults.add(InvalidValueError, msg, ("encoding",))
    return _validated(model, document, faults)


def check_query(model: type[Model], query: Mapping[str, str]) -> Model:
    """Check the query of a path against a request.

    Raises:
        InvalidValueError: with every wrong parameter.
    """
    return _validated(model, dict(query), Faults())


def _validated(model: type[Model], document: dict[str, Any], faults: Faults) -> Model:
    try:
        request = model.model_validate(document)
    except ValidationError as error:
        for details in error.errors(include_url=False, include_context=False)[:MAX_FAULTS]:
            fault = _fault(model, details)
            faults.add(InvalidValueError, fault.msg, fault.loc)
    faults.check()
    return request


def _fault(model: type[Body], details: ErrorDetails) -> Fault:
    loc: Loc = tuple(details["loc"])
    if details["type"] == "extra_forbidden":
        known = list((BackwardOptions if loc[0] == "backward" and len(loc) > 1 else model).model_fields)
        near = nearest(str(loc[-1])[:LONGEST_NEAR], known) or f"; known: {', '.join(known)}"
        return Fault(loc, f'unknown field "{loc[-1]}"{near}')
    path = ".".join(map(str, loc))
    if details["type"] == "missing":
        return Fault(loc, f'"{path}" is missing')
    expected = details["msg"].removeprefix("Input should be ")
    for theirs, ours in _WORDS.items():
        expected = expected.replace(theirs, ours)
    return Fault(loc, f"{path} is {_shown(details['input'])}; expected {expected}")


#: pydantic's words and plainer ones.
_WORDS = {
    ", unable to parse string as an integer": "",
    "a valid dictionary": "an object",
    "a valid ": "a ",
    "a integer": "an integer",
    "a boolean": "true or false",
    "greater than or equal to": "at least",
    "less than or equal to": "at most",
    "'": '"',
}


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    if isinstance(value, bytes | memoryview):
        return "binary data"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
