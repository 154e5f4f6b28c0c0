"""A second way to derivatives: a tape of single numbers on which Python itself picks the branch.

A branch that was not taken is not on the tape at all, so nothing can come back from it. Derivatives are made of the
same numbers, so that they can be differentiated again.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Vjp = Callable[["Number"], Sequence["Number"]]


class Number:
    """A number, what it was computed from, and how a cotangent of it comes back to that."""

    def __init__(self, value: float, operands: Sequence["Number"] = (), vjp: Vjp | None = None) -> None:
        self.value = np.float64(value)
        self.operands = operands
        self.vjp = vjp

    def __add__(self, other: "Number") -> "Number":
        return Number(self.value + other.value, (self, other), lambda g: (g, g))

    def __mul__(self, other: "Number") -> "Number":
        return Number(self.value * other.value, (self, other), lambda g: (g * other, g * self))

    def __truediv__(self, other: "Number") -> "Number":
        y = Number(self.value / other.value, (self, other), lambda g: (g / other, Number(-1.0) * g / other * y))
        return y


def sqrt(x: Number) -> Number:
    y = Number(np.sqrt(x.value), (x,), lambda g: (g / (Number(2.0) * y),))
    return y


def log(x: Number) -> Number:
    return Number(np.log(x.value), (x,), lambda g: (g / x,))


def exp(x: Number) -> Number:
    y = Number(np.exp(x.value), (x,), lambda g: (g * y,))
    return y


def power(x: Number, exponent: float) -> Number:
    return Number(x.value**exponent, (x,), lambda g: (g * (Number(exponent) * power(x, exponent - 1.0)),))


def asin(x: Number) -> Number:
    one, minus = Number(1.0), Number(-1.0)
    return Number(np.arcsin(x.value), (x,), lambda g: (g / sqrt((one + minus * x) * (one + x)),))


def maximum(a: Number, b: Number) -> Number:
    """The larger one; a tie is shared, and beside NaN both have NaN."""
    if np.isnan(a.value) or np.isnan(b.value):
        return Number(np.nan, (a, b), lambda g: (g * Number(np.nan), g * Number(np.nan)))
    if a.value == b.value:
        return Number(a.value, (a, b), lambda g: (g * Number(0.5), g * Number(0.5)))
    return taken(a if a.value > b.value else b)


def clip(x: Number, low: float, high: float) -> Number:
    """Limited, with no derivative outside and at a bound."""
    if np.isnan(x.value):
        return Number(np.nan, (x,), lambda g: (g * Number(np.nan),))
    return taken(x) if low < x.value < high else Number(min(max(x.value, low), high))


def relu(x: Number) -> Number:
    return taken(x) if x.value == np.inf else clip(x, 0.0, np.inf)


def taken(x: Number) -> Number:
    return Number(x.value, (x,), lambda g: (g,))


def total(xs: Sequence[Number]) -> Number:
    found = Number(0.0)
    for x in xs:
        found = found + x
    return found


def gradient(y: Number, xs: Sequence[Number]) -> list[Number]:
    """What comes back to some numbers from a cotangent 1 of another; 0 where no way leads to it."""
    found: dict[int, Number] = {id(y): Number(1.0)}
    for node in _later_first(y):
        g = found.get(id(node))
        if node.vjp is None or g is None:
            continue
        for x, gx in zip(node.operands, node.vjp(g), strict=True):
            found[id(x)] = found[id(x)] + gx if id(x) in found else gx
    return [found.get(id(x), Number(0.0)) for x in xs]


def _later_first(y: Number) -> list[Number]:
    order: list[Number] = []
    seen: set[int] = set()
    pending: list[tuple[Number, bool]] = [(y, False)]
    while pending:
        node, is_done = pending.pop()
        if is_done:
            order.append(node)
        elif id(node) not in seen:
            seen.add(id(node))
            pending.append((node, True))
            pending += [(x, False) for x in node.operands]
    return order[::-1]


class Table:
    """A matrix of numbers, with the operations that programs of arrays have."""

    def __init__(self, rows: Sequence[Sequence[Number]]) -> None:
        self.rows = [list(row) for row in rows]

    def each(self, function: Callable[..., Number], *others: "Table") -> "Table":
        return Table([[function(*xs) for xs in zip(*rows, strict=True)] for rows in self._aligned(*others)])

    def _aligned(self, *others: "Table") -> Any:
        return zip(self.rows, *(other.rows for other in others), strict=True)

    def flat(self) -> list[Number]:
        return [x for row in self.rows for x in row]

    def __matmul__(self, other: "Table") -> "Table":
        columns = list(zip(*other.rows, strict=True))
        return Table(
            [[total([a * b for a, b in zip(row, column, strict=True)]) for column in columns] for row in self.rows]
        )


def largest(xs: Sequence[Number]) -> Number:
    """The largest; those that are equal share."""
    values = [x.value for x in xs]
    if np.isnan(values).any():
        return Number(np.nan, xs, lambda g: [g * Number(np.nan)] * len(xs))
    ties = [x for x in xs if x.value == max(values)]
    return Number(max(values), ties, lambda g: [g * Number(1.0 / len(ties))] * len(ties))
