"""For the examples in the docstrings: a connection that they may use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import pullback

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def client() -> Iterator[pullback.Client]:
    """A server in this process."""
    with pullback.Client("local") as found:
        yield found


@pytest.fixture(autouse=True)
def connection(client: pullback.Client) -> Iterator[None]:
    """A session for each example."""
    made = pullback.Connection.on(client)
    yield
    made.close()
