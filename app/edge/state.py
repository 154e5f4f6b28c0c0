"""State shared by the connections of one server: their table, the Host headers it answers, and its proxies."""

import asyncio
from dataclasses import replace
from functools import lru_cache

from uvicorn import Config
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from app.edge.connections import Connections
from app.edge.hosts import is_allowed_host
from app.edge.turns import Line
from app.edge_limits import EdgeLimits, affordable_connections, open_files
from app.settings import is_loopback

#: Host headers that were found to be allowed, and are looked up instead of read.
_MOST_HOSTS = 1000
#: Values of X-Forwarded-For whose client is known.
_MOST_CLIENTS = 4096
#: Bytes of what is remembered: a client chooses what it sends.
_LONGEST = 300
#: Of an address with a zone; anything longer is none.
_LONGEST_ADDRESS = 64


class Edge(Connections):
    """The connections of a server.

    hosts: Host headers that are known to be allowed; None where any is.
    line: those of which something waits to be parsed.

    Args:
        limits: of the server; it has fewer connections where it may not open enough files.
        config: uvicorn's, which says where the server listens.
        loop: of the server.
    """

    def __init__(self, limits: EdgeLimits, config: Config, loop: asyncio.AbstractEventLoop) -> None:
        limits = replace(limits, connections=affordable_connections(limits.connections, open_files()))
        super().__init__(limits, config.timeout_keep_alive, loop)
        self.line = Line(loop)
        is_local = config.uds is None and config.fd is None and is_loopback(config.host)
        self.hosts: set[bytes] | None = set() if is_local else None
        trusted = list(limits.trusted_proxies)
        # The list that uvicorn's middleware decides by, so that both find the same client.
        self._proxies = ProxyHeadersMiddleware(_no_app, trusted).trusted_hosts if trusted else None
        self._client = lru_cache(maxsize=_MOST_CLIENTS)(self._read_client)

    def is_allowed(self, host: bytes) -> bool:
        """Return whether a request with this Host header is answered."""
        if self.hosts is None or host in self.hosts:
            return True
        if not is_allowed_host(host, self.limits.allowed_hosts):
            return False
        if len(self.hosts) < _MOST_HOSTS and len(host) <= _LONGEST:
            self.hosts.add(host)
        return True

    def is_proxy(self, host: str) -> bool:
        """Return whether a client's word on whom it speaks for counts."""
        return self._proxies is not None and host in self._proxies

    def client_of(self, headers: list[tuple[bytes, bytes]]) -> str:
        """Return the address of the client that a proxy forwards a request for; empty if it does not say."""
        forwarded = b", ".join(value for name, value in headers if name == b"x-forwarded-for")
        read = self._client if len(forwarded) <= _LONGEST else self._read_client
        return read(forwarded) if forwarded else ""

    def _read_client(self, forwarded: bytes) -> str:
        if self._proxies is None:
            return ""
        return self._proxies.get_trusted_client_address(forwarded.decode("latin-1"))[0][:_LONGEST_ADDRESS]


async def _no_app(*_: object) -> None:
    raise AssertionError("only the list of proxies is used")
