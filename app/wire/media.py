"""Media types and bodies: what a request speaks, what it accepts, and its bytes within a limit."""

import asyncio
import contextlib
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

JSON = "application/json"
MSGPACK = "application/msgpack"
PROBLEM = "application/problem+json"
#: What is read and written.
SPOKEN = (JSON, MSGPACK)

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


def preferences(header: str) -> list[tuple[str, float]]:
    """The items of a header such as `Accept` in lower case, each with its quality: 1 where it has none.

    >>> preferences("gzip;q=0.5, *;q=0, br")
    [('gzip', 0.5), ('*', 0.0), ('br', 1.0)]
    """
    found = []
    for item in header.split(","):
        name, *parameters = (part.strip() for part in item.split(";"))
        liked = 1.0
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key.strip().lower() == "q":
                liked = _quality(value)
        if name:
            found.append((name.lower(), liked))
    return found


def _quality(value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        return 0.0
    return number if 0 <= number <= 1 else 0.0


def _ranges(accept: str) -> list[_Range]:
    parts = ((name.partition("/"), liked) for name, liked in preferences(accept))
    return [_Range(kind, subtype, liked) for (kind, _, subtype), liked in parts if subtype]


def quality(accept: str, media_type: str) -> float:
    """How much an `Accept` header likes a media type; 0: not at all. Without one all are liked."""
    if not accept.strip():
        return 1.0
    kind, _, subtype = media_type.partition("/")
    best, liked = -1, 0.0
    for item in _ranges(accept):
        precision = item.precision(kind, subtype)
        if precision > best or (precision == best and precision >= 0 and item.quality > liked):
            best, liked = precision, item.quality
    return liked


def request_type(content_type: str) -> str:
    """The media type of a body, by its `Content-Type` header.

    Raises:
        UnsupportedMediaTypeError: it is none that is read here, or of another charset.

    >>> request_type("application/JSON; charset=utf-8")
    'application/json'
    """
    name, _, parameters = content_type.partition(";")
    media_type = name.strip().lower()
    if media_type not in SPOKEN:
        shown = f"Content-Type is {content_type!r}" if content_type else "there is no Content-Type"
        raise UnsupportedMediaTypeError(f"{shown}; expected {' or '.join(SPOKEN)}")
    key, _, charset = parameters.partition("=")
    if key.strip().lower() == "charset" and charset.strip().strip('"').lower() not in ("utf-8", "utf8"):
        raise UnsupportedMediaTypeError(f"Content-Type is {content_type!r}; {media_type} is always UTF-8")
    return media_type


def answer_type(accept: str, own: str = JSON) -> str:
    """The media type of an answer: what the `Accept` header likes best, the request's own among equals.

    Raises:
        NotAcceptableError: it takes none that is written here.

    >>> answer_type("*/*", MSGPACK), answer_type("application/msgpack;q=0.5, application/json", MSGPACK)
    ('application/msgpack', 'application/json')
    """
    if not accept.strip():
        return own
    liked = {media_type: quality(accept, media_type) for media_type in (own, *SPOKEN)}
    best = max(liked, key=lambda media_type: liked[media_type])
    if not liked[best]:
        raise NotAcceptableError(f"Accept is {accept!r}; this server answers in {' or '.join(SPOKEN)}")
    return best


def takes_msgpack_alone(accept: str) -> bool:
    """Whether an `Accept` header takes MessagePack and no JSON of any kind.

    >>> takes_msgpack_alone("application/msgpack"), takes_msgpack_alone("application/msgpack, */*;q=0.1")
    (True, False)
    """
    return not any(quality(accept, json) for json in (JSON, PROBLEM)) and quality(accept, MSGPACK) > 0


def accept_of(request: Request) -> str:
    """The `Accept` header of a request, which may stand there several times."""
    return ",".join(request.headers.getlist("accept"))


async def read_body(request: Request, limit: int) -> bytes:
    """The body, read only as far as `limit` bytes, whatever its Content-Length says.

    Raises:
        BodyTooLargeError: it is longer.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise too_large(f"has {int(declared):,} bytes", limit)
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise too_large(f"goes on after {limit:,} bytes", limit)
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


def too_large(found: str, limit: int) -> BodyTooLargeError:
    """The refusal of a body of which so much was `found`."""
    return BodyTooLargeError(f"the body {found}, the limit is {limit:,} (setting PULLBACK_MAX_BODY_BYTES)")
