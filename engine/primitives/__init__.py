"""The table: one module a family, one row an operation. Importing this package fills it."""

from engine.primitives import arithmetic, compare, index, linalg, math, nn, reduce, shape, special

__all__ = ["arithmetic", "compare", "index", "linalg", "math", "nn", "reduce", "shape", "special"]
