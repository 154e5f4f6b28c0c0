"""The table: one module a family, one row an operation. Importing this package fills it."""

from engine.primitives import arithmetic, compare, derivative, index, linalg, math, nn, reduce, shape

__all__ = ["arithmetic", "compare", "derivative", "index", "linalg", "math", "nn", "reduce", "shape"]
