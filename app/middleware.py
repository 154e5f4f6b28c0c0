"""What surrounds every request: its id, the version header, CORS, a line in the log, and the last resort."""

import logging
import re
import secrets
import time
from collections.abc import Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import __version__
from app.settings import Settings
from app.wire.problems import internal_error

_access = logging.getLogger("pullback.access")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
#: As nginx writes it: the client went away before there was an answer.
CLIENT_CLOSED_REQUEST = 499

EXPOSED = "X-Request-ID, Retry-After, Idempotent-Replay, Pullback-Version"
_PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, POST, PUT, PATCH, DELETE",
    "Access-Control-Allow-Headers": (
        "Accept, Authorization, Content-Encoding, Content-Type, Idempotency-Key, X-Request-ID"
    ),
    "Access-Control-Max-Age": "600",
}


class Envelope:
    """The one middleware, a plain ASGI callable: everything that every answer carries is put on here."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on and sees to its answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.perf_counter(), 0
        given = Headers(scope=scope)
        request_id = _request_id(given)
        added = {"X-Request-ID": request_id, "Pullback-Version": __version__, **self._cors(given)}
        method = scope["method"]
        # The server leaves out the body of the answer to a HEAD.
        scope = {**scope, "method": "GET" if method == "HEAD" else method}
        scope["state"] = {**scope.get("state", {}), "request_id": request_id}

        async def complete(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in added.items():
                    if name == "Vary":
                        headers.add_vary_header(value)
                    else:
                        headers[name] = value
            await send(message)

        try:
            if "Access-Control-Allow-Origin" in added and _is_preflight(method, given):
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
            if self._settings.access_log:
                path = scope.get("raw_path", b"").decode("ascii", "backslashreplace")
                elapsed_ms = (time.perf_counter() - start) * 1e3
                _access.info("%s %s %d %.1f ms %s", method, path, status, elapsed_ms, request_id)

    def _cors(self, given: Headers) -> Mapping[str, str]:
        allowed = self._settings.cors_origins
        if not allowed:
            return {}
        origin = given.get("origin")
        shared = {"Access-Control-Expose-Headers": EXPOSED}
        if "*" in allowed:
            return {"Access-Control-Allow-Origin": "*", **shared} if origin else {}
        if origin in allowed:
            return {"Access-Control-Allow-Origin": origin, **shared, "Vary": "Origin"}
        return {"Vary": "Origin"}


def _request_id(given: Headers) -> str:
    sent = given.get("x-request-id", "")
    return sent if _REQUEST_ID.fullmatch(sent) else secrets.token_hex(8)


def _is_preflight(method: str, given: Headers) -> bool:
    return method == "OPTIONS" and "access-control-request-method" in given
