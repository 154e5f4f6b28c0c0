"""Forward mode: a tangent beside each value, derived from the rows' vjps alone; values may be traced."""

from collections.abc import Iterable, Sequence
from typing import Any

from engine.core import (
    POWERS,
    ROW_CALLS,
    Attributes,
    DType,
    Operand,
    Operation,
    Power,
    Result,
    Shape,
    Tracer,
    Value,
    apply,
    as_strong,
    check_alive,
    concrete,
    dtype_of,
    fit,
    gradients,
    is_differentiated,
    is_power,
    may_be_differentiated,
    off_since,
    operand,
    records_since,
    selects,
    shape_of,
    shown,
    smooth_power,
)
from engine.tracers.reverse import Tape


class Dual(Tracer):
    """Dual number: a primal with its tangent; None is a zero tangent.

    Lengths and possible powers of lengths also record their operands, like nodes of a tape (see `powers`).
    """

    __slots__ = ("_attrs", "_op", "_parents", "_saved", "primal", "tangent")
    carries_derivative = True

    _content = ("primal", "tangent")

    # Set if `_op` is not None.
    _parents: tuple[Any, ...]
    _saved: tuple[Value, ...]
    _attrs: Attributes | None

    def __init__(self, primal: Operand, tangent: Operand | None, forward: "Forward") -> None:
        self.recorder = forward
        self.primal = primal
        self.tangent = tangent
        self._op: Any = None

    @property
    def held(self) -> tuple[Operand, Operand | None]:
        """The primal and its tangent."""
        return self.primal, self.tangent

    @property
    def shape(self) -> Shape:
        """Lengths of the axes."""
        return shape_of(self.primal)

    @property
    def dtype(self) -> DType:
        """The dtype."""
        return dtype_of(self.primal)

    def concrete(self) -> Value:
        """Return the number that the primal represents."""
        check_alive(self.recorder)
        return concrete(self.primal)

    def is_differentiated(self) -> bool:
        """Return whether it has a tangent, or its primal carries a derivative of an outer transform."""
        return (self.tangent is not None and records_since(self.recorder._began)) or is_differentiated(self.primal)

    def _shown(self) -> str:
        return shown(self.primal)


class Forward:
    """Recorder of forward mode: propagates tangents from the operands of every operation to its result.

    has_choices: an operation so far may have left out elements, see `masking`.
    through_powers: tangents will be differentiated again although the values do not show it, see `powers`.
    """

    is_over = False

    def __init__(self, level: int, transform: str = "jvp", *, through_powers: bool = False) -> None:
        self.level = level
        self.through_powers = through_powers
        self.has_choices = False
        self.transform = transform
        self._began = off_since()

    def pair(self, primal: Operand, tangent: Operand | None = None) -> Dual:
        """Return the dual of a primal and a tangent of its shape and dtype."""
        return Dual(primal, tangent, self)

    def parts(self, value: Result) -> tuple[Result, Result]:
        """Return the primal and the tangent of a value; None is a zero tangent."""
        mine = isinstance(value, Dual) and value.recorder is self
        return (value.primal, value.tangent) if mine else (value, None)

    def joined(self, parts: Iterable[Result]) -> Dual:
        """Return the dual of the two `parts`."""
        primal, tangent = parts
        return Dual(primal, tangent, self)

    def record(self, op: Operation, args: tuple[Operand, ...], attrs: Attributes, **extra: object) -> Dual:
        """Run an operation on primals, and its jvp on tangents."""
        pairs = [self.parts(x) for x in args]
        primals = tuple(
            as_strong(p) if isinstance(x, Dual) else operand(op, p) for x, (p, _) in zip(args, pairs, strict=True)
        )
        tangents = [t for _, t in pairs]
        self.has_choices = self.has_choices or selects(op)
        y = Dual(apply(op, primals, attrs, **extra), None, self)
        if records_since(self._began):
            lengths = _remembered(y, op, args, primals, attrs)
            y.tangent = push_power(lengths, y.primal) if lengths else push(op, primals, tangents, y.primal, attrs)
        return y


def _remembered(
    y: Dual, op: Operation, args: tuple[Operand, ...], primals: tuple[Operand, ...], attrs: Attributes
) -> list[tuple[Dual, Power]] | None:
    """Record the operands of a length or power of lengths; return the lengths of a smooth power, otherwise None."""
    if not (op.power_vjps or op.name in POWERS) or not (y.recorder.through_powers or may_be_differentiated(y.primal)):
        return None
    y._op, y._saved, y._attrs = op, primals, attrs
    y._parents = tuple(x if isinstance(x, Dual) and x.recorder is y.recorder else None for x in args)
    if not is_power(y):
        y._op = None
    return smooth_power(y)


def push_power(lengths: list[tuple[Dual, Power]], y: Operand) -> Result:
    """Return the tangent of a smooth power of lengths, from the tangents of their operands."""
    total: Result = None
    for v, power in lengths:
        tangents = [None if p is None else p.tangent for p in v._parents]
        part = push(power, v._saved, tangents, y, v._attrs or {})
        if part is not None:
            total = part if total is None else total + part
    return total


def push(
    op: Operation | Power, xs: Sequence[Operand], tangents: Sequence[Result], y: Operand, attrs: Attributes
) -> Result:
    """Return the tangent of `y = op(*xs)`; None if it is zero.

    The method depends on the row's kind: the vjp of an elementwise row, applied to a tangent, is its jvp; a linear row
    is applied to the tangents; a bilinear row is applied with each operand in turn replaced by its tangent; for any
    other row, the vjp is transposed.
    """
    tangents = [as_strong(t) for t in tangents]
    moved = [i for i, t in enumerate(tangents) if t is not None and op.is_smooth(i)]
    if not moved or not op.is_differentiable or dtype_of(y).kind != "f":
        return None
    if isinstance(op, Operation) and op.kind == "linear":
        full = [
            x if not op.is_smooth(i) else ROW_CALLS["zeros_like"](x) if t is None else t
            for i, (x, t) in enumerate(zip(xs, tangents, strict=True))
        ]
        return _like(apply(op, tuple(full), attrs), y)
    total: Result = None
    for i in moved:
        t = tangents[i]
        if isinstance(op, Operation) and op.kind == "bilinear":
            part = apply(op, (*xs[:i], t, *xs[i + 1 :]), attrs)
        elif op.kind == "elementwise":
            part = op.cotangent(i, t, y, xs, attrs)
        else:
            part = _transposed(op, i, t, xs, y, attrs)
        if part is not None:
            part = _like(part, y)
            total = part if total is None else total + part
    return total


def _transposed(
    op: Operation | Power, i: int, t: Operand, xs: Sequence[Operand], y: Operand, attrs: Attributes
) -> Result:
    """Return the jvp as the transpose of the vjp, which is linear in its cotangent: a backward pass over the vjp."""
    tape = Tape(_above([t, y, *xs]))
    g = tape.leaf(ROW_CALLS["zeros_like"](y))
    gx = op.cotangent(i, g, y, xs, attrs)
    if tape.data(gx) is gx:
        return None
    # The caller tracks the supports of the tangent.
    return gradients([(fit(gx, xs[i]), t)], [g], supports=False)[0]


def _above(values: Sequence[Operand]) -> int:
    return 1 + max((x.recorder.level for x in values if isinstance(x, Tracer)), default=0)


def _like(tangent: Result, y: Operand) -> Result:
    """Return a tangent in the shape and dtype of its primal."""
    if shape_of(tangent) != shape_of(y):
        tangent = ROW_CALLS["broadcast_to"](tangent, shape_of(y))
    if dtype_of(tangent) != dtype_of(y):
        tangent = ROW_CALLS["astype"](tangent, str(dtype_of(y)))
    return tangent
