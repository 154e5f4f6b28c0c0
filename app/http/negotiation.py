"""Media types and content codings: how a request is read, and in which form its answer is written."""

from collections.abc import Mapping, Sequence
from typing import Any

from app.http.messages import Answer, Call, new_answer
from app.wire import compression, media
from app.wire.codecs import Message, encode
from app.wire.compression import IDENTITY

#: The headers of a request that decide on the form of its answer.
VARY = "Accept, Accept-Encoding"


def received(call: Call, limit_bytes: int, spoken: Sequence[str] = media.SPOKEN) -> Message:
    """Return the body of a request, inflated, with its media type and that of the answer.

    Args:
        call: the request.
        limit_bytes: size of the body once it is inflated.
        spoken: media types that are read.

    Raises:
        UnsupportedMediaTypeError: the body has another media type or content coding.
        NotAcceptableError: the client takes no form that is written here.
        BodyTooLargeError, MalformedBodyError: the body cannot be inflated.
    """
    coding = compression.request_coding(call.value(b"content-encoding"))
    media_type = media.request_type(*call.values(b"content-type"), spoken=spoken)
    wanted = answer_type(call, media_type if media_type in media.SPOKEN else media.JSON)
    body = call.body if coding == IDENTITY else compression.inflate(call.body, coding, limit_bytes)
    return Message(body, media_type, wanted)


def answer_type(call: Call, own: str = media.JSON, spoken: Sequence[str] = media.SPOKEN) -> str:
    """Return the media type in which a request wants its answer.

    Args:
        call: the request.
        own: the media type of its body, which is the answer's where the client has no wish.
        spoken: media types that are written.

    Raises:
        NotAcceptableError: the client takes no form that is written here.
    """
    compression.answer_coding(call.value(b"accept-encoding"), 0)
    return media.answer_type(call.value(b"accept"), own, spoken)


def reply(
    call: Call, content: bytes, media_type: str, status: int = 200, headers: Mapping[str, str] | None = None
) -> Answer:
    """Build an answer, compressed if the client asked for it."""
    content, coding = compression.compressed(content, call.value(b"accept-encoding"))
    own = dict(headers or {})
    if coding != IDENTITY:
        own["Content-Encoding"] = coding
    if coding != IDENTITY or call.method in ("GET", "HEAD"):
        # Others are not cached.
        own["Vary"] = VARY
    return new_answer(content, media_type, status, own)


def reply_with(call: Call, document: Any) -> Answer:
    """Build the answer to a request without a body."""
    media_type = answer_type(call)
    return reply(call, encode(media_type, document), media_type)
