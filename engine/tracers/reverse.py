"""Reverse mode: a tape for values of any kind, including traced ones, so that derivatives nest in any order.

The backward pass over it is that of `core.backward`; derivatives come from the rows' vjps alone.
"""

from typing import Any

import numpy as np

from engine.core import (
    Attributes,
    DType,
    Operand,
    Operation,
    Result,
    Shape,
    StaleDataError,
    Tracer,
    Value,
    Variable,
    apply,
    as_strong,
    check_alive,
    concrete,
    dtype_of,
    frozen,
    is_differentiated,
    off_since,
    operand,
    records_since,
    shape_of,
    shown,
)


class Taped(Tracer):
    """Value on a tape; it has the fields of a variable, which the backward pass reads.

    generation: 0 for a leaf; -1 for a constant, which depends on no leaf.
    """

    __slots__ = ("_attrs", "_data", "_grad", "_op", "_parents", "_saved", "generation")
    is_taped = True
    carries_derivative = True

    _content = Variable._content

    def __init__(self, data: Operand, tape: "Tape") -> None:
        self.recorder = tape
        self._data: Value = data
        self._op: Any = None
        self._parents: tuple[Any, ...] = ()
        self._saved: tuple[Value, ...] = ()
        self._attrs: Attributes | None = None
        self._grad = None
        self.generation = -1

    @property
    def held(self) -> tuple[Operand]:
        """The value without this tape."""
        return (self._data,)

    @property
    def shape(self) -> Shape:
        """Lengths of the axes."""
        return shape_of(self._data)

    @property
    def dtype(self) -> DType:
        """The dtype."""
        return dtype_of(self._data)

    def concrete(self) -> Value:
        """Return the number that the value represents."""
        check_alive(self.recorder)
        return concrete(self._data)

    def is_differentiated(self) -> bool:
        """Return whether it depends on a leaf of this tape, or carries a derivative of an outer transform."""
        return (self.generation >= 0 and records_since(self.recorder._began)) or is_differentiated(self._data)

    def _shown(self) -> str:
        return shown(self._data)


class Tape:
    """Recorder of reverse mode: records every operation on its values for a backward pass."""

    is_over = False

    def __init__(self, level: int, transform: str = "grad") -> None:
        self.level = level
        self.transform = transform
        self._began = off_since()
        self._variables: dict[Variable, Value] = {}

    def leaf(self, data: Operand) -> Taped:
        """Return a new leaf of the tape."""
        x = Taped(data, self)
        x.generation = 0
        return x

    def data(self, value: Result) -> Result:
        """Return the value without this tape."""
        return value._data if isinstance(value, Taped) and value.recorder is self else value

    def record(self, op: Operation, args: tuple[Operand, ...], attrs: Attributes, **extra: object) -> Taped:
        """Run an operation on the data of this tape's values, and record it."""
        # One loop, as tracing a gradient of a gradient spends most of its time here.
        mine: list[Taped | None] = []
        saved: list[Operand] = []
        generation = 0
        for x in args:
            if isinstance(x, Taped) and x.recorder is self:
                mine.append(x)
                saved.append(as_strong(x._data))
                generation = max(generation, x.generation + 1)
            else:
                mine.append(None)
                saved.append(self._constant(op, x))
        y = Taped(apply(op, tuple(saved), attrs, **extra), self)
        if generation and op.is_differentiable and records_since(self._began) and y.dtype.kind == "f":
            y._op = op
            y._parents = tuple(mine)
            y._saved = tuple([x if t is None else t._data for x, t in zip(saved, mine, strict=True)])
            y._attrs = attrs or None
            y.generation = generation
        return y

    def _constant(self, op: Operation, x: Operand) -> Result:
        """Save an operand that is not on this tape: freeze an array, note the data of a variable (`check_fresh`)."""
        x = operand(op, x)
        if type(x) is Variable:
            self._variables.setdefault(x, x._data)
        return frozen(x) if type(x) is np.ndarray else x

    def check_fresh(self) -> None:
        """Check that the variables that the tape has read still have the same data.

        Raises:
            StaleDataError: the data of one was replaced.
        """
        if any(v._data is not data for v, data in self._variables.items()):
            raise StaleDataError("the data of a variable that the function used was replaced since; call it again")
