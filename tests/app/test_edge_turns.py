"""Turns of connections: what arrived in one piece is parsed in parts, and others are parsed in between."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from app.edge import turns
from app.edge.turns import MOST_PARSED, TURN_S, Flow, Parts

PARTS = 4
DATA = bytes(range(256)) * (PARTS * MOST_PARSED // 256)


class Transport:
    """A transport that notes what is asked of it."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.is_over = False

    def is_closing(self) -> bool:
        return self.is_over

    def pause_reading(self) -> None:
        self.calls.append("pause")

    def resume_reading(self) -> None:
        self.calls.append("resume")


class Connection:
    """A connection of which each part takes as long as a turn.

    seen: numbers of connections, in the order in which their parts were parsed.
    """

    def __init__(self, number: int, seen: list[int]) -> None:
        self.transport = Transport()
        self.flow = Flow(self.transport)  # type: ignore[arg-type]
        self.number, self.seen, self.got = number, seen, b""
        loop = asyncio.get_running_loop()
        self.parts = Parts(self.flow, self.transport, self.parse, loop)  # type: ignore[arg-type]

    def parse(self, part: memoryview) -> None:
        assert len(part) <= MOST_PARSED
        self.seen.append(self.number)
        self.got += part


@pytest.fixture(autouse=True)
def _slow(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(0.0, 1.001 * TURN_S)
    monkeypatch.setattr(turns.time, "perf_counter", lambda: next(clock))


def test_connections_are_parsed_in_turns() -> None:
    async def work() -> None:
        seen: list[int] = []
        connections = [Connection(number, seen) for number in range(3)]
        for connection in connections:
            connection.parts.add(DATA)
        while len(seen) < 3 * PARTS:
            await asyncio.sleep(0)
        assert seen == [0, 1, 2] * PARTS
        for connection in connections:
            assert connection.got == DATA
            assert connection.transport.calls == ["pause", "resume"]

    asyncio.run(work())


def test_nothing_is_read_while_uvicorn_or_the_rest_of_a_piece_says_so() -> None:
    async def work() -> None:
        connection = Connection(0, [])
        calls, flow = connection.transport.calls, connection.flow
        connection.parts.add(DATA)
        flow.pause_reading()
        flow.resume_reading()
        flow.pause_reading()
        assert calls == ["pause"]
        while len(connection.seen) < PARTS:
            await asyncio.sleep(0)
        assert calls == ["pause"]
        flow.resume_reading()
        assert calls == ["pause", "resume"]

    asyncio.run(work())


def test_of_a_connection_that_closes_nothing_more_is_parsed() -> None:
    async def work() -> None:
        connection = Connection(0, [])
        connection.parts.add(DATA)
        connection.transport.is_over = True
        for _ in range(2 * PARTS):
            await asyncio.sleep(0)
        assert (len(connection.seen), connection.transport.calls) == (1, ["pause"])

    asyncio.run(work())


def test_what_comes_in_between_is_parsed_behind_the_rest() -> None:
    async def work() -> None:
        connection = Connection(0, [])
        connection.parts.add(DATA)
        connection.parts.add(b"more")
        while len(connection.seen) <= PARTS:
            await asyncio.sleep(0)
        assert connection.got == DATA + b"more"

    asyncio.run(work())
