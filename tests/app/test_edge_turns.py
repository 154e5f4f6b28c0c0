"""Turns of connections: what arrived in one piece is parsed in parts, and others are parsed in between."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from app.edge import turns
from app.edge.turns import MOST_PARSED, ROUND_S, TURN_S, Flow, Line, Parts

PARTS = 4
DATA = bytes(range(256)) * (PARTS * MOST_PARSED // 256)


class Transport:
    """A transport that notes what is asked of it."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.is_over = False

    def is_closing(self) -> bool:
        return self.is_over

    def abort(self) -> None:
        self.is_over = True

    def pause_reading(self) -> None:
        assert not self.is_over
        self.calls.append("pause")

    def resume_reading(self) -> None:
        assert not self.is_over
        self.calls.append("resume")


class Connection:
    """A connection of which each part takes as long as a turn.

    seen: numbers of connections, in the order in which their parts were parsed.
    """

    def __init__(self, number: int, seen: list[int], line: Line | None = None) -> None:
        self.transport = Transport()
        self.flow = Flow(self.transport)  # type: ignore[arg-type]
        self.number, self.seen, self.got = number, seen, b""
        line = Line(asyncio.get_running_loop()) if line is None else line
        self.parts = Parts(self.flow, self.transport, self.parse, line)  # type: ignore[arg-type]

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
        line = Line(asyncio.get_running_loop())
        connections = [Connection(number, seen, line) for number in range(3)]
        for connection in connections:
            connection.parts.add(DATA)
        while len(seen) < 3 * PARTS:
            await asyncio.sleep(0)
        # The first one had a turn when it came; then each has one after the other.
        assert seen[:7] == [0, 0, 1, 2, 0, 1, 2]
        for connection in connections:
            assert connection.got == DATA
            assert connection.transport.calls == ["pause", "resume"]

    asyncio.run(work())


def test_all_connections_together_have_a_bounded_time_in_each_round() -> None:
    async def work() -> None:
        seen: list[int] = []
        line = Line(asyncio.get_running_loop())
        for number in range(100):
            Connection(number, seen, line).parts.add(DATA)
        counts = []
        while len(seen) < 100 * PARTS:
            before = len(seen)
            await asyncio.sleep(0)
            counts.append(len(seen) - before)
        # Each turn takes a little longer than it may, and is told by two looks at the clock.
        assert max(counts) <= ROUND_S / TURN_S + 1
        assert sorted(seen[1:101]) == sorted(range(100))

    asyncio.run(work())


def test_a_long_piece_is_followed_by_a_round_in_which_nothing_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        monkeypatch.setattr(turns.time, "perf_counter", lambda: 0.0)
        connection = Connection(0, [])
        connection.parts.add(b"x" * 2**16)
        assert (len(connection.got), connection.transport.calls) == (2**16, ["pause"])
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert connection.transport.calls == ["pause", "resume"]
        connection.parts.add(b"x" * (2**16 - 1))
        assert connection.transport.calls == ["pause", "resume"]

    asyncio.run(work())


def test_an_error_ends_the_connection_and_no_other() -> None:
    async def work() -> None:
        line, errors = Line(asyncio.get_running_loop()), []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context["exception"]))
        bad, good = Connection(0, [], line), Connection(1, [], line)

        def fail(part: memoryview) -> None:
            raise KeyError("a bug")

        bad.parts.add(DATA)
        bad.parts._parse = fail
        good.parts.add(DATA)
        while len(good.seen) < PARTS:
            await asyncio.sleep(0)
        assert (bad.transport.is_over, good.transport.is_over) == (True, False)
        assert [type(error) for error in errors] == [KeyError]

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
        connection.flow.pause_reading()
        connection.flow.resume_reading()
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
