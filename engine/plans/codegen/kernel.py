"""Kernel: a structure as one generated Python function of straight-line code.

Scalar programs become code on Python floats, written for the common case without division by 0 and overflow; if Python
raises, the same steps run again in operations that return NumPy's results. All other programs become calls of NumPy,
which write into buffers that the kernel keeps from one call to the next.
"""

from collections.abc import Iterable, Sequence
from functools import cached_property
from math import isfinite
from types import FunctionType, TracebackType

import numpy as np

from engine.core import LONG, Array, Aval, InvalidValueError, Value
from engine.plans.codegen.buffers import Buffers, Order, last_reads
from engine.plans.codegen.code import INDENT, Code, Line
from engine.plans.codegen.emit import Emitter
from engine.plans.codegen.fuse import Group, fused
from engine.plans.codegen.products import with_products_joined
from engine.plans.codegen.representations import FLOAT, is_scalar, representations
from engine.plans.codegen.split import MOST_LINES, in_pieces
from engine.plans.codegen.structure import Structure

#: Buffers that a kernel keeps between calls: the most sets, and the most bytes of all sets.
_MOST_SETS = 2
_MOST_BYTES = 2**26
#: Bytes of the smallest array that is deleted as soon as it is dead.
_SMALLEST_FORGOTTEN = 2**16
#: Memory of a line of code with the values of its names, estimated.
_BYTES_PER_LINE = 1000


def is_finite_text(texts: Iterable[str]) -> str:
    """Return an expression that tests whether some floats are finite: an infinity or a NaN minus itself is NaN."""
    return " and ".join(f"{text} - {text} == 0.0" for text in texts)


def _is_finite(known: Aval, text: str) -> str:
    """Return an expression that tests whether a value is finite; a sum that overflows counts as not finite."""
    if not known.shape:
        return f"isfinite({text})"
    if known.size >= LONG:
        return f"isfinite(total({text}, None))"
    return f"isfinite({text}.dot({text}))" if len(known.shape) == 1 else f"isfinite((w := {text}.ravel('K')).dot(w))"


class Kernel:
    """Compiled code of one structure; plans share it, each with its own constants and names of inputs.

    is_scalar: it computes on Python floats alone.
    is_random: it draws random numbers, and takes a seed.
    arrays: indices of the values that are not floats.
    nbytes: size in bytes, estimated, with the buffers that are kept.

    Args:
        structure: the steps.
        carried: for a loop, the index of the input that each output is assigned to after every step; loop-invariant
            values are computed once, before the first step. Empty for code without a loop.
        threads: the most threads that a run uses for a long region; None for one per processor.
    """

    def __init__(self, structure: Structure, carried: Sequence[int] = (), threads: int | None = None) -> None:
        self._structure = structure = with_products_joined(structure)
        self._carried = carried
        self._threads = threads
        found = representations(structure.steps)
        self.is_scalar = not structure.constants and is_scalar(structure.steps)
        self.is_random = any(step.stream for step in structure.steps)
        self.arrays = [k for k, n in enumerate(structure.outputs[: structure.count]) if found[n] != FLOAT]
        needed = [*(structure.inputs[k] for k in carried), *structure.outputs]
        before, inside = self._divided(fused(structure.steps, needed))
        self._order, self._loop_begins = [*before, *inside], len(before)
        self._buffers = Buffers(structure, self._order, self._loop_begins)
        self._buffer_sets: list[tuple[Array, ...]] = []
        self._most_sets = min(_MOST_SETS, _MOST_BYTES // max(self._buffers.nbytes, 1))
        self.function, self.code, self._regions = self._compiled(is_guarded=not self.is_scalar)
        self.nbytes = _BYTES_PER_LINE * len(structure.steps) + self._most_sets * self._buffers.nbytes

    @property
    def is_long(self) -> bool:
        """Return whether the code was split into several functions."""
        return bool(self.code.pieces)

    @property
    def source(self) -> str:
        """Return the code as text, followed by that of its regions and pieces."""
        return "\n".join([self.code.source, *self._regions])

    @cached_property
    def guarded(self) -> FunctionType:
        """Compile the function that returns NumPy's results where Python raises."""
        return self._compiled(is_guarded=True)[0]

    def _compiled(self, *, is_guarded: bool) -> tuple[FunctionType, Code, list[str]]:
        structure, buffers = self._structure, self._buffers
        # Loop-invariant values must have names, or they would be inlined into the body.
        before = self._order[: self._loop_begins] if self._carried else ()
        named = {item for item in before if not isinstance(item, Group)}
        emitter = Emitter(structure, is_guarded=is_guarded, buffers=buffers.names, named=named, threads=self._threads)
        code = emitter.code
        parameters = [f"x{k}" for k in range(len(structure.inputs))]
        parameters += [f"c{k}" for k in range(len(structure.constants))]
        parameters += ["seed"] * self.is_random + ["steps"] * bool(self._carried)
        parameters += [f"b{k}" for k in range(len(buffers.avals))]
        code.add(f"def plan({', '.join(parameters)}):")
        body = self._loop(emitter) if self._carried else [*self._straight(emitter), *self._watching(emitter)]
        if body and not self.is_scalar:
            code.names["errstate"] = np.errstate
            body = [('with errstate(all="ignore"):', ""), *((INDENT + line, name) for line, name in body)]
        for line, name in body:
            code.add(INDENT + line, name)
        results = [f"x{k}" for k in self._carried]
        results = results or [emitter.result(n) for n in structure.outputs[: structure.count]]
        results += ["finite"] * bool(structure.watched)
        code.add(f"{INDENT}return ({''.join(text + ', ' for text in results)})")
        return code.function(), code, [*emitter.regions, *(piece.source for piece in code.pieces.values())]

    def _straight(self, emitter: Emitter) -> list[Line]:
        done = self._forgotten()
        lines = []
        for position, item in enumerate(self._order):
            lines += emitter.emit(item)
            for n in done.get(position, ()):
                lines += emitter.forget(n)
        if len(lines) > MOST_LINES:
            results = ", ".join(emitter.result(n) for n in self._structure.outputs)
            (lines,) = in_pieces(emitter.code, [lines], results)
        return lines

    def _watching(self, emitter: Emitter) -> list[Line]:
        """Return the line that sets the flag for watched outputs, if there are any."""
        structure = self._structure
        if not structure.watched:
            return []
        outputs = dict.fromkeys(structure.outputs[k] for k in structure.watched)
        if self.is_scalar:
            return [(f"finite = {is_finite_text(map(emitter.result, outputs))}", "")]
        names = emitter.code.names
        names |= {"isfinite": isfinite, "total": np.add.reduce}
        return [
            (f"finite = {' and '.join(_is_finite(structure.steps[n].aval, emitter.result(n)) for n in outputs)}", "")
        ]

    def _loop(self, emitter: Emitter) -> list[Line]:
        structure = self._structure
        before = [line for item in self._order[: self._loop_begins] for line in emitter.emit(item)]
        inside = [line for item in self._order[self._loop_begins :] for line in emitter.emit(item)]
        targets = ", ".join(f"x{k}" for k in self._carried)
        values = ", ".join(emitter.result(n) for n in structure.outputs)
        if len(before) + len(inside) > MOST_LINES:
            before, inside = in_pieces(emitter.code, [before, inside], values)
        inside.append((f"{targets} = {values}", ""))
        loop = [("for step in range(steps):", ""), *((INDENT + line, name) for line, name in inside)]
        if not self.is_scalar or emitter.is_guarded:
            return before + loop
        emitter.code.names["guarded"] = self.guarded
        # Steps before the exception count; the remaining ones run in operations that do not raise.
        given = [f"x{k}" for k in range(len(structure.inputs))]
        return [
            ("step = 0", ""),
            ("try:", ""),
            *((INDENT + line, name) for line, name in before + loop),
            ("except (ArithmeticError, ValueError):", ""),
            (f"{INDENT}return guarded({', '.join(given)}, steps - step)", ""),
        ]

    def _divided(self, order: Order) -> tuple[list[int | Group], list[int | Group]]:
        """Divide an order into the loop-invariant part and the body of the loop."""
        moving = {self._structure.inputs[k] for k in self._carried}
        before: list[int | Group] = []
        inside: list[int | Group] = []
        for item in order:
            if isinstance(item, Group):
                is_moving, members = not moving.isdisjoint(item.operands), item.members
            else:
                step = self._structure.steps[item]
                is_moving = item in moving or step.stream is not None or not moving.isdisjoint(step.args)
                members = (item,)
            if is_moving and self._carried:
                moving.update(members)
            (inside if is_moving and self._carried else before).append(item)
        return before, inside

    def _forgotten(self) -> dict[int, list[int]]:
        """Return the large values without a buffer to delete, by the last position in the order that reads them."""
        steps, ends = self._structure.steps, last_reads(self._structure, self._order, self._loop_begins)
        found: dict[int, list[int]] = {}
        for position, item in enumerate(self._order):
            for n in item.results if isinstance(item, Group) else (item,):
                is_own = steps[n].op is not None and n not in self._buffers.names
                if is_own and steps[n].aval.nbytes >= _SMALLEST_FORGOTTEN and position < ends[n] < len(self._order):
                    found.setdefault(ends[n], []).append(n)
        return found

    def __call__(self, given: Sequence[Value]) -> list[Value]:
        """Run the code; return the values.

        given: the inputs and the constants in order, the seed if it is random, the number of steps if it is a loop.

        Raises:
            InvalidValueError: an operation is not defined on the data, such as labels out of range.
        """
        if self.is_scalar:
            try:
                return list(self.function(*given))
            except (ArithmeticError, ValueError):
                return list(self.guarded(*given))
        try:
            buffers = self._buffer_sets.pop()
        except IndexError:
            buffers = self._buffers.allocate()
        try:
            return list(self.function(*given, *buffers))
        except (ValueError, IndexError, ArithmeticError) as error:
            raise self._explained(error) from error
        finally:
            if len(self._buffer_sets) < self._most_sets:
                self._buffer_sets.append(buffers)

    def _explained(self, error: Exception) -> InvalidValueError:
        """Return an error with the name of the operation that raised it, found by its line in the traceback."""
        trace: TracebackType | None = error.__traceback__
        operation = ""
        while trace is not None:
            compiled = trace.tb_frame.f_code
            code = self.code if compiled is self.function.__code__ else self.code.pieces.get(compiled)
            if code is not None:
                operation = code.operations[trace.tb_lineno - 1]
            trace = trace.tb_next
        return InvalidValueError(f"{operation}: {error}")
