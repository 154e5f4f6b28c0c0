"""Buffers: which results of a plan are written into arrays that it keeps from one call to the next."""

from collections.abc import Sequence

import numpy as np

from engine.core.values import FLOAT64, Array, Aval
from engine.plans.codegen.forms import writes_out
from engine.plans.codegen.fuse import Group
from engine.plans.codegen.joins import is_joined, parts
from engine.plans.codegen.structure import Structure
from engine.plans.step import Step

#: Fewer elements than this are allocated faster than they are looked after.
SMALLEST = 1024
#: Vector instructions are fastest on addresses that are multiples of so many bytes.
ALIGNMENT = 64


#: Steps by number, and groups that are run together, in the order in which all is computed.
Order = Sequence[int | Group]


def last_reads(structure: Structure, order: Order, loop: int) -> list[int]:
    """For each value the last place in the order that reads its memory, be it through what may be a view of it.

    Places from `loop` on are run again and again: what they read of those before is needed after all places.
    """
    steps = structure.steps
    ends = [-1] * len(steps)
    for place, item in enumerate(order):
        for n in item.members if isinstance(item, Group) else (item,):
            ends[n] = place
    is_before = [end < loop for end in ends]
    for n in structure.outputs:
        ends[n] = len(order)
    for place in reversed(range(len(order))):
        item = order[place]
        if isinstance(item, Group):
            end, operands = place, item.operands
        else:
            end, operands = place if is_fresh(steps[item]) else ends[item], steps[item].args
        for a in operands:
            ends[a] = len(order) if place >= loop and is_before[a] else max(ends[a], end)
    return ends


def is_fresh(step: Step) -> bool:
    """Whether a result never shares memory with an operand."""
    # One double is a Python float.
    is_float = not step.aval.shape and step.aval.dtype == FLOAT64
    return step.op is not None and (is_float or step.lowering.is_fresh)


class Buffers:
    """What is written where.

    names: for numbers of steps the name of the buffer that holds the result.
    forms: shape and dtype of each buffer.

    Args:
        structure, order: what is computed.
        loop: the first place that is run again and again.
    """

    def __init__(self, structure: Structure, order: Order, loop: int) -> None:
        self.names: dict[int, str] = {}
        self.forms: list[Aval] = []
        self._steps = structure.steps
        self._last_place = len(order) - 1
        self._ends = last_reads(structure, order, loop)
        #: For each buffer the last place in the order that reads what it holds.
        self._until: list[int] = []
        self._held: dict[int, int] = {}
        self._expiring: dict[int, list[int]] = {}
        self._waiting: dict[Aval, list[int]] = {}
        is_c = _laid_out_in_c(self._steps)
        single = [n for n in order if not isinstance(n, Group)]
        written = {n for n in single if writes_out(self._steps[n], self._steps) and is_c[n]}
        joined = [n for n in single if is_joined(self._steps[n]) and self._is_kept(n)]
        self._parts = parts(structure, joined, {n for n in written if self._ends[n] <= self._last_place})
        for a, part in self._parts.items():
            self._ends[part.whole] = max(self._ends[part.whole], self._ends[a])
        for place, item in enumerate(order):
            self._release(place)
            if isinstance(item, Group):
                for n in item.results:
                    self._assign(n, place, ())
            elif item in self._parts:
                self._place(item, place)
            elif item in written:
                self._assign(item, place, _may_overwrite(self._steps[item]))
            elif is_joined(self._steps[item]):
                self._assign(item, place, ())

    def _is_kept(self, n: int) -> bool:
        """Whether a value gets a buffer: it is large, and not handed out."""
        return self._steps[n].aval.size >= SMALLEST and self._ends[n] <= self._last_place

    def _place(self, n: int, place: int) -> None:
        """A part of a whole is written into the buffer of that; the first one takes it."""
        part = self._parts[n]
        self._assign(part.whole, place, ())
        self.names[n] = self.names[part.whole] + part.span

    def _assign(self, n: int, place: int, over: Sequence[int]) -> None:
        step = self._steps[n]
        if n in self.names or not self._is_kept(n):
            return
        form = Aval(step.aval.shape, step.aval.dtype)
        buffer = self._free(form, place, over)
        if buffer is None:
            buffer = len(self.forms)
            self.forms.append(form)
            self._until.append(place)
        self._until[buffer] = self._ends[n]
        self._expiring.setdefault(self._ends[n], []).append(buffer)
        self._held[n] = buffer
        self.names[n] = f"b{buffer}"

    def _free(self, form: Aval, place: int, over: Sequence[int]) -> int | None:
        """A buffer of that form that nothing reads from here on; one used lately, for it is in the cache."""
        for a in over:
            if a in self._held and self.forms[self._held[a]] == form and self._until[self._held[a]] == place:
                return self._held[a]
        waiting = self._waiting.get(form, [])
        return waiting.pop() if waiting else None

    def _release(self, place: int) -> None:
        """Takes back what was read for the last time before that place."""
        for buffer in self._expiring.pop(place - 1, ()):
            if self._until[buffer] == place - 1:
                self._waiting.setdefault(self.forms[buffer], []).append(buffer)

    @property
    def nbytes(self) -> int:
        """The size of one set."""
        return sum(form.nbytes for form in self.forms)

    def allocate(self) -> tuple[Array, ...]:
        """One set; each buffer begins where vector instructions are fastest."""
        return tuple(aligned(form) for form in self.forms)


def aligned(form: Aval) -> Array:
    """An array of that shape and dtype that begins at a multiple of ALIGNMENT."""
    block = np.empty(form.nbytes + ALIGNMENT, np.uint8)
    begin = -block.ctypes.data % ALIGNMENT
    return block[begin : begin + form.nbytes].view(form.dtype).reshape(form.shape)


def _may_overwrite(step: Step) -> Sequence[int]:
    """The operands over which a result may be written where nothing reads them later."""
    if step.lowering.ufunc is None:
        return step.args[:1]
    # Element by element all of them; a product of matrices none.
    return step.args if getattr(step.lowering.ufunc, "signature", None) is None else ()


def _laid_out_in_c(steps: Sequence[Step]) -> list[bool]:
    """Which results NumPy would lay out row after row; in another layout sums over them may round otherwise."""
    found: list[bool] = []
    for step in steps:
        if len(step.aval.shape) <= 1 or step.op is None:
            found.append(all(found[a] for a in step.args))
        elif _keeps_layout(step):
            found.append(all(found[a] for a in step.args if len(steps[a].aval.shape) > 1))
        else:
            found.append(step.lowering.ufunc is not None or step.lowering.takes_out or is_joined(step))
    return found


def _keeps_layout(step: Step) -> bool:
    """Whether NumPy lays a result out as the operands are."""
    if step.operation.name == "slice":
        return not any(isinstance(item, tuple) and item[0] == "ints" for item in step.attrs["index"])
    return step.operation.kind == "elementwise" or (
        step.lowering.ufunc is not None and getattr(step.lowering.ufunc, "signature", None) is None
    )
