"""Requests to an application without a server, as ASGI has them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from app.http.messages import Answer, Call
from app.main import Pullback, create_app
from app.settings import Settings
from app.telemetry import Histogram, PoolFigures
from app.wire import codecs
from app.wire.compression import inflate
from app.wire.media import JSON, MSGPACK
from app.wire.values import dumps

if TYPE_CHECKING:
    from starlette.types import Receive

Document = dict[str, Any]
App = Callable[..., Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Sent:
    """A request; one in a single piece says how long it is."""

    path: str
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ((b"content-type", b"application/json"), (b"x-request-id", b"same"))
    method: str = "POST"
    pieces: int = 1
    root_path: str = ""

    @property
    def all_headers(self) -> list[tuple[bytes, bytes]]:
        if self.pieces > 1 or b"content-length" in dict(self.headers):
            return list(self.headers)
        return [*self.headers, (b"content-length", b"%d" % len(self.body))]


@dataclass(frozen=True, slots=True)
class Received:
    """An answer."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    @property
    def document(self) -> Any:
        return codecs.decode(dict(self.headers)[b"content-type"].decode().replace("problem+", ""), self.body, 100)


class AtOnce:
    """Pool without workers: the event loop answers each call, and a test says what is measured of it.

    cold_s, warm_s: seconds that answers take of which the program has to be prepared, and those of others.
    calls: all calls that it answered.
    """

    def __init__(self, answer: Callable[[Call], Answer]) -> None:
        self.cold_s = 0.0
        self.warm_s = 0.0
        self.calls: list[Call] = []
        self._answer = answer
        self.charge: Callable[[str, float], None] = lambda client, cpu_s: None

    async def start(self) -> None:
        """There is nothing to start."""

    async def answer(self, call: Call, kind: object, receive: Receive, waited_s: float = 0.0) -> Answer:
        self.calls.append(call)
        # A unit of work each.
        self.charge(call.client, 0.001)
        return self.measured(self._answer(call))

    def measured(self, answer: Answer) -> Answer:
        """Return an answer as if it had taken so long."""
        found = answer.measure
        if found is None:
            return answer
        cpu_s = self.warm_s if found.is_warm else self.cold_s
        return answer._replace(measure=found._replace(cpu_s=cpu_s, cold_s=self.cold_s))

    def fault(self) -> str:
        return ""

    def figures(self) -> PoolFigures:
        return PoolFigures({}, {}, Histogram(), {})

    def close(self) -> None:
        """There is nothing to close."""


class Timer:
    """Stands still, but for what is timed, which takes as long as a test says.

    run_s, prepare_s: seconds of a run and of preparing on the event loop.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.run_s = 0.0
        self.prepare_s = 0.0

    def monotonic(self) -> float:
        return self.now

    def perf_counter(self) -> float:
        self.now += self.prepare_s
        return self.now

    def thread_time(self) -> float:
        self.now += self.run_s
        return self.now


def new_app(**settings: Any) -> Pullback:
    """Return an application whose event loop does the work itself, in no time."""
    found = Settings(store="memory", access_log=False, **settings)
    app = create_app(found, new_pool=lambda service, *_: AtOnce(service.answer))
    app.inline.timer = Timer()
    return app


def sent(path: str, document: Any, media_type: str = JSON, *headers: tuple[bytes, bytes]) -> Sent:
    """A document as a request."""
    body = dumps(document) if media_type == JSON else codecs.encode(media_type, document)
    known = ((b"content-type", media_type.encode()), (b"x-request-id", b"same"), *headers)
    return Sent(path, body, (*known, (b"content-length", b"%d" % len(body))))


def ask(app: App, request: Sent) -> Received:
    """The answer of an application to one request."""
    return ask_all(app, [request])[0]


def ask_all(app: App, requests: Sequence[Sent]) -> list[Received]:
    """Its answers to several, one after the other."""

    async def all_of_them() -> list[Received]:
        return [await asked(app, request) for request in requests]

    return asyncio.run(all_of_them())


async def asked(app: App, request: Sent, gone: asyncio.Event | None = None) -> Received:
    """The answer of an application to one request, whose client goes away when `gone` is set, or it has the answer."""
    size = -(-len(request.body) // request.pieces) or 1
    parts = [request.body[i : i + size] for i in range(0, len(request.body), size)] or [b""]
    waiting = [
        {"type": "http.request", "body": part, "more_body": place < len(parts)} for place, part in enumerate(parts, 1)
    ]
    answer: list[Document] = []

    is_answered = asyncio.Event()

    async def receive() -> Document:
        if waiting:
            return waiting.pop(0)
        await (gone or is_answered).wait()
        return {"type": "http.disconnect"}

    async def send(message: Document) -> None:
        answer.append(message)
        size = sum(len(part.get("body", b"")) for part in answer)
        if size >= int(dict(answer[0]["headers"]).get(b"content-length", 0)):
            is_answered.set()

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "http",
        "path": request.root_path + request.path,
        "raw_path": (request.root_path + request.path).encode(),
        "query_string": b"",
        "root_path": request.root_path,
        "headers": request.all_headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
        "state": {},
    }
    await app(scope, receive, send)
    if not answer:
        return Received(0, [], b"")
    start, *rest = answer
    return Received(start["status"], sorted(start["headers"]), b"".join(part.get("body", b"") for part in rest))


def but_for_signs_of_nan(answer: Received) -> Any:
    """An answer without what differs where NaN has another sign.

    Python multiplies floats by other code once it has done so a few times; the sign of a NaN depends on that, and shows
    in MessagePack.
    """
    headers = dict(answer.headers)
    coding = headers.pop(b"content-encoding", b"identity").decode()
    headers.pop(b"content-length")
    if headers[b"content-type"] != MSGPACK.encode():
        return answer
    body = answer.body if coding == "identity" else inflate(answer.body, coding, 2**20)
    return answer.status, coding, headers, _numbers(codecs.decode(MSGPACK, body, 100))


def _numbers(document: Any) -> Any:
    match document:
        case {"data": bytes() as data, "dtype": "float64" | "float32" as dtype, **rest}:
            return rest, dtype, list(map(str, np.frombuffer(data, dtype)))
        case dict():
            return {key: _numbers(item) for key, item in document.items()}
        case list():
            return list(map(_numbers, document))
        case float():
            return repr(document)
    return document
