"""The table of operations: filled once by the modules under `primitives/`, read by name everywhere else."""

from collections.abc import Callable
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from engine.errors import UnknownOperationError

if TYPE_CHECKING:
    from engine.primitive import Operation

#: name or alias -> row
OPERATIONS: dict[str, "Operation"] = {}
#: name or alias -> the function that users call
CALLS: dict[str, Callable[..., Any]] = {}


_FARTHEST = 3
_CANDIDATES = 50
_LISTED = 10


def register(op: "Operation") -> None:
    """Adds a row under its name and its aliases."""
    for name in (op.name, *op.aliases):
        if name in OPERATIONS:
            raise ValueError(f'the table has an operation "{name}" already')
        OPERATIONS[name] = op
        CALLS[name] = op.call


def unregister(op: "Operation") -> None:
    """Takes a row out again."""
    for name in (op.name, *op.aliases):
        del OPERATIONS[name], CALLS[name]


def nearest(name: str, known: "list[str] | dict[str, Any]") -> str:
    """`; nearest: a, b` for a message, or nothing where no known name is near."""
    # Comparing is slow: a document that is wrong in many places must not become expensive to answer.
    alike = [other for other in known if abs(len(other) - len(name)) <= _FARTHEST]
    alike = sorted(alike, key=lambda other: other[:1] != name[:1])[:_CANDIDATES]
    found = get_close_matches(name, alike, n=3, cutoff=0.6)
    return f"; nearest: {', '.join(found)}" if found else ""


def listed(names: list[str]) -> str:
    """Names for a message, the first few of many."""
    return ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")


def lookup(name: str) -> "Operation":
    """The row of that name or alias.

    Raises:
        UnknownOperationError: with the nearest names.
    """
    if name not in OPERATIONS:
        raise UnknownOperationError(f'unknown operation "{name}"{nearest(name, OPERATIONS)}')
    return OPERATIONS[name]


def rows() -> "list[Operation]":
    """Every row once, in order of name."""
    return sorted(set(OPERATIONS.values()), key=lambda op: op.name)


def activations() -> dict[str, Callable[..., Any]]:
    """What may stand between two layers, by name or alias: differentiable elementwise operations of one operand."""
    return {
        name: op.call
        for name, op in OPERATIONS.items()
        if op.kind == "elementwise" and len(op.operands) == 1 and not op.attributes and op.is_differentiable
    }
