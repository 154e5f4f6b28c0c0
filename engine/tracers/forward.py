"""Forward mode: a tangent beside each value, from the rows' vjps and from nowhere else; values may be traced."""

from collections.abc import Iterable, Sequence
from typing import Any

from engine.core.attributes import Attributes
from engine.core.backward import fitted, gradients
from engine.core.config import off_since, records_since
from engine.core.dispatch import apply, operand
from engine.core.masking import selects
from engine.core.operation import Operation
from engine.core.powers import POWERS, Power, is_differentiated, is_power, smooth_power
from engine.core.table import CALLS
from engine.core.tracer import Tracer, check_alive, concrete, differentiated, lowered, shown
from engine.core.values import Shape, dtype_of, shape_of
from engine.tracers.reverse import Tape


class Dual(Tracer):
    """A value with its tangent; None stands for a tangent of zero.

    Lengths and what may be a power of one remember their operands, as nodes of a tape do.
    """

    __slots__ = ("_attrs", "_op", "_parents", "_saved", "primal", "tangent")
    carries_derivative = True

    _content = ("primal", "tangent")

    # Set where there is an _op.
    _parents: tuple[Any, ...]
    _saved: tuple[Any, ...]
    _attrs: Attributes | None

    def __init__(self, primal: Any, tangent: Any, forward: "Forward") -> None:
        self.recorder = forward
        self.primal = primal
        self.tangent = tangent
        self._op: Any = None

    @property
    def held(self) -> tuple[Any, ...]:
        """The value and its tangent."""
        return self.primal, self.tangent

    @property
    def shape(self) -> Shape:
        """Lengths of the axes."""
        return shape_of(self.primal)

    @property
    def dtype(self) -> Any:
        """The dtype."""
        return dtype_of(self.primal)

    def concrete(self) -> Any:
        """The number behind it."""
        check_alive(self.recorder)
        return concrete(self.primal)

    def is_differentiated(self) -> bool:
        """Return whether it has a tangent, or a derivative of a transform around."""
        return (self.tangent is not None and records_since(self.recorder._began)) or differentiated(self.primal)

    def _shown(self) -> str:
        return shown(self.primal)


class Forward:
    """Carries tangents from the operands of every operation to its result.

    has_choices: whether an operation so far may have left out elements, see `masking`.
    through_powers: tangents are differentiated again in a way that the values do not show, see `powers`.
    """

    is_over = False

    def __init__(self, level: int, transform: str = "jvp", *, through_powers: bool = False) -> None:
        self.level = level
        self.through_powers = through_powers
        self.has_choices = False
        self.transform = transform
        self._began = off_since()

    def pair(self, primal: Any, tangent: Any = None) -> Dual:
        """A value with a tangent of its shape and dtype."""
        return Dual(primal, tangent, self)

    def parts(self, value: Any) -> tuple[Any, Any]:
        """A value and its tangent, which is None where it is zero."""
        mine = isinstance(value, Dual) and value.recorder is self
        return (value.primal, value.tangent) if mine else (value, None)

    def joined(self, parts: Iterable[Any]) -> Dual:
        """A value of its parts."""
        primal, tangent = parts
        return Dual(primal, tangent, self)

    def record(self, op: Operation, args: tuple[Any, ...], attrs: Attributes, **extra: Any) -> Dual:
        """Runs an operation on primals, and its derivative on tangents."""
        pairs = [self.parts(x) for x in args]
        primals = tuple(
            lowered(p) if isinstance(x, Dual) else operand(op, p) for x, (p, _) in zip(args, pairs, strict=True)
        )
        tangents = [t for _, t in pairs]
        self.has_choices = self.has_choices or selects(op)
        y = Dual(apply(op, primals, attrs, **extra), None, self)
        if records_since(self._began):
            lengths = _remembered(y, op, args, primals, attrs)
            y.tangent = push_power(lengths, y.primal) if lengths else push(op, primals, tangents, y.primal, attrs)
        return y


def _remembered(y: Dual, op: Operation, args: tuple[Any, ...], primals: tuple[Any, ...], attrs: Attributes) -> Any:
    """Makes a node of a length or of a power of one; returns the lengths that it is a smooth power of."""
    if not (op.power_vjps or op.name in POWERS) or not (y.recorder.through_powers or is_differentiated(y.primal)):
        return None
    y._op, y._saved, y._attrs = op, primals, attrs
    y._parents = tuple(x if isinstance(x, Dual) and x.recorder is y.recorder else None for x in args)
    if not is_power(y):
        y._op = None
    return smooth_power(y)


def push_power(lengths: list[tuple[Any, Any]], y: Any) -> Any:
    """The tangent of a smooth power of lengths, from the tangents of their operands."""
    total: Any = None
    for v, power in lengths:
        tangents = [None if p is None else p.tangent for p in v._parents]
        part = push(power, v._saved, tangents, y, v._attrs or {})
        if part is not None:
            total = part if total is None else total + part
    return total


def push(op: Operation | Power, xs: Sequence[Any], tangents: Sequence[Any], y: Any, attrs: Attributes) -> Any:
    """The tangent of `y = op(*xs)`, None where it is zero.

    Which way follows from the row's kind: an elementwise row's vjp applied to a tangent is its jvp, a linear row
    applies itself, a bilinear one substitutes each operand, and any other transposes its vjp.
    """
    tangents = [lowered(t) for t in tangents]
    moved = [i for i, t in enumerate(tangents) if t is not None and op.is_smooth(i)]
    if not moved or not op.is_differentiable or dtype_of(y).kind != "f":
        return None
    if isinstance(op, Operation) and op.kind == "linear":
        full = [
            x if not op.is_smooth(i) else CALLS["zeros_like"](x) if t is None else t
            for i, (x, t) in enumerate(zip(xs, tangents, strict=True))
        ]
        return _like(apply(op, tuple(full), attrs), y)
    total: Any = None
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


def _transposed(op: Operation | Power, i: int, t: Any, xs: Sequence[Any], y: Any, attrs: Attributes) -> Any:
    """A vjp is linear in its cotangent: the pass back over the vjp, from the tangent, is the jvp."""
    tape = Tape(_above([t, y, *xs]))
    g = tape.leaf(CALLS["zeros_like"](y))
    gx = op.cotangent(i, g, y, xs, attrs)
    if tape.data(gx) is gx:
        return None
    # The supports of the tangent are the business of whoever gave it.
    return gradients([(fitted(gx, xs[i]), t)], [g], supports=False)[0]


def _above(values: Sequence[Any]) -> int:
    return 1 + max((x.recorder.level for x in values if isinstance(x, Tracer)), default=0)


def _like(tangent: Any, y: Any) -> Any:
    """A tangent in the shape and dtype of its primal."""
    if shape_of(tangent) != shape_of(y):
        tangent = CALLS["broadcast_to"](tangent, shape_of(y))
    if dtype_of(tangent) != dtype_of(y):
        tangent = CALLS["astype"](tangent, str(dtype_of(y)))
    return tangent
