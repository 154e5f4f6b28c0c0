"""For the examples in docstrings: names that need no import, so that one file can be part of two packages."""

from __future__ import annotations

from typing import Any

import pytest

import engine


@pytest.fixture(autouse=True)
def names_in_docstrings(doctest_namespace: dict[str, Any]) -> None:
    """Give examples the engine's names; the conftest of the SDK replaces them by its own."""
    doctest_namespace.update(Variable=engine.Variable, F=engine.functions, layers=engine.layers)
