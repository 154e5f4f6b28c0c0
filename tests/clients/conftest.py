"""A real server for the SDK's tests, and a proxy in front of it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from tests.app.conftest import Server, start_server
from tests.clients.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that no test ends, with room for all sessions of theirs."""
    with start_server(tmp_path_factory.mktemp("server"), max_sessions="10000") as running:
        yield running
        assert running.process.poll() is None


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
