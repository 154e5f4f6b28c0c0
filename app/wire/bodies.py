"""Bodies of requests as they arrive: read within a limit, and refused before their end."""

import asyncio
import contextlib

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.wire.media import too_large

#: Bytes of a refused body that are read and thrown away, and for how long, so that its sender sees the response.
LINGER_BYTES = 16 * 2**20
LINGER_S = 1.0


def accept_of(request: Request) -> str:
    """Return the `Accept` header of a request; repeated ones are joined by commas."""
    return ",".join(request.headers.getlist("accept"))


async def read_body(request: Request, limit: int) -> bytes:
    """Read a body; at most `limit` bytes are read, whatever its Content-Length says.

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

    Closing a connection while the client still writes may lose the response, so a little more is read first.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the whole response, read on, then end."""
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
