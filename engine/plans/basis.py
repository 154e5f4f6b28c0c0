"""Basis: directions along each element of some values, and the Jacobian assembled from the derivatives along them.

If the sparsity pattern of the Jacobian is known, elements share directions; the entries of the pattern are then
scattered into zeros.
"""

import math
from collections.abc import Callable, Sequence
from itertools import accumulate

import numpy as np

from engine.core import ROW_CALLS, Aval, DType, Shape, Value, canonical, dtype_of, shape_of
from engine.plans.sparsity import Colouring, Pattern, colouring
from engine.plans.trace import Trace

#: Directions of at most this many elements are ordinary constants, which can be folded; larger ones are made later.
_SMALL = 64


class Basis:
    """Directions along the elements of some values, one value after another; each is 0 for all other elements.

    count: the number of directions.

    Args:
        avals: shapes and dtypes of the values.
        trace: records the directions as constants; None for arrays.
        known: the sparsity pattern of the Jacobian, with a column for each element of the values; None if dense.
    """

    def __init__(self, avals: Sequence[Aval], trace: Trace | None = None, known: Pattern | None = None) -> None:
        self._avals = avals
        self._trace = trace
        self._starts = [0, *accumulate(x.size for x in avals)]
        self._shared = None if known is None else colouring(known)
        self._known_zeros: dict[tuple[Shape, DType], Value] = {}
        self.count = self._starts[-1] if self._shared is None else self._shared.count

    @property
    def is_shared(self) -> bool:
        """Return whether elements may share directions, by the sparsity pattern."""
        return self._shared is not None

    @property
    def is_one(self) -> bool:
        """Return whether there is only one element, for which no value has an axis of directions."""
        return len(self._avals) == 1 and self._avals[0].size == 1

    def directions(self) -> list[Value]:
        """Return the directions for each value, of shape (count, *shape of the value); without `count` if `is_one`."""
        if self.is_one:
            [known] = self._avals
            return [canonical(np.ones(known.shape, known.dtype))]
        found: list[Value] = []
        for k, known in enumerate(self._avals):
            make = self._maker(k, known)
            wide = Aval((self.count, *known.shape), known.dtype)
            trace = self._trace if wide.size > _SMALL else None
            found.append(make() if trace is None else trace.lazy_constant(wide, make))
        return found

    def _maker(self, k: int, known: Aval) -> Callable[[], Value]:
        start, count, shared = self._starts[k], self.count, self._shared

        def make() -> Value:
            if shared is None:
                flat = np.eye(count, known.size, -start, known.dtype)
            else:
                flat = np.zeros((count, known.size), known.dtype)
                flat[shared.colours[start : start + known.size], np.arange(known.size)] = 1
            return flat.reshape((count, *known.shape))

        return make

    def columns(self, found: Value, start: int) -> list[Value]:
        """Return the blocks of the Jacobian for one result, by value, with the axes of the value last, in its dtype.

        found: the derivatives of the result along the directions, with shape (count, *shape of the result).
        start: the row of the pattern for the first element of the result.
        """
        shape = self._result_shape(found)
        blocks = zip(self._blocks(found, start, is_last=True), self._avals, strict=True)
        return [self._shaped(block, (*shape, *known.shape), known.dtype) for block, known in blocks]

    def rows(self, found: Value, start: int) -> list[Value]:
        """Return the blocks as `columns` does, with the axes of the value first, in the dtype of the result."""
        shape = self._result_shape(found)
        blocks = zip(self._blocks(found, start, is_last=False), self._avals, strict=True)
        return [self._shaped(block, (*known.shape, *shape), dtype_of(found)) for block, known in blocks]

    def _result_shape(self, found: Value) -> Shape:
        return shape_of(found) if self.is_one else shape_of(found)[1:]

    def _blocks(self, found: Value, start: int, *, is_last: bool) -> list[Value | None]:
        """Return a block for each value, with its elements along the last or first axis; None for zeros."""
        if self._shared is not None:
            return self._scattered(found, start, self._shared, is_last=is_last)
        if is_last and not self.is_one:
            found = ROW_CALLS["transpose"](found, (*range(1, len(shape_of(found))), 0))
        if len(self._avals) == 1:
            return [found]
        return [found[(..., self._own(k)) if is_last else self._own(k)] for k in range(len(self._avals))]

    def _own(self, k: int) -> slice:
        return slice(self._starts[k], self._starts[k + 1])

    def _scattered(self, found: Value, start: int, shared: Colouring, *, is_last: bool) -> list[Value | None]:
        """Scatter the derivatives along shared directions into zeros; return the blocks, flattened."""
        known = shared.pattern
        height = math.prod(shape_of(found)[1:])
        mine = slice(*np.searchsorted(known.rows, (start, start + height)))
        rows, columns = known.rows[mine] - start, known.columns[mine]
        owners = np.searchsorted(self._starts, columns, side="right") - 1
        blocks: list[Value | None] = [None] * len(self._avals)
        for k in np.unique(owners).tolist():
            width = self._avals[k].size
            row, column = rows[owners == k], columns[owners == k]
            flat = ROW_CALLS["reshape"](found, (self.count * height,))
            given = ROW_CALLS["take"](flat, shared.colours[column] * height + row, axis=0)
            column = column - self._starts[k]
            places = row * width + column if is_last else column * height + row
            zeros = self._zeros((height * width,), dtype_of(found))
            blocks[k] = ROW_CALLS["scatter_add"](zeros, places, given, axis=0)
        return blocks

    def _zeros(self, shape: Shape, dtype: DType) -> Value:
        assert self._trace is not None
        if (shape, dtype) not in self._known_zeros:
            self._known_zeros[shape, dtype] = self._trace.full(0.0, Aval(shape, dtype))
        return self._known_zeros[shape, dtype]

    def _shaped(self, x: Value | None, shape: Shape, dtype: DType) -> Value:
        """Reshape and cast a block if needed; None becomes zeros."""
        if x is None:
            return self._zeros(shape, dtype)
        if shape_of(x) != shape:
            x = ROW_CALLS["reshape"](x, shape)
        return x if dtype_of(x) == dtype else ROW_CALLS["astype"](x, str(dtype))
