"""What surrounds every request: its id, the version header, CORS, a line in the log, and the last resort."""

import re
import secrets
import time
from collections.abc import Awaitable, Iterable

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import __version__
from app.api.problems import internal_error
from app.limits import in_time
from app.logs import AccessLog
from app.settings import Settings

#: Headers as ASGI has them.
RawHeaders = list[tuple[bytes, bytes]]

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
#: As many ids are made at a time: each look for randomness is a call of the system.
_IDS_AT_ONCE, _ID_BYTES = 256, 8
#: So much of an answer at most waits with the server while a client does not read; less than this would take longer.
PIECE_BYTES = 256 * 2**10
#: As nginx writes it: the client went away before there was an answer, or all of it.
CLIENT_CLOSED_REQUEST = 499

EXPOSED = "X-Request-ID, Retry-After, Idempotent-Replay, Pullback-Version"
_PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, POST, PUT, PATCH, DELETE",
    "Access-Control-Allow-Headers": (
        "Accept, Authorization, Content-Encoding, Content-Type, Idempotency-Key, X-Request-ID"
    ),
    "Access-Control-Max-Age": "600",
}
_VERSION = (b"pullback-version", __version__.encode())
_SHARED = (b"access-control-expose-headers", EXPOSED.encode())
_VARY = (b"vary", b"Origin")


class Around:
    """What is put on every answer and noted of it, whoever gives it, and how it is sent.

    Args:
        settings: of which origins may call, how long a client may take to read, and whether there is a log of requests.
    """

    def __init__(self, settings: Settings) -> None:
        self._deadline_s = settings.deadline_s
        self._origins = tuple(origin.encode() for origin in settings.cors_origins)
        self._ids: list[str] = []
        self._log = AccessLog() if settings.access_log else None

    def request_id(self, sent: bytes | None) -> str:
        """The id that a request has, or one for it."""
        if sent is not None and _REQUEST_ID.fullmatch(sent):
            return sent.decode()
        try:
            return self._ids.pop()
        except IndexError:
            drawn = secrets.token_hex(_ID_BYTES * _IDS_AT_ONCE)
            self._ids = [drawn[i : i + 2 * _ID_BYTES] for i in range(2 * _ID_BYTES, len(drawn), 2 * _ID_BYTES)]
            return drawn[: 2 * _ID_BYTES]

    def headers(self, request_id: str, origin: bytes | None) -> RawHeaders:
        """What an answer carries beside its own headers."""
        headers = [(b"x-request-id", request_id.encode()), _VERSION]
        if not self._origins:
            return headers
        if b"*" in self._origins:
            return [*headers, (b"access-control-allow-origin", b"*"), _SHARED] if origin else headers
        if origin in self._origins:
            return [*headers, (b"access-control-allow-origin", origin), _SHARED, _VARY]
        return [*headers, _VARY]

    def send(self, send: Send, message: Message) -> Awaitable[None]:
        """Sends a part of an answer; a long one in pieces, of which a client has to take each in time.

        Raises:
            ClientDisconnect: it did not: who does not read is as good as gone.
        """
        body = message.get("body", b"")
        return send(message) if len(body) <= PIECE_BYTES else self._in_pieces(send, message, body)

    async def _in_pieces(self, send: Send, message: Message, body: bytes) -> None:
        try:
            for start in range(0, len(body), PIECE_BYTES):
                stop = start + PIECE_BYTES
                more_body = stop < len(body) or message.get("more_body", False)
                piece = {"type": message["type"], "body": body[start:stop], "more_body": more_body}
                await in_time(send(piece), self._deadline_s)
        except TimeoutError:
            raise ClientDisconnect from None

    def note(self, scope: Scope, status: int, start: float, request_id: str) -> None:
        """Writes a request into the log, if there is one; `start` is when it began."""
        if self._log is not None:
            elapsed_s = time.perf_counter() - start
            self._log.note(scope["method"], scope.get("raw_path") or b"", status, elapsed_s, request_id)

    def close(self) -> None:
        """Writes what waits to be logged."""
        if self._log is not None:
            self._log.flush()


class Envelope:
    """The one middleware, a plain ASGI callable: everything that every answer carries is put on here."""

    def __init__(self, app: ASGIApp, around: Around) -> None:
        self._app = app
        self._around = around

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on and sees to its answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.perf_counter(), 0
        given = dict(reversed(scope["headers"]))
        request_id = self._around.request_id(given.get(b"x-request-id"))
        added = self._around.headers(request_id, given.get(b"origin"))
        original = scope
        # The server leaves out the body of the answer to a HEAD.
        scope = {**scope, "method": "GET" if scope["method"] == "HEAD" else scope["method"]}
        scope["state"] = {**scope.get("state", {}), "request_id": request_id}

        async def complete(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": _joined(message.get("headers", ()), added)}
            await self._around.send(send, message)

        try:
            if any(name == b"access-control-allow-origin" for name, _ in added) and _is_preflight(scope):
                await Response(status_code=204, headers=_PREFLIGHT)(scope, receive, complete)
            else:
                await self._app(scope, receive, complete)
        except ClientDisconnect:
            status = CLIENT_CLOSED_REQUEST
        except Exception as error:
            response = internal_error(Request(scope), error)
            if status:
                raise
            await response(scope, receive, complete)
        finally:
            self._around.note(original, status, start, request_id)


def _joined(own: Iterable[tuple[bytes, bytes]], added: RawHeaders) -> RawHeaders:
    """The headers of an answer with those that every answer has, which go before; what it varies with adds up."""
    names = {name for name, _ in added if name != b"vary"}
    return [*(item for item in own if item[0].lower() not in names), *added]


def _is_preflight(scope: Scope) -> bool:
    return scope["method"] == "OPTIONS" and "access-control-request-method" in Headers(scope=scope)
