"""Alternatives: derivatives that a plan computes without supports, and with them where one is not finite.

A trace holds both ways to such a value (see `masking`); a plan is made of one or of the other.
"""

from collections.abc import Sequence

from engine.core.tracer import Symbol
from engine.plans.codegen.structure import Structure
from engine.plans.trace import Trace

#: What a step takes in memory while its trace is kept.
_BYTES_PER_STEP = 500


class Watched:
    """The plain way to some values, and which results tell by not being finite that the other way is needed.

    structure: its outputs are the values, and behind them derivatives that are to be looked at as well.
    trace: the one that the structure is of.
    places: of the results to be looked at; empty where there is one way only.
    count: the number of values.
    tells: as given.

    Args:
        trace, outputs: the values.
        inputs: some that are to come first, needed or not.
        tells: whether a value shows by itself that a derivative in it was not finite.
    """

    def __init__(
        self, trace: Trace, outputs: Sequence[Symbol], inputs: Sequence[Symbol] = (), *, tells: bool = False
    ) -> None:
        self.count = len(outputs)
        self.tells = tells
        both = trace.alternatives
        alternatives = [place for place in trace.live(outputs) if place in both] if both else []
        if not alternatives:
            self.trace, self.places = trace, list[int]()
            self.structure = Structure(trace, outputs, inputs)
            return
        # Both ways take the same inputs.
        inputs = [*inputs, *(x for x in trace.inputs() if x.place not in {y.place for y in inputs})]
        self.trace, stands = trace.resolved(is_masked=False)
        found = [stands[x.place] for x in outputs]
        if not tells:
            found += dict.fromkeys(stands[place] for place in alternatives if stands[place] not in found)
        self.places = list(range(self.count)) if tells else [found.index(stands[place]) for place in alternatives]
        self.structure = Structure(self.trace, [self.trace.symbol(place) for place in found], inputs)
        if not tells:
            self.structure.count, self.structure.watched = self.count, tuple(self.places)
        self._other = trace, list(outputs), inputs

    def forget(self) -> None:
        """Let go of the trace and the structure, once there is code for them; what the other way needs is kept."""
        del self.trace, self.structure

    @property
    def nbytes(self) -> int:
        """Bytes of the trace that is kept for the other way."""
        return _BYTES_PER_STEP * len(self._other[0].steps) if self.places else 0

    def other(self) -> tuple[Trace, Structure]:
        """The values with supports: a trace and the structure of its own."""
        trace, outputs, inputs = self._other
        found, stands = trace.resolved(is_masked=True)
        return found, Structure(found, [found.symbol(stands[x.place]) for x in outputs], inputs)
