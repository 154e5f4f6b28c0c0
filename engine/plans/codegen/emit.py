"""Emit the steps of a plan as lines of Python.

No text of a user's gets into the code: values are called `v0, v1, ...`, inputs `x0, ...`, constants `c0, ...` and
buffers `b0, ...`; numbers are written as Python prints them, and all other objects are bound to generated names.
"""

import math
from collections import Counter
from collections.abc import Container, Hashable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from scipy import special

from engine.core import FLOAT64, ROW_CALLS, Attributes, Operation, Value, canonical
from engine.plans.codegen.code import Code, Line
from engine.plans.codegen.fuse import Group
from engine.plans.codegen.region import Region
from engine.plans.codegen.representations import ARRAY, TRUTH, calls_ufunc, on_numbers, representations
from engine.plans.codegen.structure import Structure
from engine.plans.step import Step

#: Characters of the longest expression that is inlined; a longer one is assigned to a name.
_LONGEST_INSIDE = 60
_MODULES = {"np": np, "special": special}


def _read_inside(structure: Structure, found: Sequence[str], named: Container[int]) -> set[int]:
    """Return the steps to inline: those read once, by a step on Python numbers, and not in `named`."""
    reads: Counter[int] = Counter(structure.outputs)
    inside: set[int] = set()
    for step in structure.steps:
        reads.update(step.args)
        if step.op is not None and on_numbers(step, [found[a] for a in step.args]):
            once = [a for k, a in enumerate(step.args) if step.lowering.inline.count(f"{{{k}}}") <= 1]
            inside.update(a for a in once if a not in named)
    return {n for n in inside if reads[n] == 1}


class Emitter:
    """Emitter of the code of a structure, step by step.

    Args:
        structure: the steps.
        is_guarded: whether scalar operations return NumPy's result (inf, NaN) where Python's functions raise.
        buffers: number of a step -> the name of the array for its result.
        named: numbers of the steps that are never inlined.
        threads: the most threads of a region; None for one per processor.
    """

    def __init__(
        self,
        structure: Structure,
        *,
        is_guarded: bool,
        buffers: Mapping[int, str],
        named: Container[int] = (),
        threads: int | None = None,
    ) -> None:
        self._threads = threads
        self.code = Code()
        self._structure = structure
        self._steps = structure.steps
        self._representations = representations(structure.steps)
        self.is_guarded = is_guarded
        self._buffers = buffers
        self._beginnings: dict[Hashable, str] = {}
        self.regions: list[str] = []
        self._inside = _read_inside(structure, self._representations, named)
        self._texts = {n: f"x{k}" for k, n in enumerate(structure.inputs)}
        self._texts |= {n: f"c{k}" for k, n in enumerate(structure.constants)}

    def emit(self, item: int | Group) -> list[Line]:
        """Return the lines of a step or of a group of fused steps."""
        return self._region(item) if isinstance(item, Group) else self._step(item)

    def _region(self, group: Group) -> list[Line]:
        region = Region(self._steps, group, self._threads)
        self.regions.append(region.source)
        function = self.code.bound("region", region.run)
        for n in group.results:
            self._texts[n] = f"v{n}"
        results = "".join(f"{self._texts[n]}, " for n in group.results)
        operands = ", ".join(self._texts[a] for a in group.operands)
        targets = "".join(f"{self._buffers.get(n)}, " for n in group.results)
        names = ", ".join(dict.fromkeys(self._steps[n].operation.name for n in group.members))
        return [(f"{results}= {function}([{operands}], ({targets}))", names)]

    def _step(self, n: int) -> list[Line]:
        """Return the lines of a step; none for inputs, constants and cuts, and for a result that is inlined."""
        step = self._steps[n]
        if step.op is None:
            if n not in self._texts:
                self._texts[n] = self._texts[step.args[0]] if step.args else self._number(step.value)
            return []
        self._texts[n] = f"v{n}"
        lines: list[Line] = []
        if step.stream is not None:
            function = self.code.bound(step.operation.name, partial(_drawn, step))
            text = f"{function}(seed, {', '.join(self._array(a) for a in step.args)})"
        elif on_numbers(step, [self._representations[a] for a in step.args]):
            text = self._scalar(step)
            if n in self._inside and len(text) <= _LONGEST_INSIDE:
                self._texts[n] = f"({text})"
                return []
        elif calls_ufunc(step, self._steps):
            text = self._ufunc(step, self._buffers.get(n))
        else:
            text = self._general(n, lines)
        return [*lines, (f"v{n} = {text}", step.operation.name)]

    def forget(self, n: int) -> list[Line]:
        """Return the line that deletes a value."""
        return [(f"del {self._texts[n]}", "")]

    def result(self, n: int) -> str:
        """Return the expression that returns a value: a bool as an array, an int as a float."""
        step = self._steps[n]
        if self._representations[n] == TRUTH:
            self.code.names["asarray"] = np.asarray
            return f"asarray({self._texts[n]})"
        return self._number(float(step.value)) if type(step.value) is int else self._texts[n]

    def _number(self, value: float) -> str:
        if type(value) is float and not math.isfinite(value):
            return self.code.bound("number", value)
        text = repr(value)
        return f"({text})" if text.startswith("-") else text

    def _scalar(self, step: Step) -> str:
        op = step.operation
        args = [self._float(a) for a in step.args]
        if op.name == "where":
            # A float and a bool are equally good as a condition.
            args[0] = self._texts[step.args[0]]
        if op.lowering.inline and not (self.is_guarded and ("/" in op.lowering.inline or op.lowering.inline_names)):
            self.code.names.update(op.lowering.inline_names)
            text: str = op.lowering.inline.format(*args)
            return text
        if op.lowering.scalar is None or step.attrs:
            function = self.code.bound(op.name, partial(_of_floats, op, step.attrs))
        else:
            function = op.name
            self.code.names[function] = ROW_CALLS[op.name] if self.is_guarded else op.lowering.scalar
        return f"{function}({', '.join(args)})"

    def _float(self, n: int) -> str:
        value = self._steps[n].value
        if type(value) in (int, bool):
            return self._number(float(value))
        return f"float({self._texts[n]})" if self._representations[n] == TRUTH else self._texts[n]

    def _ufunc(self, step: Step, buffer: str | None) -> str:
        ufunc: Any = step.lowering.ufunc
        args = [self._texts[a] for a in step.args] + ([f"out={buffer}"] if buffer else [])
        name = next((name for name, module in _MODULES.items() if getattr(module, ufunc.__name__, None) is ufunc), None)
        if name is None:
            return f"{self.code.bound(step.operation.name, ufunc)}({', '.join(args)})"
        self.code.names[name] = _MODULES[name]
        return f"{name}.{ufunc.__name__}({', '.join(args)})"

    def _begun(self, step: Step, args: list[str], lines: list[Line]) -> str:
        """Return the name of the common first part of operations on equal operands; add its line if it is new."""
        key = (step.lowering.begin, step.args, repr(step.attrs))
        if key not in self._beginnings:
            name = f"w{len(self._beginnings)}"
            attrs = [f"**{self.code.bound('attrs', step.attrs)}"] * bool(step.attrs)
            begin = self.code.bound(f"begin_{step.operation.name}", step.lowering.begin)
            lines.append((f"{name} = {begin}({', '.join(args + attrs)})", step.operation.name))
            self._beginnings[key] = name
        return self._beginnings[key]

    def _general(self, n: int, lines: list[Line]) -> str:
        step = self._steps[n]
        op = step.operation
        args = [self._array(a) for a in step.args]
        if op.lowering.begin is not None:
            args = [self._begun(step, args, lines)]
            function = self.code.bound(op.name, op.lowering.finish)
        elif op.lowering.emit is not None and all(self._representations[a] == ARRAY for a in step.args):
            function = self.code.bound(
                op.name, op.lowering.emit(*(self._steps[a].aval for a in step.args), **step.attrs)
            )
            if op.lowering.takes_out and n in self._buffers:
                args.append(f"out={self._buffers[n]}")
        else:
            function = f"{op.name}_array"
            self.code.names[function] = op.forward
            if step.attrs:
                args.append(f"**{self.code.bound('attrs', step.attrs)}")
        text = f"{function}({', '.join(args)})"
        if step.aval.dtype == FLOAT64:
            return text if step.aval.shape else f"float({text})"
        self.code.names["canonical"] = canonical
        return f"canonical({text})"

    def _array(self, n: int) -> str:
        """Return the text of an operand for NumPy: a scalar that is not weak is converted, to keep its dtype."""
        step, text = self._steps[n], self._texts[n]
        if step.aval.weak is not None or self._representations[n] == ARRAY:
            return text
        name = "asarray" if self._representations[n] == TRUTH else "float64"
        self.code.names[name] = np.asarray if self._representations[n] == TRUTH else np.float64
        return f"{name}({text})"


def _of_floats(op: Operation, attrs: Attributes, *xs: float) -> Value:
    """Run an operation that has no `Lowering.scalar`, or has attributes, on floats."""
    return canonical(op.forward(*map(np.asarray, xs), **attrs))


def _drawn(step: Step, seed: int, *xs: Value) -> Value:
    """Draw the random values of an operation from the stream of its node, and of each row of a batch."""
    op, attrs, stream = step.operation, step.attrs, step.stream
    assert stream is not None
    if stream.rows is None:
        return canonical(op.forward(*xs, **attrs, rng=stream.generator(seed)))
    drawn = [
        op.forward(*(np.asarray(x)[i] for x in xs), **attrs, rng=stream.generator(seed, i)) for i in range(stream.rows)
    ]
    return np.stack(drawn) if drawn else canonical(op.forward(*xs, **attrs, rng=stream.generator(seed)))
