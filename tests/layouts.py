"""Layouts of arrays in memory, for tests: the same elements, elsewhere."""

from collections.abc import Callable
from typing import Any

import numpy as np

Layout = Callable[[Any], Any]


def broadcast(x: Any) -> Any:
    """The first element of the longest axis, repeated along it without memory of its own."""
    axis = int(np.argmax(x.shape))
    return np.broadcast_to(np.take(x, [0], axis), x.shape) if x.size else x


def _every_other(x: Any) -> Any:
    wide = np.full([2 * n + 1 for n in x.shape], 9, x.dtype)
    part = wide[tuple(slice(1, None, 2) for _ in x.shape)]
    part[...] = x
    return part


def _read_only(x: Any) -> Any:
    x = x.copy()
    x.flags.writeable = False
    return x


def _unaligned(x: Any) -> Any:
    block = np.empty(x.nbytes + 1, np.uint8)
    part = block[1:].view(x.dtype).reshape(x.shape)
    part[...] = x
    return part


def _permuted(x: Any) -> Any:
    """The last axis varies slowest."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, -1, 0)), 0, -1)


LAYOUTS: dict[str, Layout] = {
    "fortran": np.asfortranarray,
    "reversed": lambda x: np.flip(np.ascontiguousarray(np.flip(x))),
    "strided": _every_other,
    "permuted": _permuted,
    "read-only": _read_only,
    "broadcast": broadcast,
    "unaligned": _unaligned,
    "big-endian": lambda x: x.astype(x.dtype.newbyteorder(">")),
}
