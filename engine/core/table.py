"""The table of operations: filled by the modules under `primitives/`, read by name everywhere else."""

import copyreg

from engine.core.errors import UnknownOperationError
from engine.core.messages import nearest
from engine.core.operation import Operation
from engine.core.trees import Function

#: name or alias -> row
OPERATIONS: dict[str, Operation] = {}
#: name or alias -> the function that users call
CALLS: dict[str, Function] = {}
#: name or alias -> the function that other rows and tracers call, with attributes in their canonical form
ROW_CALLS: dict[str, Function] = {}


def register(op: Operation, call: Function, row_call: Function) -> None:
    """Add an operation with the two functions that call it, under its name and aliases.

    call: for users, see `CALLS`. row_call: for the engine, see `ROW_CALLS`.

    Raises:
        ValueError: one of the names is taken.
    """
    for name in (op.name, *op.aliases):
        if name in OPERATIONS:
            raise ValueError(f'the table has an operation "{name}" already')
        OPERATIONS[name] = op
        CALLS[name] = call
        ROW_CALLS[name] = row_call


def unregister(op: Operation) -> None:
    """Remove a row."""
    for name in (op.name, *op.aliases):
        del OPERATIONS[name], CALLS[name], ROW_CALLS[name]


def lookup(name: str) -> Operation:
    """Return the row with that name or alias.

    Raises:
        UnknownOperationError: there is none; the message lists the nearest names.
    """
    if name not in OPERATIONS:
        raise UnknownOperationError(f'unknown operation "{name}"{nearest(name, OPERATIONS)}')
    return OPERATIONS[name]


def rows() -> list[Operation]:
    """Return all rows, sorted by name."""
    return sorted(set(OPERATIONS.values()), key=lambda op: op.name)


def activations() -> dict[str, Function]:
    """Return the activation functions by name or alias: differentiable unary elementwise rows without attributes."""
    return {
        name: CALLS[name]
        for name, op in OPERATIONS.items()
        if op.kind == "elementwise" and len(op.operands) == 1 and not op.attributes and op.is_differentiable
    }


copyreg.pickle(Operation, lambda op: (lookup, (op.name,)))
