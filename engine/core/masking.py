"""Structural zeros: cotangents and tangents with their supports.

A choice (`where`, a slice, a maximum) takes some elements and leaves out others. An element that was left out must not
contribute to a derivative, whatever its value: 0 times an infinite slope would be NaN. A `Masked` value holds a
cotangent or tangent with its support, the elements to which a taken branch leads; outside the support the value is
exactly 0. A row's vjp consists of calls of other rows, so the supports are propagated by a rule for each kind of row;
the rows themselves contain nothing for it.

A pass without supports gives the same result wherever that is finite, since derivatives are linear and 0 times a finite
slope is 0. Therefore the first pass is plain, and a second pass tracks supports only if the first result is not finite:
see `run_settled`.
"""

from collections.abc import Callable, Iterable, Sequence
from math import isfinite
from typing import Any

import numpy as np

from engine.core.attributes import Attributes
from engine.core.operation import Example, Operation, example_operands
from engine.core.operators import Result
from engine.core.powers import may_be_differentiated
from engine.core.table import ROW_CALLS
from engine.core.tracer import Symbol, Tracer, as_strong, concrete, top
from engine.core.values import DType, Operand, Shape, Value, dtype_of, shape_of

#: True everywhere, False nowhere, or a mask that broadcasts to the value; None for a value without a support.
Support = Any
#: A value and its support.
Part = tuple[Result, Support]

#: Above all other tracers: a Masked value holds other tracers, never the reverse.
_LEVEL = 2**40
#: Length from which a vector is long.
LONG = 8192
#: Linear rows in which every element of the result depends on an element of the operand.
_FILLING = frozenset("astype broadcast_to concat cumulative_sum mean reshape slice sum sum_to take transpose".split())


class Masked(Tracer):
    """A cotangent or tangent that is 0 outside its support."""

    __slots__ = ("support", "value")

    _content = ("value", "support")

    def __init__(self, value: Operand, support: Support, recorder: "Masking | None" = None) -> None:
        self.value = value
        self.support = support
        self.recorder = recorder or _MASKING

    @property
    def shape(self) -> Shape:
        """Lengths of the axes."""
        return shape_of(self.value)

    @property
    def dtype(self) -> DType:
        """The dtype."""
        return dtype_of(self.value)

    @property
    def held(self) -> tuple[Operand]:
        """The value."""
        return (self.value,)

    @property
    def _may_be_differentiated(self) -> bool:
        return may_be_differentiated(self.value)

    def concrete(self) -> Value:
        """Return the number that the value represents."""
        return concrete(self.value)


class Masking:
    """Recorder that computes values with their supports.

    merges: replace a known mask that is all true (all false) by True (False).
    """

    level = _LEVEL
    transform = "backward"
    is_over = False

    def __init__(self, *, merges: bool = True) -> None:
        self._merges = merges

    def record(self, op: Operation, args: tuple[Operand, ...], attrs: Attributes, **extra: object) -> Masked:
        """Run an operation and compute the support of its result."""
        rule = _RULES.get(op.name) or _BY_KIND.get(op.kind, _stopped)
        values = [as_strong(x.value) if isinstance(x, Masked) else x for x in args]
        # None for an operand that is not masked.
        supports = [x.support if isinstance(x, Masked) else None for x in args]
        y, support = rule(op, values, supports, attrs)
        return Masked(y, self.merged(support), self)

    def merged(self, support: Support) -> Support:
        """Simplify a support: strip derivatives; replace a mask by True or False if it is known to be uniform."""
        while getattr(support, "carries_derivative", False):
            support = support.held[0]
        if self._merges and type(support) is np.ndarray:
            return True if support.all() else support if support.any() else False
        return support


_MASKING = Masking()
_PROBING = Masking(merges=False)


def full_support(value: Operand) -> Masked:
    """Wrap a user's cotangent or tangent: full support, as a 0 in it is a number like any other."""
    return Masked(value, True)


def nonzero(value: Operand) -> Masked:
    """Wrap a cotangent or tangent whose zeros are structural, like those of a basis."""
    return Masked(value, _MASKING.merged(ROW_CALLS["not_equal"](value, 0.0)))


def mark_zeros(g: Operand, condition: Callable[[], Operand]) -> Result:
    """Return cotangent `g`, which is already 0 where a condition does not hold; those zeros become structural.

    condition: return the mask; called only if `g` carries a support or is on a tape.
    """
    if isinstance(g, Masked) or getattr(g, "is_taped", False):
        return ROW_CALLS["where"](condition(), g, 0.0)
    return g


def unmask(value: Operand | None) -> Result:
    """Return the plain value, 0.0 outside its support."""
    if not isinstance(value, Masked):
        return value
    if value.support is True:
        return value.value
    # A zero that was negated is -0.0.
    return _reset(value.support, value.value)


def selects(op: Operation) -> bool:
    """Return whether an operation can leave out elements of its operands, so that its vjp makes structural zeros."""
    if op.selects is None:
        op.selects = bool(op.is_differentiable) and op.body is None and any(_leaves_out(op, ex) for ex in op.examples)
    return op.selects


def _leaves_out(op: Operation, example: Example) -> bool:
    """Return whether the vjps of an operation, run on an example, make structural zeros."""
    xs, attrs = example_operands(op, example)
    with np.errstate(all="ignore"):
        y = op.run(tuple(xs), attrs)
        g = Masked(ROW_CALLS["ones_like"](y), True, _PROBING)
        found = op.cotangents(g, y, xs, attrs)
    return any(isinstance(gx, Masked) and gx.support is not True for gx in found)


#: Result of `_lowest` for values on a tape or with a support.
_RECORDED = object()


def _lowest(values: Sequence[Operand | None]) -> Any:
    """Return the innermost recorder of some values: None for plain numbers, the trace of symbols, or _RECORDED."""
    found = None
    for x in values:
        if type(x) is float or type(x) is np.ndarray or x is None:
            continue
        if getattr(x, "is_taped", False) or isinstance(x, Masked):
            return _RECORDED
        own = x.recorder if isinstance(x, Symbol) else _lowest(x.held) if isinstance(x, Tracer) else None
        if own is _RECORDED:
            return _RECORDED
        found = found or own
    return found


def run_settled(
    known: Sequence[Operand | None],
    run: Callable[[bool], list[Result]],
    may_differ: Callable[[], bool] = lambda: True,
) -> list[Result]:
    """Run a pass and return its results; track supports if they may change the results.

    known: values in the pass that are available before it runs.
    run: the pass, with supports (True) or without; returns cotangents or tangents, None for zeros.
    may_differ: return, after a plain pass, whether an operation in it makes structural zeros.

    A pass on a tape tracks supports, so that they are recorded for further derivatives. A pass on numbers is plain, and
    is repeated with supports if a result is not finite. A pass on symbols is traced both ways, and the plan chooses at
    run time.
    """
    if _lowest(known) is _RECORDED:
        return run(True)
    plain = run(False)
    if not may_differ():
        return plain
    found = _lowest(plain)
    if found is _RECORDED:
        return run(True)
    if found is None:
        with np.errstate(all="ignore"):
            is_settled = are_finite(plain)
        return plain if is_settled else run(True)
    with found.uncounted():
        return [_either(p, m) for p, m in zip(plain, run(True), strict=True)]


def are_finite(values: Iterable[Value]) -> bool:
    """Return whether all elements of raw values, None and tracers of raw values are finite."""
    for x in values:
        kind = type(x)
        if kind is np.ndarray:
            flat = x if x.ndim == 1 else x.ravel("K")
            # A dot product takes half the time of a sum, but a long one waits for BLAS threads. Both may overflow.
            total = flat.dot(flat) if flat.size < LONG else np.add.reduce(flat)
            if not (isfinite(total) or np.isfinite(x).all()):
                return False
        elif kind is float:
            if x - x != 0.0:
                return False
        elif isinstance(x, Tracer):
            if not are_finite(x.held):
                return False
        elif x is not None and not np.isfinite(x):
            return False
    return True


def _either(plain: Operand | None, masked: Operand | None) -> Result:
    """Join the results without and with supports inside the tracers that hold them; None is zero."""
    if plain is masked:
        return plain
    if plain is None or masked is None:
        zeros = ROW_CALLS["zeros_like"](masked if plain is None else plain)
        plain, masked = (zeros, masked) if plain is None else (plain, zeros)
    if not isinstance(plain, Tracer) and not isinstance(masked, Tracer):
        return masked
    recorder = top((plain, masked))
    if isinstance(plain, Symbol) or isinstance(masked, Symbol):
        return recorder.alternative(plain, masked)
    return recorder.joined(map(_either, recorder.parts(plain), recorder.parts(masked)))


# Rules: (operation, values, supports, attributes) -> value and support of the result.


def _reset(support: Support, y: Operand) -> Result:
    """Set a value to 0 outside its support; it stays on its tape even if it is 0 everywhere."""
    return y if support is True else ROW_CALLS["where"](support, y, 0.0)


def _both(a: Support, b: Support) -> Support:
    if a is True or b is False:
        return b
    return a if b is True or a is False else ROW_CALLS["logical_and"](a, b)


def _any(a: Support, b: Support) -> Support:
    if a is False or b is True:
        return b
    return a if b is False or a is True else ROW_CALLS["logical_or"](a, b)


def _chosen(op: Operation, values: list[Result], supports: list[Support], attrs: Attributes) -> Part:
    """Rule of `where`. A vjp is linear in its cotangent, so a plain branch is 0, or NaN from one of its operands."""
    condition, *branches = values
    y = op.run(tuple(values), attrs)
    first, second = supports[1:]
    if first is None and second is None:
        return y, True
    if first is second:
        return y, first
    is_first = condition if dtype_of(condition).kind == "b" else ROW_CALLS["not_equal"](condition, 0.0)
    if first is not None and second is not None:
        return y, _any(_both(is_first, first), _both(ROW_CALLS["logical_not"](is_first), second))
    support, other = (first, branches[1]) if second is None else (second, branches[0])
    mine = is_first if second is None else ROW_CALLS["logical_not"](is_first)
    if type(other) in (float, int) and other == 0:
        return y, _both(support, mine)
    support = _both(support, _any(mine, ROW_CALLS["not_equal"](other, 0.0)))
    return _reset(support, y), support


def _added(op: Operation, values: list[Result], supports: list[Support], attrs: Attributes) -> Part:
    """Rule of sums: the support is the union of the operands' supports."""
    first, second = (True if s is None else s for s in supports)
    return op.run(tuple(values), attrs), _any(first, second)


def _scaled(op: Operation, values: list[Result], supports: list[Support], attrs: Attributes) -> Part:
    """Rule of elementwise rows: reset the result outside the support, where the slope may be infinite."""
    support: Support = False
    is_tame = True
    for x, s in zip(values, supports, strict=True):
        if s is not None:
            support = _any(support, s)
        elif not (type(x) in (float, int) and isfinite(x) and x != 0):
            is_tame = False
    y = op.run(tuple(values), attrs)
    return (y if is_tame else _reset(support, y)), support


def _moved(op: Operation, values: list[Result], supports: list[Support], attrs: Attributes) -> Part:
    """Rule of linear rows: the support moves with the elements; a plain operand beside it is a buffer of zeros."""
    y = op.run(tuple(values), attrs)
    smooth = [i for i in range(len(values)) if op.vjp is not None or op.vjps[i] is not None]
    given = [False if supports[i] is None else supports[i] for i in smooth]
    if all(s is True for s in given) and op.name in _FILLING:
        return y, True
    if all(s is False for s in given):
        return y, False
    ones = list(values)
    for i, s in zip(smooth, given, strict=True):
        ones[i] = _numbers(s, values[i])
    return y, ROW_CALLS["not_equal"](op.run(tuple(ones), attrs), 0.0)


def _numbers(support: Support, like: Operand) -> Result:
    """Convert a support to ones and zeros in the shape of a value."""
    ones = ROW_CALLS["ones_like"](like)
    return as_strong(_reset(support, ones))


def _contracted(op: Operation, values: list[Result], supports: list[Support], attrs: Attributes) -> Part:
    """Rule of matrix products: elements outside the support contribute nothing, even times an infinite factor."""
    y = op.run(tuple(values), attrs)
    i = 0 if supports[1] is None else 1
    support, other = supports[i], values[1 - i]
    if support is True or supports[1 - i] is not None:
        return y, True
    if support is False:
        return _reset(False, y), False

    def product(first: Operand, second: Operand) -> Result:
        pair = (first, second) if i == 0 else (second, first)
        return op.run(pair, attrs)

    weights = _numbers(support, values[i])
    reached = ROW_CALLS["not_equal"](product(weights, ROW_CALLS["ones_like"](other)), 0.0)
    is_finite = ROW_CALLS["isfinite"](other)
    if type(is_finite) is np.ndarray and is_finite.all():
        return y, reached
    wild = product(weights, ROW_CALLS["where"](is_finite, 0.0, ROW_CALLS["ones_like"](other)))
    tame = product(values[i], ROW_CALLS["where"](is_finite, other, 0.0))
    return ROW_CALLS["where"](ROW_CALLS["not_equal"](wild, 0.0), y, tame), reached


def _nowhere(op: Operation, values: list[Result], supports: list[Support], attrs: Attributes) -> Part:
    return op.run(tuple(values), attrs), False


def _stopped(op: Operation, values: list[Result], supports: list[Support], attrs: Attributes) -> Part:
    """Rule of all other rows: every element of the result may depend on every element of the operands."""
    return op.run(tuple(values), attrs), True


_Rule = Callable[[Operation, list[Result], list[Support], Attributes], Part]
_RULES: dict[str, _Rule] = {
    "where": _chosen,
    "add": _added,
    "sub": _added,
    "matmul": _contracted,
    "zeros_like": _nowhere,
}
_BY_KIND: dict[str, _Rule] = {"elementwise": _scaled, "bilinear": _scaled, "linear": _moved}
