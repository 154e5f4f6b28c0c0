"""Batching: values with an additional batch axis; every operation runs on all rows of the batch at once.

The batch axis is always the first. Each operation has a batching rule: elementwise operations align their operands;
linear ones and reductions shift their axis attributes by one; others define their own rule as `batch`; an operation
without a rule runs row by row.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from engine.core import (
    AXES,
    AXIS,
    ROW_CALLS,
    Attribute,
    Attributes,
    Aval,
    DType,
    InvalidValueError,
    Operand,
    Operation,
    Result,
    Shape,
    Tracer,
    advice,
    apply,
    as_strong,
    aval,
    check_alive,
    dtype_of,
    may_be_differentiated,
    operand,
    place,
    shape_of,
)

#: (operation, number of rows, operands, a flag for each: is it batched, attributes) -> the batched result
Rule = Callable[[Operation, int, Sequence[Operand], Sequence[bool], Attributes], Operand]


class Batched(Tracer):
    """Value with a leading batch axis; its `shape` is that of one row."""

    __slots__ = ("value",)
    _alone = ""

    _content = ("value",)

    def __init__(self, value: Operand, batch: "Batch") -> None:
        self.recorder = batch
        self.value = value

    @property
    def held(self) -> tuple[Operand]:
        """The value with its batch axis."""
        return (self.value,)

    @property
    def shape(self) -> Shape:
        """Lengths of the axes of one row."""
        return shape_of(self.value)[1:]

    @property
    def dtype(self) -> DType:
        """The dtype."""
        return dtype_of(self.value)

    @property
    def _may_be_differentiated(self) -> bool:
        return may_be_differentiated(self.value)

    def concrete(self) -> Any:
        """Raise, as the rows may differ.

        Raises:
            InvalidValueError: always, while vmap runs.
            LeakedValueError: vmap has ended.
        """
        check_alive(self.recorder)
        raise InvalidValueError(
            f"a value inside vmap differs from row to row (of {self.recorder.rows}), so Python cannot branch on it "
            f"or compute with its number{advice()}; use where(condition, x, y) in place of if, and of a mask "
            f"x[condition]{place()}"
        )


class Batch:
    """Recorder that runs operations on all rows of a batch at once."""

    is_over = False
    transform = "vmap"

    def __init__(self, level: int, rows: int) -> None:
        self.level = level
        self.rows = rows

    def wrap(self, value: Operand) -> Batched:
        """Wrap a value whose first axis is the batch axis."""
        return Batched(value, self)

    def holds(self, value: object) -> bool:
        """Return whether a value is batched here, so that it may differ from row to row."""
        return isinstance(value, Batched) and value.recorder is self

    def unwrap(self, value: Result) -> Result:
        """Return a value with its batch axis; broadcast a value that is the same for all rows."""
        if self.holds(value):
            return value.value
        return ROW_CALLS["broadcast_to"](as_strong(value), (self.rows, *shape_of(value)))

    def parts(self, value: Result) -> tuple[Result]:
        """Return the value with its batch axis, as the only part."""
        return (self.unwrap(value),)

    def joined(self, parts: Iterable[Result]) -> Batched:
        """Wrap the value of `parts` again."""
        (value,) = parts
        return Batched(value, self)

    def record(self, op: Operation, args: tuple[Result, ...], attrs: Attributes, **extra: object) -> Batched:
        """Run an operation on all rows."""
        batched = [self.holds(x) for x in args]
        values = [x.value if b else operand(op, x) for x, b in zip(args, batched, strict=True)]
        op.infer(
            *(Aval(x.shape, x.dtype) if b else aval(v) for x, v, b in zip(args, values, batched, strict=True)), **attrs
        )
        if op.random:
            return Batched(_random(op, self.rows, values, batched, attrs, extra["rng"]), self)
        rule: Rule = op.batch or (leading if op.kind == "linear" else loop)
        return Batched(rule(op, self.rows, values, batched, attrs), self)


def aligned(op: Operation, rows: int, xs: Sequence[Operand], batched: Sequence[bool], attrs: Attributes) -> Result:
    """Apply a broadcasting operation: operands with fewer axes get unit axes after the batch axis."""
    ndim = max(len(shape_of(x)) - b for x, b in zip(xs, batched, strict=True))
    return apply(op, tuple(raised(x, ndim) if b else x for x, b in zip(xs, batched, strict=True)), attrs)


def leading(op: Operation, rows: int, xs: Sequence[Operand], batched: Sequence[bool], attrs: Attributes) -> Result:
    """Apply an operation that ignores leading axes, with its axis attributes shifted by one."""
    full = [x if b else repeated(x, rows) for x, b in zip(xs, batched, strict=True)]
    ndim = len(shape_of(full[0])) - 1
    return apply(op, tuple(full), {a.name: _shifted(a, attrs[a.name], ndim) for a in op.attributes})


def loop(
    op: Operation, rows: int, xs: Sequence[Operand], batched: Sequence[bool], attrs: Attributes, **extra: object
) -> Result:
    """Apply an operation row by row and stack the results."""
    if not rows:
        avals = [Aval(shape_of(x)[b:], dtype_of(x)) for x, b in zip(xs, batched, strict=True)]
        out = op.infer(*avals, **attrs)
        empty = reshaped(next(x for x, b in zip(xs, batched, strict=True) if b), (0,))
        return reshaped(ROW_CALLS["astype"](empty, str(out.dtype)), (0, *out.shape))
    operands = (tuple(row(x, i) if b else x for x, b in zip(xs, batched, strict=True)) for i in range(rows))
    return ROW_CALLS["stack"]([apply(op, alone, attrs, **extra) for alone in operands])


def row(x: Operand, i: int) -> Result:
    """Return row `i` of a batched operand."""
    return as_strong(ROW_CALLS["slice"](x, (i,)))


def repeated(x: Operand, rows: int) -> Result:
    """Broadcast an unbatched operand along a new batch axis."""
    return ROW_CALLS["broadcast_to"](x, (rows, *shape_of(x)))


def raised(x: Operand, ndim: int) -> Result:
    """Insert unit axes into a batched operand until its rows have at least `ndim` axes."""
    shape = shape_of(x)
    missing = ndim - (len(shape) - 1)
    return reshaped(x, (shape[0], *(1,) * missing, *shape[1:])) if missing > 0 else x


def _shifted(attribute: Attribute, value: Any, ndim: int) -> object:
    """Shift an attribute that refers to axes of one row (with `ndim` axes) past the batch axis."""
    if attribute.type is AXES:
        axes = range(ndim) if value is None else (value,) if isinstance(value, int) else value
        return tuple(a % ndim + 1 for a in axes)
    if attribute.type is AXIS and value is not None:
        return value % ndim + 1
    return value


def _random(
    op: Operation, rows: int, xs: Sequence[Operand], batched: Sequence[bool], attrs: Attributes, rng: Any
) -> Result:
    """Run a random operation on all rows.

    rng: a program's stream, which has one for each row; a seed, which draws the same numbers in every row; or a
    generator, which draws row after row.
    """
    if not hasattr(rng, "by_row"):
        return loop(op, rows, xs, batched, attrs, rng=rng)
    full = tuple(x if b else repeated(x, rows) for x, b in zip(xs, batched, strict=True))
    return apply(op, full, attrs, rng=rng.by_row(rows))


def reshaped(x: Operand, shape: Shape) -> Result:
    """Call the operation `reshape`; for batching rules in modules imported before `primitives.shape`."""
    return ROW_CALLS["reshape"](x, shape)


def permuted(x: Operand, axes: Shape) -> Result:
    """Call the operation `transpose`; see `reshaped`."""
    return ROW_CALLS["transpose"](x, axes)


def flattened(x: Operand, rows: int) -> Result:
    """Flatten each row of a batched operand."""
    return reshaped(x, (rows, math.prod(shape_of(x)[1:])))
