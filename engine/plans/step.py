"""Steps: the values of a trace, and what the rules that rewrite them see of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from engine.core.attributes import Attributes
from engine.core.lowering import Lowering
from engine.core.operation import Operation
from engine.core.tracer import Symbol
from engine.core.values import Aval, Value


@dataclass(frozen=True, slots=True)
class Stream:
    """Where a random operation draws from: a stream for its place in the program, and for each row of a batch.

    Source: the streams are NumPy's SeedSequence with the place, and the row, as spawn key.
    """

    place: int
    rows: int | None = None

    def by_row(self, rows: int) -> "Stream":
        """The same for a batch."""
        return Stream(self.place, rows)

    def generator(self, seed: int, *row: int) -> np.random.Generator:
        """The generator of one run, or of one of its rows."""
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(self.place, *row))))


@dataclass(slots=True, eq=False)
class Step:
    """One value of a trace.

    op: what computes it; None for an input, a constant or a `cut`.
    args: places of the operands.
    value: of a constant; or a function that makes it when the trace is run.
    name: of an input.
    """

    op: Operation | None
    args: tuple[int, ...]
    attrs: Attributes
    aval: Aval
    value: Any = None
    name: str = ""
    stream: Stream | None = None

    def runs(self, name: str) -> bool:
        """Return whether the operation of that name computes it."""
        return self.op is not None and self.op.name == name

    @property
    def operation(self) -> Operation:
        """The operation that computes it.

        Raises:
            TypeError: none does.
        """
        if self.op is None:
            raise TypeError("an input, a constant or a cut is computed by no operation")
        return self.op

    @property
    def lowering(self) -> Lowering:
        """How generated code computes the operation."""
        return self.operation.lowering


class Steps(Protocol):
    """A trace, for the rules that look at its steps and write others."""

    steps: list[Step]
    updated: dict[int, int]

    def symbol(self, place: int) -> Symbol:
        """As of `Trace`."""

    def known(self, symbol: Symbol) -> Value:
        """As of `Trace`."""

    def constant(self, value: Value, is_weak: bool = False) -> Symbol:
        """As of `Trace`."""

    def filled(self, value: float, aval: Aval) -> Symbol:
        """As of `Trace`."""

    def live(self, outputs: Sequence[Symbol], *, is_masked: bool = False) -> list[int]:
        """As of `Trace`."""
