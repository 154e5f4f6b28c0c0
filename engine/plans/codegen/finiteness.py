"""Alternatives: derivatives that a plan computes without supports, and again with them if one is not finite.

A trace holds both ways to such a derivative (see `masking`); each way is compiled to code of its own.
"""

from collections.abc import Sequence

from engine.core import Symbol
from engine.plans.codegen.structure import Structure
from engine.plans.trace import Trace

#: Memory of a step in a trace that is kept, estimated.
_BYTES_PER_STEP = 500


class FinitenessGuard:
    """Some values computed without supports, and the results that must be finite for the values to be right.

    structure: the steps; its outputs are the values, followed by derivatives that are checked only.
    trace: the trace of the structure.
    watched: indices of the outputs to check; empty if no derivative has two ways.
    count: the number of values.
    tells: as given.

    Args:
        trace: the steps.
        outputs: the values.
        inputs: inputs to number first, live or not.
        tells: whether it is enough to check the values, since each is not finite if a derivative in it was not.
    """

    def __init__(
        self, trace: Trace, outputs: Sequence[Symbol], inputs: Sequence[Symbol] = (), *, tells: bool = False
    ) -> None:
        self.count = len(outputs)
        self.tells = tells
        both = trace.alternatives
        alternatives = [index for index in trace.live(outputs) if index in both] if both else []
        if not alternatives:
            self.trace, self.watched = trace, list[int]()
            self.structure = Structure(trace, outputs, inputs)
            return
        # Both ways take the same inputs.
        inputs = [*inputs, *(x for x in trace.inputs() if x.index not in {y.index for y in inputs})]
        self.trace, stands = trace.resolved(is_masked=False)
        found = [stands[x.index] for x in outputs]
        if not tells:
            found += dict.fromkeys(stands[index] for index in alternatives if stands[index] not in found)
        self.watched = list(range(self.count)) if tells else [found.index(stands[index]) for index in alternatives]
        self.structure = Structure(self.trace, [self.trace.symbol(index) for index in found], inputs)
        if not tells:
            self.structure.count, self.structure.watched = self.count, tuple(self.watched)
        self._other = trace, list(outputs), inputs

    def forget(self) -> None:
        """Release the trace and the structure after they are compiled; keep the trace that the other way needs."""
        del self.trace, self.structure

    @property
    def nbytes(self) -> int:
        """Size in bytes of the trace that is kept for the other way, estimated."""
        return _BYTES_PER_STEP * len(self._other[0].steps) if self.watched else 0

    def other(self) -> tuple[Trace, Structure]:
        """Return the trace and the structure of the values with supports."""
        trace, outputs, inputs = self._other
        found, stands = trace.resolved(is_masked=True)
        return found, Structure(found, [found.symbol(stands[x.index]) for x in outputs], inputs)
