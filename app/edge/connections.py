"""Table of the connections of one server: numbers in all and by address, idle ones by age, and one timer for all."""

import asyncio
from collections import Counter
from typing import Protocol

from app.edge_limits import RESERVED, EdgeCounts, EdgeLimits, address_key

#: Seconds between two sweeps; less where a limit is shorter.
PERIOD_S = 1.0
#: Sweeps within the shortest limit.
_SWEEPS_A_LIMIT = 4
_SHORTEST_PERIOD_S = 0.01
#: Seconds for which a new connection is let alone before it may be closed to make room: its request is on the way.
NEW_S = 1.0
#: Connections at most that are refused at once and still told why; others are only closed.
MOST_LEAVING = 64


class Connection(Protocol):
    """One connection, as the table sees it.

    address: where it comes from, None where there is no telling (a Unix socket) or a proxy stands between.
    """

    address: str | None

    def has_asked(self) -> bool:
        """Return whether it ever sent a request."""

    def evict(self) -> None:
        """Close an idle connection."""

    def sweep(self, clock: float, elapsed_s: float) -> None:
        """Look at the limits of time."""


class Connections:
    """Table of connections.

    counts: of what was refused.
    clock: seconds, as of the last sweep; time in which the event loop stood still does not count, since what clients
        sent in the meantime was not read.
    idle: connections between two requests, with the time since when; the oldest stands first.

    Args:
        limits: of the server.
        keep_alive_s: for how long a connection may be idle.
        loop: sets the timer, while there are connections.
    """

    def __init__(self, limits: EdgeLimits, keep_alive_s: float, loop: asyncio.AbstractEventLoop) -> None:
        self.limits = limits
        self.counts = EdgeCounts()
        self.clock = 0.0
        self.idle: dict[Connection, float] = {}
        shortest_s = min(limits.header_s, limits.grace_s, keep_alive_s)
        self.period_s = min(PERIOD_S, max(shortest_s / _SWEEPS_A_LIMIT, _SHORTEST_PERIOD_S))
        self._loop = loop
        self._all: set[Connection] = set()
        self._leaving: set[Connection] = set()
        self._by_address: Counter[str] = Counter()
        self._swept_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._all)

    def admit(self, connection: Connection, is_loopback: bool) -> str:
        """Take a connection in, if need be in place of the oldest idle one.

        Returns the reason if it is refused, otherwise an empty text.
        """
        limits, address = self.limits, connection.address
        if (
            address is not None
            and self._by_address[address] >= limits.connections_per_address
            and not self._evict(address)
        ):
            return _too_many_from(address, limits, "connections")
        if len(self._all) >= limits.connections + RESERVED * is_loopback and not self._evict(None):
            return (
                f"the server has {limits.connections:,} connections and takes no more "
                "(setting PULLBACK_MAX_CONNECTIONS, and as many files as the process may open)"
            )
        self._all.add(connection)
        if address is not None:
            self._by_address[address] += 1
        self._start()
        return ""

    def remove(self, connection: Connection) -> None:
        """Forget a connection."""
        self._leaving.discard(connection)
        if connection in self._all:
            self._all.remove(connection)
            self.idle.pop(connection, None)
            if connection.address is not None:
                self._leave(connection.address)

    def may_linger(self, connection: Connection) -> bool:
        """Keep a refused connection until its client has read why; return whether there is a place for it."""
        if len(self._leaving) >= MOST_LEAVING:
            return False
        self._leaving.add(connection)
        self._start()
        return True

    def begin_forwarded(self, host: str) -> tuple[str, str]:
        """Count a request that a proxy forwards.

        Returns the address that it counts for, and the reason if it is refused, otherwise an empty text.
        """
        address = address_key(host)[0]
        if self._by_address[address] >= self.limits.connections_per_address:
            return address, _too_many_from(address, self.limits, "requests at once")
        self._by_address[address] += 1
        return address, ""

    def end_forwarded(self, address: str) -> None:
        """Count a forwarded request no longer."""
        self._leave(address)

    def _leave(self, address: str) -> None:
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]

    def _evict(self, address: str | None) -> bool:
        """Close the oldest idle connection, from one address if there is one; return whether there was any."""
        for connection, since in self.idle.items():
            is_new = not connection.has_asked() and self.clock - since < NEW_S
            if not is_new and (address is None or connection.address == address):
                self.remove(connection)
                self.counts.idle_closed += 1
                connection.evict()
                return True
        return False

    def _start(self) -> None:
        if self._timer is None:
            self._swept_at = self._loop.time()
            self._timer = self._loop.call_later(self.period_s, self._sweep)

    def _sweep(self) -> None:
        now = self._loop.time()
        elapsed_s = min(now - self._swept_at, 2 * self.period_s)
        self._swept_at = now
        self.clock += elapsed_s
        connections = (*self._all, *self._leaving)
        # Set before: one fault must not leave all others without limits.
        self._timer = self._loop.call_later(self.period_s, self._sweep) if connections else None
        for connection in connections:
            connection.sweep(self.clock, elapsed_s)


def _too_many_from(address: str, limits: EdgeLimits, what: str) -> str:
    count = f"{limits.connections_per_address:,} {what}"
    return f"{address} has {count} and gets no more (setting PULLBACK_MAX_CONNECTIONS_PER_ADDRESS)"
