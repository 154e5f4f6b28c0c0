"""Bodies are read within limits of size, time and memory, and what they hold is given back whatever happens."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from starlette.requests import ClientDisconnect

from app.errors import DeadlineExceededError, OverloadedError
from app.http.bodies import (
    LINGER_BYTES,
    LINGER_S,
    UNRESERVED_BYTES,
    Reservation,
    Reservations,
    declared_length,
    linger,
    read_body,
)
from app.wire.media import BodyTooLargeError
from tests import virtual_time
from tests.app.hot import App, Document, Sent, ask, new_app, sent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.main import Pullback

KIB = 1024
#: The least that is reserved at all, and a limit of four times as much.
LEAST = UNRESERVED_BYTES + 1
LIMIT = 4 * LEAST
GONE: Document = {"type": "http.disconnect"}


def piece(nbytes: int, *, more: bool = True) -> Document:
    return {"type": "http.request", "body": bytes(nbytes), "more_body": more}


# Memory


def test_short_bodies_hold_nothing() -> None:
    all_of_them = Reservations(0)
    for client in "aab":
        with all_of_them.of(client) as reservation:
            reservation.ask(UNRESERVED_BYTES)
            assert reservation.held == all_of_them.held == 0


def test_one_request_is_let_in_whatever_it_takes() -> None:
    all_of_them = Reservations(LIMIT)
    with all_of_them.of("a") as first, all_of_them.of("b") as second:
        first.ask(10 * LIMIT)
        first.ask(10 * LIMIT)
        with pytest.raises(OverloadedError, match=r"hold .* no room for .* \(setting PULLBACK_MAX_BYTES_IN_FLIGHT\)"):
            second.ask(LEAST)
        # It says no more than it holds, and what was refused is not held.
        assert (first.held, second.held, all_of_them.held) == (20 * LIMIT, 0, 20 * LIMIT)
    assert all_of_them.held == 0


def test_all_clients_together_are_bounded() -> None:
    all_of_them = Reservations(LIMIT)
    with all_of_them.of("a") as a, all_of_them.of("b") as b, all_of_them.of("c") as c, all_of_them.of("d") as d:
        for each in (a, b, c):
            each.ask(LEAST)
        d.ask(LEAST)
        assert all_of_them.held == LIMIT
        with all_of_them.of("e") as e, pytest.raises(OverloadedError):
            e.ask(LEAST)
    assert all_of_them.held == 0


def test_one_client_has_a_part() -> None:
    all_of_them = Reservations(LIMIT)
    with all_of_them.of("a") as first, all_of_them.of("a") as second, all_of_them.of("a") as third:
        first.ask(LEAST)
        second.ask(LEAST)
        with pytest.raises(OverloadedError):
            third.ask(LEAST)
        with pytest.raises(OverloadedError):
            second.ask(LEAST)
        # There is room for another.
        with all_of_them.of("b") as other:
            other.ask(2 * LEAST)
    assert all_of_them.held == 0 and not all_of_them._by_client


def test_answers_are_taken_in_and_missing_for_others() -> None:
    all_of_them = Reservations(LIMIT)
    with all_of_them.of("a") as answers:
        for _ in range(3):
            answers.take(LIMIT)
        with all_of_them.of("b") as body, pytest.raises(OverloadedError):
            body.ask(LEAST)
        assert all_of_them.held == 3 * LIMIT
    with all_of_them.of("b") as body:
        body.ask(LEAST)
    assert all_of_them.held == 0


@pytest.mark.parametrize("error", [KeyError, asyncio.CancelledError, ClientDisconnect, OverloadedError])
def test_errors_give_back(error: type[BaseException]) -> None:
    all_of_them = Reservations(LIMIT)
    with all_of_them.of("a") as kept:
        kept.ask(LEAST)
        with pytest.raises(error), all_of_them.of("a") as lost:  # noqa: PT012 - what is raised ends the block
            lost.ask(LEAST)
            raise error("some reason")
        assert all_of_them.held == LEAST
    assert all_of_them.held == 0 and not all_of_them._by_client


# Reading


def read(
    messages: Sequence[Document], limit: int = 2**20, room: int = 2**30, *, declared: int = 0, pause_s: float = 0.0
) -> tuple[bytes, Reservation]:
    """The body that messages make, each of which comes after a pause; a deadline is 30 s."""
    waiting = list(messages)

    async def receive() -> Any:
        if not waiting:
            await asyncio.Event().wait()
        await asyncio.sleep(pause_s)
        return waiting.pop(0)

    async def reading() -> tuple[bytes, Reservation]:
        with Reservations(room).of("a") as reservation:
            reservation.ask(declared)
            return await read_body(None, receive, limit, 30.0, reservation), reservation

    return virtual_time.run(reading())


@pytest.mark.parametrize(
    ("messages", "nbytes", "held"),
    [
        ([piece(0, more=False)], 0, 0),
        ([piece(5, more=False)], 5, 0),
        ([piece(5), piece(0), piece(7, more=False)], 12, 0),
        ([piece(40 * KIB), piece(24 * KIB, more=False)], 64 * KIB, 0),
        ([piece(40 * KIB), piece(24 * KIB), piece(1, more=False)], LEAST, LEAST),
        ([piece(40 * KIB)] * 3 + [piece(0, more=False)], 120 * KIB, 120 * KIB),
        ([{"type": "http.request"}], 0, 0),
    ],
)
def test_what_comes_in_pieces_is_reserved_as_it_comes(messages: list[Document], nbytes: int, held: int) -> None:
    body, reservation = read(messages)
    assert (len(body), reservation.held) == (nbytes, held)


def test_what_was_declared_is_reserved_once() -> None:
    messages = [piece(100 * KIB), piece(100 * KIB, more=False)]
    assert read(messages, declared=200 * KIB)[1].held == 200 * KIB
    # What goes beyond is asked for.
    assert read(messages, declared=150 * KIB)[1].held == 200 * KIB


def test_a_body_alone_is_read_whether_it_was_declared_or_not() -> None:
    """Bytes that a request holds itself do not count against it."""
    messages = [*[piece(100 * KIB)] * 9, piece(100 * KIB, more=False)]
    for declared in (0, 1000 * KIB):
        assert len(read(messages, room=200 * KIB, declared=declared)[0]) == 1000 * KIB


@pytest.mark.parametrize(
    "messages",
    [
        [piece(1001, more=False)],
        [piece(1000), piece(1, more=False)],
        [piece(1000), piece(1), piece(2**30)],
        [*[piece(1)] * 1001],
    ],
    ids=len,
)
def test_what_is_longer_than_the_limit_is_refused(messages: list[Document]) -> None:
    with pytest.raises(BodyTooLargeError, match=r"goes on after 1,000 bytes.*PULLBACK_MAX_BODY_BYTES"):
        read(messages, limit=1000)
    assert len(read([piece(999), piece(1, more=False)], limit=1000)[0]) == 1000


@pytest.mark.parametrize("messages", [[GONE], [piece(5), GONE], [piece(100 * KIB), piece(100 * KIB), GONE]], ids=len)
def test_a_client_that_goes_away_is_noticed(messages: list[Document]) -> None:
    with pytest.raises(ClientDisconnect):
        read(messages)


@pytest.mark.parametrize(
    ("messages", "pause_s", "is_late"),
    [
        ([], 0.0, True),
        ([piece(5)], 0.0, True),
        ([piece(5, more=False)], 29.0, False),
        ([piece(5, more=False)], 31.0, True),
        ([piece(5), piece(5), piece(5, more=False)], 9.0, False),
        ([piece(5), piece(5), piece(5, more=False)], 11.0, True),
        # The first piece takes its time out of the same deadline.
        ([piece(5), piece(5, more=False)], 20.0, True),
    ],
)
def test_all_of_a_body_has_one_deadline(messages: list[Document], pause_s: float, is_late: bool) -> None:
    if is_late:
        with pytest.raises(DeadlineExceededError, match=r"did not arrive within 30 s \(setting PULLBACK_DEADLINE_S\)"):
            read(messages, pause_s=pause_s)
    else:
        assert read(messages, pause_s=pause_s)[0]


@pytest.mark.parametrize(
    ("written", "expected"),
    [(None, None), (b"", None), (b"0", 0), (b"17", 17), (b"-1", None), (b"1.5", None), (b"9" * 5000, None)],
)
def test_lengths(written: bytes | None, expected: int | None) -> None:
    assert declared_length({} if written is None else {b"content-length": written}) == expected


# Refused in the middle


@pytest.mark.parametrize("end", ["last piece", "gone", "stalled", "endless"])
def test_a_body_that_was_refused_is_read_on_for_a_little(end: str) -> None:
    waiting = {
        "last piece": [piece(KIB), piece(KIB, more=False)],
        "gone": [piece(KIB), GONE],
        "stalled": [piece(KIB)],
        "endless": [piece(2**20)] * 100,
    }[end]
    left, ended = list(waiting), []

    async def receive() -> Any:
        if not left:
            await asyncio.Event().wait()
        return left.pop(0)

    async def send(message: Any) -> None:
        ended.append((message, asyncio.get_running_loop().time()))

    virtual_time.run(linger(receive, send))
    [(message, at)] = ended
    assert message == {"type": "http.response.body", "body": b"", "more_body": False}
    assert at == pytest.approx(LINGER_S if end == "stalled" else 0.0)
    assert len(left) == (100 - LINGER_BYTES // 2**20 if end == "endless" else 0)


# In an application


def noted(app: Pullback) -> list[int]:
    """Record the bytes that are held each time that the workers of an application are asked."""
    found: list[int] = []
    answer = app.pool.answer

    async def noting(*given: Any) -> Any:
        found.append(app.exchange.reservations.held)
        return await answer(*given)

    app.pool.answer = noting
    return found


def long_body(nbytes: int, pieces: int = 1) -> Sent:
    body = sent("/v1/evaluate", {"expr": "x", "inputs": {"x": 1}}).body.ljust(nbytes)
    return Sent(
        "/v1/evaluate", body, ((b"content-type", b"application/json"), (b"x-request-id", b"same")), pieces=pieces
    )


@pytest.mark.parametrize("pieces", [1, 7], ids=["declared", "chunked"])
def test_a_body_is_held_while_it_is_worked_on(pieces: int) -> None:
    app = new_app()
    found = noted(app)
    for nbytes in (2 * KIB, 60 * KIB, 100 * KIB, 1000 * KIB):
        assert ask(app, long_body(nbytes, pieces)).status == 200
        assert app.exchange.reservations.held == 0
    assert found == [0, 0, 100 * KIB, 1000 * KIB]


def test_a_bug_in_a_worker_gives_back(caplog: pytest.LogCaptureFixture) -> None:
    app = new_app()

    async def broken(*given: Any) -> Any:
        assert app.exchange.reservations.held == 100 * KIB
        raise KeyError("a bug")

    app.pool.answer = broken
    assert ask(app, long_body(100 * KIB)).status == 500
    assert app.exchange.reservations.held == 0
    assert "a bug" in caplog.text


def talk(app: App, request: Sent, messages: Sequence[Document], at_send: Any = None) -> list[Document]:
    """Return the messages that an application sends to a client that sends these and no more."""
    waiting, found = list(messages), []

    async def receive() -> Any:
        if not waiting:
            await asyncio.Event().wait()
        return waiting.pop(0)

    async def send(message: Any) -> None:
        if at_send is not None:
            at_send()
        found.append(message)

    scope = {"type": "http", "method": "POST", "path": request.path, "raw_path": request.path.encode()}
    scope |= {"headers": request.all_headers, "query_string": b"", "client": ("10.0.0.1", 1), "scheme": "http"}
    virtual_time.run(app(scope, receive, send))
    return found


@pytest.mark.parametrize("pieces", [1, 2], ids=["declared", "chunked"])
@pytest.mark.parametrize("end", ["gone", "stalled", "too long"])
def test_a_body_that_ends_badly_gives_back(monkeypatch: pytest.MonkeyPatch, pieces: int, end: str) -> None:
    app = new_app(max_body_bytes=300 * KIB)
    statuses = []
    monkeypatch.setattr(app.envelope, "note", lambda scope, answer, start, request_id: statuses.append(answer.status))
    request = long_body(250 * KIB, pieces)
    messages = [piece(100 * KIB), piece(100 * KIB)]
    messages += {"gone": [GONE], "stalled": [], "too long": [piece(101 * KIB), piece(1, more=False)]}[end]
    found = talk(app, request, messages)
    assert statuses == [{"gone": 499, "stalled": 504, "too long": 413}[end]]
    assert [message.get("status") for message in found[:1]] == ([] if end == "gone" else statuses)
    assert app.exchange.reservations.held == 0 and not app.exchange.reservations._by_client
    assert not app.pool.calls


def test_where_no_room_is_left_a_body_is_refused_unread() -> None:
    app = new_app(max_bytes_in_flight=2 * 300 * KIB)
    with app.exchange.reservations.of("somebody else") as held:
        held.take(250 * KIB)
        # There is nothing to read: whoever waited for the body would wait for ever.
        start, *_ = talk(app, long_body(100 * KIB), [])
        assert start["status"] == 503
        assert (b"retry-after", b"1") in start["headers"]
        chunked = talk(app, long_body(100 * KIB, 2), [piece(60 * KIB), piece(60 * KIB)])
        assert chunked[0]["status"] == 503 and b"PULLBACK_MAX_BYTES_IN_FLIGHT" in chunked[1]["body"]
        assert ask(app, long_body(50 * KIB)).status == 200
        assert app.exchange.reservations.held == 250 * KIB
    assert ask(app, long_body(100 * KIB)).status == 200


def test_an_answer_is_held_while_it_is_sent() -> None:
    app = new_app()
    held: list[int] = []
    request = sent("/v1/evaluate", {"expr": "broadcast_to(x, [1000, 300])", "inputs": {"x": 0.1}})
    message = {"type": "http.request", "body": request.body, "more_body": False}
    found = talk(app, request, [message], lambda: held.append(app.exchange.answers.held))
    size = sum(len(each.get("body", b"")) for each in found)
    assert size > 2**20 and set(held) == {size}
    assert app.exchange.answers.held == 0


def test_a_client_that_goes_away_before_its_body_is_not_answered() -> None:
    app = new_app()
    for request in (sent("/v1/evaluate", {"expr": "x", "inputs": {"x": 1}}), long_body(2 * KIB), long_body(2 * KIB, 2)):
        assert talk(app, request, [GONE]) == []
    assert not app.pool.calls
