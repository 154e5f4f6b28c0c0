"""Requests to an application without a server: as ASGI has them, down the hot path or past it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from app.http.messages import Answer, Call
from app.main import Pullback, create_app
from app.settings import Settings
from app.telemetry import Histogram, PoolFigures
from app.wire import codecs
from app.wire.media import JSON
from app.wire.values import dumps

if TYPE_CHECKING:
    from starlette.types import Receive

Document = dict[str, Any]
App = Callable[..., Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Sent:
    """A request."""

    path: str
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ((b"content-type", b"application/json"), (b"x-request-id", b"same"))
    method: str = "POST"
    pieces: int = 1


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
    """Pool without workers: the event loop answers each call, and whatever is light is measured as cheap."""

    def __init__(self, answer: Callable[[Call], Answer]) -> None:
        self._answer = answer

    async def start(self) -> None:
        """There is nothing to start."""

    async def answer(self, call: Call, kind: object, receive: Receive) -> Answer:
        answer = self._answer(call)
        return answer._replace(measure=answer.measure and answer.measure._replace(cpu_s=0.0))

    def figures(self) -> PoolFigures:
        return PoolFigures({}, {}, Histogram(), {})

    def close(self) -> None:
        """There is nothing to close."""


def new_app(**settings: Any) -> Pullback:
    """Return an application whose event loop does the work itself."""
    found = Settings(store="memory", access_log=False, **settings)
    return create_app(found, new_pool=lambda service, _: AtOnce(service.answer))


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
        return [await answer_of(app, request) for request in requests]

    return asyncio.run(all_of_them())


async def answer_of(app: App, request: Sent, gone: asyncio.Event | None = None) -> Received:
    """The answer of an application to one request, whose client goes away when `gone` is set."""
    size = -(-len(request.body) // request.pieces) or 1
    parts = [request.body[i : i + size] for i in range(0, len(request.body), size)] or [b""]
    waiting = [
        {"type": "http.request", "body": part, "more_body": place < len(parts)} for place, part in enumerate(parts, 1)
    ]
    answer: list[Document] = []

    async def receive() -> Document:
        if waiting:
            return waiting.pop(0)
        await (gone or asyncio.Event()).wait()
        return {"type": "http.disconnect"}

    async def send(message: Document) -> None:
        answer.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "http",
        "path": request.path,
        "raw_path": request.path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": list(request.headers),
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
        "state": {},
    }
    await app(scope, receive, send)
    if not answer:
        return Received(0, [], b"")
    start, *rest = answer
    return Received(start["status"], sorted(start["headers"]), b"".join(part.get("body", b"") for part in rest))
