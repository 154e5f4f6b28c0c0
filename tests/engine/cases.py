"""The examples of every row as test data: operands, attributes, and which of the operands are differentiated."""

from typing import Any

import numpy as np
import pytest

from engine.core.operation import Example, Operation
from engine.core.table import rows
from engine.core.values import canonical, shape_of

CASES = [pytest.param(op, example, id=f"{op.name}-{n}") for op in rows() for n, example in enumerate(op.examples)]


def operands(op: Operation, example: Example, seed: int = 7) -> list[Any]:
    """Shapes are filled with numbers of the operand's domain, apart so that nothing ties; lists are values."""
    rng = np.random.default_rng(seed)
    values: list[Any] = []
    for given, (low, high) in zip(example.operands, domains(op, example), strict=False):
        if isinstance(given, tuple):
            n = int(np.prod(given))
            spaced = low + (high - low) * (np.arange(n) + rng.uniform(0.2, 0.8, n)) / max(n, 1)
            values.append(canonical(rng.permutation(spaced).reshape(given)))
        else:
            values.append(np.array(given) if isinstance(given, list) else float(given))
    return values


def domains(op: Operation, example: Example) -> tuple[tuple[float, float], ...]:
    """The interval of each operand."""
    return op.domain * len(example.operands) if op.variadic else op.domain


def attributes(op: Operation, example: Example) -> dict[str, Any]:
    return op.bind([0.0] * max(op.required, 1) if not op.variadic else [0.0], dict(example.attrs))[1]


def extra(op: Operation) -> dict[str, Any]:
    return {"rng": np.random.default_rng(3)} if op.random else {}


def outputs(result: Any) -> tuple[Any, ...]:
    return result if isinstance(result, tuple) else (result,)


def is_shape(given: Any) -> bool:
    return isinstance(given, tuple)


def is_moved(op: Operation, place: int, given: Any) -> bool:
    """Labels, indices and masks stay what they are."""
    if op.body is None and not op.variadic and op.vjps[place] is None:
        return False
    return is_shape(given) or (isinstance(given, list) and (op.body is None or len(op.operands) == 1))


def moved(op: Operation, example: Example) -> list[int]:
    """The places of the operands that are differentiated."""
    return [i for i, given in enumerate(example.operands) if is_moved(op, i, given)] if op.is_differentiable else []


def weights(y: Any, k: int) -> Any:
    """Unequal weights, so that a sum does not hide errors."""
    shape = shape_of(y)
    return canonical(np.random.default_rng(11 + k).uniform(0.5, 1.5, shape))
