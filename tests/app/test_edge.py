"""Rules of the guarded protocol without a server: Host headers, places for connections, rates, and files."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from uvicorn import Config

from app.edge.connections import MOST_LEAVING, NEW_S, PERIOD_S, Connections
from app.edge.hosts import is_allowed_host
from app.edge.state import Edge
from app.edge.transfer import Arrival, Departure
from app.edge_limits import (
    RESERVED,
    SPARE_FILES,
    EdgeLimits,
    address_key,
    affordable_backlog,
    affordable_connections,
)
from app.settings import Settings, SettingsError, load_settings
from tests import virtual_time

if TYPE_CHECKING:
    from collections.abc import Callable

# Host headers

NAMES = ("pullback.example", "10.0.0.7")
ALLOWED = """
localhost localhost: localhost:8000 LOCALHOST localhost. localhost.:80 a.localhost a.b.localhost:1
127.0.0.1 127.0.0.1:8000 127.1.2.3 [::1] [::1]:8000 [::ffff:127.0.0.1] [0:0:0:0:0:0:0:1]:80
pullback.example Pullback.Example:443 pullback.example. 10.0.0.7 10.0.0.7:1
""".split()
REFUSED = """
attacker.example attacker.example:8000 localhost.attacker.example alocalhost .localhost 127.0.0.1.attacker.example
127.0.0.1:80@attacker.example attacker.example:127.0.0.1 [::1]attacker.example:80 [attacker.example] a.pullback.example
10.0.0.8 0.0.0.0 [::] [::2] [::1 ::1] [::1]x [::1]:x 2130706433 0x7f.1
localhost:80:80 localhost:x localhost:² http://localhost localhost/
""".split()


@pytest.mark.parametrize("host", ALLOWED)
def test_hosts_of_this_machine_are_allowed(host: str) -> None:
    assert is_allowed_host(host.encode("latin-1"), NAMES)
    assert is_allowed_host(host.encode("latin-1"), ("*",))


@pytest.mark.parametrize("host", [*REFUSED, "", " ", "localhost, attacker.example", "local host", "\xe4"])
def test_all_other_hosts_are_refused(host: str) -> None:
    assert not is_allowed_host(host.encode("latin-1"), NAMES)
    assert is_allowed_host(host.encode("latin-1"), ("*",))


def new_edge(limits: EdgeLimits, **options: Any) -> Edge:
    async def run() -> Edge:
        return Edge(limits, Config("unused", log_config=None, **options), asyncio.get_running_loop())

    return asyncio.run(run())


def test_hosts_that_are_known_are_few_and_short() -> None:
    edge = new_edge(EdgeLimits())
    for k in range(3000):
        assert edge.is_allowed(b"%d.localhost" % k)
        assert not edge.is_allowed(b"%d.attacker.example" % k)
    assert edge.is_allowed(b"a" * 1000 + b".localhost")
    assert edge.hosts is not None
    assert sum(map(len, edge.hosts)) < 20_000


@pytest.mark.parametrize(
    ("options", "is_checked"),
    [
        ({"host": "127.0.0.1"}, True),
        ({"host": "localhost"}, True),
        ({"host": "::1"}, True),
        ({"host": "0.0.0.0"}, False),
        ({"host": "::"}, False),
        ({"host": "127.0.0.1", "uds": "/tmp/socket"}, False),
        ({"host": "127.0.0.1", "fd": 3}, False),
    ],
)
def test_hosts_are_looked_at_on_loopback(options: dict[str, Any], is_checked: bool) -> None:
    assert new_edge(EdgeLimits(), **options).is_allowed(b"attacker.example") is not is_checked


# Proxies


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        ([], ""),
        ([b""], ""),
        ([b"10.0.0.1"], "10.0.0.1"),
        ([b"6.6.6.6, 10.0.0.1"], "10.0.0.1"),
        ([b"6.6.6.6", b"10.0.0.1, 192.168.0.3"], "10.0.0.1"),
        ([b"10.0.0.1:8080, 127.0.0.1"], "10.0.0.1"),
        ([b"[2001:db8::1]:80"], "2001:db8::1"),
        ([b"6.6.6.6, " * 1000 + b"10.0.0.1"], "10.0.0.1"),
        ([b"x" * 10_000], "x" * 64),
    ],
)
def test_the_client_is_the_last_that_is_no_proxy(forwarded: list[bytes], client: str) -> None:
    edge = new_edge(EdgeLimits(trusted_proxies=("127.0.0.1", "192.168.0.0/16")))
    headers = [(b"host", b"localhost"), *((b"x-forwarded-for", value) for value in forwarded)]
    for _ in range(2):
        assert edge.client_of(headers) == client
    assert edge.is_proxy("192.168.7.7") and not edge.is_proxy("10.0.0.1")
    assert new_edge(EdgeLimits()).client_of(headers) == ""


# Settings


def test_settings_give_the_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings(store="memory").edge_limits() == EdgeLimits()
    for name, value in {
        "MAX_HEADER_BYTES": "1000",
        "MAX_HEADER_FIELDS": "10",
        "HEADER_TIMEOUT_S": "3",
        "MAX_CONNECTIONS": "20",
        "MAX_CONNECTIONS_PER_ADDRESS": "5",
        "MIN_TRANSFER_RATE": "100",
        "TRANSFER_GRACE_S": "1.5",
        "TRUSTED_PROXIES": "10.0.0.1, 10.1.0.0/16",
        "ALLOWED_HOSTS": "A.example., b",
    }.items():
        monkeypatch.setenv(f"PULLBACK_{name}", value)
    proxies = ("10.0.0.1", "10.1.0.0/16")
    assert load_settings().edge_limits() == EdgeLimits(1000, 10, 3, 20, 5, 100, 1.5, proxies, ("a.example", "b"))


@pytest.mark.parametrize("host", ["http://a", "a:80", "a/b", "a b", "*.a", "[::1]"])
def test_what_is_no_host_is_no_setting(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULLBACK_ALLOWED_HOSTS", f"localhost,{host}")
    with pytest.raises(SettingsError, match="PULLBACK_ALLOWED_HOSTS"):
        load_settings()


@pytest.mark.parametrize("proxy", ["proxy", "10.0.0.1/8", "10.0.0.1:80", "10.0.0.*"])
def test_what_is_no_address_is_no_proxy(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULLBACK_TRUSTED_PROXIES", f"::1, {proxy}")
    with pytest.raises(SettingsError, match=r"PULLBACK_TRUSTED_PROXIES .* expected addresses, networks such as"):
        load_settings()


@pytest.mark.parametrize("files", [1, 16, 100, 256, 512, 1024, 1300, 4096, 2**20])
def test_there_are_files_for_all_that_is_accepted(files: int) -> None:
    connections = affordable_connections(1000, files)
    assert 1 <= connections <= 1000
    if files >= 512:
        assert connections == min(1000, files - SPARE_FILES)
        assert connections + RESERVED + affordable_backlog(connections, files) < files


@pytest.mark.parametrize(
    ("host", "key", "is_loopback"),
    [
        ("10.0.0.1", "10.0.0.1", False),
        ("127.0.0.9", "127.0.0.9", True),
        ("::ffff:127.0.0.1", "127.0.0.1", True),
        ("2001:db8:0:1::5", "2001:db8:0:1::/64", False),
        ("2001:db8:0:1:ffff::6", "2001:db8:0:1::/64", False),
        ("fe80::1%eth0", "fe80::/64", False),
        ("unknown", "unknown", False),
        ("", "", False),
    ],
)
def test_an_address_counts_with_what_is_its_client_s(host: str, key: str, is_loopback: bool) -> None:
    assert address_key(host) == (key, is_loopback)


# Places


@dataclass(eq=False)
class Fake:
    """A connection that notes what is done to it."""

    address: str | None
    asked: bool = True
    evicted: bool = False
    swept: list[float] = field(default_factory=list)

    def has_asked(self) -> bool:
        return self.asked

    def evict(self) -> None:
        self.evicted = True

    def sweep(self, clock: float, elapsed_s: float) -> None:
        self.swept.append(clock)


class Table(Connections):
    def add(self, address: str | None, is_loopback: bool = False, idle: bool = False, asked: bool = True) -> Fake:
        """A connection that has to be admitted."""
        connection = Fake(address, asked)
        assert self.admit(connection, is_loopback) == ""
        if idle:
            self.idle[connection] = self.clock
        return connection

    def refused(self, address: str | None, is_loopback: bool = False) -> str:
        """Why a connection is refused, if it is."""
        return self.admit(Fake(address), is_loopback)


def with_table(limits: EdgeLimits, check: Callable[[Table], None]) -> None:
    async def run() -> None:
        table = Table(limits, 5, asyncio.get_running_loop())
        check(table)

    virtual_time.run(run())


def test_others_leave_some_places_to_this_host() -> None:
    def check(table: Table) -> None:
        for k in range(3):
            table.add(f"10.0.0.{k}")
        assert "PULLBACK_MAX_CONNECTIONS," in table.refused("10.0.0.9")
        for _ in range(RESERVED):
            table.add("127.0.0.1", is_loopback=True)
        assert "PULLBACK_MAX_CONNECTIONS," in table.refused("127.0.0.1", is_loopback=True)

    with_table(EdgeLimits(connections=3), check)


def test_the_oldest_idle_connection_goes_first() -> None:
    def check(table: Table) -> None:
        first, second = table.add("10.0.0.1", idle=True), table.add("10.0.0.2", idle=True)
        table.add("10.0.0.3")
        table.add("10.0.0.4")
        assert (first.evicted, second.evicted) == (True, False)
        table.remove(first)  # as it is once it is closed
        table.add("10.0.0.4")
        assert second.evicted
        assert table.counts.idle_closed == 2
        assert table.refused("10.0.0.9")

    with_table(EdgeLimits(connections=3), check)


def test_an_address_loses_only_connections_of_its_own() -> None:
    def check(table: Table) -> None:
        other, own, busy = table.add("10.0.0.1", idle=True), table.add("10.0.0.2", idle=True), table.add("10.0.0.2")
        table.add("10.0.0.2")
        assert (other.evicted, own.evicted, busy.evicted) == (False, True, False)
        assert "10.0.0.2 has 2 connections" in table.refused("10.0.0.2")
        table.remove(busy)
        table.add("10.0.0.2")
        for _ in range(20):
            table.add(None)

    with_table(EdgeLimits(connections_per_address=2), check)


def test_a_connection_that_has_just_come_is_let_alone() -> None:
    def check(table: Table) -> None:
        new = table.add("10.0.0.1", idle=True, asked=False)
        assert table.refused("10.0.0.2")
        table.clock += NEW_S
        assert table.refused("10.0.0.2") == ""
        assert new.evicted

    with_table(EdgeLimits(connections=1), check)


def test_few_are_told_why_they_are_refused() -> None:
    def check(table: Table) -> None:
        leaving = [Fake("10.0.0.1") for _ in range(MOST_LEAVING)]
        assert all(table.may_linger(connection) for connection in leaving)
        assert not table.may_linger(Fake("10.0.0.1"))
        table.remove(leaving[0])
        assert table.may_linger(Fake("10.0.0.1"))

    with_table(EdgeLimits(), check)


def test_one_timer_sweeps_all_while_there_are_any() -> None:
    async def run() -> tuple[Fake, Fake, float]:
        loop = asyncio.get_running_loop()
        table = Table(EdgeLimits(), 5, loop)
        first, second = table.add("10.0.0.1"), table.add("10.0.0.2")
        await asyncio.sleep(3.5 * PERIOD_S)
        table.remove(first)
        await asyncio.sleep(2 * PERIOD_S)
        table.remove(second)
        await asyncio.sleep(10 * PERIOD_S)
        ended = table.clock
        table.add("10.0.0.3")
        await asyncio.sleep(1.5 * PERIOD_S)
        return first, second, table.clock - ended

    first, second, again_s = virtual_time.run(run())
    assert (len(first.swept), len(second.swept)) == (3, 5)
    # Time without connections does not count.
    assert again_s == pytest.approx(PERIOD_S)


# Rates

LIMITS = EdgeLimits(rate=100, grace_s=5)


@pytest.mark.parametrize(
    ("bytes_a_second", "refused_at"),
    [
        ([0] * 20, 5),
        ([1] * 20, 5),
        ([99] * 20, 5),
        ([100] * 20, None),
        ([0, 0, 0, 0, 600] + [100] * 9, None),
        ([1000] + [0] * 20, 11),
        ([0, 0, 0, 0, 0, 10_000], 5),
    ],
)
def test_a_rate_is_asked_for_after_the_grace(bytes_a_second: list[int], refused_at: int | None) -> None:
    arrival, departure = Arrival(), Departure()
    refusals: dict[str, int] = {}
    size = 10**6
    for second, count in enumerate(bytes_a_second):
        if arrival.is_slow(1, LIMITS):
            refusals.setdefault("arrival", second)
        if departure.is_slow(size, 0, 1, LIMITS):
            refusals.setdefault("departure", second)
        arrival.add(count, count, LIMITS)
        size -= count
    assert refusals == ({} if refused_at is None else dict.fromkeys(["arrival", "departure"], refused_at))


def test_what_is_added_begins_a_measurement_anew() -> None:
    departure = Departure()
    assert not any(departure.is_slow(10**6, 0, 1, LIMITS) for _ in range(5))
    assert not any(departure.is_slow(2 * 10**6, 5, 1, LIMITS) for _ in range(5))
    departure.begin_anew()
    assert not any(departure.is_slow(2 * 10**6, 5, 1, LIMITS) for _ in range(5))
    assert departure.is_slow(2 * 10**6, 5, 1, LIMITS)
