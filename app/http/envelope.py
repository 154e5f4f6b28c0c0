"""Common part of all answers: the request's id, the version, CORS, a line in the log, and sending in pieces."""

import re
import secrets
import time
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect
from starlette.types import Message, Scope, Send

from app import __version__
from app.http.access_log import AccessLog
from app.http.bodies import UNRESERVED_BYTES
from app.http.messages import Answer, RawHeaders
from app.http.spool import FileBody
from app.http.waiting import in_time
from app.settings import Settings
from app.telemetry import Requests

if TYPE_CHECKING:
    # OpenTelemetry may not be there.
    from app.http.traces import Traces

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
#: Ids made at a time: each look for randomness is a call of the system.
_IDS_AT_ONCE, _ID_BYTES = 256, 8
#: An answer waits with the server in pieces of this size while a client does not read; smaller ones take longer.
PIECE_BYTES = 256 * 2**10
#: Status in the log, as nginx has it, where the client went away before there was an answer, or all of it.
CLIENT_CLOSED_REQUEST = 499

EXPOSED = "X-Request-ID, Retry-After, Idempotent-Replay, Pullback-Version"
_PREFLIGHT = [
    (b"access-control-allow-methods", b"GET, POST, PUT, PATCH, DELETE"),
    (
        b"access-control-allow-headers",
        b"Accept, Authorization, Content-Encoding, Content-Type, Idempotency-Key, X-Request-ID",
    ),
    (b"access-control-max-age", b"600"),
]
#: Of all answers.
_COMMON = [(b"pullback-version", __version__.encode()), (b"x-content-type-options", b"nosniff")]
_SHARED = (b"access-control-expose-headers", EXPOSED.encode())
_VARY = (b"vary", b"Origin")


class Envelope:
    """Sends answers with the headers that all of them have, and logs them.

    traces: takes what the event loop has not answered itself; None where no traces are wanted.

    Args:
        settings: the origins that may call, how long a client may take to read, and whether requests are logged.
        requests: counts them.
    """

    def __init__(self, settings: Settings, requests: Requests) -> None:
        self.traces: Traces | None = None
        self._requests = requests
        self._deadline_s = settings.deadline_s
        self._origins = tuple(origin.encode() for origin in settings.cors_origins)
        self._ids: list[str] = []
        self._log = AccessLog(settings.log_format == "json") if settings.access_log else None

    def request_id(self, sent: bytes | None) -> str:
        """Return the id that the client sent, or a new one."""
        if sent is not None and _REQUEST_ID.fullmatch(sent):
            return sent.decode()
        try:
            return self._ids.pop()
        except IndexError:
            drawn = secrets.token_hex(_ID_BYTES * _IDS_AT_ONCE)
            self._ids = [drawn[i : i + 2 * _ID_BYTES] for i in range(2 * _ID_BYTES, len(drawn), 2 * _ID_BYTES)]
            return drawn[: 2 * _ID_BYTES]

    def headers(self, request_id: str, origin: bytes | None) -> RawHeaders:
        """Return the headers that an answer has beside its own."""
        headers = [(b"x-request-id", request_id.encode()), *_COMMON]
        if not self._origins:
            return headers
        if b"*" in self._origins:
            return [*headers, (b"access-control-allow-origin", b"*"), _SHARED] if origin else headers
        if origin in self._origins:
            return [*headers, (b"access-control-allow-origin", origin), _SHARED, _VARY]
        return [*headers, _VARY]

    def preflight(self, scope: Scope, origin: bytes | None) -> Answer | None:
        """Return the answer to a browser that asks whether a page may call, None for all other requests."""
        if scope["method"] != "OPTIONS" or not origin or not ({b"*", origin} & set(self._origins)):
            return None
        is_asking = any(name == b"access-control-request-method" for name, _ in scope["headers"])
        return Answer(204, _PREFLIGHT, b"") if is_asking else None

    async def send(
        self, scope: Scope, send: Send, answer: Answer, request_id: str, origin: bytes | None, start: float
    ) -> None:
        """Send an answer, and log it; `start` is when the request began, by `time.perf_counter`."""
        headers = [*answer.headers, *self.headers(request_id, origin)]
        try:
            head: Message = {"type": "http.response.start", "status": answer.status, "headers": headers}
            if len(answer.body) <= UNRESERVED_BYTES:
                await send(head)
                await send({"type": "http.response.body", "body": answer.content()})
            else:
                await self.send_in_pieces(send, head, answer.body)
        except ClientDisconnect:
            answer = answer._replace(status=CLIENT_CLOSED_REQUEST)
        finally:
            if isinstance(answer.body, FileBody):
                answer.body.close()
            self.note(scope, answer, start, request_id)

    async def send_in_pieces(self, send: Send, head: Message, body: bytes | FileBody) -> None:
        """Send a long answer, which holds memory or a file meanwhile; the client has to take each piece in time.

        Raises:
            ClientDisconnect: it did not: a client that does not read is as good as gone.
        """
        try:
            # It waits for the client to take the answers before this one.
            await in_time(send(head), self._deadline_s)
            for start in range(0, len(body), PIECE_BYTES):
                stop = start + PIECE_BYTES
                piece: Message = {
                    "type": "http.response.body",
                    "body": body[start:stop],
                    "more_body": stop < len(body),
                }
                await in_time(send(piece), self._deadline_s)
        except TimeoutError:
            raise ClientDisconnect from None

    def note(self, scope: Scope, answer: Answer, start: float, request_id: str) -> None:
        """Count a request, and write it into the log and the traces, if there are any."""
        elapsed_s = time.perf_counter() - start
        self._requests.note(scope["path"], answer.way, answer.status, elapsed_s)
        if self._log is not None:
            self._log.note(scope, answer, elapsed_s, request_id)
        if self.traces is not None and answer.way != "inline":
            self.traces.note(scope, self._requests.route(scope["path"]), answer, elapsed_s, request_id)

    def close(self) -> None:
        """Write the lines that wait to be logged, and send the traces that wait."""
        if self._log is not None:
            self._log.flush()
        if self.traces is not None:
            self.traces.close()
