"""A request and its answer as plain data, as they cross from the event loop to a worker and back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from starlette.responses import Response
from starlette.types import ASGIApp, Message

from app.http.spool import FileBody
from app.http.waiting import Waiting, at_once
from app.stores.owners import ANYONE, Caller

#: Headers as ASGI has them.
RawHeaders = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Call:
    """A request with its whole body.

    method, path, query: as in an ASGI scope; the query is not decoded.
    headers: names in lower case.
    client: id of its key, or else the address of the client; empty if it is not known.
    request_id: in its answer, and in the log.
    caller: owner of what it makes.
    """

    method: str
    path: str
    query: bytes
    headers: Sequence[tuple[bytes, bytes]]
    client: str
    request_id: str
    body: bytes = b""
    caller: Caller = ANYONE

    def values(self, name: bytes) -> list[str]:
        """Return the values of a header, one for each line that has it."""
        return [value.decode("latin-1") for key, value in self.headers if key == name]

    def value(self, name: bytes) -> str:
        """Return a header that lists items separated by commas, its lines joined."""
        return ",".join(self.values(name))

    @property
    def is_repeatable(self) -> bool:
        """Return whether it may be done twice as if it were done once."""
        return self.method == "GET" or not self.path.startswith(("/v1/programs", "/v1/sessions"))

    def scope(self) -> dict[str, Any]:
        """Return the ASGI scope of the request; its state holds the call itself."""
        return {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": self.method,
            "scheme": "http",
            "path": self.path,
            "raw_path": self.path.encode(),
            "query_string": self.query,
            "root_path": "",
            "headers": self.headers,
            "client": (self.client, 0),
            "server": None,
            "state": {"call": self},
        }


class Measure(NamedTuple):
    """Cost of an answer as it was measured.

    cpu_s: seconds of one processor.
    is_warm: whether the program of the request was found prepared.
    weight: estimate of the cost of a run.
    cold_s: seconds of one processor that preparing took, whichever request it was done for.
    """

    cpu_s: float
    is_warm: bool
    weight: int
    cold_s: float


class Work(NamedTuple):
    """Worker that gave an answer.

    process: its id.
    queue_s, run_s: seconds in the queue and in the worker.
    ended: when it was done, by `time.monotonic`.
    """

    process: int
    queue_s: float
    run_s: float
    ended: float


class Answer(NamedTuple):
    """A status, the headers that this answer has of its own, and a body.

    body: in a file where a worker has written a long one.
    measure: None where nothing is to be learned from it.
    way: who answered: "inline" on the event loop, "worker", or "edge" for all that is neither.
    work: None where there was no worker.
    """

    status: int
    headers: RawHeaders
    body: bytes | FileBody
    measure: Measure | None = None
    way: str = "edge"
    work: Work | None = None

    def content(self) -> bytes:
        """Return the body as bytes, wherever it lies."""
        return self.body[:]

    def response(self) -> Response:
        """Return the same as Starlette has it."""
        found = Response(self.content(), self.status)
        found.raw_headers = self.headers
        return found


def new_answer(content: bytes, media_type: str, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """Build an answer with a body of this media type."""
    own = [(b"content-length", b"%d" % len(content)), (b"content-type", media_type.encode())]
    own += [(name.lower().encode(), value.encode("latin-1")) for name, value in (headers or {}).items()]
    return Answer(status, own, content)


async def ask(app: ASGIApp, call: Call, root_path: str = "", state: Mapping[str, Any] | None = None) -> Answer:
    """Return the answer of an ASGI application to a call.

    Args:
        app: the application.
        call: the request.
        root_path: where a proxy has put the application; its pages for browsers name paths from there.
        state: what the request finds in its state beside the call.
    """
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": call.body, "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {**call.scope(), "root_path": root_path, "path": root_path + call.path}
    scope["state"] = {**(state or {}), **scope["state"]}
    await app(scope, receive, send)
    start, *rest = sent
    return Answer(start["status"], list(start["headers"]), b"".join(part.get("body", b"") for part in rest))


def ask_at_once(app: ASGIApp, call: Call) -> Answer:
    """Return the answer of an ASGI application that waits for nothing.

    Raises:
        RuntimeError: it waits for something.
    """
    answer = at_once(ask(app, call))
    if isinstance(answer, Waiting):
        raise RuntimeError(f"{call.method} {call.path} waits for something, which a worker cannot")
    return answer
