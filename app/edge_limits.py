"""Limits of connections, and counts of what they refused: plain data."""

import ipaddress
import sys
from dataclasses import dataclass
from functools import lru_cache

#: Places beyond `connections` for loopback: a probe from this host gets in when all others are taken.
RESERVED = 16
#: Files for all else: the store, threads, pipes, and connections that were accepted and are refused.
SPARE_FILES = 200
#: Connections that are accepted in one round of the event loop, and handles of the socket.
ACCEPTED_AT_ONCE = 16
#: Of these, files that a server has open without any connection, with room to spare.
OWN_FILES = 72 + ACCEPTED_AT_ONCE
#: Length of the queue of the socket where files are plenty.
BACKLOG = 2048
_SMALLEST_BACKLOG = 16
#: Bits of an IPv6 address that one client has: what is behind them it chooses freely.
_NETWORK_BITS = 64


@dataclass(frozen=True, slots=True)
class EdgeLimits:
    """Limits of the connections of one server.

    header_bytes: bytes of a request's line and header.
    header_fields: fields of a header.
    header_s: seconds for a header from its first byte, and for the first byte of a connection.
    connections: connections in all, not counting `RESERVED` ones for loopback.
    connections_per_address: connections from one address, or requests at once that proxies forward for it.
    rate: bytes a second at which a body arrives, or an answer is taken, at least.
    grace_s: seconds before that rate is asked for.
    trusted_proxies: addresses and networks whose X-Forwarded-For counts.
    allowed_hosts: Host headers beside those of this machine that a server on loopback answers.
    """

    header_bytes: int = 32 * 2**10
    header_fields: int = 100
    header_s: float = 5
    connections: int = 1000
    connections_per_address: int = 256
    rate: int = 2**10
    grace_s: float = 5
    trusted_proxies: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()


@dataclass(slots=True)
class EdgeCounts:
    """Connections and requests that were refused since the server began, by reason.

    idle_closed: idle connections that were closed to make room for others, or because they never sent anything.
    """

    headers_too_large: int = 0
    header_timeouts: int = 0
    slow_bodies: int = 0
    slow_readers: int = 0
    connections_refused: int = 0
    idle_closed: int = 0
    wrong_hosts: int = 0


def open_files() -> int:
    """Return how many files this process may have open."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return sys.maxsize
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def affordable_connections(wanted: int, files: int) -> int:
    """Return how many connections of `wanted` a process with so many files can have without running out of them.

    >>> affordable_connections(1000, 1024), affordable_connections(1000, 2**20), affordable_connections(1000, 100)
    (824, 1000, 25)
    """
    return min(wanted, max(files - SPARE_FILES, files // 4, 1))


def affordable_backlog(connections: int, files: int) -> int:
    """Return the length of the socket's queue: an event loop may accept all of it before it looks at any connection.

    >>> affordable_backlog(824, 1024), affordable_backlog(1000, 2**20)
    (96, 2048)
    """
    return max(_SMALLEST_BACKLOG, min(BACKLOG, files - connections - RESERVED - OWN_FILES))


@lru_cache(maxsize=4096)
def address_key(host: str) -> tuple[str, bool]:
    """Return the address that a client counts as, and whether that is loopback.

    >>> address_key("::ffff:10.0.0.1"), address_key("2001:db8::1:2"), address_key("::1")
    (('10.0.0.1', False), ('2001:db8::/64', False), ('::1', True))
    """
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host, False
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        elif not address.is_loopback:
            network = ipaddress.IPv6Network((address, _NETWORK_BITS), strict=False)
            return str(network), False
    return str(address), address.is_loopback
