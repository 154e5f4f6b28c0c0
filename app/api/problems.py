"""Answers to errors: problem documents, as the table of problems says."""

import logging
import math
from collections.abc import Iterable, Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from app.api.problem_table import BY_ERROR, BY_SLUG, RETRY_AFTER_S
from app.errors import ForbiddenError, OverloadedError, RateLimitedError, UnauthorizedError
from app.http.messages import Answer, Call, new_answer
from app.limit_settings import explained
from app.logs import masked
from app.sessions.errors import SequenceConflictError, SessionError
from app.wire import media
from app.wire.codecs import encode
from app.wire.schemas import LONGEST_NEAR
from engine.core import AutogradError, Fault, nearest

_log = logging.getLogger("pullback")

#: Names in a message may be as long as a body; a reader needs no more of them than this.
LONGEST_MESSAGE = 1000


def problem(
    call: Call,
    slug: str,
    detail: str,
    faults: Iterable[Fault] = (),
    headers: Mapping[str, str] | None = None,
    more: Mapping[str, Any] | None = None,
) -> Answer:
    """Build a problem document.

    Args:
        call: the request that it answers.
        slug: the kind.
        detail: what was wrong, where, and what would be right.
        faults: every place of this kind.
        headers: of the answer, beside its Content-Type.
        more: members that this kind has beside those that all have.
    """
    kind = BY_SLUG[slug]
    document = {
        "type": f"/problems/{slug}",
        "title": kind.title,
        "status": kind.status,
        "detail": _clip(detail),
        "errors": [{"loc": fault.loc, "msg": _clip(fault.msg)} for fault in faults],
        "request_id": call.request_id,
        **(more or {}),
    }
    headers = dict(headers or {})
    if kind.status in (429, 503):
        headers.setdefault("Retry-After", str(RETRY_AFTER_S))
    media_type = media.MSGPACK if media.takes_msgpack_alone(call.value(b"accept")) else media.PROBLEM
    return new_answer(encode(media_type, document), media_type, kind.status, headers)


def explain(call: Call, error: Exception) -> Answer:
    """Build the answer to an error; one that the table does not know is a bug, and logged."""
    kind = next((BY_ERROR[base] for base in type(error).__mro__ if base in BY_ERROR), None)
    if kind is None:
        return internal_error(call, error)
    if isinstance(error, SequenceConflictError):
        return problem(call, kind.slug, error.detail, error.faults, more={"expected": error.expected})
    if isinstance(error, AutogradError):
        return problem(call, kind.slug, *explained(error))
    if isinstance(error, SessionError):
        return problem(call, kind.slug, error.detail, error.faults)
    if isinstance(error, (UnauthorizedError, ForbiddenError, RateLimitedError, OverloadedError)):
        return problem(call, kind.slug, str(error), headers=_refusal_headers(error))
    if isinstance(error, MemoryError):
        _log.error("out of memory (request %s)", call.request_id)
        return problem(call, kind.slug, "the server is out of memory just now")
    return problem(call, kind.slug, str(error))


def _refusal_headers(
    error: UnauthorizedError | ForbiddenError | RateLimitedError | OverloadedError,
) -> dict[str, str]:
    """Return the headers of a refusal, as RFC 6750 has them."""
    if isinstance(error, (RateLimitedError, OverloadedError)):
        return {"Retry-After": str(math.ceil(error.wait_s))}
    challenge = 'Bearer realm="pullback"'
    if isinstance(error, UnauthorizedError):
        return {"WWW-Authenticate": f'{challenge}, error="invalid_token"' if error.was_given else challenge}
    if error.scope:
        return {"WWW-Authenticate": f'{challenge}, error="insufficient_scope", scope="{error.scope}"'}
    return {}


async def on_http_exception(request: Request, error: Exception) -> Response:
    """Answer a request that fits no route."""
    assert isinstance(error, HTTPException)
    call: Call = request.state.call
    path = masked(call.path)
    if error.status_code == 405:
        # Several routes may share a path, each with methods of its own.
        routes = [route for route in request.app.state.routes if route.path_regex.match(call.path)]
        own = (error.headers or {}).get("Allow", "").split(", ")
        allowed = ", ".join(sorted({method for route in routes for method in route.methods} or own))
        detail = f"{call.method} is not allowed at {path}; allowed: {allowed}"
        return problem(call, "method-not-allowed", detail, headers={"Allow": allowed}).response()
    if error.status_code == 404:
        known = sorted({route.path for route in request.app.state.routes})
        detail = f'there is nothing at "{path}"{nearest(path[:LONGEST_NEAR], known)}'
        return problem(call, "unknown-path", detail).response()
    return internal_error(call, error).response()


def internal_error(call: Call, error: Exception) -> Answer:
    """Log a bug with its traceback, and give the client the id to find it by."""
    _log.error("a bug (request %s)", call.request_id, exc_info=error)
    return problem(call, "internal-error", "a bug in the server; its log has the details under this request_id")


def _clip(text: str) -> str:
    return text if len(text) <= LONGEST_MESSAGE else f"{text[:LONGEST_MESSAGE]}..."
