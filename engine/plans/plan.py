"""Plan: compiled code for some values of a trace; plans of equal structure share a kernel."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from operator import attrgetter
from typing import NamedTuple

import numpy as np

from engine.core import Lru, Symbol, Value, are_finite, aval, canonical
from engine.plans.codegen.buffers import is_fresh
from engine.plans.codegen.finiteness import FinitenessGuard
from engine.plans.codegen.kernel import Kernel
from engine.plans.codegen.representations import ARRAY, representations
from engine.plans.codegen.structure import Structure
from engine.plans.cost import cost_of
from engine.plans.trace import Trace


class _Code(NamedTuple):
    """A kernel and its constants.

    views: indices of the results that may share memory with an input, a constant or another result.
    """

    kernel: Kernel
    constants: list[Value]
    views: list[int]


class Plan:
    """Compiled code for some values of a trace, with its constants; compiled on first use.

    cost: the cost of one run.
    names: the names of the inputs that it reads, in order.
    guard: the values computed without supports, and the results to check for being finite; see `FinitenessGuard`.

    Args:
        trace: the steps.
        outputs: the values to compute.
        compiled: returns the kernel of a structure, compiled or from a cache.
        inputs, tells: see `FinitenessGuard`.
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
        guard = FinitenessGuard(trace, outputs, inputs, tells=tells)
        self.cost = cost_of(guard.trace, guard.structure.indices)
        self.names = guard.structure.names
        self.guard = guard
        self._is_guarded = bool(guard.watched)
        self._compiled = compiled
        self._source: tuple[Trace, Structure] | None = (guard.trace, guard.structure)
        self._made: _Code | None = None

    @property
    def code(self) -> _Code:
        """Return the kernel and its constants; compile them on first use and release the trace."""
        source = self._source
        if source is not None:
            self._made = self._coded(*source)
            self._source = None
            self.guard.forget()
        assert self._made is not None
        return self._made

    def _coded(self, trace: Trace, structure: Structure) -> _Code:
        kernel = self._compiled(structure)
        found, numbers = representations(structure.steps), structure.outputs[: structure.count]
        views = [
            k
            for k, n in enumerate(numbers)
            if found[n] == ARRAY and (not is_fresh(structure.steps[n]) or numbers.index(n) < k)
        ]
        return _Code(kernel, structure.constant_values(trace), views)

    @property
    def source(self) -> str:
        """Return the generated code."""
        return self.code.kernel.source

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        code = self.code
        return code.kernel.nbytes + sum(aval(x).nbytes for x in code.constants) + self.guard.nbytes

    @property
    def scalar_function(self) -> Callable[[Sequence[float]], list[Value]] | None:
        """Return the function that a plan of Python floats alone is, from inputs in the order of `names`.

        None if the plan has arrays.
        """
        kernel = self.code.kernel
        if not kernel.is_scalar or kernel.arrays:
            return None
        return self._values if self._is_guarded else kernel

    @property
    def is_random(self) -> bool:
        """Return whether a run draws random numbers."""
        return self.code.kernel.is_random

    def run(self, inputs: Mapping[str, Value], seed: int = 0) -> list[Value]:
        """Run the plan on inputs by name; return the values, with arrays read-only.

        Raises:
            InvalidValueError: an operation is not defined on the data, such as labels out of range.
        """
        kernel, constants, _ = self._made or self.code
        given = [inputs[name] for name in self.names]
        if self._is_guarded:
            values = self._values(given, seed) if kernel.is_random else self._values(given)
        else:
            if constants or kernel.is_random:
                given += constants + [seed][: kernel.is_random]
            values = kernel(given)
        for k in kernel.arrays:
            values[k] = _result(values[k])
        return values

    def fresh(self, *given: Value) -> list[Value]:
        """Run the plan on inputs in the order of `names`; return the values, with arrays that share no memory."""
        code, values = self._computed(given, ())
        for k in code.views:
            values[k] = np.array(values[k])
        return values

    def moved(self, given: Sequence[Value], steps: int) -> list[Value]:
        """Run the loop of a plan for `steps` steps; return the carried values after the last.

        The kernel must be one of a loop, see `Kernel`.
        """
        return self._values(given, steps)

    def _values(self, given: Sequence[Value], *further: int) -> list[Value]:
        return self._computed(given, further)[1]

    def _computed(self, given: Sequence[Value], further: tuple[int, ...]) -> tuple[_Code, list[Value]]:
        """Return the values, computed with supports if a derivative is not finite without, and the code that ran."""
        code = self._made or self.code
        values = code.kernel([*given, *code.constants, *further])
        if not self._is_guarded:
            return code, values
        if self.guard.tells:
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
        """Compile the values with supports."""
        return self._coded(*self.guard.other())


class Plans:
    """Cache of kernels by structure, safe for threads.

    >>> from engine.programs import parse
    >>> from engine.programs import prepare
    >>> plans = Plans(limit_entries=100, limit_bytes=2**20)
    >>> for text in ("b = sin(x); b * x", "sin(y) * y"):
    ...     found = prepare(parse(text), {text[-1]: 0.5}, plans=plans).run()
    >>> len(plans.kernels)
    1

    Args:
        limit_entries, limit_bytes: bounds on the cache; the least recently used entry is evicted first.
        threads: the most threads that a run uses for a long region; None for one per processor. Results do not depend
            on it.
    """

    def __init__(self, limit_entries: int, limit_bytes: int, threads: int | None = None) -> None:
        self._threads = threads
        self.kernels: Lru[bytes, Kernel] = Lru(limit_entries, limit_bytes)

    def plan(self, trace: Trace, outputs: Sequence[Symbol]) -> Plan:
        """Return the plan of some values of a trace, with the cached kernel of its structure."""
        return Plan(trace, outputs, self.kernel)

    def kernel(self, structure: Structure) -> Kernel:
        """Return the kernel of a structure; of concurrent callers with one structure, one compiles and others wait."""
        return self.kernels.get_or_make(
            structure.key(), partial(Kernel, structure, threads=self._threads), attrgetter("nbytes")
        )


def _result(value: Value) -> Value:
    """Return a value for the caller, an array as a read-only view: it may share memory with another value."""
    value = canonical(value)
    if type(value) is np.ndarray:
        value = value.view()
        value.flags.writeable = False
    return value
