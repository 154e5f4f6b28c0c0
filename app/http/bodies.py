"""Bodies of requests as they arrive: read within limits of size, time and memory, or refused."""

import asyncio
import contextlib
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager

from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Send

from app.errors import DeadlineExceededError, OverloadedError
from app.http.waiting import in_time
from app.wire.media import too_large

#: How much of a body that is refused is read and thrown away, and for how long, so that its sender can see the answer.
LINGER_BYTES = 16 * 2**20
LINGER_S = 1.0
#: Bodies up to this size are read without a reservation: the number of connections bounds them.
UNRESERVED_BYTES = 64 * 2**10
#: Digits of a Content-Length that are read; no body is that long, and Python refuses to read thousands of them.
_MOST_DIGITS = 100
#: One client may hold one part of so many of all that is reserved.
CLIENT_PARTS = 2


class Reservation:
    """Bytes that one request holds."""

    def __init__(self, reservations: "Reservations", client: str) -> None:
        self._all = reservations
        self._client = client
        self.held = 0

    def ask(self, nbytes: int) -> None:
        """Hold so many bytes more.

        Raises:
            OverloadedError: there is not enough left, in all or for this client.
        """
        if self.held + nbytes > UNRESERVED_BYTES:
            self._all.check(nbytes, self._client, self.held)
            self.take(nbytes)

    def take(self, nbytes: int) -> None:
        """Hold so many bytes more, whether they are left or not."""
        self.held += nbytes
        self._all.add(nbytes, self._client)


class Reservations:
    """Memory for bodies that are read and worked on, and for answers that are sent.

    held: bytes that are held now.

    Args:
        limit: bytes in all.
    """

    def __init__(self, limit: int) -> None:
        self.held = 0
        self._limit = limit
        self._by_client: dict[str, int] = {}

    @contextmanager
    def of(self, client: str) -> Iterator[Reservation]:
        """Give a client a reservation, which ends with the block."""
        reservation = Reservation(self, client)
        try:
            yield reservation
        finally:
            self.add(-reservation.held, client)

    def check(self, nbytes: int, client: str, own: int = 0) -> None:
        """Make sure that a request may hold so many bytes more.

        Args:
            nbytes: bytes beside those that it holds.
            client: its sender.
            own: bytes that it holds already.

        Raises:
            OverloadedError: there is not enough left, in all or for this client.
        """
        if not self.has_room(nbytes, client, own):
            raise OverloadedError(
                f"bodies of requests and answers hold {self.held:,} bytes, and there is no room for {nbytes:,} more "
                "(setting PULLBACK_MAX_BYTES_IN_FLIGHT)"
            )

    def has_room(self, nbytes: int, client: str, own: int = 0) -> bool:
        """Return whether a client may hold so many bytes more.

        Of all it may hold a part, but one request is let in if the client holds nothing else, and a request of any
        length if nobody does. `own` bytes are held by the request itself.
        """
        of_client = self._by_client.get(client, 0)
        is_above_share = of_client > own and of_client + nbytes > self._limit // CLIENT_PARTS
        return not is_above_share and (self.held <= own or self.held + nbytes <= self._limit)

    def add(self, nbytes: int, client: str) -> None:
        """Note that a client holds so many bytes more."""
        if nbytes:
            self.held += nbytes
            left = self._by_client.get(client, 0) + nbytes
            if left:
                self._by_client[client] = left
            else:
                del self._by_client[client]


def declared_length(headers: dict[bytes, bytes]) -> int | None:
    """Return the Content-Length of a request, None if it has none."""
    length = headers.get(b"content-length", b"")
    return int(length) if length.isdigit() and len(length) <= _MOST_DIGITS else None


async def first_piece(waiting: Awaitable[Message], deadline_s: float) -> Message:
    """Return the first piece of a body.

    Raises:
        DeadlineExceededError: it did not arrive in time.
        ClientDisconnect: the client went away.
    """
    try:
        message = await in_time(waiting, deadline_s)
    except TimeoutError:
        raise _too_late(deadline_s) from None
    check_present(message)
    return message


def check_present(message: Message) -> None:
    """Make sure that a message is a piece of a body.

    Raises:
        ClientDisconnect: it says that the client went away.
    """
    if message["type"] == "http.disconnect":
        raise ClientDisconnect


async def read_body(
    first: Message | None, receive: Receive, limit: int, deadline_s: float, reservation: Reservation
) -> bytes:
    """Return the body of a request.

    Args:
        first: its first piece, if that was read already.
        receive: gives the other pieces.
        limit: bytes of a body.
        deadline_s: for all of it to arrive.
        reservation: is asked for what was not declared.

    Raises:
        BodyTooLargeError: it is longer.
        DeadlineExceededError: it did not arrive in time.
        OverloadedError: there is no room for it.
        ClientDisconnect: the client went away.
    """
    end_s = asyncio.get_running_loop().time() + deadline_s
    message = await first_piece(receive(), deadline_s) if first is None else first
    if not message.get("more_body"):
        body = bytes(message.get("body", b""))
        if len(body) > limit:
            raise too_large(f"goes on after {limit:,} bytes", limit)
        return body
    try:
        async with asyncio.timeout_at(end_s):
            return await _joined(message, receive, limit, reservation)
    except TimeoutError:
        raise _too_late(deadline_s) from None


def _too_late(deadline_s: float) -> DeadlineExceededError:
    return DeadlineExceededError(f"the body did not arrive within {deadline_s:g} s (setting PULLBACK_DEADLINE_S)")


async def _joined(message: Message, receive: Receive, limit: int, reservation: Reservation) -> bytes:
    chunks, size = [], 0
    while True:
        check_present(message)
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise too_large(f"goes on after {limit:,} bytes", limit)
        if size > max(reservation.held, UNRESERVED_BYTES):
            reservation.ask(size - reservation.held)
        chunks.append(chunk)
        if not message.get("more_body"):
            return b"".join(chunks)
        message = await receive()


def held_open(send: Send) -> Send:
    """Return a `send` that leaves the end of an answer to `linger`."""

    async def sending(message: Message) -> None:
        await send({**message, "more_body": True} if message["type"] == "http.response.body" else message)

    return sending


async def linger(receive: Receive, send: Send) -> None:
    """Read on for a little after an answer that came in the middle of a body, then end the answer.

    A connection that is closed while its sender still writes may lose the answer.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_S):
            seen, more = 0, True
            while more and seen < LINGER_BYTES:
                message = await receive()
                seen += len(message.get("body", b""))
                more = message.get("more_body", False)
    await send({"type": "http.response.body", "body": b"", "more_body": False})
