"""Buffers: assign results of a kernel to arrays that it keeps from one call to the next, by liveness."""

from collections.abc import Sequence

import numpy as np

from engine.core import FLOAT64, Array, Aval
from engine.plans.codegen.fuse import Group
from engine.plans.codegen.representations import writes_out
from engine.plans.codegen.structure import Structure
from engine.plans.step import Step

#: Elements of the smallest result with a buffer; allocating a smaller one costs less than managing a buffer.
SMALLEST = 1024
#: Alignment in bytes on which vector instructions are fastest.
ALIGNMENT = 64


#: Numbers of steps, and groups of fused steps, in the order in which they run.
Order = Sequence[int | Group]


def last_reads(structure: Structure, order: Order, loop: int) -> list[int]:
    """Return for each value the last position in `order` that reads its memory, directly or through a view of it.

    A value is live to the end, position `len(order)`, if it is an output, or if it is computed before position `loop`,
    where the body of a loop begins, and read in the body.
    """
    steps = structure.steps
    ends = [-1] * len(steps)
    for position, item in enumerate(order):
        for n in item.members if isinstance(item, Group) else (item,):
            ends[n] = position
    is_before = [end < loop for end in ends]
    for n in structure.outputs:
        ends[n] = len(order)
    for position in reversed(range(len(order))):
        item = order[position]
        if isinstance(item, Group):
            end, operands = position, item.operands
        else:
            end, operands = position if is_fresh(steps[item]) else ends[item], steps[item].args
        for a in operands:
            ends[a] = len(order) if position >= loop and is_before[a] else max(ends[a], end)
    return ends


def is_fresh(step: Step) -> bool:
    """Return whether the result of a step never shares memory with an operand."""
    # A float64 scalar is a Python float.
    is_float = not step.aval.shape and step.aval.dtype == FLOAT64
    return step.op is not None and (is_float or step.lowering.is_fresh)


class Buffers:
    """Assignment of results to buffers.

    names: number of a step -> the name of the buffer for its result.
    avals: shape and dtype of each buffer.

    Args:
        structure: the steps.
        order: the order in which they run.
        loop: the position in `order` where the body of a loop begins.
    """

    def __init__(self, structure: Structure, order: Order, loop: int) -> None:
        self.names: dict[int, str] = {}
        self.avals: list[Aval] = []
        self._steps = structure.steps
        self._last_position = len(order) - 1
        self._ends = last_reads(structure, order, loop)
        #: For each buffer the last position in the order that reads its content.
        self._until: list[int] = []
        self._held: dict[int, int] = {}
        self._expiring: dict[int, list[int]] = {}
        self._waiting: dict[Aval, list[int]] = {}
        is_c = _laid_out_in_c(self._steps)
        for position, item in enumerate(order):
            self._release(position)
            if isinstance(item, Group):
                for n in item.results:
                    self._assign(n, position, ())
            elif writes_out(self._steps[item], self._steps) and is_c[item]:
                self._assign(item, position, _may_overwrite(self._steps[item]))

    def _assign(self, n: int, position: int, over: Sequence[int]) -> None:
        """Assign a value to a buffer if it is large, and not live at the end."""
        step = self._steps[n]
        if step.aval.size < SMALLEST or self._ends[n] > self._last_position:
            return
        aval = Aval(step.aval.shape, step.aval.dtype)
        buffer = self._free(aval, position, over)
        if buffer is None:
            buffer = len(self.avals)
            self.avals.append(aval)
            self._until.append(position)
        self._until[buffer] = self._ends[n]
        self._expiring.setdefault(self._ends[n], []).append(buffer)
        self._held[n] = buffer
        self.names[n] = f"b{buffer}"

    def _free(self, aval: Aval, position: int, over: Sequence[int]) -> int | None:
        """Return a buffer of that shape and dtype that is free at `position`, or None.

        The buffer that was released last is still in the cache.

        over: operands whose buffers may be overwritten if nothing reads them after `position`.
        """
        for a in over:
            if a in self._held and self.avals[self._held[a]] == aval and self._until[self._held[a]] == position:
                return self._held[a]
        waiting = self._waiting.get(aval, [])
        return waiting.pop() if waiting else None

    def _release(self, position: int) -> None:
        """Free the buffers that were read for the last time just before `position`."""
        for buffer in self._expiring.pop(position - 1, ()):
            if self._until[buffer] == position - 1:
                self._waiting.setdefault(self.avals[buffer], []).append(buffer)

    @property
    def nbytes(self) -> int:
        """Size of one set of buffers in bytes."""
        return sum(aval.nbytes for aval in self.avals)

    def allocate(self) -> tuple[Array, ...]:
        """Allocate one set of buffers, aligned for vector instructions."""
        return tuple(aligned(aval) for aval in self.avals)


def aligned(aval: Aval) -> Array:
    """Allocate an array of that shape and dtype at a multiple of ALIGNMENT."""
    block = np.empty(aval.nbytes + ALIGNMENT, np.uint8)
    begin = -block.ctypes.data % ALIGNMENT
    return block[begin : begin + aval.nbytes].view(aval.dtype).reshape(aval.shape)


def _may_overwrite(step: Step) -> Sequence[int]:
    """Return the operands that the result may overwrite if nothing reads them later."""
    if step.lowering.ufunc is None:
        return step.args[:1]
    # All for an elementwise ufunc; none for one with a signature, such as matmul.
    return step.args if getattr(step.lowering.ufunc, "signature", None) is None else ()


def _laid_out_in_c(steps: Sequence[Step]) -> list[bool]:
    """Return for each step whether NumPy would produce C order; another layout changes the rounding of sums."""
    found: list[bool] = []
    for step in steps:
        if len(step.aval.shape) <= 1 or step.op is None:
            found.append(all(found[a] for a in step.args))
        elif _keeps_layout(step):
            found.append(all(found[a] for a in step.args if len(steps[a].aval.shape) > 1))
        else:
            found.append(step.lowering.ufunc is not None or step.lowering.takes_out)
    return found


def _keeps_layout(step: Step) -> bool:
    """Return whether the result of a step has the memory layout of its operands."""
    if step.operation.name == "slice":
        return not any(isinstance(item, tuple) and item[0] == "ints" for item in step.attrs["index"])
    return step.operation.kind == "elementwise" or (
        step.lowering.ufunc is not None and getattr(step.lowering.ufunc, "signature", None) is None
    )
