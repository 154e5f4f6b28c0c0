"""Layout of arrays in memory."""

from engine.core.values import Array


def flat_view(array: Array) -> Array:
    """View of all elements in row-major order along one axis, to write into an array.

    Raises:
        ValueError: the array is not in C order; `reshape` alone would return a copy, and writes to it would be lost.
    """
    return array.reshape(-1, copy=False)
