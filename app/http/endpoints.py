"""Calls with programs: one way from a body to an answer, prepared once and run on the values of each request."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from app.http.messages import Answer, Call, Measure
from app.http.negotiation import received, reply
from app.http.preparations import Entry, Hit, Preparations
from app.http.questions import Question, take_apart
from app.programs.registry import Registry
from app.settings import Settings
from app.stores.owners import Caller
from app.wire.codecs import Message, encode
from app.wire.schemas import PROGRAM_KEYS, ProgramRequest, ProgramSource, check
from engine.core import AutogradError, InvalidValueError

Model = TypeVar("Model", bound=ProgramSource)


def _nothing(prepared: Any, registry: Registry, caller: Caller) -> Callable[[], dict[str, Any]]:
    return dict


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One path that runs programs.

    directions: the field of a request that has directions; see `take_apart`.
    model: its request.
    prepare: checks a request, and returns an executable of the engine beside its facts.
    document: builds the answer from a result, the program's id, an encoding and a media type.
    storing: returns for what was prepared a function that stores something, and gives members to add to the answer.
    is_repeated: whether requests that differ in their values alone share what was prepared.
    """

    path: str
    directions: str
    model: type[ProgramRequest]
    prepare: Callable[[Any, Settings, Registry], Any]
    document: Callable[[Any, str, str, str], dict[str, Any]]
    storing: Callable[[Any, Registry, Caller], Callable[[], dict[str, Any]]] = _nothing
    is_repeated: bool = True

    def question(self, document: Any, media_type: str, answer_type: str) -> Question | None:
        """Return the question that a document asks, None if it is not asked like others."""
        return take_apart(self.path, self.directions, document, media_type, answer_type) if self.is_repeated else None

    def answer(self, hit: Hit, encoding: str, answer_type: str) -> bytes:
        """Run what was prepared before, and return the body of the answer."""
        return encode(answer_type, self.document(hit.run(), hit.entry.program, encoding, answer_type))


class Calculator:
    """Answers calls with programs, at once: in a worker, where nothing else waits for it.

    Args:
        registry: finds registered programs, and compiles.
        preparations: cache of prepared requests.
        settings: the limits.
    """

    def __init__(self, registry: Registry, preparations: Preparations, settings: Settings) -> None:
        self._registry = registry
        self._preparations = preparations
        self._settings = settings

    def answer(self, endpoint: Endpoint, call: Call) -> Answer:
        """Return the answer to a request, and what it cost.

        Raises:
            Exception: one of those in the table of problems.
        """
        start = time.thread_time()
        message = received(call, self._settings.max_body_bytes)
        content, entry, is_warm = self._content(endpoint, message, call.caller)
        answer = reply(call, content, message.answer_type)
        if entry is None:
            return answer
        cpu_s = time.thread_time() - start
        return answer._replace(measure=Measure(cpu_s, is_warm, entry.weight, entry.cold_s))

    def _content(self, endpoint: Endpoint, message: Message, caller: Caller) -> tuple[bytes, Entry | None, bool]:
        """Return the body of an answer, the entry of its request, and whether that was there before."""
        document = message.document(**self._settings.document_limits())
        spoken = message.answer_type
        question = endpoint.question(document, message.media_type, spoken)
        if question is None:
            return self._unrepeated(endpoint, document, spoken, caller), None, False
        hit = self._preparations.find(question)
        if hit is not None:
            return self._repeated(endpoint, document, hit, question, spoken), hit.entry, True
        with self._preparations.making(question):
            hit = self._preparations.find(question)
            if hit is None:
                start = time.thread_time()
                request, executable = self._prepared(endpoint, document, spoken)
                entry = self._preparations.keep(question, executable, time.thread_time() - start)
                result = endpoint.document(executable.run(), entry.program, request.encoding, spoken)
                return encode(spoken, result), entry, False
        return self._repeated(endpoint, document, hit, question, spoken), hit.entry, True

    def _unrepeated(self, endpoint: Endpoint, document: Any, spoken: str, caller: Caller) -> bytes:
        request, executable = self._prepared(endpoint, document, spoken)
        store = endpoint.storing(executable, self._registry, caller)
        program = self._registry.identify(executable.call.graph)
        result = endpoint.document(executable.run(), program, request.encoding, spoken)
        return encode(spoken, {**result, **store()})

    def _repeated(self, endpoint: Endpoint, document: Any, hit: Hit, question: Question, spoken: str) -> bytes:
        try:
            return endpoint.answer(hit, question.encoding, spoken)
        except AutogradError:
            # Values that the program does not take: checking all of the request explains them best.
            request, executable = self._prepared(endpoint, document, spoken)
            return encode(spoken, endpoint.document(executable.run(), hit.entry.program, request.encoding, spoken))

    def _prepared(self, endpoint: Endpoint, document: Any, spoken: str) -> tuple[ProgramRequest, Any]:
        request = validated(endpoint.model, document, spoken, self._registry)
        return request, endpoint.prepare(request, self._settings, self._registry)


def respond(request: Request, endpoint: Endpoint) -> Response:
    """Answer a request that came by the route of an endpoint."""
    calculator: Calculator = request.app.state.calculator
    return calculator.answer(endpoint, request.state.call).response()


def validated(model: type[Model], document: Any, answer_type: str, registry: Registry) -> Model:
    """Return a document as a request.

    Raises:
        UnknownProgramError: it names a program that is not there, which is reported before all other faults.
        InvalidValueError: with every field that is wrong.
    """
    try:
        return check(model, document, answer_type)
    except InvalidValueError:
        if isinstance(document, dict) and [key for key in PROGRAM_KEYS if key in document] == ["program"]:
            named = document["program"]
            if isinstance(named, str):
                registry.resolve(named)
        raise
