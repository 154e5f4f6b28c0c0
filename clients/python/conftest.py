"""For the examples in docstrings: names that need no import, and a connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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


@pytest.fixture(autouse=True)
def names_in_docstrings_of_the_sdk(names_in_docstrings: None, doctest_namespace: dict[str, Any]) -> None:
    """Replace the engine's names by the SDK's."""
    doctest_namespace.update(Variable=pullback.Variable, F=pullback.functions, layers=pullback.layers)
