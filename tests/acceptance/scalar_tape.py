"""The oracle for branches: reverse mode over single numbers, in which Python itself picks each branch.

A branch that is not taken is not on the tape, so it cannot contribute anything. A node's rules are made of nodes again,
so gradients can be differentiated. Nothing here knows of arrays, masks or supports.

Two flags mark what the contract leaves open, so that a comparison can leave it out: `open1` where already the gradient
is open (a maximum of a NaN and a number: which operand gets the NaN?), `open2` where only second derivatives are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

Rule = Callable[["Node"], Any]


class AmbiguousBranchError(Exception):
    """Rounding could decide a branch: such a program proves nothing."""


class Node:
    """A number, and for each parent the rule that carries a cotangent to it."""

    def __init__(self, value: Any, parents: Sequence[tuple[Node, Rule]] = (), *, open1: bool = False) -> None:
        self.value = np.float64(value)
        self.parents = parents
        self.open1 = open1
        self.open2 = open1 or not np.isfinite(self.value)


def value(x: Any) -> np.float64:
    return x.value if isinstance(x, Node) else np.float64(x)


def node(y: Any, *parents: tuple[Any, Callable[[Any], Any]], open1: bool = False) -> Any:
    """Return a number where nothing is differentiated, otherwise a node."""
    kept = [(x, rule) for x, rule in parents if isinstance(x, Node)]
    return Node(y, kept, open1=open1) if kept else np.float64(y)


def add(a: Any, b: Any) -> Any:
    return node(value(a) + value(b), (a, lambda g: g), (b, lambda g: g))


def neg(a: Any) -> Any:
    return node(-value(a), (a, neg))


def sub(a: Any, b: Any) -> Any:
    return add(a, neg(b))


def mul(a: Any, b: Any) -> Any:
    return node(value(a) * value(b), (a, lambda g: mul(g, b)), (b, lambda g: mul(g, a)))


def inverse(a: Any) -> Any:
    y = node(1.0 / value(a), (a, lambda g: neg(mul(g, power(a, -2.0)))))
    return singular(y, value(a) == 0)


def power(a: Any, p: float) -> Any:
    y = node(np.power(value(a), p), (a, lambda g: mul(g, mul(p, power(a, p - 1.0)))))
    return singular(y, value(a) == 0 and p != int(p))


def sqrt(a: Any) -> Any:
    near(a, 0.0)
    y = node(np.sqrt(value(a)), (a, lambda g: mul(g, mul(0.5, power(a, -0.5)))))
    return singular(y, value(a) == 0)


def log(a: Any) -> Any:
    near(a, 0.0)
    return node(np.log(value(a)), (a, lambda g: mul(g, inverse(a))))


def exp(a: Any) -> Any:
    return node(np.exp(value(a)), (a, lambda g: mul(g, exp(a))))


def asin(a: Any) -> Any:
    near(a, 1.0)
    near(a, -1.0)
    y = node(np.arcsin(value(a)), (a, lambda g: mul(g, power(sub(1.0, mul(a, a)), -0.5))))
    return singular(y, abs(value(a)) == 1)


def singular(y: Any, where: bool) -> Any:
    if where and isinstance(y, Node):
        y.open2 = True
    return y


def near(a: Any, b: Any) -> None:
    """Refuse what rounding could push over an edge; exactly on the edge is fine."""
    gap = abs(value(a) - value(b))
    if 0 < gap < 1e-9:
        raise AmbiguousBranchError


def greater(a: Any, b: Any) -> bool:
    near(a, b)
    return bool(value(a) > value(b))


def relu(a: Any) -> Any:
    """0 at 0, by the contract; NaN in gives NaN out, also in the gradient."""
    if math.isnan(value(a)):
        return node(math.nan, (a, lambda g: mul(g, math.nan)))
    return a if greater(a, 0.0) else np.float64(0.0)


def clip(a: Any, low: float, high: float) -> Any:
    """No gradient at a bound, by the contract."""
    if math.isnan(value(a)):
        return node(math.nan, (a, lambda g: mul(g, math.nan)))
    if not greater(a, low):
        return np.float64(low)
    return a if greater(high, a) else np.float64(high)


def largest(xs: Sequence[Any], sign: float = 1.0) -> Any:
    """Largest of several (smallest where sign is -1); ties share the gradient equally."""
    if any(math.isnan(value(x)) for x in xs):
        return node(math.nan, *((x, lambda g: mul(g, math.nan)) for x in xs), open1=True)
    top = max(sign * value(x) for x in xs) * sign
    for x in xs:
        near(x, top)
    ties = [x for x in xs if value(x) == top]
    share = 1.0 / len(ties)
    return node(top, *((x, lambda g: mul(g, share)) for x in ties))


def total(xs: Iterable[Any]) -> Any:
    y: Any = np.float64(0.0)
    for x in xs:
        y = add(y, x) if isinstance(x, Node) or isinstance(y, Node) else y + x
    return y


def norm(xs: Sequence[Any]) -> Any:
    y = sqrt(total(mul(x, x) for x in xs))
    return opened(y, value(y) == 0 or not np.isfinite(value(y)))


def std(xs: Sequence[Any]) -> Any:
    mean = mul(total(xs), 1.0 / len(xs))
    squares = total(mul(sub(x, mean), sub(x, mean)) for x in xs)
    if abs(value(squares)) < 1e-18:
        raise AmbiguousBranchError
    y = sqrt(mul(squares, 1.0 / len(xs)))
    return opened(y, not np.isfinite(value(y)))


def logsumexp(xs: Sequence[Any]) -> Any:
    if not all(np.isfinite(value(x)) for x in xs):
        return node(math.nan, *((x, lambda g: mul(g, math.nan)) for x in xs), open1=True)
    shift = max(value(x) for x in xs)
    return add(log(total(exp(sub(x, shift)) for x in xs)), shift)


def opened(y: Any, where: bool) -> Any:
    """Mark a kink or an infinity of a row of several operands: what each gets is the row's own affair."""
    if where and isinstance(y, Node):
        y.open1 = y.open2 = True
    return y


def order_of(roots: Iterable[Any]) -> list[Node]:
    """Ancestors before descendants, without recursion."""
    done: dict[int, Node] = {}
    stack = [(r, False) for r in roots if isinstance(r, Node)]
    while stack:
        n, ready = stack.pop()
        if ready:
            done.setdefault(id(n), n)
        elif id(n) not in done:
            stack.append((n, True))
            stack.extend((p, False) for p, _ in n.parents if id(p) not in done)
    return list(done.values())


def gradients(y: Any, leaves: Sequence[Node], seeds: Sequence[Any] | None = None) -> list[Any]:
    """Gradients of a number, or of several with equal weights, as numbers or nodes."""
    outputs = [y] if seeds is None else list(seeds)
    cotangents: dict[int, Any] = {}
    for out in outputs:
        if isinstance(out, Node):
            cotangents[id(out)] = np.float64(1.0) + cotangents.get(id(out), 0.0)
    for n in reversed(order_of(outputs)):
        g = cotangents.get(id(n))
        for parent, rule in n.parents if g is not None else ():
            gx = rule(g)
            cotangents[id(parent)] = add(cotangents[id(parent)], gx) if id(parent) in cotangents else gx
    return [cotangents.get(id(x), np.float64(0.0)) for x in leaves]


def open_leaves(outputs: Iterable[Any], leaves: Sequence[Node], flag: str) -> list[bool]:
    """Return for each leaf whether it is reached from an output through a flagged node."""
    reached: set[int] = set()
    for n in reversed(order_of(outputs)):
        if getattr(n, flag) or id(n) in reached:
            reached.update(id(p) for p, _ in n.parents)
    return [id(x) in reached or getattr(x, flag) for x in leaves]
