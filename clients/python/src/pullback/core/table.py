"""The functions by name, for operators and layers, which come before them. `functions` fills it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: name or alias -> the function that users call
CALLS: dict[str, Callable[..., Any]] = {}
#: What may stand between two layers.
_ACTIVATIONS: set[str] = set()


def fill(functions: dict[str, Callable[..., Any]], activations: set[str]) -> None:
    """Takes over what there is."""
    CALLS.update(functions)
    _ACTIVATIONS.update(activations)


def activations() -> dict[str, Callable[..., Any]]:
    """What may stand between two layers, by name or alias: differentiable elementwise operations of one operand."""
    return {name: call for name, call in CALLS.items() if name in _ACTIVATIONS}
