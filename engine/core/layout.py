"""Memory layout of arrays."""

from engine.core.values import Array


def flat_view(array: Array) -> Array:
    """Return a flat view of an array in row-major order; writes to it change the array.

    Raises:
        ValueError: the array is not in C order; plain `reshape` would return a copy, and writes to it would be lost.
    """
    return array.reshape(-1, copy=False)
