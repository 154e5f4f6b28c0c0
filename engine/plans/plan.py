"""Plan: what some values of a trace need, ready to be run; plans that compute alike share their code."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np

from engine.core.caches import Lru
from engine.core.masking import are_finite
from engine.core.tracer import Symbol
from engine.core.values import Value, aval, canonical
from engine.plans.codegen.alternatives import Watched
from engine.plans.codegen.buffers import is_fresh
from engine.plans.codegen.forms import ARRAY, forms
from engine.plans.codegen.kernel import Kernel
from engine.plans.codegen.structure import Structure
from engine.plans.cost import cost_of
from engine.plans.trace import Trace


class _Code(NamedTuple):
    """A kernel, its constants, and which results may be views of an input, a constant or another result."""

    kernel: Kernel
    constants: list[Value]
    views: list[int]


class Plan:
    """What is left of a trace to compute some values.

    cost: of one run, known before it.
    names: of the inputs that it reads.
    structure: the steps, until the code is made; with supports where there are any, see `masking`.

    Args:
        trace: the steps.
        outputs: the values.
        compiled: makes the code of a structure, or finds it.
        inputs, tells: as of `Watched`.
    """

    def __init__(
        self,
        trace: Trace,
        outputs: Sequence[Symbol],
        compiled: Callable[[Structure], Kernel] = Kernel,
        *,
        inputs: Sequence[Symbol] = (),
        tells: bool = False,
    ) -> None:
        watched = Watched(trace, outputs, inputs, tells=tells)
        self.cost = cost_of(watched.trace, watched.structure.places)
        self.names = watched.structure.names
        self.watched = watched
        self._compiled = compiled
        self._source: tuple[Trace, Structure] | None = (watched.trace, watched.structure)
        self._made: _Code | None = None

    @property
    def code(self) -> _Code:
        """The kernel and its constants, made with the first use; the trace is let go then."""
        source = self._source
        if source is not None:
            self._made = self._coded(*source)
            self._source = None
            self.watched.forget()
        assert self._made is not None
        return self._made

    def _coded(self, trace: Trace, structure: Structure) -> _Code:
        kernel = self._compiled(structure)
        found, numbers = forms(structure.steps), structure.outputs[: structure.count]
        views = [
            k
            for k, n in enumerate(numbers)
            if found[n] == ARRAY and (not is_fresh(structure.steps[n]) or numbers.index(n) < k)
        ]
        return _Code(kernel, structure.constant_values(trace), views)

    @property
    def source(self) -> str:
        """The code as text."""
        return self.code.kernel.source

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        code = self.code
        return code.kernel.nbytes + sum(aval(x).nbytes for x in code.constants) + self.watched.nbytes

    @property
    def of_numbers(self) -> Callable[[Sequence[float]], list[Value]] | None:
        """For a plan of numbers alone what computes the values from those of the inputs in the order of `names`."""
        kernel = self.code.kernel
        if not kernel.is_scalar or kernel.arrays:
            return None
        return self._values if self.watched.places else kernel

    @property
    def is_random(self) -> bool:
        """Whether a run draws random numbers."""
        return self.code.kernel.is_random

    def run(self, inputs: Mapping[str, Value], seed: int = 0) -> list[Value]:
        """Return the values, from those of the inputs by name; arrays are not to be written to.

        Raises:
            InvalidValueError: data on which an operation is not defined, such as labels out of range.
        """
        code = self._made or self.code
        given = [inputs[name] for name in self.names]
        values = self._values(given, *(seed,)[: code.kernel.is_random])
        for k in code.kernel.arrays:
            values[k] = _result(values[k])
        return values

    def fresh(self, *given: Value) -> list[Value]:
        """Return the values, from those of the inputs in the order of `names`; arrays are the caller's own."""
        code, values = self._computed(given, ())
        for k in code.views:
            values[k] = np.array(values[k])
        return values

    def moved(self, given: Sequence[Value], steps: int) -> list[Value]:
        """Return what the inputs of a loop are after so many rounds; for plans whose kernel is one."""
        return self._values(given, steps)

    def _values(self, given: Sequence[Value], *further: int) -> list[Value]:
        return self._computed(given, further)[1]

    def _computed(self, given: Sequence[Value], further: tuple[int, ...]) -> tuple[_Code, list[Value]]:
        """The values, with supports where a derivative is not finite without, and the code that gave them."""
        code = self._made or self.code
        values = code.kernel([*given, *code.constants, *further])
        if not self.watched.places:
            return code, values
        if self.watched.tells:
            with np.errstate(all="ignore"):
                is_settled = are_finite(values)
        else:
            *values, is_settled = values
        if is_settled:
            return code, values
        code = self._other
        return code, code.kernel([*given, *code.constants, *further])

    @cached_property
    def _other(self) -> _Code:
        """The code with supports."""
        return self._coded(*self.watched.other())


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
        self.programs: Lru[bytes, Kernel] = Lru(limit_entries, limit_bytes)

    def plan(self, trace: Trace, outputs: Sequence[Symbol]) -> Plan:
        """The plan of some values of a trace; as code, that of another which computes alike."""
        return Plan(trace, outputs, self.program)

    def program(self, structure: Structure) -> Kernel:
        """The code of a structure. Where many ask for the same, one compiles it and the others wait."""
        return self.programs.found_or_made(structure.key(), partial(Kernel, structure, threads=self._threads), _nbytes)


def _nbytes(program: Kernel) -> int:
    return program.nbytes


def _result(value: Any) -> Value:
    """What is handed out: an array that may be an input, a constant or a part of another result is not written to."""
    value = canonical(value)
    if type(value) is np.ndarray:
        value = value.view()
        value.flags.writeable = False
    return value
