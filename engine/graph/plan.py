"""Plan: what some values of a trace need, as one generated Python function of straight-line code.

Programs of scalars become code on Python's floats. It is written for the common case, in which nothing is divided by 0
and nothing overflows; where Python raises, the same steps run once more in operations that give what NumPy gives.
All else becomes calls of NumPy, which write into buffers that the plan keeps from one call to the next.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from types import TracebackType
from typing import Any

import numpy as np

from engine.errors import InvalidValueError
from engine.graph.buffers import Buffers, last_reads
from engine.graph.cost import cost_of
from engine.graph.emit import ARRAY, Code, Emitter, forms, is_scalar
from engine.graph.structure import Structure
from engine.graph.trace import Trace
from engine.symbol import Symbol
from engine.values import Value, aval, canonical

#: What a program keeps of buffers between calls: at most so many sets of at most so many bytes together.
_SETS_KEPT = 2
_BYTES_KEPT = 2**26
#: Arrays of at least so many bytes are let go as soon as nothing reads them.
_SMALLEST_FORGOTTEN = 2**16
#: What a line, with what it is bound to, takes in memory.
_BYTES_PER_LINE = 1000
FILE = "<plan>"
INDENT = "    "


class Program:
    """The code of one structure; any number of plans share it, each with constants and names of its own."""

    def __init__(self, structure: Structure) -> None:
        self._structure = structure
        found = forms(structure.steps)
        self.is_scalar = not structure.constants and is_scalar(structure.steps)
        self.is_random = any(step.stream for step in structure.steps)
        self.arrays = [k for k, n in enumerate(structure.outputs) if found[n] == ARRAY]
        self._buffers = Buffers(structure)
        self._kept: list[tuple[Any, ...]] = []
        self._most_kept = min(_SETS_KEPT, _BYTES_KEPT // max(self._buffers.nbytes, 1))
        self._function, self._code, self.source = self._compiled(is_guarded=not self.is_scalar)
        self.nbytes = _BYTES_PER_LINE * len(structure.steps) + self._most_kept * self._buffers.nbytes

    @cached_property
    def _guarded(self) -> Any:
        return self._compiled(is_guarded=True)[0]

    def _compiled(self, *, is_guarded: bool) -> tuple[Any, Code, str]:
        structure, buffers = self._structure, self._buffers
        emitter = Emitter(structure, is_guarded=is_guarded, buffers=buffers.names)
        code = emitter.code
        parameters = [f"x{k}" for k in range(len(structure.inputs))]
        parameters += [f"c{k}" for k in range(len(structure.constants))]
        parameters += ["seed"] * self.is_random + [f"b{k}" for k in range(len(buffers.forms))]
        code.add(f"def plan({', '.join(parameters)}):")
        done = self._forgotten()
        for n in range(len(structure.steps)):
            emitter.emit(n)
            for a in done.get(n, ()):
                emitter.forget(a)
        if len(code.lines) > 1 and not self.is_scalar:
            code.names["errstate"] = np.errstate
            code.lines[1:] = ['with errstate(all="ignore"):', *(INDENT + line for line in code.lines[1:])]
            code.operations.insert(1, "")
        code.lines[1:] = [INDENT + line for line in code.lines[1:]]
        results = "".join(emitter.result(n) + ", " for n in structure.outputs)
        code.add(f"{INDENT}return ({results})")
        source = "\n".join(code.lines) + "\n"
        exec(compile(source, FILE, "exec"), code.names)
        return code.names["plan"], code, source

    def _forgotten(self) -> dict[int, list[int]]:
        """For steps what nothing reads after them, where it is large and lies in no buffer."""
        steps, ends = self._structure.steps, last_reads(self._structure)
        found: dict[int, list[int]] = {}
        for n, step in enumerate(steps):
            is_own = step.op is not None and n not in self._buffers.names
            if is_own and step.aval.nbytes >= _SMALLEST_FORGOTTEN and n < ends[n] < len(steps):
                found.setdefault(ends[n], []).append(n)
        return found

    def __call__(self, given: Sequence[Value], seed: int = 0) -> list[Value]:
        """The values, from those of the inputs and constants in order.

        Raises:
            InvalidValueError: data on which an operation is not defined, such as labels out of range.
        """
        if self.is_scalar:
            try:
                return list(self._function(*given))
            except (ArithmeticError, ValueError):
                return list(self._guarded(*given))
        try:
            buffers = self._kept.pop()
        except IndexError:
            buffers = self._buffers.allocate()
        try:
            values = list(self._function(*given, *([seed] if self.is_random else []), *buffers))
        except (ValueError, TypeError, IndexError, ArithmeticError) as error:
            raise self._explained(error) from error
        finally:
            if len(self._kept) < self._most_kept:
                self._kept.append(buffers)
        for k in self.arrays:
            values[k] = _result(values[k])
        return values

    def _explained(self, error: Exception) -> InvalidValueError:
        """The error with the operation that raised it."""
        trace: TracebackType | None = error.__traceback__
        operation = ""
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == FILE:
                operation = self._code.operations[trace.tb_lineno - 1]
            trace = trace.tb_next
        return InvalidValueError(f"{operation}: {error}")


class Plan:
    """What is left of a trace to compute some values.

    cost: of one run, known before it.
    """

    def __init__(self, trace: Trace, outputs: Sequence[Symbol]) -> None:
        structure = Structure(trace, outputs)
        self.cost = cost_of(trace, structure.places)
        self._names = structure.names
        self._constants = structure.constant_values
        self._structure = structure

    @cached_property
    def _program(self) -> Program:
        return Program(self._structure)

    @property
    def source(self) -> str:
        """The code."""
        return self._program.source

    @property
    def nbytes(self) -> int:
        """What it takes to keep it."""
        return self._program.nbytes + sum(aval(x).nbytes for x in self._values)

    @property
    def is_random(self) -> bool:
        """Whether a run draws random numbers."""
        return self._program.is_random

    def run(self, inputs: Mapping[str, Value], seed: int = 0) -> list[Value]:
        """The values, from those of the inputs by name; arrays are not to be written to.

        Raises:
            InvalidValueError: data on which an operation is not defined, such as labels out of range.
        """
        return self._program([*[inputs[name] for name in self._names], *self._values], seed)

    @cached_property
    def _values(self) -> list[Value]:
        return self._structure.constant_values()


def _result(value: Any) -> Value:
    """What is handed out: an array that may be an input, a constant or a part of another result is not written to."""
    value = canonical(value)
    if type(value) is np.ndarray:
        value = value.view()
        value.flags.writeable = False
    return value
