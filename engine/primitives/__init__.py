"""The table: one module a family, one row an operation. Importing this package fills it."""

from engine.primitives import (
    arithmetic,
    compare,
    contract,
    derivative,
    determinant,
    gather,
    index,
    join,
    linalg,
    math,
    nn,
    reduce,
    shape,
    solve,
    special,
)

__all__ = [
    "arithmetic",
    "compare",
    "contract",
    "derivative",
    "determinant",
    "gather",
    "index",
    "join",
    "linalg",
    "math",
    "nn",
    "reduce",
    "shape",
    "solve",
    "special",
]
