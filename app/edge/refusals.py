"""Whole HTTP responses for refusals that never reach the application."""

import re
import secrets
from collections.abc import Iterable
from http import HTTPStatus

import orjson

from app import __version__
from app.api.problem_table import BY_SLUG, RETRY_AFTER_S
from app.wire.media import PROBLEM

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
_ID_BYTES = 8


def refusal(
    slug: str, detail: str, sent: Iterable[tuple[bytes, bytes]], own: Iterable[tuple[bytes, bytes]], is_head: bool
) -> bytes:
    """Return the bytes of a response, after which the connection closes.

    Args:
        slug: the kind of problem.
        detail: what was wrong, and what would be right.
        sent: fields of the request, as far as they arrived.
        own: fields that every response of the server has.
        is_head: the request is a HEAD: the response has no body.
    """
    kind = BY_SLUG[slug]
    request_id = _request_id(sent)
    document = {
        "type": f"/problems/{slug}",
        "title": kind.title,
        "status": kind.status,
        "detail": detail,
        "errors": [],
        "request_id": request_id.decode(),
    }
    body = orjson.dumps(document)
    fields = [
        *own,
        (b"content-type", PROBLEM.encode()),
        (b"content-length", b"%d" % len(body)),
        (b"x-request-id", request_id),
        (b"pullback-version", __version__.encode()),
        (b"connection", b"close"),
    ]
    if kind.status in (429, 503):
        fields.append((b"retry-after", b"%d" % RETRY_AFTER_S))
    head = b"".join(b"%s: %s\r\n" % field for field in fields)
    phrase = HTTPStatus(kind.status).phrase.encode()
    return b"HTTP/1.1 %d %s\r\n%s\r\n%s" % (kind.status, phrase, head, b"" if is_head else body)


def _request_id(sent: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The id that the client gave, or a new one."""
    for name, value in sent:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return value
    return secrets.token_hex(_ID_BYTES).encode()
