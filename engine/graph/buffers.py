"""Buffers: which results of a plan are written into arrays that it keeps from one call to the next."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.graph.emit import calls_ufunc
from engine.graph.structure import Structure
from engine.graph.trace import Step
from engine.values import FLOAT64, Aval

#: Fewer elements than this are allocated faster than they are looked after.
SMALLEST = 1024


def last_reads(structure: Structure) -> list[int]:
    """For each value the last step that reads its memory, be it through what may be a view of it."""
    steps = structure.steps
    ends = list(range(len(steps)))
    for n in structure.outputs:
        ends[n] = len(steps)
    for n in reversed(range(len(steps))):
        end = n if is_fresh(steps[n]) else ends[n]
        for a in steps[n].args:
            ends[a] = max(ends[a], end)
    return ends


def is_fresh(step: Step) -> bool:
    """Whether a result never shares memory with an operand."""
    # One double is a Python float.
    is_float = not step.aval.shape and step.aval.dtype == FLOAT64
    return step.op is not None and (is_float or step.op.is_fresh)


class Buffers:
    """What is written where.

    names: for numbers of steps the name of the buffer that holds the result.
    forms: shape and dtype of each buffer.
    """

    def __init__(self, structure: Structure) -> None:
        self.names: dict[int, str] = {}
        self.forms: list[Aval] = []
        steps, ends = structure.steps, last_reads(structure)
        is_c = _laid_out_in_c(steps)
        #: For each buffer the last step that reads what it holds.
        until: list[int] = []
        held: dict[int, int] = {}
        for n, step in enumerate(steps):
            if not calls_ufunc(step, steps) or step.aval.size < SMALLEST or not is_c[n]:
                continue
            if ends[n] >= len(steps):
                continue
            place = self._free(n, step, until, held)
            until[place] = ends[n]
            held[n] = place
            self.names[n] = f"b{place}"

    def _free(self, n: int, step: Step, until: list[int], held: dict[int, int]) -> int:
        form = Aval(step.aval.shape, step.aval.dtype)
        own = {held[a] for a in step.args if a in held} if step.op.ufunc.signature is None else set()
        for place, known in enumerate(self.forms):
            # Element by element, a result may be written over an operand that nothing reads later.
            if known == form and (until[place] < n or (until[place] == n and place in own)):
                return place
        self.forms.append(form)
        until.append(n)
        return len(self.forms) - 1

    @property
    def nbytes(self) -> int:
        """The size of one set."""
        return sum(form.nbytes for form in self.forms)

    def allocate(self) -> tuple[npt.NDArray[Any], ...]:
        """One set."""
        return tuple(np.empty(form.shape, form.dtype) for form in self.forms)


def _laid_out_in_c(steps: Sequence[Step]) -> list[bool]:
    """Which results NumPy would lay out row after row; in another layout sums over them may round otherwise."""
    found: list[bool] = []
    for step in steps:
        if len(step.aval.shape) <= 1 or step.op is None:
            found.append(all(found[a] for a in step.args))
        elif step.op.ufunc is not None and step.op.ufunc.signature is None:
            found.append(all(found[a] for a in step.args if len(steps[a].aval.shape) > 1))
        else:
            found.append(step.op.ufunc is not None or step.op.name == "reshape")
    return found
