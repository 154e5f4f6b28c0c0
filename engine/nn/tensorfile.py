"""Arrays by name as the bytes of a safetensors file, and back."""

from collections.abc import Mapping

import numpy as np
from safetensors import SafetensorError
from safetensors import numpy as safetensors

from engine.core.values import Array


def write(arrays: Mapping[str, Array]) -> bytes:
    """Return the bytes of a file with these arrays."""
    # The format takes the bytes as they lie in memory: C order.
    return safetensors.save({name: np.array(array, order="C") for name, array in arrays.items()})


def read(data: bytes) -> dict[str, Array]:
    """Return the arrays in the bytes of a file.

    >>> read(write({"w": np.array([1.0, 2.0])}))
    {'w': array([1., 2.])}

    Raises:
        ValueError: they are no such file, or one of dtypes that NumPy does not have.
    """
    try:
        return dict(safetensors.load(data))
    except (SafetensorError, KeyError) as error:
        raise ValueError(str(error)) from error
