"""Powers of lengths: norm(x)**2 has all derivatives at 0, where norm(x) itself has none.

A row whose result is a length (`norm`, `hypot`, `abs`) has `power_vjps`. A power of a length, or a product of such
powers, with a total exponent of 2 or more is differentiated directly with respect to the operands of the length,
because the chain rule would go through the derivatives of the length. Its value is not changed. A first derivative that
is not differentiated again is correct by the chain rule, and is computed by it.
"""

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

import numpy as np

from engine.core.attributes import Attributes
from engine.core.operation import Operation
from engine.core.tracer import Symbol
from engine.core.values import Operand, Value

#: Rows that compute powers or products of powers.
POWERS = frozenset({"mul", "pow", "square"})
#: Least exponent with which a power of a length has two derivatives at 0.
_LEAST = 2.0
#: Maximum depth of the search through powers, and through operands computed twice.
_DEEPEST = 8


class Node(Protocol):
    """Object with the fields of a variable that tell how it was computed."""

    #: An `Operation`; None for a leaf, which passes do not ask further.
    _op: Any
    _parents: tuple[Any, ...]
    _saved: tuple[Value, ...]
    _attrs: Attributes | None


AnyNode = TypeVar("AnyNode", bound=Node)


class Power:
    """Row-like derivative rule of a smooth power with total exponent p, for the operands of its factor length**c."""

    is_differentiable = True

    def __init__(self, row: Operation, c: float, p: float) -> None:
        self.kind = row.kind
        self._vjps, self._c, self._p = row.power_vjps, c, p

    def is_smooth(self, i: int) -> bool:
        """Return True: a smooth power has a derivative in every operand."""
        return True

    def cotangent(self, i: int, g: Operand, y: Operand, xs: Sequence[Operand], attrs: Attributes) -> Operand:
        """Return the cotangent of operand i of the length."""
        return self._vjps[i](g, self._c, self._p, *xs, **attrs)


def smooth_power(v: AnyNode) -> list[tuple[AnyNode, Power]] | None:
    """Return the length nodes of a smooth power, each with its derivative rule; None if `v` is not a smooth power."""
    found = _factors(v, _DEEPEST)
    if not found:
        return None
    p = sum(found.values())
    first, *others = found
    if p < _LEAST or first is v or not all(_have_like_operands(first, other, _DEEPEST) for other in others):
        return None
    return [(length, Power(length._op, c, p)) for length, c in found.items()]


def may_be_differentiated(value: object) -> bool:
    """Return whether a value is on a tape or has a tangent: a result computed from it may be differentiated again."""
    return bool(getattr(value, "_may_be_differentiated", False))


def is_power(v: Node) -> bool:
    """Return whether a node is a length or a product of powers of lengths."""
    return _factors(v, _DEEPEST) is not None


def _factors(v: AnyNode, depth: int) -> dict[AnyNode, float] | None:
    """Return the lengths of a product of powers, with their exponents; None if `v` is not such a product."""
    op = getattr(v, "_op", None)
    if op is None or not depth:
        return None
    if op.power_vjps:
        return {v: 1.0}
    if op.name not in POWERS:
        return None
    found = _factors(v._parents[0], depth - 1)
    if found is None:
        return None
    if op.name == "mul":
        others = _factors(v._parents[1], depth - 1)
        if others is None:
            return None
        return found | {length: c + found.get(length, 0.0) for length, c in others.items()}
    exponent = _number(v, 1) if op.name == "pow" else 2.0
    # Below 1 a power has no first derivative at 0.
    if exponent is None or exponent < 1:
        return None
    return {length: c * exponent for length, c in found.items()}


def _number(v: Node, i: int) -> float | None:
    """Return the number of a constant operand; None if it may be differentiated or is not a known number."""
    x = v._saved[i]
    if getattr(v._parents[i], "carries_derivative", False):
        return None
    if type(x) is Symbol:
        x = x.recorder.known(x)
    is_number = isinstance(x, float | int | np.generic) or (isinstance(x, np.ndarray) and not x.ndim)
    return float(x) if is_number else None


def _have_like_operands(a: Node, b: Node, depth: int) -> bool:
    """Return whether two nodes are results of the same operation on equal operands."""
    given, other = ((v._attrs or None, v._parents, v._saved) for v in (a, b))
    return a._op is b._op and not a._op.random and _are_alike(given, other, depth)


def _are_alike(a: Any, b: Any, depth: int) -> bool:
    """Return whether two values come from equal values by the same operations: they have the same derivatives."""
    if a is b:
        return True
    if not depth or type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=True)
    if isinstance(a, tuple):
        return len(a) == len(b) and all(_are_alike(x, y, depth) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_are_alike(a[key], b[key], depth) for key in a)
    content: Sequence[str] | None = getattr(a, "_content", None)
    if content is None:
        return bool(a == b or (a != a and b != b))
    if not content or getattr(a, "recorder", None) is not getattr(b, "recorder", None):
        return False
    if "_data" in content and (a._op is None or not _have_like_operands(a, b, depth - 1)):
        return False
    return all(_are_alike(getattr(a, name), getattr(b, name), depth - 1) for name in content)
