"""Structure: the live steps of some values of a trace in a canonical numbering, the key of the cache of kernels.

Steps are numbered in depth-first order from the values, operands before results, left to right. So neither names, nor
the order in which steps were recorded, nor dead steps make a difference.
"""

import hashlib
import struct
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace

import numpy as np

from engine.core import Aval, Symbol, Value, apply
from engine.graph import postorder
from engine.plans.step import Step
from engine.plans.trace import Trace

#: Constant folding: the most bytes of one folded constant, and of all together.
_LARGEST_FOLDED = 2**20
_MOST_FOLDED = 2**23


class Structure:
    """Live steps of some values, in canonical order; the number of a step is its index in `steps`.

    steps: the steps; operands are numbers of earlier steps.
    inputs: numbers of the inputs, in order; `names` are their names.
    constants: numbers of the constants that are passed to the code as arguments: arrays, and results folded from
        constants.
    outputs: numbers of the values.
    watched: indices of the outputs to check for being finite. If there are any, only the first `count` outputs are
        values, and the kernel returns a flag after them: whether all watched outputs are finite.
    indices: for each step its index in `Trace.steps`.

    Args:
        trace: the steps.
        outputs: the values.
        inputs: inputs to number first, live or not.
    """

    def __init__(self, trace: Trace, outputs: Sequence[Symbol], inputs: Sequence[Symbol] = ()) -> None:
        live = trace.live(outputs)
        known = _known(trace, live)
        self.indices = postorder(
            [x.index for x in (*inputs, *outputs)], lambda index: () if index in known else trace.steps[index].args
        )
        numbers = {index: n for n, index in enumerate(self.indices)}
        self.steps: list[Step] = []
        self.inputs: list[int] = []
        self.constants: list[int] = []
        self.names: list[str] = []
        for n, index in enumerate(self.indices):
            step = trace.steps[index]
            if step.name:
                self.inputs.append(n)
                self.names.append(step.name)
                step = Step(None, (), {}, step.aval)
            elif index in known:
                if _is_array(step):
                    self.constants.append(n)
                    step = Step(None, (), {}, step.aval)
            else:
                args = tuple(numbers[a] for a in step.args)
                step = Step(step.op, args, step.attrs, step.aval, None, "", step.stream)
            self.steps.append(step)
        self.outputs = [numbers[x.index] for x in outputs]
        self.watched: tuple[int, ...] = ()
        self.count = len(outputs)

    def replaced(self, steps: Sequence[Step], stand_for: Mapping[int, int]) -> "Structure":
        """Return a structure of the same values with some steps replaced; it has no `indices` in a trace.

        steps: the steps of this structure, followed by new ones, whose operands may be any of these.
        stand_for: number of a step -> number of its replacement.
        """

        def args(n: int) -> tuple[int, ...]:
            return tuple(stand_for.get(a, a) for a in steps[n].args)

        outputs = [stand_for.get(n, n) for n in self.outputs]
        order = postorder([*self.inputs, *self.constants, *outputs], args)
        numbers = {old: n for n, old in enumerate(order)}
        found = copy(self)
        found.indices = []
        found.steps = [replace(steps[old], args=tuple(numbers[a] for a in args(old))) for old in order]
        found.inputs = [numbers[n] for n in self.inputs]
        found.constants = [numbers[n] for n in self.constants]
        found.outputs = [numbers[n] for n in outputs]
        return found

    def key(self) -> bytes:
        """Return a digest of the structure, with all shapes, dtypes, attributes and numbers in the code."""
        digest = hashlib.blake2b(digest_size=20)
        inputs, constants = set(self.inputs), set(self.constants)
        for n, step in enumerate(self.steps):
            kind = "x" if n in inputs else "c" if n in constants else step.operation.name if step.op else ""
            stream = step.stream and (step.stream.index, step.stream.rows)
            number = struct.pack("<d", step.value) if type(step.value) is float else step.value
            weak = step.aval.weak and step.aval.weak.__name__
            about = (kind, step.args, step.attrs, step.aval.shape, step.aval.dtype.str, weak, number, stream)
            digest.update(repr(about).encode())
        digest.update(repr((self.outputs, self.watched, self.count)).encode())
        return digest.digest()

    def constant_values(self, trace: Trace) -> list[Value]:
        """Return the values of the constants; `trace` is the one that the structure was built from."""
        values: dict[int, Value] = {}
        with np.errstate(all="ignore"):
            for index in trace.live([trace.symbol(self.indices[n]) for n in self.constants]):
                step = trace.steps[index]
                given = [_operand(trace.steps[a].aval, values[a]) for a in step.args]
                values[index] = apply(step.op, tuple(given), step.attrs) if step.op else _value(step, given)
        return [values[self.indices[n]] for n in self.constants]


def _is_array(step: Step) -> bool:
    """Return whether a constant has to be an argument of the code, instead of a literal in it."""
    return step.op is not None or bool(step.args) or callable(step.value) or type(step.value) is np.ndarray


def _known(trace: Trace, live: Sequence[int]) -> set[int]:
    """Return the indices of constants and of steps to fold: those on constants alone, within the limits of size.

    A broadcast counts as no memory.
    """
    found: set[int] = set()
    room = _MOST_FOLDED
    for index in live:
        step = trace.steps[index]
        if step.name or step.stream is not None:
            continue
        if step.op is None and not step.args:
            found.add(index)
        elif found.issuperset(step.args):
            size = 0 if step.runs("broadcast_to") else step.aval.nbytes
            if size <= min(_LARGEST_FOLDED, room):
                room -= size
                found.add(index)
    return found


def _operand(known: Aval, value: Value) -> Value:
    """Return a constant as an operand for NumPy: a float that is not weak as a float64 scalar."""
    return np.float64(value) if type(value) is float and known.weak is None else value


def _value(step: Step, args: list[Value]) -> Value:
    """Return the value of a constant, or of a cut of one."""
    if args:
        return float(args[0]) if type(args[0]) is np.float64 else args[0]
    return step.value() if callable(step.value) else step.value
