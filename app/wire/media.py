"""Media types and bodies: which encoding a request speaks, which it accepts, and its bytes within a limit."""

import asyncio
import contextlib
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

JSON = "application/json"
MSGPACK = "application/msgpack"
PROBLEM = "application/problem+json"

#: How much of a body that is refused is read and thrown away, and for how long, so that its sender can see the answer.
LINGER_BYTES = 16 * 2**20
LINGER_S = 1.0


class BodyTooLargeError(Exception):
    """The body is longer than the limit."""


class UnsupportedMediaTypeError(Exception):
    """The body's encoding is none that is read here."""


class NotAcceptableError(Exception):
    """The client takes no encoding that is written here."""


@dataclass(frozen=True, slots=True)
class _Range:
    """One item of an `Accept` header."""

    kind: str
    subtype: str
    quality: float

    def precision(self, kind: str, subtype: str) -> int:
        """How precisely it names a media type: 2 exactly, 1 `type/*`, 0 `*/*`, -1 not at all."""
        if (self.kind, self.subtype) == (kind, subtype):
            return 2
        if (self.kind, self.subtype) == (kind, "*"):
            return 1
        return 0 if (self.kind, self.subtype) == ("*", "*") else -1


def _ranges(accept: str) -> list[_Range]:
    found = []
    for item in accept.split(","):
        name, *parameters = (part.strip() for part in item.split(";"))
        kind, _, subtype = name.lower().partition("/")
        quality = 1.0
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key.strip().lower() == "q":
                try:
                    quality = float(value)
                except ValueError:
                    quality = 0.0
        if subtype:
            found.append(_Range(kind, subtype, quality))
    return found


def accepts(accept: str, media_type: str) -> bool:
    """Whether an `Accept` header takes a media type; the item that names it most precisely decides (RFC 9110, 12.5.1).

    >>> accepts("text/html, */*;q=0.1", "application/json")
    True
    >>> accepts("*/*, application/json;q=0", "application/json")
    False
    """
    kind, _, subtype = media_type.partition("/")
    best, quality = -1, 0.0
    for item in _ranges(accept):
        precision = item.precision(kind, subtype)
        if precision > best or (precision == best and precision >= 0 and item.quality > quality):
            best, quality = precision, item.quality
    return quality > 0


def check_accept(request: Request) -> None:
    """Refuses a request whose answer could not be read by its sender.

    Raises:
        NotAcceptableError: JSON is not among what it accepts.
    """
    accept = ",".join(request.headers.getlist("accept")).strip()
    if accept and not accepts(accept, JSON):
        more = f"; {MSGPACK} is not spoken yet" if accepts(accept, MSGPACK) else ""
        raise NotAcceptableError(f"Accept is {accept!r}; this server answers in {JSON}{more}")


def check_content(request: Request) -> None:
    """Refuses a body that is not JSON by its own account.

    Raises:
        UnsupportedMediaTypeError: it is of another media type, charset or content encoding.
    """
    given = request.headers.get("content-type", "")
    media_type, _, parameters = given.partition(";")
    if media_type.strip().lower() != JSON:
        more = f"; {MSGPACK} is not spoken yet" if media_type.strip().lower() == MSGPACK else ""
        shown = f"Content-Type is {given!r}" if given else "there is no Content-Type"
        raise UnsupportedMediaTypeError(f"{shown}; expected {JSON}{more}")
    key, _, charset = parameters.partition("=")
    if key.strip().lower() == "charset" and charset.strip().strip('"').lower() not in ("utf-8", "utf8"):
        raise UnsupportedMediaTypeError(f"Content-Type is {given!r}; {JSON} is always UTF-8")
    coding = request.headers.get("content-encoding", "identity")
    if coding.strip().lower() != "identity":
        raise UnsupportedMediaTypeError(f"Content-Encoding is {coding!r}; expected none")


async def read_body(request: Request, limit: int) -> bytes:
    """The body, read only as far as `limit` bytes, whatever its Content-Length says.

    Raises:
        BodyTooLargeError: it is longer.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise BodyTooLargeError(_too_large(f"has {int(declared):,} bytes", limit))
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise BodyTooLargeError(_too_large(f"goes on after {limit:,} bytes", limit))
        chunks.append(chunk)
    return b"".join(chunks)


class LingeringResponse(Response):
    """A response in the middle of a request's body.

    A connection that is closed while its sender still writes may lose the answer: so a little more is read first.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the whole answer, reads on, then ends."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                await _discard(receive)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _discard(receive: Receive) -> None:
    seen, more = 0, True
    while more and seen < LINGER_BYTES:
        message = await receive()
        seen += len(message.get("body", b""))
        more = message.get("more_body", False)


def _too_large(found: str, limit: int) -> str:
    return f"the body {found}, the limit is {limit:,} (setting PULLBACK_MAX_BODY_BYTES)"
