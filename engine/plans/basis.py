"""Basis: directions along each element of some values, and the matrix that is made of what they lead to.

Where it is known which entries of the matrix can be other than zero, elements share directions; these entries are
then put where they belong, and all others are zeros.
"""

import math
from collections.abc import Callable, Mapping

import numpy as np

from engine.core.operations import CALLS
from engine.core.tracer import Symbol
from engine.core.values import Aval, Shape, Value
from engine.plans.sparsity import Coloured, Pattern, coloured
from engine.plans.trace import Trace


class Basis:
    """Directions along the elements of some values, one value after another: the others stay where they are.

    count: the number of directions.

    Args:
        trace: where they are written.
        avals: the values by name; shape and dtype are those of one row.
        rows: how many there are in a batch.
        known: the pattern of the matrix, with a column for each of their elements; None where it is dense.
    """

    def __init__(self, trace: Trace, avals: Mapping[str, Aval], rows: int | None, known: Pattern | None) -> None:
        self._trace = trace
        self._avals = avals
        self._lead = () if rows is None else (rows,)
        self._starts = dict(zip(avals, np.cumsum([0, *(x.size for x in avals.values())]).tolist(), strict=False))
        self._shared = None if known is None else coloured(known)
        self.count = sum(x.size for x in avals.values()) if self._shared is None else self._shared.count

    @property
    def is_shared(self) -> bool:
        """Whether there are fewer directions than elements."""
        return self._shared is not None

    def steps(self, rows: Callable[[str], Shape]) -> dict[str, Symbol]:
        """The directions as constants, by name; `rows` gives the axis of rows that a value has, if any."""
        found: dict[str, Symbol] = {}
        for i, known in self._avals.items():
            step = self._trace.made(Aval((self.count, *known.shape), known.dtype), self._made(i, known))
            if rows(i):
                wide = CALLS["reshape"](step, (self.count, 1, *known.shape))
                step = CALLS["broadcast_to"](wide, (self.count, *rows(i), *known.shape))
            found[i] = step
        return found

    def _made(self, i: str, known: Aval) -> Callable[[], Value]:
        start, count, shared = self._starts[i], self.count, self._shared

        def make() -> Value:
            if shared is None:
                flat = np.eye(count, known.size, -start, known.dtype)
            else:
                flat = np.zeros((count, known.size), known.dtype)
                flat[shared.colours[start : start + known.size], np.arange(known.size)] = 1
            return flat.reshape((count, *known.shape))

        return make

    def columns(self, step: Symbol, start: int) -> dict[str, Symbol]:
        """What the directions lead to, with its own axes first, in the dtype of each value.

        step: for each direction a result. start: the row of the matrix that belongs to its first element.
        """
        last = step if self._shared is not None else CALLS["transpose"](step, (*range(1, step.ndim), 0))
        found: dict[str, Symbol] = {}
        for i, known in self._avals.items():
            if self._shared is not None:
                part = self._placed(step, start, i, self._shared, is_last=True)
            else:
                part = last if len(self._avals) == 1 else last[..., self._own(i)]
            part = CALLS["reshape"](part, (*step.shape[1:], *known.shape))
            found[i] = part if part.dtype == known.dtype else CALLS["astype"](part, str(known.dtype))
        return found

    def first(self, step: Symbol, start: int) -> dict[str, Symbol]:
        """The same with the axes of each value first, after that of rows, and in the dtype of the result."""
        lead = self._lead
        found: dict[str, Symbol] = {}
        for i, known in self._avals.items():
            if self._shared is not None:
                part = self._placed(step, start, i, self._shared, is_last=False)
            else:
                part = step if len(self._avals) == 1 else step[self._own(i)]
                part = CALLS["transpose"](part, (1, 0, *range(2, part.ndim))) if lead else part
            found[i] = CALLS["reshape"](part, (*lead, *known.shape, *step.shape[len(lead) + 1 :]))
        return found

    def _own(self, i: str) -> slice:
        return slice(self._starts[i], self._starts[i] + self._avals[i].size)

    def _placed(self, step: Symbol, start: int, i: str, shared: Coloured, *, is_last: bool) -> Symbol:
        """Zeros, with what the directions that elements share lead to where it belongs; after rows, one axis."""
        lead, own, known = self._lead, self._own(i), shared.pattern
        height, width = math.prod(step.shape[len(lead) + 1 :]), self._avals[i].size
        is_mine = (start <= known.rows) & (known.rows < start + height)
        is_mine &= (own.start <= known.columns) & (known.columns < own.stop)
        rows, columns = known.rows[is_mine] - start, known.columns[is_mine]
        zeros = self._trace.filled(0.0, Aval((*lead, height * width), step.dtype))
        if not len(rows):
            return zeros
        sources = shared.colours[columns] * height + rows
        columns = columns - own.start
        places = rows * width + columns if is_last else columns * height + rows
        step = CALLS["transpose"](step, (1, 0, *range(2, step.ndim))) if lead else step
        given = CALLS["take"](CALLS["reshape"](step, (*lead, self.count * height)), sources, axis=len(lead))
        found: Symbol = CALLS["scatter_add"](zeros, places, given, axis=len(lead))
        return found
