"""Calls that are asked again and again: checked and prepared once, then run on the values of each request."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastapi import Request

from app.api.calls import Call, validated
from app.hot.preparations import Found, Preparations
from app.hot.questions import Question, take_apart
from app.limits import weight
from app.programs.registry import Registry
from app.settings import Settings
from app.wire.codecs import Message, encode
from app.wire.schemas import ProgramRequest
from engine.core import AutogradError


def _nothing(prepared: Any, registry: Registry) -> Callable[[], dict[str, Any]]:
    return dict


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One path.

    field: where its directions stand in a request; see `take_apart`.
    model: its request.
    prepare: checks a request.
    document: the answer, from a result, the program's id, an encoding and a media type.
    storing: for what was prepared something to be done besides, and what that adds to the answer.
    """

    path: str
    field: str
    model: type[ProgramRequest]
    prepare: Callable[[Any, Settings, Registry], Any]
    document: Callable[[Any, str, str, str], dict[str, Any]]
    storing: Callable[[Any, Registry], Callable[[], dict[str, Any]]] = _nothing

    def question(self, document: Any, media_type: str, answer_type: str) -> Question | None:
        """What a document asks, if it is asked like others."""
        return take_apart(self.path, self.field, document, media_type, answer_type)

    def answer(self, found: Found, encoding: str, answer_type: str) -> bytes:
        """Runs what was found ready."""
        return encode(answer_type, self.document(found.run(), found.kept.program, encoding, answer_type))


def reader(endpoint: Endpoint, request: Request) -> Callable[[Message, Settings, Registry], Call]:
    """What reads the bodies of an endpoint, for `calls.answer`."""
    return partial(read, endpoint, request.app.state.preparations)


def read(
    endpoint: Endpoint, preparations: Preparations, message: Message, settings: Settings, registry: Registry
) -> Call:
    """Checks a body, unless something like it was checked before.

    Raises:
        AutogradError: of the kind that is wrong with the request.
    """
    document = message.document(settings.max_depth)
    spoken = message.answer_type

    def prepared() -> tuple[Any, str]:
        request = validated(endpoint.model, document, spoken, registry)
        return endpoint.prepare(request, settings, registry), request.encoding

    def run(ready: Any, program: str, encoding: str, store: Callable[[], dict[str, Any]] = dict) -> bytes:
        return encode(spoken, {**endpoint.document(ready.run(), program, encoding, spoken), **store()})

    question = endpoint.question(document, message.media_type, spoken)
    if question is None:
        ready, encoding = prepared()
        store = endpoint.storing(ready, registry)
        return Call(weight(ready.cost), lambda: run(ready, registry.identify(ready.call.graph), encoding, store))
    found = preparations.find(question)
    if found is None:
        with preparations.making(question):
            found = preparations.find(question)
            if found is None:
                ready, encoding = prepared()
                kept = preparations.keep(question, ready)
                return Call(kept.weight, lambda: run(ready, kept.program, encoding))
    return Call(found.kept.weight, partial(_explained, endpoint, found, question, spoken, prepared))


def _explained(
    endpoint: Endpoint, found: Found, question: Question, spoken: str, prepared: Callable[[], tuple[Any, str]]
) -> bytes:
    """The answer of what was found; where the values are not right, checking all of the request says so best."""
    try:
        return endpoint.answer(found, question.encoding, spoken)
    except AutogradError:
        ready, encoding = prepared()
        return encode(spoken, endpoint.document(ready.run(), found.kept.program, encoding, spoken))
