"""Batching: values with an axis more, on which every operation runs for all rows at once.

The axis is always the first. How an operation takes it follows from its row: elementwise rows align their operands, the
others get their attributes rewritten by type (axes shift, shapes grow), or bring a rule of their own as `batch`; what
cannot be batched runs row by row.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from engine.core.attributes import AXES, AXIS, Attribute, Attributes
from engine.core.dispatch import apply, operand
from engine.core.errors import InvalidValueError
from engine.core.lost_derivatives import advice, place
from engine.core.operation import Operation
from engine.core.powers import is_differentiated
from engine.core.table import CALLS
from engine.core.tracer import Tracer, check_alive, lowered
from engine.core.values import Aval, Shape, aval, dtype_of, shape_of

#: (operation, number of rows, operands, which of them are batched, attributes) -> the batched result
Rule = Callable[[Any, int, Sequence[Any], Sequence[bool], dict[str, Any]], Any]


class Batched(Tracer):
    """A value whose first axis counts rows; its shape is that of one row."""

    __slots__ = ("value",)
    _alone = ""

    _content = ("value",)

    def __init__(self, value: Any, batch: "Batch") -> None:
        self.recorder = batch
        self.value = value

    @property
    def held(self) -> tuple[Any, ...]:
        """The value with the axis of the rows."""
        return (self.value,)

    @property
    def shape(self) -> Shape:
        """Lengths of the axes of one row."""
        return shape_of(self.value)[1:]

    @property
    def dtype(self) -> Any:
        """The dtype."""
        return dtype_of(self.value)

    @property
    def _is_differentiated(self) -> bool:
        return is_differentiated(self.value)

    def concrete(self) -> Any:
        """There is none: rows may differ."""
        check_alive(self.recorder)
        raise InvalidValueError(
            f"a value inside vmap differs from row to row (of {self.recorder.rows}), so Python cannot branch on it "
            f"or compute with its number{advice()}; use where(condition, x, y) in place of if, and of a mask "
            f"x[condition]{place()}"
        )


class Batch:
    """Runs operations on all rows at once."""

    is_over = False
    transform = "vmap"

    def __init__(self, level: int, rows: int) -> None:
        self.level = level
        self.rows = rows

    def wrap(self, value: Any) -> Batched:
        """A value whose first axis is that of the rows."""
        return Batched(value, self)

    def holds(self, value: Any) -> bool:
        """Whether a value differs from row to row."""
        return isinstance(value, Batched) and value.recorder is self

    def unwrap(self, value: Any) -> Any:
        """A value with the axis of the rows, repeated along it where all rows are alike."""
        if self.holds(value):
            return value.value
        return CALLS["broadcast_to"](lowered(value), (self.rows, *shape_of(value)))

    def parts(self, value: Any) -> tuple[Any]:
        """A value with the axis of the rows."""
        return (self.unwrap(value),)

    def joined(self, parts: Iterable[Any]) -> Batched:
        """A value of its parts."""
        (value,) = parts
        return Batched(value, self)

    def record(self, op: Operation, args: tuple[Any, ...], attrs: Attributes, **extra: Any) -> Batched:
        """Runs an operation on all rows."""
        batched = [self.holds(x) for x in args]
        values = [x.value if b else operand(op, x) for x, b in zip(args, batched, strict=True)]
        op.infer(
            *(Aval(x.shape, x.dtype) if b else aval(v) for x, v, b in zip(args, values, batched, strict=True)), **attrs
        )
        if op.random:
            return Batched(_random(op, self.rows, values, batched, attrs, extra["rng"]), self)
        rule: Rule = op.batch or (leading if op.kind == "linear" else loop)
        return Batched(rule(op, self.rows, values, batched, attrs), self)


def aligned(op: Operation, rows: int, xs: Sequence[Any], batched: Sequence[bool], attrs: Attributes) -> Any:
    """For operands that broadcast: those with fewer axes get unit axes after the first, so that the rows meet."""
    ndim = max(len(shape_of(x)) - b for x, b in zip(xs, batched, strict=True))
    return apply(op, tuple(raised(x, ndim) if b else x for x, b in zip(xs, batched, strict=True)), attrs)


def leading(op: Operation, rows: int, xs: Sequence[Any], batched: Sequence[bool], attrs: Attributes) -> Any:
    """For operations that leave leading axes alone, but for attributes that count axes from the left."""
    full = [x if b else repeated(x, rows) for x, b in zip(xs, batched, strict=True)]
    ndim = len(shape_of(full[0])) - 1
    return apply(op, tuple(full), {a.name: _shifted(a, attrs[a.name], ndim) for a in op.attributes})


def loop(op: Operation, rows: int, xs: Sequence[Any], batched: Sequence[bool], attrs: Attributes, **extra: Any) -> Any:
    """Row by row."""
    if not rows:
        avals = [Aval(shape_of(x)[b:], dtype_of(x)) for x, b in zip(xs, batched, strict=True)]
        out = op.infer(*avals, **attrs)
        empty = reshaped(next(x for x, b in zip(xs, batched, strict=True) if b), (0,))
        return reshaped(CALLS["astype"](empty, str(out.dtype)), (0, *out.shape))
    operands = (tuple(row(x, i) if b else x for x, b in zip(xs, batched, strict=True)) for i in range(rows))
    return CALLS["stack"]([apply(op, alone, attrs, **extra) for alone in operands])


def row(x: Any, i: int) -> Any:
    """One row of a batched operand."""
    return lowered(CALLS["slice"](x, (i,)))


def repeated(x: Any, rows: int) -> Any:
    """An operand that is the same for all rows, along an axis for them."""
    return CALLS["broadcast_to"](x, (rows, *shape_of(x)))


def raised(x: Any, ndim: int) -> Any:
    """A batched operand whose rows have at least `ndim` axes."""
    shape = shape_of(x)
    missing = ndim - (len(shape) - 1)
    return reshaped(x, (shape[0], *(1,) * missing, *shape[1:])) if missing > 0 else x


def _shifted(attribute: Attribute, value: Any, ndim: int) -> Any:
    """An attribute of a row of `ndim` axes, for all rows."""
    if attribute.type is AXES:
        axes = range(ndim) if value is None else (value,) if isinstance(value, int) else value
        return tuple(a % ndim + 1 for a in axes)
    if attribute.type is AXIS and value is not None:
        return value % ndim + 1
    return value


def _random(op: Operation, rows: int, xs: Sequence[Any], batched: Sequence[bool], attrs: Attributes, rng: Any) -> Any:
    """A program has a stream for each row; a seed gives all rows the same numbers, and a generator goes on."""
    if not hasattr(rng, "by_row"):
        return loop(op, rows, xs, batched, attrs, rng=rng)
    full = tuple(x if b else repeated(x, rows) for x, b in zip(xs, batched, strict=True))
    return apply(op, full, attrs, rng=rng.by_row(rows))


def reshaped(x: Any, shape: Shape) -> Any:
    """The operation `reshape`, for rules of rows that come before it in the table."""
    return CALLS["reshape"](x, shape)


def permuted(x: Any, axes: Shape) -> Any:
    """The operation `transpose`, likewise."""
    return CALLS["transpose"](x, axes)


def flattened(x: Any, rows: int) -> Any:
    """A batched operand with one axis a row."""
    return reshaped(x, (rows, math.prod(shape_of(x)[1:])))
