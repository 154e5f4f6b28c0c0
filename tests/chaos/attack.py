"""An attack: a coroutine that aims at a server, and the bounds within which the server has to stay."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace

from tests.chaos.wire import Connection, Head

#: A server answers, or cuts, within its deadline and so many seconds more.
MARGIN_S = 2.0
#: How much longer an attack looks before it calls a request left alone.
_SLACK_S = 0.5
_GONE = (ConnectionError, EOFError, OSError, asyncio.LimitOverrunError, ValueError)


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bounds of a server under an attack.

    healthz_ms, hot_ms, small_ms: 99 of 100 honest requests of a sort are answered in less.
    pss_mb: memory of all its processes together.
    normal_s: after the attack's end all is as before within so much.
    lost: share of the small honest requests that may be refused.
    """

    healthz_ms: float = 100
    hot_ms: float = 100
    small_ms: float = 500
    pss_mb: float = 1000
    normal_s: float = 2
    lost: float = 0.0


@dataclass(frozen=True, slots=True)
class Attack:
    """A named attack, with one line about what it does."""

    name: str
    summary: str
    run: Callable[[Aim], Awaitable[None]]
    bounds: Bounds


ATTACKS: dict[str, Attack] = {}


def attack(**bounds: float) -> Callable[[Callable[[Aim], Awaitable[None]]], Callable[[Aim], Awaitable[None]]]:
    """Add a coroutine to the attacks, under its name and the first line of its docstring.

    bounds: those that differ from the usual.
    """

    def add(run: Callable[[Aim], Awaitable[None]]) -> Callable[[Aim], Awaitable[None]]:
        name = run.__name__.replace("_", "-")
        assert name not in ATTACKS
        ATTACKS[name] = Attack(name, (run.__doc__ or "").splitlines()[0], run, replace(Bounds(), **bounds))
        return run

    return add


@dataclass(slots=True)
class Aim:
    """A server as an attack sees it, and a record of what the attack got.

    outcomes: how many requests had which status; "cut" are those whose connection the server closed, "left" those that
        it neither answered nor cut in time.
    longest_s: the longest that one took until then.
    """

    port: int
    source: str
    seconds: float
    deadline_s: float
    margin_s: float
    pid: int
    outcomes: Counter[str] = field(default_factory=Counter)
    longest_s: float = 0.0
    until: float = 0.0

    async def run(self, attack: Attack) -> None:
        """Attack."""
        self.until = self.now() + self.seconds
        await attack.run(self)

    def now(self) -> float:
        """Return the time of the event loop."""
        return asyncio.get_running_loop().time()

    def is_on(self) -> bool:
        """Return whether the attack still goes on."""
        return self.now() < self.until

    @property
    def patience_s(self) -> float:
        """Time after which a request counts as left alone."""
        return self.deadline_s + self.margin_s + _SLACK_S

    def note(self, outcome: str, start: float) -> None:
        """Record what a request got that started then."""
        self.outcomes[outcome] += 1
        self.longest_s = max(self.longest_s, self.now() - start)

    async def open(self, receive_bytes: int = 0) -> Connection:
        """Connect."""
        return await Connection.open(self.port, self.source, receive_bytes)

    async def ask(self, *pieces: bytes, on: Connection | None = None, keep: bool = False) -> tuple[int, bytes]:
        """Send a request and return the answer's status, 0 without one, and its body if that is to be kept.

        on: a connection that stays open; one is opened for this request otherwise.
        """
        start, connection, found = self.now(), on, None
        writing: asyncio.Future[None] | None = None
        try:
            async with asyncio.timeout(self.patience_s):
                connection = connection or await self.open()
                # A server may answer before it has read all.
                writing = asyncio.ensure_future(_written(connection, pieces))
                found = await connection.head()
            self.note(str(found.status), start)
            async with asyncio.timeout(self.patience_s):
                body = await connection.body(found.length, keep)
            if on is not None and not found.keeps_open:
                on.close()
            return found.status, body
        except TimeoutError:
            self._failed("left", found, start, on)
        except _GONE:
            self._failed("cut", found, start, on)
        finally:
            if writing is not None:
                writing.cancel()
            if connection is not None and on is None:
                connection.close()
        return 0, b""

    def _failed(self, how: str, found: Head | None, start: float, on: Connection | None) -> None:
        if on is not None:
            on.close()
        if found is None:
            self.note(how, start)
        else:
            self.outcomes[f"{found.status} {how}"] += 1

    async def see_end(self, connection: Connection, start: float) -> None:
        """Wait until the server answers or closes a connection of which something is missing, and note it."""
        try:
            async with asyncio.timeout(max(self.patience_s - (self.now() - start), 0)):
                self.note(str((await connection.head()).status), start)
        except TimeoutError:
            self.note("left", start)
        except _GONE:
            self.note("cut", start)
        finally:
            connection.close()

    async def together(self, count: int, work: Callable[[int], Awaitable[object]]) -> None:
        """Do something so many times at once."""
        await asyncio.gather(*(work(number) for number in range(count)))

    async def flood(self, connections: int, make: Callable[[int], bytes], pause_s: float = 0.0) -> None:
        """Send requests on so many connections, one after the other on each, until the time is up.

        make: gives a request by its number.
        """
        numbers = iter(range(10**9))

        async def repeat(_: int) -> None:
            connection = None
            while self.is_on():
                try:
                    if connection is None or connection.writer.is_closing():
                        connection = await self.open()
                except OSError:
                    self.note("cut", self.now())
                    await asyncio.sleep(0.05)
                    continue
                await self.ask(make(next(numbers)), on=connection)
                await asyncio.sleep(pause_s)
            if connection is not None:
                connection.close()

        await self.together(connections, repeat)


async def _written(connection: Connection, pieces: tuple[bytes, ...]) -> None:
    with suppress(*_GONE):
        for piece in pieces:
            await connection.write(piece)
