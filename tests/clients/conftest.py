"""What tests of clients share: a real server, connections to it and to one in this process, and a proxy in front."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

import pullback
from pullback.remote import core
from tests.app.conftest import Server, start_server
from tests.clients.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Far more sessions than tests leave behind.
MANY = {"max_sessions": "20000", "max_sessions_per_client": "20000"}
BACKENDS = ("embedded", "socket")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that no test ends."""
    with start_server(tmp_path_factory.mktemp("server"), **MANY) as running:
        yield running
        assert running.process.poll() is None


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients hardly wait between two tries: what disturbs them is a proxy, which does not need the time."""
    monkeypatch.setattr(core, "_FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(core, "_LONGEST_PAUSE_S", 0.01)


@pytest.fixture
def port(server: Server) -> int:
    """Where the server listens."""
    found = urlsplit(server.base_url).port
    assert found is not None
    return found


@pytest.fixture
def proxy(port: int) -> Iterator[Proxy]:
    """A proxy that only counts."""
    with Proxy(port) as running:
        yield running


@pytest.fixture
def connection(server: Server) -> Iterator[pullback.Connection]:
    """A connection over a socket."""
    with pullback.connect(server.base_url, seed=0) as made:
        yield made


@pytest.fixture(scope="session", params=BACKENDS)
def client(request: pytest.FixtureRequest) -> Iterator[pullback.Client]:
    """A client of the server, over a socket or in this process."""
    url = "local" if request.param == "embedded" else request.getfixturevalue("server").base_url
    with pullback.Client(url, timeout_s=30) as found:
        yield found


@pytest.fixture
def connected(client: pullback.Client) -> Iterator[pullback.Connection]:
    """A session of its own."""
    with on_session_of(client) as connection:
        yield connection


@contextlib.contextmanager
def on_session_of(client: pullback.Client, seed: int = 0) -> Iterator[pullback.Connection]:
    """A connection on a client that others use too."""
    connection = pullback.Connection.on(client, seed=seed)
    try:
        yield connection
    finally:
        connection.close()
