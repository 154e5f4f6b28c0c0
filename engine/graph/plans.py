"""Plans that share code: programs that compute alike are compiled once, whatever their names are."""

from collections.abc import Sequence

from engine.caches import Lru
from engine.graph.plan import Plan, Program
from engine.graph.structure import Structure
from engine.graph.trace import Trace
from engine.symbol import Symbol


class Plans:
    """Compiled programs by structure, for any number of threads.

    >>> from engine.graph import parse
    >>> from engine.graph.evaluate import prepare
    >>> plans = Plans(limit_entries=100, limit_bytes=2**20)
    >>> for text in ("b = sin(x); b * x", "sin(y) * y"):
    ...     found = prepare(parse(text), {text[-1]: 0.5}, plans=plans).run()
    >>> len(plans.programs)
    1

    Args:
        limit_entries, limit_bytes: how much is kept; what was not used for the longest time gives way.
    """

    def __init__(self, limit_entries: int, limit_bytes: int) -> None:
        self.programs: Lru[bytes, Program] = Lru(limit_entries, limit_bytes)

    def plan(self, trace: Trace, outputs: Sequence[Symbol]) -> Plan:
        """The plan of some values of a trace; as code, that of another which computes alike."""
        return Plan(trace, outputs, self.program)

    def program(self, structure: Structure) -> Program:
        """The code of a structure. Where many ask for the same, one compiles it and the others wait."""
        return self.programs.found_or_made(structure.key(), lambda: Program(structure), lambda made: made.nbytes)
