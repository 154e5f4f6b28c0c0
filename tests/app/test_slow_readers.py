"""Clients that do not read their answers: each piece of a long one has to be taken within the deadline."""

import asyncio
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from app.http.envelope import PIECE_BYTES, Envelope
from app.http.waiting import in_time
from tests import virtual_time
from tests.app.conftest import start_server
from tests.app.hot import App, Document, Sent, ask, new_app, sent

#: Between two looks at what is waited for.
PAUSE_S = 0.05
#: The body is short, the answer long.
LONG = sent("/v1/evaluate", {"expr": "broadcast_to(x, [1000, 300])", "inputs": {"x": 0.1}})


# Waiting


def test_what_is_there_is_taken_without_a_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def there() -> int:
        return 3

    def no_timer(delay_s: float) -> Any:
        raise AssertionError("a timer")

    monkeypatch.setattr(asyncio, "timeout", no_timer)
    assert asyncio.run(in_time(there(), 0)) == 3


def test_what_is_not_there_is_waited_for() -> None:
    async def later() -> list[int]:
        found = []
        for k in range(3):
            await asyncio.sleep(0)
            found.append(k)
        return found

    assert asyncio.run(in_time(later(), 30)) == [0, 1, 2]


@pytest.mark.parametrize("pause", [0, 1], ids=["at once", "later"])
def test_what_is_raised_is_raised(pause: int) -> None:
    async def broken() -> None:
        for _ in range(pause):
            await asyncio.sleep(0)
        raise KeyError("a bug")

    with pytest.raises(KeyError, match="a bug"):
        asyncio.run(in_time(broken(), 30))


def test_what_does_not_come_is_ended() -> None:
    ended = []

    async def never() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    with pytest.raises(TimeoutError):
        virtual_time.run(in_time(never(), 30))
    assert ended == [True]


def test_who_waits_may_be_cancelled() -> None:
    ended = []

    async def never() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async def run() -> None:
        task = asyncio.create_task(in_time(never(), 30))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert ended == [True]


# Answers


def pieces(app: App, request: Sent, taken: int) -> list[Document]:
    """What an application sends to a client that takes so many pieces of the body and no more."""
    sent_pieces: list[Document] = []
    body = {"type": "http.request", "body": request.body, "more_body": False}

    async def receive() -> Document:
        return body

    async def send(message: Document) -> None:
        if len(sent_pieces) > taken:
            await asyncio.Event().wait()
        sent_pieces.append(message)

    scope = {"type": "http", "method": "POST", "path": request.path, "raw_path": request.path.encode()}
    scope |= {"headers": list(request.headers), "query_string": b"", "http_version": "1.1", "scheme": "http"}
    virtual_time.run(app(scope, receive, send))
    return sent_pieces


def test_long_answers_are_sent_in_pieces() -> None:
    app = new_app()
    whole = ask(app, LONG)
    assert len(whole.body) > 4 * PIECE_BYTES
    start, *body = pieces(app, LONG, 1000)
    assert (start["status"], dict(start["headers"])[b"content-length"]) == (200, b"%d" % len(whole.body))
    assert [len(piece["body"]) for piece in body[:-1]] == [PIECE_BYTES] * (len(body) - 1)
    assert [piece["more_body"] for piece in body] == [True] * (len(body) - 1) + [False]
    assert b"".join(piece["body"] for piece in body) == whole.body


def test_who_does_not_read_on_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    app = new_app()
    noted = []
    monkeypatch.setattr(Envelope, "note", lambda self, scope, answer, start, request_id: noted.append(answer.status))
    ask(app, LONG)
    assert len(pieces(app, LONG, 2)) == 3
    assert noted == [200, 499]
    assert app.exchange.reservations.held == 0


@pytest.mark.parametrize("taken", [-1, 0], ids=["nothing", "the head"])
@pytest.mark.parametrize("rows", [9, 100])
def test_who_takes_nothing_of_a_long_answer_does_not_hold_its_memory(
    rows: int, taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = new_app()
    noted: list[int] = []
    monkeypatch.setattr(app.envelope, "note", lambda scope, answer, start, request_id: noted.append(answer.status))
    request = sent("/v1/evaluate", {"expr": f"broadcast_to(x, [{rows}, 2000])", "inputs": {"x": 0.1}})
    assert len(pieces(app, request, taken)) == taken + 1
    assert noted == [499]
    assert app.exchange.reservations.held == 0


def resident_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096


@pytest.mark.thorough
def test_answers_that_nobody_reads_are_not_kept(tmp_path: Path) -> None:
    shape, clients = [5000, 1000], 8
    request = sent("/v1/evaluate", {"expr": f"broadcast_to(x, {shape})", "inputs": {"x": 0.1}, "encoding": "flat"})
    head = b"".join(b"%s: %s\r\n" % header for header in request.headers)
    with start_server(tmp_path, deadline_s="5", access_log="1") as running:
        host, port = running.base_url.removeprefix("http://").split(":")
        running.assert_well()
        before = resident_bytes(running.pid)
        connections = [socket.create_connection((host, int(port)), timeout=30) for _ in range(clients)]
        for connection in connections:  # one after the other: the work for an answer has the same deadline
            connection.sendall(b"POST %s HTTP/1.1\r\nHost: x\r\n%s\r\n%s" % (request.path.encode(), head, request.body))
            assert connection.recv(1)
        log = tmp_path / "server.log"
        while log.read_text().count(" 499 ") < clients:
            running.assert_well()
            time.sleep(PAUSE_S)
        assert resident_bytes(running.pid) - before < 100 * 2**20
        for connection in connections:
            received = 0
            while piece := connection.recv(2**20):
                received += len(piece)
            assert 0 < received < 20_000_000
            connection.close()
