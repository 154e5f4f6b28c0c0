"""Reverse and forward mode as tracers: what they hold may itself be traced, so that derivatives nest in any order.

A `Tape` remembers operations as variables do, for values of any kind; the pass back over it is that of `backward`. A
`Forward` carries a tangent beside each value. Both take their derivatives from the rows' vjps, and from nowhere else.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from engine.backward import fitted, gradients
from engine.config import is_recording, off_since
from engine.dispatch import apply, operand
from engine.errors import StaleDataError
from engine.masking import selects
from engine.powers import POWERS, is_differentiated, is_power, smooth_power
from engine.symbol import Tracer, check_alive, concrete, differentiated, lowered, shown
from engine.table import CALLS
from engine.values import Shape, dtype_of, frozen, shape_of
from engine.variable import Variable


class Taped(Tracer):
    """A value on a tape, a leaf where no operation made it; with a variable's fields, for the backward pass to read.

    generation: -1 for a constant, which depends on no leaf.
    """

    __slots__ = ("_attrs", "_data", "_grad", "_op", "_parents", "_saved", "generation")
    is_taped = True
    carries_derivative = True

    _content = Variable._content

    def __init__(self, data: Any, tape: "Tape") -> None:
        self.recorder = tape
        self._data = data
        self._op: Any = None
        self._parents: tuple[Any, ...] = ()
        self._saved: tuple[Any, ...] = ()
        self._attrs: dict[str, Any] | None = None
        self._grad = None
        self.generation = -1

    @property
    def held(self) -> tuple[Any, ...]:
        """The value without this tape."""
        return (self._data,)

    @property
    def shape(self) -> Shape:
        """Lengths of the axes."""
        return shape_of(self._data)

    @property
    def dtype(self) -> Any:
        """The dtype."""
        return dtype_of(self._data)

    def concrete(self) -> Any:
        """The number behind it."""
        check_alive(self.recorder)
        return concrete(self._data)

    def is_differentiated(self) -> bool:
        """Return whether it depends on a leaf of the tape, or of one around it."""
        return (self.generation >= 0 and _is_on(self.recorder._began)) or differentiated(self._data)

    def _shown(self) -> str:
        return shown(self._data)


class Tape:
    """Remembers every operation on its values for a pass back."""

    is_over = False

    def __init__(self, level: int, transform: str = "grad") -> None:
        self.level = level
        self.transform = transform
        self._began = off_since()
        self._variables: dict[Variable, Any] = {}

    def leaf(self, data: Any) -> Taped:
        """A value that the tape begins with."""
        x = Taped(data, self)
        x.generation = 0
        return x

    def data(self, value: Any) -> Any:
        """The value without this tape."""
        return value._data if isinstance(value, Taped) and value.recorder is self else value

    def record(self, op: Any, args: tuple[Any, ...], attrs: dict[str, Any], **extra: Any) -> Taped:
        """Runs an operation on what the tape's values hold, and remembers it."""
        mine = tuple(x if isinstance(x, Taped) and x.recorder is self else None for x in args)
        saved = tuple(self._constant(op, x) if t is None else lowered(t._data) for x, t in zip(args, mine, strict=True))
        y = Taped(apply(op, saved, attrs, **extra), self)
        generation = 1 + max(t.generation for t in mine if t is not None)
        if generation and op.is_differentiable and _is_on(self._began) and y.dtype.kind == "f":
            y._op = op
            y._parents = mine
            y._saved = tuple(x if t is None else t._data for x, t in zip(saved, mine, strict=True))
            y._attrs = attrs or None
            y.generation = generation
        return y

    def _constant(self, op: Any, x: Any) -> Any:
        """An operand that is not on this tape, as it is now: nobody may change it before the pass back."""
        x = operand(op, x)
        if type(x) is Variable:
            self._variables.setdefault(x, x._data)
        return frozen(x) if type(x) is np.ndarray else x

    def check_fresh(self) -> None:
        """Makes sure that variables which the tape read have their data still.

        Raises:
            StaleDataError: one has other data by now.
        """
        if any(v._data is not data for v, data in self._variables.items()):
            raise StaleDataError("the data of a variable that the function used was replaced since; call it again")


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
    _attrs: dict[str, Any] | None

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
        return (self.tangent is not None and _is_on(self.recorder._began)) or differentiated(self.primal)

    def _shown(self) -> str:
        return shown(self.primal)


class Forward:
    """Carries tangents from the operands of every operation to its result.

    has_choices: whether an operation so far may have left out elements, see `masking`.
    """

    is_over = False

    def __init__(self, level: int, transform: str = "jvp") -> None:
        self.level = level
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

    def record(self, op: Any, args: tuple[Any, ...], attrs: dict[str, Any], **extra: Any) -> Dual:
        """Runs an operation on primals, and its derivative on tangents."""
        pairs = [self.parts(x) for x in args]
        primals = tuple(
            lowered(p) if isinstance(x, Dual) else operand(op, p) for x, (p, _) in zip(args, pairs, strict=True)
        )
        tangents = [t for _, t in pairs]
        self.has_choices = self.has_choices or selects(op)
        y = Dual(apply(op, primals, attrs, **extra), None, self)
        if _is_on(self._began):
            lengths = _remembered(y, op, args, primals, attrs)
            y.tangent = push_power(lengths, y.primal) if lengths else push(op, primals, tangents, y.primal, attrs)
        return y


def _remembered(y: Dual, op: Any, args: tuple[Any, ...], primals: tuple[Any, ...], attrs: dict[str, Any]) -> Any:
    """Makes a node of a length or of a power of one; returns the lengths that it is a smooth power of."""
    if not (op.power_vjps or op.name in POWERS) or not is_differentiated(y.primal):
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


def _is_on(began: Any) -> bool:
    """Whether derivatives are wanted: a span of no_grad that began inside of theirs turns them off."""
    return is_recording() or off_since() is began


def push(op: Any, xs: Sequence[Any], tangents: Sequence[Any], y: Any, attrs: dict[str, Any]) -> Any:
    """The tangent of `y = op(*xs)`, None where it is zero.

    Which way follows from the row's kind: an elementwise row's vjp applied to a tangent is its jvp, a linear row
    applies itself, a bilinear one substitutes each operand, and any other transposes its vjp.
    """
    tangents = [lowered(t) for t in tangents]
    moved = [i for i, t in enumerate(tangents) if t is not None and is_smooth(op, i)]
    if not moved or not op.is_differentiable or dtype_of(y).kind != "f":
        return None
    if op.kind == "linear":
        full = [
            x if not is_smooth(op, i) else CALLS["zeros_like"](x) if t is None else t
            for i, (x, t) in enumerate(zip(xs, tangents, strict=True))
        ]
        return _like(apply(op, tuple(full), attrs), y)
    total: Any = None
    for i in moved:
        t = tangents[i]
        if op.kind == "bilinear":
            part = apply(op, (*xs[:i], t, *xs[i + 1 :]), attrs)
        elif op.kind == "elementwise":
            part = op.vjps[i](t, y, *xs, **attrs)
        else:
            part = _transposed(op, i, t, xs, y, attrs)
        if part is not None:
            part = _like(part, y)
            total = part if total is None else total + part
    return total


def is_smooth(op: Any, i: int) -> bool:
    """Whether a row has a derivative in one of its operands."""
    return op.vjp is not None or op.vjps[i] is not None


def _transposed(op: Any, i: int, t: Any, xs: Sequence[Any], y: Any, attrs: dict[str, Any]) -> Any:
    """A vjp is linear in its cotangent: the pass back over the vjp, from the tangent, is the jvp."""
    tape = Tape(_above([t, y, *xs]))
    g = tape.leaf(CALLS["zeros_like"](y))
    gx = op.vjp(g, y, *xs, **attrs)[i] if op.vjp else op.vjps[i](g, y, *xs, **attrs)
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
