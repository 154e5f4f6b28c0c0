"""Answers of every endpoint: written in the media type and the content coding that a request asks for."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import Request
from fastapi.responses import Response

from app.limits import Workers
from app.wire import media
from app.wire.bodies import accept_of
from app.wire.codecs import encode
from app.wire.compression import IDENTITY, answer_coding, compressed

#: Which headers of a request decide on the form of an answer.
VARY = "Accept, Accept-Encoding"
#: Up to so many bytes are compressed on the event loop.
_INLINE_BYTES = 1 << 13


def answer_type(request: Request, own: str = media.JSON, spoken: Sequence[str] = media.SPOKEN) -> str:
    """The media type in which a request wants its answer; `own`: that of its body; `spoken`: what is written.

    Raises:
        NotAcceptableError: no form that it takes is written here.
    """
    answer_coding(_accept_encoding(request), 0)
    return media.answer_type(accept_of(request), own, spoken)


async def reply(
    request: Request,
    content: bytes,
    media_type: str,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """An answer of so many bytes, compressed where that was asked for, and on a thread where they are many."""
    all_headers = dict(headers or {})
    content, coding = await coded(content, _accept_encoding(request), request.app.state.workers)
    if coding != IDENTITY:
        all_headers["Content-Encoding"] = coding
    if request.method == "GET" or "Content-Encoding" in all_headers:
        # Others are not cached, so that nobody has to know.
        all_headers["Vary"] = VARY
    return Response(content, status, all_headers, media_type)


async def coded(content: bytes, accepted: str, workers: Workers) -> tuple[bytes, str]:
    """An answer as it is sent to who accepts these codings, and the coding of that."""
    if answer_coding(accepted, len(content)) == IDENTITY:
        return content, IDENTITY
    if len(content) <= _INLINE_BYTES:
        return compressed(content, accepted)
    return await workers.run(lambda: compressed(content, accepted))


async def reply_with(request: Request, document: Any) -> Response:
    """The answer to a request without a body."""
    media_type = answer_type(request)
    return await reply(request, encode(media_type, document), media_type)


def _accept_encoding(request: Request) -> str:
    return ",".join(request.headers.getlist("accept-encoding"))
