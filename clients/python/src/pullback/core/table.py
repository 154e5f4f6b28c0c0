"""Table of the functions by name, for operators and layers, which are imported before them; `functions` fills it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: name or alias -> the function that users call
CALLS: dict[str, Callable[..., Any]] = {}
#: Names of the activation functions.
_ACTIVATIONS: set[str] = set()


def fill(functions: dict[str, Callable[..., Any]], activations: set[str]) -> None:
    """Add functions by name, and the names of those that are activations."""
    CALLS.update(functions)
    _ACTIVATIONS.update(activations)


def activations() -> dict[str, Callable[..., Any]]:
    """Return the activation functions by name or alias: differentiable elementwise operations of one operand."""
    return {name: call for name, call in CALLS.items() if name in _ACTIVATIONS}
