"""Rows of the table of operations, one module per family. Importing this package fills the table."""

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
