"""Limits of connections against a real server and raw sockets: what goes beyond is refused, and others are answered."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from uvicorn import Config
from uvicorn.server import ServerState

from app.edge.guard import MOST_PIPELINED, guarded
from app.edge_limits import RESERVED, EdgeLimits
from tests.app.conftest import ROOT, environment, start_server, stop
from tests.app.edge import GET, LARGE_BYTES, PAUSE_S, WELL, Edge, edge, problem_of, read_all, read_answer, until
from tests.app.test_slow_readers import resident_bytes
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

#: No limit of time comes near.
PATIENT = EdgeLimits(header_s=600, grace_s=600)
QUICK = EdgeLimits(header_s=0.6, grace_s=0.6)
OTHER = "127.0.0.2"
POST = b"POST /echo HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
MANY = 40 * 2**20
GUARDED = ("uvicorn", "app.main:app", "--host", "127.0.0.1", "--http", "app.edge.guard:GuardedProtocol")


@pytest.fixture(scope="module")
def patient() -> Iterator[Edge]:
    with edge(PATIENT) as running:
        yield running


@pytest.fixture(scope="module")
def quick() -> Iterator[Edge]:
    with edge(QUICK) as running:
        yield running


def counted(running: Edge, name: str) -> int:
    return int(getattr(running.counts, name))


# Size

#: name -> (bytes, slug, words of the detail); in one piece, and also in several.
TOO_LARGE: dict[str, tuple[tuple[bytes, ...], str]] = {
    "lines without end": ((GET, *[b"A: b\r\n" * 10_000] * (MANY // 60_000)), "PULLBACK_MAX_HEADER_BYTES"),
    "a value without end": ((GET + b"A: ", *[b"b" * 2**16] * (MANY // 2**16)), "PULLBACK_MAX_HEADER_BYTES"),
    "a name without end": ((GET, *[b"a" * 2**16] * (MANY // 2**16)), "PULLBACK_MAX_HEADER_BYTES"),
    "a target without end": ((b"GET /", *[b"b" * 2**16] * (MANY // 2**16)), "PULLBACK_MAX_HEADER_BYTES"),
    "empty lines without end": ((*[b"\r\n" * 2**15] * 20,), "PULLBACK_MAX_HEADER_BYTES"),
    "a long value": ((GET + b"A: " + b"b" * 40_000 + b"\r\n\r\n",), "PULLBACK_MAX_HEADER_BYTES"),
    "a long target": (
        (b"GET /" + b"b" * 40_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",),
        "PULLBACK_MAX_HEADER_BYTES",
    ),
    "many fields": ((GET + b"A: b\r\n" * 100 + b"\r\n",), "has 101 fields; at most 100 (setting PULLBACK_MAX_HEADER_F"),
    "one field of many": ((GET, *[b"A: b\r\n"] * 100, b"\r\n"), "has 101 fields"),
    "an extension without end": ((CHUNKED + b"1;", *[b"b" * 2**16] * 100), "extensions or trailers"),
    "a trailer without end": ((CHUNKED + b"1\r\nx\r\n0\r\nA: ", *[b"b" * 2**16] * 100), "extensions or trailers"),
    "trailers without end": ((CHUNKED + b"1\r\nx\r\n0\r\n", *[b"A: b\r\n" * 10_000] * 100), "extensions or trailers"),
    "chunks that are mostly extensions": (
        (CHUNKED, *[b"1;" + b"b" * 1000 + b"\r\nx\r\n"] * 5000),
        "extensions or trailers",
    ),
}


@pytest.mark.parametrize("name", TOO_LARGE)
def test_what_has_no_end_is_cut(patient: Edge, name: str) -> None:
    pieces, words = TOO_LARGE[name]
    before = counted(patient, "headers_too_large")
    problem = problem_of(patient.talk(*pieces))
    assert (problem.status, problem.slug) == (431, "headers-too-large")
    assert words in problem.detail
    assert counted(patient, "headers_too_large") == before + 1
    patient.assert_well()


def test_a_large_header_behind_a_request_is_refused_after_the_answer(patient: Edge) -> None:
    for pieces in ([GET + b"\r\n" + GET + b"A: " + b"b" * 40_000 + b"\r\n\r\n"], [GET + b"\r\n" + GET, b"b" * 400_000]):
        first, _, second = patient.talk(*pieces).partition(b"\r\n\r\nok")
        assert first.startswith(b"HTTP/1.1 200 OK\r\n")
        assert problem_of(second).slug == "headers-too-large"


def test_a_refusal_waits_for_answers_under_way() -> None:
    with edge(PATIENT) as running:
        # A header may be as long as a piece of what is received if it begins in the midst of one.
        refused = (b"GET /hold HTTP/1.1\r\nHost: localhost\r\n\r\n" + GET, b"A: " + b"b" * 400_000)
        with running.connect(*refused) as connection:
            until(lambda: running.counts.headers_too_large == 1)
            running.app.gate.set()
            first, _, second = read_all(connection).partition(b"\r\n\r\nok")
    assert first.startswith(b"HTTP/1.1 200 OK\r\n")
    assert problem_of(second).slug == "headers-too-large"


# Time


def test_a_header_that_does_not_end_is_answered_with_408(quick: Edge) -> None:
    for header in (b"G", GET, b"\r\n", GET + b"A: "):
        before = counted(quick, "header_timeouts")
        problem = problem_of(quick.talk(header))
        assert (problem.status, problem.slug) == (408, "request-timeout")
        assert "PULLBACK_HEADER_TIMEOUT_S" in problem.detail
        assert counted(quick, "header_timeouts") == before + 1


def test_the_header_of_a_later_request_has_the_same_time(quick: Edge) -> None:
    with quick.connect(GET + b"\r\n") as connection:
        read_answer(connection)
        connection.sendall(b"GET /")
        assert problem_of(read_all(connection)).status == 408
    first, _, second = quick.talk(GET + b"\r\nGET /").partition(b"\r\n\r\nok")
    assert first.startswith(b"HTTP/1.1 200") and problem_of(second).status == 408


def test_a_connection_that_sends_nothing_is_closed() -> None:
    with edge(QUICK) as running:
        assert running.talk() == b""
        assert running.counts.idle_closed == 1


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_a_connection_between_two_requests_is_closed_after_its_time(loop: Any) -> None:
    with edge(PATIENT, keep_alive_s=0.2, loop=loop) as running:
        answer = running.talk(GET + b"\r\n")
        assert answer.endswith(b"\r\n\r\nok")
        assert (running.counts.idle_closed, running.counts.header_timeouts) == (0, 0)
        until(lambda: running.connections == 0)


@pytest.mark.parametrize(
    "begin", [POST + b"Content-Length: 9\r\n\r\n", POST + b"Content-Length: 9\r\n\r\nabc", CHUNKED]
)
def test_a_body_that_drips_is_answered_with_408(begin: bytes) -> None:
    with edge(QUICK) as running:
        problem = problem_of(running.talk(begin))
        assert (problem.status, problem.slug) == (408, "request-timeout")
        assert "PULLBACK_MIN_TRANSFER_RATE" in problem.detail
        assert running.counts.slow_bodies == 1
        until(lambda: running.app.gone == 1)
        running.assert_well()


def test_a_body_that_is_not_asked_for_may_wait() -> None:
    """The client waits for 100 Continue, and the application for something else."""
    with edge(QUICK) as running:
        header = b"POST /hold HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
        with running.connect(header) as connection:
            until(lambda: running.app.held == 1)
            for _ in range(3):  # in the meantime others are timed
                running.talk(b"G")
            running.app.gate.set()
            assert read_answer(connection).startswith(b"HTTP/1.1 200")


def test_a_body_behind_its_answer_may_not_go_on_for_ever() -> None:
    with (
        edge(QUICK) as running,
        running.connect(b"POST / HTTP/1.1\r\nHost: a.localhost\r\nContent-Length: 99\r\n\r\n") as slow,
    ):
        assert read_all(slow).endswith(b"\r\n\r\nok")
        assert running.counts.slow_bodies == 0


@pytest.mark.parametrize(
    "begin",
    [
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000000\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
    ],
    ids=["body", "trailers"],
)
def test_little_is_read_behind_an_answer(patient: Edge, begin: bytes) -> None:
    with patient.connect(begin) as connection:
        assert read_answer(connection).startswith(b"HTTP/1.1 200")
        with pytest.raises(ConnectionError):
            connection.sendall(b"A: b\r\n" * (2 * MANY))
    patient.assert_well()


def read_half(connection: socket.socket) -> None:
    """Read as much as half of a large answer; what the kernel of the server holds of it is less."""
    received = 0
    while received < LARGE_BYTES // 2:
        piece = connection.recv(2**16)
        assert piece
        received += len(piece)


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("path", [b"/large", b"/large-in-pieces"])
def test_who_does_not_read_is_reset(path: bytes, loop: Any) -> None:
    with edge(QUICK, loop=loop) as running:
        with running.connect(b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % path) as connection:
            until(lambda: running.counts.slow_readers == 1)
            until(lambda: running.connections == 0)
            with pytest.raises(ConnectionResetError):
                read_half(connection)
        running.assert_well()


def test_who_reads_steadily_gets_all() -> None:
    with edge(EdgeLimits(grace_s=1)) as running:
        with running.connect(
            b"GET /large-in-pieces HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        ) as connection:
            received = 0
            while piece := connection.recv(2**12):
                received += len(piece)
        assert received > LARGE_BYTES
        assert running.counts.slow_readers == 0


def test_who_reads_slowly_but_faster_than_it_has_to_gets_on() -> None:
    with edge(EdgeLimits(grace_s=0.4)) as running:
        with running.connect(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n") as connection:
            # The kernel holds more than this reads: the server's own buffer stands still all the time.
            for _ in range(150):
                assert connection.recv(2**14)
                time.sleep(PAUSE_S)
        assert running.counts.slow_readers == 0


# Numbers


def test_the_oldest_idle_connection_of_an_address_makes_room() -> None:
    with edge(EdgeLimits(header_s=600, grace_s=600, connections_per_address=3)) as running:
        with running.connect(GET + b"\r\n", source=OTHER) as other:
            read_answer(other)
            kept = []
            for _ in range(3):
                kept.append(running.connect(GET + b"\r\n"))
                read_answer(kept[-1])
            running.assert_well()
            assert read_all(kept[0]) == b""
            assert running.counts.idle_closed == 1
            for connection in (*kept[1:], other):
                connection.sendall(GET + b"\r\n")
                read_answer(connection)
        assert running.counts.connections_refused == 0


def test_an_address_with_as_many_busy_connections_as_it_may_have_is_refused() -> None:
    with edge(EdgeLimits(header_s=600, grace_s=600, connections_per_address=5)) as running:
        half = [running.connect(b"GET /") for _ in range(5)]
        until(lambda: running.connections == 5)
        # Bytes that came before those connections were looked at decide whether they are idle.
        until(lambda: not running.uvicorn.lifespan.state["edge"].idle)
        problem = problem_of(running.talk(WELL))
        assert (problem.status, problem.slug, problem.headers["retry-after"]) == (503, "overloaded", "1")
        assert "127.0.0.1 has 5 connections" in problem.detail
        assert "PULLBACK_MAX_CONNECTIONS_PER_ADDRESS" in problem.detail
        running.assert_well(OTHER)
        half.pop().close()
        until(lambda: running.connections == 4)
        running.assert_well()
        assert running.counts.connections_refused == 1


def test_a_server_has_a_number_of_connections_in_all() -> None:
    with edge(EdgeLimits(header_s=600, grace_s=600, connections=2)) as running:
        half = [running.connect(b"GET /", source=f"127.0.0.{2 + k % 5}") for k in range(2 + RESERVED)]
        until(lambda: running.connections == len(half))
        until(lambda: not running.uvicorn.lifespan.state["edge"].idle)
        problem = problem_of(running.talk(WELL))
        assert (problem.status, problem.slug) == (503, "overloaded")
        assert "2 connections" in problem.detail and "PULLBACK_MAX_CONNECTIONS" in problem.detail
        # An idle one is closed for another, whoever has it.
        half[0].sendall(b"healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        read_answer(half[0])
        running.assert_well()
        assert read_all(half[0]) == b""


def test_half_open_headers_leave_room_for_others_and_end() -> None:
    with edge(EdgeLimits(header_s=1, grace_s=600, connections_per_address=256)) as running:
        half = [running.connect(b"GET / HTTP/1.1\r\nA: ") for _ in range(300)]
        running.assert_well(OTHER)
        answers = [read_all(connection) for connection in half]
        statuses = {answer.split()[1] for answer in answers if answer}
        assert statuses <= {b"408", b"503"}
        assert b"408" in statuses
        until(lambda: running.connections == 0)
        running.assert_well()
        assert running.counts.header_timeouts + running.counts.connections_refused == 300


def test_a_client_behind_a_proxy_is_counted_and_not_the_proxy() -> None:
    limits = EdgeLimits(header_s=600, grace_s=600, connections_per_address=2, trusted_proxies=("127.0.0.1",))
    with edge(limits) as running:

        def forwarded(path: bytes, client: bytes) -> bytes:
            return b"GET %s HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: %s\r\n\r\n" % (path, client)

        def assert_answered(connection: socket.socket, client: bytes) -> None:
            connection.sendall(forwarded(b"/", client))
            assert read_answer(connection).startswith(b"HTTP/1.1 200")

        idle = [running.connect() for _ in range(8)]
        for connection in idle:
            assert_answered(connection, b"10.0.0.1")
        held = [running.connect(forwarded(b"/hold", b"6.6.6.6, 10.0.0.1")) for _ in range(2)]
        until(lambda: running.app.held == 2)
        problem = problem_of(running.talk(forwarded(b"/", b"10.0.0.1")))
        assert (problem.status, problem.slug) == (503, "overloaded")
        assert "10.0.0.1 has 2 requests at once" in problem.detail
        assert_answered(idle[0], b"10.0.0.2")
        held.pop().close()
        until(lambda: running.connections == 9)
        assert_answered(idle[1], b"10.0.0.1")
        running.app.gate.set()
        read_answer(held[0])
        assert_answered(idle[2], b"10.0.0.1")
        # From elsewhere the header is not believed.
        for k in range(3):
            running.connect(forwarded(b"/", b"10.0.0.%d" % k), source=OTHER)
        until(lambda: running.counts.idle_closed + running.counts.connections_refused == 2)


def test_requests_that_wait_in_a_row_have_an_end(patient: Edge) -> None:
    answer = patient.talk((GET + b"\r\n") * 3000)
    # The first ones are answered while the others arrive.
    assert MOST_PIPELINED < answer.count(b"HTTP/1.1 200 OK\r\n") < 1000
    assert answer.endswith(b"\r\n\r\nok")


def test_all_requests_of_a_client_that_goes_away_hear_of_it() -> None:
    """Not the last one alone: nothing is written to a connection that is closed."""

    class Transport(asyncio.Transport):
        is_lost = False

        def get_extra_info(self, name: str, default: Any = None) -> Any:
            return ("127.0.0.1", 1) if name in ("peername", "sockname") else default

        def is_closing(self) -> bool:
            return self.is_lost

        def pause_reading(self) -> None:
            """There is nothing to read."""

        def resume_reading(self) -> None:
            """There is nothing to read."""

        def write(self, data: Any) -> None:
            assert not self.is_lost

        def close(self) -> None:
            self.is_lost = True

        def get_write_buffer_size(self) -> int:
            return 0

    async def work() -> None:
        gate, begun, errors = asyncio.Event(), [], []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            begun.append(scope["path"])
            await gate.wait()
            try:
                await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
                await send({"type": "http.response.body", "body": b""})
            except AssertionError as error:
                errors.append(error)

        config = Config(app, log_config=None, lifespan="off", proxy_headers=False, http=guarded(PATIENT))
        config.load()
        protocol, transport = guarded(PATIENT)(config, ServerState(), {}), Transport()
        protocol.connection_made(transport)
        protocol.data_received(b"".join(b"GET /%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % k for k in range(3)))
        await asyncio.sleep(0)
        transport.is_lost = True
        protocol.connection_lost(None)
        gate.set()
        for _ in range(9):
            await asyncio.sleep(0)
        assert (begun, errors) == (["/0"], [])

    asyncio.run(work())


def test_servers_in_one_process_have_limits_of_their_own() -> None:
    header = GET + b"A: " + b"b" * 1000 + b"\r\nConnection: close\r\n\r\n"
    with edge(PATIENT) as wide, edge(EdgeLimits(header_bytes=500)) as narrow:
        assert wide.talk(header).startswith(b"HTTP/1.1 200 ")
        assert narrow.talk(header).startswith(b"HTTP/1.1 431 ")
        assert (wide.counts.headers_too_large, narrow.counts.headers_too_large) == (0, 1)


# Hosts


def test_another_name_is_refused_on_loopback(patient: Edge) -> None:
    request = b"GET /healthz HTTP/1.1\r\nHost: attacker.example\r\nX-Request-ID: mine\r\n\r\n"
    problem = problem_of(patient.talk(request))
    assert (problem.status, problem.slug, problem.headers["x-request-id"]) == (421, "wrong-host", "mine")
    assert "attacker.example" in problem.detail and "PULLBACK_ALLOWED_HOSTS" in problem.detail
    two = patient.talk(b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: attacker.example\r\n\r\n")
    assert problem_of(two).slug == "wrong-host"
    head = patient.talk(b"HEAD / HTTP/1.1\r\nHost: attacker.example\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 421 ") and head.endswith(b"\r\n\r\n")
    assert counted(patient, "wrong_hosts") == 3


def test_any_name_is_answered_elsewhere_or_if_it_is_allowed() -> None:
    request = b"GET / HTTP/1.1\r\nHost: pullback.example:80\r\nConnection: close\r\n\r\n"
    for limits, host in ((PATIENT, "0.0.0.0"), (EdgeLimits(allowed_hosts=("pullback.example",)), "127.0.0.1")):
        with edge(limits, host=host) as running:
            assert running.talk(request).startswith(b"HTTP/1.1 200 ")


# All else is as it was

SAME: dict[str, tuple[bytes, ...]] = {
    "a request": (WELL,),
    "byte by byte": tuple(bytes([byte]) for byte in WELL),
    "several in a row": ((GET + b"\r\n") * 20 + WELL,),
    "a body": (POST + b"Content-Length: 3\r\n\r\nabc" + WELL,),
    "a body in pieces": (POST + b"Content-Length: 9\r\n\r\n", b"abc", b"def", b"ghi" + WELL),
    "bodies in a row": (POST + b"Content-Length: 3\r\n\r\nabc" + CHUNKED + b"3\r\nabc\r\n0\r\n\r\n" + WELL,),
    "a long body": (POST + b"Content-Length: 3000000\r\n\r\n" + b"x" * 3_000_000 + WELL,),
    "a long body and the next": (
        POST + b"Content-Length: 600000\r\n\r\n" + b"x" * 600_000 + POST + b"Content-Length: 3\r\n\r\n",
        b"abc" + WELL,
    ),
    "a long chunked body": (
        CHUNKED + b"10000\r\n" + b"x" * 65536 + b"\r\n",
        *[b"1\r\nx\r\n"] * 5000,
        b"0\r\n\r\n" + WELL,
    ),
    "chunks with extensions": (CHUNKED + b"3;a=b\r\nabc\r\n0;c\r\n\r\n" + WELL,),
    "100-continue": (POST + b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\n", b"abc" + WELL),
    "HTTP/1.0": (b"GET / HTTP/1.0\r\n\r\n",),
    "HTTP/1.0 kept alive": (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",),
    "no Host": (b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n",),
    "HEAD": (b"HEAD / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",),
    "an absolute target": (
        b"GET http://localhost/echo?a=%20 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    ),
    "an upgrade": (GET + b"Upgrade: websocket\r\nConnection: Upgrade, close\r\nSec-WebSocket-Version: 13\r\n\r\n",),
    "an upgrade to HTTP/2": (
        GET + b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings, close\r\nHTTP2-Settings: A\r\n\r\n",
    ),
    "empty lines before": (b"\r\n\r\n" + WELL,),
    "after an answer": (GET + b"Connection: close\r\n\r\n" + GET + b"\r\n",),
    "garbage": (b"garbage\r\n\r\n",),
    "garbage behind a request": (GET + b"\r\n", b"garbage\r\n\r\n"),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",),
    "two lengths": (POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",),
    "length and chunked": (POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",),
    "a bad chunk": (CHUNKED + b"zz\r\n",),
    "a bad field": (GET + b"A b: c\r\n\r\n",),
    "a bad target": (b"GET http://[ HTTP/1.1\r\nHost: localhost\r\n\r\n",),
    "a target that is not ASCII": (b"GET /\xc3\xa9 HTTP/1.1\r\nHost: localhost\r\n\r\n",),
}


@pytest.fixture(scope="module")
def plain() -> Iterator[Edge]:
    with edge(None) as running:
        yield running


def answer_in_full(running: Edge, pieces: tuple[bytes, ...]) -> list[bytes]:
    """Lines of all that is answered, but for the time of day; from a connection whose other direction stays open."""
    with running.connect() as connection:
        for piece in pieces[:-1]:
            connection.sendall(piece)
            if piece.endswith(b"100-continue\r\n\r\n"):
                assert read_answer(connection, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            elif piece.startswith(GET):
                read_answer(connection)
        connection.sendall(pieces[-1])
        lines = read_all(connection).split(b"\r\n")
    return [line.partition(b'"client"')[0] for line in lines if not line.startswith(b"date: ")]


@pytest.mark.parametrize("name", SAME)
def test_all_else_is_answered_as_uvicorn_does(name: str, patient: Edge, plain: Edge) -> None:
    guarded, bare = answer_in_full(patient, SAME[name]), answer_in_full(plain, SAME[name])
    if bare[0].startswith(b"HTTP/1.1 400"):
        # uvicorn says so as plain text, and before the answers of requests that are under way.
        assert b"/problems/malformed-request" in guarded[-1]
        assert [line for line in guarded if line.startswith(b"HTTP/1.1 4")] == bare[:1]
        return
    assert guarded == bare
    assert guarded[0].startswith((b"HTTP/1.1 200", b"{"))


def test_fields_behind_a_body_are_no_fields_of_the_header(patient: Edge) -> None:
    trailers = CHUNKED.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") + b"1\r\nx\r\n"
    with patient.connect(trailers) as connection:
        connection.sendall(b"0\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n")
        assert b"6.6.6.6" not in read_all(connection)


# The server itself


def test_the_server_is_guarded(tmp_path: Path) -> None:
    settings = {"max_header_bytes": "2000", "allowed_hosts": "Pullback.example, other"}
    with start_server(tmp_path, ("app.cli", "serve"), **settings) as running:
        running.assert_well()
        long = running.client.get("/healthz", headers={"A": "b" * 3000})
        assert (long.status_code, long.json()["type"]) == (431, "/problems/headers-too-large")
        assert "2,000 bytes" in long.json()["detail"]
        for path in ("/healthz", "/v1", "/problems/wrong-host", "/nothing"):
            refused = running.client.get(path, headers={"Host": "attacker.example"})
            assert (refused.status_code, refused.json()["type"]) == (421, "/problems/wrong-host")
        assert running.client.get("/healthz", headers={"Host": "pullback.example:80"}).status_code == 200


@pytest.mark.thorough
def test_headers_without_end_take_no_memory(tmp_path: Path) -> None:
    with start_server(tmp_path, GUARDED) as running:
        port = httpx.URL(running.base_url).port
        assert port is not None
        running.assert_well()
        before = resident_bytes(running.pid)
        for name in ("lines without end", "a value without end", "a target without end", "trailers without end"):
            for _ in range(4):
                with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
                    with contextlib.suppress(ConnectionError):
                        for piece in TOO_LARGE[name][0]:
                            connection.sendall(piece)
                    # There is no /echo here, and an answer before the trailers.
                    assert connection.recv(12) in (b"HTTP/1.1 431", b"HTTP/1.1 404")
        running.assert_well()
        assert resident_bytes(running.pid) - before < 10 * 2**20


@pytest.mark.thorough
def test_a_server_with_few_files_never_runs_out_of_them(tmp_path: Path) -> None:
    """A quarter of 256 files and the reserve are what it takes connections for; all others wait or are refused."""
    port, log = free_port(), tmp_path / "log"
    env = environment(data_dir=str(tmp_path / "data"), header_timeout_s="2", access_log="0")

    def few_files() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))

    command = [sys.executable, "-m", "app.cli", "serve", "--port", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=env, stdout=output, stderr=subprocess.STDOUT, preexec_fn=few_files
        )
    try:
        until(lambda: _status(port) == 200)
        half = []
        for k in range(400):
            source = (f"127.0.0.{2 + k % 4}", 0)
            half.append(socket.create_connection(("127.0.0.1", port), timeout=60, source_address=source))
            half[-1].sendall(b"GET / HTTP/1.1\r\nA: ")
        answers = [read_all(connection) for connection in half]
        for connection in half:
            connection.close()
        assert {answer.split()[1] for answer in answers if answer} == {b"408", b"503"}
        assert _status(port) == 200
        document = {"expr": "x * 2", "inputs": {"x": 3}, "create_graph": False}
        assert httpx.post(f"http://127.0.0.1:{port}/v1/programs", json=document, trust_env=False).status_code in (
            201,
            422,
        )
    finally:
        stop(process)
    assert "open files" not in log.read_text()


def _status(port: int) -> int:
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"http://127.0.0.1:{port}/healthz", trust_env=False).status_code
    return 0
