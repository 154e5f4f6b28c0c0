"""Steps: the values of a trace, and the view of a trace that rewriting rules have."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from engine.core import Attributes, Aval, Lowering, Operation, Symbol, Value


@dataclass(frozen=True, slots=True)
class Stream:
    """Random stream of an operation; in a batch, each row has a stream of its own.

    index: of its node in the program.
    Source: NumPy's SeedSequence, with the index, and the row if any, as spawn key.
    """

    index: int
    rows: int | None = None

    def by_row(self, rows: int) -> "Stream":
        """Return the streams of a batch of `rows` rows."""
        return Stream(self.index, rows)

    def generator(self, seed: int, *row: int) -> np.random.Generator:
        """Return the generator of one run, or of one row of its batch."""
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(self.index, *row))))


@dataclass(slots=True, eq=False)
class Step:
    """One value of a trace.

    op: the operation; None for an input, a constant or a `cut`.
    args: indices of the operands.
    value: of a constant: its value, or a function that returns it.
    name: of an input; empty otherwise.
    stream: of a random operation.
    """

    op: Operation | None
    args: tuple[int, ...]
    attrs: Attributes
    aval: Aval
    value: Value = None
    name: str = ""
    stream: Stream | None = None

    def runs(self, name: str) -> bool:
        """Return whether the step runs the operation called `name`."""
        return self.op is not None and self.op.name == name

    @property
    def operation(self) -> Operation:
        """Return the operation of the step.

        Raises:
            TypeError: the step has none: it is an input, a constant or a cut.
        """
        if self.op is None:
            raise TypeError("an input, a constant or a cut is computed by no operation")
        return self.op

    @property
    def lowering(self) -> Lowering:
        """Return the lowering of the operation."""
        return self.operation.lowering


class Steps(Protocol):
    """View of a trace for the rules that read its steps and record new ones."""

    steps: list[Step]
    updated: dict[int, int]

    def symbol(self, index: int) -> Symbol:
        """See `Trace.symbol`."""

    def known(self, symbol: Symbol) -> Value:
        """See `Trace.known`."""

    def constant(self, value: Value, is_weak: bool = False) -> Symbol:
        """See `Trace.constant`."""

    def full(self, value: float, aval: Aval) -> Symbol:
        """See `Trace.full`."""

    def live(self, outputs: Sequence[Symbol], *, is_masked: bool = False) -> list[int]:
        """See `Trace.live`."""
