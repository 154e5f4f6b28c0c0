"""The short way to an answer: for what was asked before on other values, past the framework, from bytes to bytes.

Whatever cannot be answered here, be it wrong, new or unusual, is handed on as it came to the application, which
explains it. What is answered here is answered as the application would.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.endpoints import Endpoint
from app.api.problems import internal_error, on_error
from app.api.replies import VARY, coded
from app.hot.preparations import Preparations
from app.hot.questions import Question
from app.hot.templates import Templates
from app.limits import DeadlineExceededError, OverloadedError, Waiting, Workers, at_once, in_time
from app.middleware import CLIENT_CLOSED_REQUEST, Around
from app.programs.registry import UnknownProgramError
from app.settings import Settings
from app.stores import StoreUnavailableError
from app.wire import compression, media, msgpack
from app.wire.document import MalformedBodyError, loads
from app.wire.media import JSON
from engine.core import MAX_AXES, AutogradError

#: Longer bodies come in several pieces; their way is long enough for the long way to cost little.
_LONGEST = 99_999
_DIGITS = len(str(_LONGEST))
#: Brackets around the lists of a value: the request, its inputs, an array object.
_DEEPEST = MAX_AXES + 3
#: As many combinations of headers are remembered.
_COMBINATIONS = 256
_DEADLINE = "PULLBACK_DEADLINE_S"
_REFUSALS = (
    AutogradError,
    MalformedBodyError,
    OverloadedError,
    StoreUnavailableError,
    UnknownProgramError,
    MemoryError,
    orjson.JSONDecodeError,
)


class _Forms(NamedTuple):
    """The media types of a body and its answer, the codings that the answer may have, and the answer's own header."""

    given: str
    wanted: str
    accept_encoding: str
    is_json: bool
    content_type: tuple[bytes, bytes]


class HotPath:
    """Answers what it can and hands on the rest.

    answered: how many requests it has answered itself.

    Args:
        app: who gets the rest.
        endpoints: what may be answered here.
        preparations: what was checked before.
        templates: what is known by its letters.
        workers: threads for what is not tiny.
        around: what every answer carries.
        settings: the limits.
    """

    def __init__(
        self,
        app: ASGIApp,
        endpoints: Sequence[Endpoint],
        preparations: Preparations,
        templates: Templates,
        workers: Workers,
        around: Around,
        settings: Settings,
    ) -> None:
        self.answered = 0
        self._app = app
        # Values are not nested deeper than arrays may be, and all else of a request that was seen before is not.
        is_deep_enough = settings.max_depth >= _DEEPEST
        self._endpoints = {endpoint.path: endpoint for endpoint in endpoints} if is_deep_enough else {}
        self._preparations = preparations
        self._workers = workers
        self._around = around
        self._longest = min(settings.max_body_bytes, _LONGEST)
        self._tiny_bytes = settings.tiny_bytes
        self._tiny_weight = settings.tiny_flops
        self._max_depth = settings.max_depth
        self._deadline_s = settings.deadline_s
        self.templates = templates
        self._forms: dict[tuple[bytes | None, ...], _Forms | None] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or hands it on: by path and method, then headers, then the body, then what is known."""
        endpoint = self._endpoints.get(scope["path"])
        if endpoint is None or scope["method"] != "POST" or scope.get("root_path"):
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        headers = dict(scope["headers"])
        forms = None if len(headers) < len(scope["headers"]) else self._forms_of(headers)
        if forms is None:
            await self._app(scope, receive, send)
            return
        try:
            message = at_once(receive())
            if isinstance(message, Waiting):
                message = await in_time(message, self._deadline_s)
        except TimeoutError:
            limit = f"{self._deadline_s:g} s (setting {_DEADLINE})"
            late = DeadlineExceededError(f"the body did not arrive within {limit}")
            await self._refuse(scope, headers, start, send, late)
            return
        coding = compression.IDENTITY
        try:
            content = self._content(endpoint, message, forms)
            if callable(content):
                content = await self._workers.run(content)
            if content is not None and len(content) >= compression.SMALLEST_BYTES:
                content, coding = await coded(content, forms.accept_encoding, self._workers)
        except _REFUSALS:
            content = None
        except Exception as error:  # noqa: BLE001 - it is logged and answered
            # Late, or a bug: the application would begin anew, or hide it.
            await self._refuse(scope, headers, start, send, error)
            return
        if content is None:
            await self._app(scope, _replaying(message, receive), send)
            return
        self.answered += 1
        await self._reply(scope, headers, start, send, forms, content, coding)

    def _forms_of(self, headers: dict[bytes, bytes]) -> _Forms | None:
        """In which forms a request comes and wants its answer; None where the application has to look."""
        get = headers.get
        if b"expect" in headers or len(get(b"content-length", b"")) > _DIGITS:
            return None
        wanted = get(b"content-type"), get(b"accept"), get(b"accept-encoding"), get(b"content-encoding")
        forms = self._forms.get(wanted)
        if forms is None and wanted not in self._forms:
            if len(self._forms) >= _COMBINATIONS:
                self._forms.clear()
            forms = self._forms[wanted] = _negotiated(*((value or b"").decode("latin-1") for value in wanted))
        return forms

    def _content(
        self, endpoint: Endpoint, message: Message, forms: _Forms
    ) -> bytes | Callable[[], bytes | None] | None:
        """The answer, or what gives it where this is no work for the event loop; None: there is none to be had here."""
        body = message.get("body", b"")
        if not body or message.get("more_body") or len(body) > self._longest:
            return None
        if len(body) > self._tiny_bytes:
            return partial(self._whole, endpoint, body, forms)
        if forms.is_json:
            content = self.templates.answer(endpoint.path, body)
            if content is not None:
                return content
        question = self._question(endpoint, body, forms)
        if question is None:
            return None
        if question.program is not None:
            # The store may have to wait for its disk.
            return partial(self._found, endpoint, question, forms)
        found = self._preparations.find(question)
        if found is None:
            return None
        if found.kept.weight <= self._tiny_weight:
            if forms.is_json and not question.along and question.encoding == "nested":
                self.templates.learn(endpoint, body, found)
            return endpoint.answer(found, question.encoding, forms.wanted)
        return partial(endpoint.answer, found, question.encoding, forms.wanted)

    def _whole(self, endpoint: Endpoint, body: bytes, forms: _Forms) -> bytes | None:
        question = self._question(endpoint, body, forms)
        return None if question is None else self._found(endpoint, question, forms)

    def _found(self, endpoint: Endpoint, question: Question, forms: _Forms) -> bytes | None:
        found = self._preparations.find(question)
        return None if found is None else endpoint.answer(found, question.encoding, forms.wanted)

    def _question(self, endpoint: Endpoint, body: bytes, forms: _Forms) -> Question | None:
        """What a body asks, if no key stands twice in it; this much is all that is left to check of what is known."""
        media_type, answer_type = forms.given, forms.wanted
        if media_type != JSON:
            return endpoint.question(msgpack.decode(body, self._max_depth), media_type, answer_type)
        question = endpoint.question(loads(body), media_type, answer_type)
        if question is None or body.count(b":") != question.colons or b"\\u" in body:
            return None
        return question

    async def _reply(
        self,
        scope: Scope,
        headers: dict[bytes, bytes],
        start: float,
        send: Send,
        forms: _Forms,
        content: bytes,
        coding: str,
    ) -> None:
        """Sends an answer."""
        own = [(b"content-length", b"%d" % len(content)), forms.content_type]
        if coding != compression.IDENTITY:
            own += [(b"content-encoding", coding.encode()), (b"vary", VARY.encode())]
        request_id = self._around.request_id(headers.get(b"x-request-id"))
        own += self._around.headers(request_id, headers.get(b"origin"))
        status = 200
        try:
            await send({"type": "http.response.start", "status": status, "headers": own})
            await self._around.send(send, {"type": "http.response.body", "body": content})
        except ClientDisconnect:
            status = CLIENT_CLOSED_REQUEST
        finally:
            self._around.note(scope, status, start, request_id)

    async def _refuse(
        self, scope: Scope, headers: dict[bytes, bytes], start: float, send: Send, error: Exception
    ) -> None:
        """Says that the time is over, or that there is a bug."""
        request_id = self._around.request_id(headers.get(b"x-request-id"))
        scope = {**scope, "state": {**scope.get("state", {}), "request_id": request_id}}
        request = Request(scope)
        is_late = isinstance(error, DeadlineExceededError)
        response = await on_error(request, error) if is_late else internal_error(request, error)
        response.raw_headers += self._around.headers(request_id, headers.get(b"origin"))
        try:
            await response(scope, _nothing, send)
        finally:
            self._around.note(scope, response.status_code, start, request_id)


def _negotiated(content_type: str, accept: str, accept_encoding: str, content_encoding: str) -> _Forms | None:
    try:
        media_type = media.request_type(content_type)
        answer_type = media.answer_type(accept, media_type)
        is_plain = not content_encoding and compression.answer_coding(accept_encoding, 0) == compression.IDENTITY
    except (media.UnsupportedMediaTypeError, media.NotAcceptableError):
        return None
    if not is_plain:
        return None
    is_json = media_type == JSON == answer_type
    return _Forms(media_type, answer_type, accept_encoding, is_json, (b"content-type", answer_type.encode()))


def _replaying(message: Message, receive: Receive) -> Receive:
    """A `receive` that gives a message once more before it goes on."""
    waiting = [message]

    async def replay() -> Any:
        return waiting.pop() if waiting else await receive()

    return replay


async def _nothing() -> Message:
    return {"type": "http.disconnect"}
