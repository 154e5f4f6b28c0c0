"""Plan: what some values of a trace need, ready to be run; plans that compute alike share their code."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np

from engine.core.caches import Lru
from engine.core.tracer import Symbol
from engine.core.values import Value, aval, canonical
from engine.plans.codegen.alternatives import Watched
from engine.plans.codegen.program import Program
from engine.plans.codegen.structure import Structure
from engine.plans.cost import cost_of
from engine.plans.trace import Trace


class Plan:
    """What is left of a trace to compute some values.

    cost: of one run, known before it.
    names: of the inputs that it reads.

    Args:
        trace: the steps.
        outputs: the values.
        compiled: what makes code of a structure, or finds it.
    """

    def __init__(
        self, trace: Trace, outputs: Sequence[Symbol], compiled: Callable[[Structure], Program] = Program
    ) -> None:
        watched = Watched(trace, outputs)
        self.cost = cost_of(watched.trace, watched.structure.places)
        self.names = watched.structure.names
        self._compiled = compiled
        self._source: tuple[Trace, Structure] | None = (watched.trace, watched.structure)
        self._made: tuple[Program, list[Value]] | None = None
        self._watched = watched if watched.places else None

    def _ready(self) -> tuple[Program, list[Value]]:
        """The code and the constants, made with the first use; the trace is let go then."""
        source = self._source
        if source is not None:
            trace, structure = source
            self._made = self._compiled(structure), structure.constant_values(trace)
            self._source = None
        assert self._made is not None
        return self._made

    @property
    def source(self) -> str:
        """The code."""
        return self._ready()[0].source

    @property
    def nbytes(self) -> int:
        """What it takes to keep it."""
        program, constants = self._ready()
        kept = 0 if self._watched is None else self._watched.nbytes
        return program.nbytes + sum(aval(x).nbytes for x in constants) + kept

    @property
    def of_numbers(self) -> Callable[[Sequence[float]], list[Value]] | None:
        """For a plan of numbers alone what computes the values from those of the inputs in the order of `names`."""
        program, _ = self._ready()
        if not program.is_scalar or program.arrays:
            return None
        return program if self._watched is None else partial(self._settled, program)

    @property
    def is_random(self) -> bool:
        """Whether a run draws random numbers."""
        return self._ready()[0].is_random

    def run(self, inputs: Mapping[str, Value], seed: int = 0) -> list[Value]:
        """The values, from those of the inputs by name; arrays are not to be written to.

        Raises:
            InvalidValueError: data on which an operation is not defined, such as labels out of range.
        """
        program, constants = self._made or self._ready()
        given = [inputs[name] for name in self.names]
        if constants or program.is_random:
            given += constants + [seed][: program.is_random]
        values = program(given) if self._watched is None else self._settled(program, given)
        for k in program.arrays:
            values[k] = _result(values[k])
        return values

    def _settled(self, program: Program, given: Sequence[Any]) -> list[Value]:
        """The values, with supports where a derivative is not finite without."""
        *values, is_finite = program(given)
        if is_finite:
            return values
        other, constants = self._other
        return other([*given[: len(self.names)], *constants, *given[len(given) - other.is_random :]])

    @cached_property
    def _other(self) -> tuple[Program, list[Value]]:
        """The code with supports, and its constants."""
        assert self._watched is not None
        trace, structure = self._watched.other()
        return self._compiled(structure), structure.constant_values(trace)


class Plans:
    """Compiled programs by structure, for any number of threads.

    >>> from engine.programs import parse
    >>> from engine.programs import prepare
    >>> plans = Plans(limit_entries=100, limit_bytes=2**20)
    >>> for text in ("b = sin(x); b * x", "sin(y) * y"):
    ...     found = prepare(parse(text), {text[-1]: 0.5}, plans=plans).run()
    >>> len(plans.programs)
    1

    Args:
        limit_entries, limit_bytes: how much is kept; what was not used for the longest time gives way.
        threads: how many a run may use for long regions; all processors where None. Results do not depend on it.
    """

    def __init__(self, limit_entries: int, limit_bytes: int, threads: int | None = None) -> None:
        self._threads = threads
        self.programs: Lru[bytes, Program] = Lru(limit_entries, limit_bytes)

    def plan(self, trace: Trace, outputs: Sequence[Symbol]) -> Plan:
        """The plan of some values of a trace; as code, that of another which computes alike."""
        return Plan(trace, outputs, self.program)

    def program(self, structure: Structure) -> Program:
        """The code of a structure. Where many ask for the same, one compiles it and the others wait."""
        return self.programs.found_or_made(structure.key(), partial(Program, structure, threads=self._threads), _nbytes)


def _nbytes(program: Program) -> int:
    return program.nbytes


def _result(value: Any) -> Value:
    """What is handed out: an array that may be an input, a constant or a part of another result is not written to."""
    value = canonical(value)
    if type(value) is np.ndarray:
        value = value.view()
        value.flags.writeable = False
    return value
