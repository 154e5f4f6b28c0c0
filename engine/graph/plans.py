"""Plans that share code: programs that compute alike are compiled once, whatever their names are."""

import threading
from collections.abc import Sequence

from engine.graph.plan import Plan, Program
from engine.graph.structure import Structure
from engine.graph.trace import Trace
from engine.lru import Lru
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
        self._lock = threading.Lock()
        self._making: dict[bytes, threading.Lock] = {}

    def plan(self, trace: Trace, outputs: Sequence[Symbol]) -> Plan:
        """The plan of some values of a trace; as code, that of another which computes alike."""
        return Plan(trace, outputs, self.program)

    def program(self, structure: Structure) -> Program:
        """The code of a structure. Where many ask for the same, one compiles it and the others wait."""
        key = structure.key()
        found = self.programs.get(key)
        if found is not None:
            return found
        with self._lock:
            making = self._making.setdefault(key, threading.Lock())
        try:
            with making:
                found = self.programs.get(key)
                if found is None:
                    found = Program(structure)
                    self.programs.put(key, found, found.nbytes)
                return found
        finally:
            with self._lock:
                self._making.pop(key, None)
