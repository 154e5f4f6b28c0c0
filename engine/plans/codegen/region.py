"""Region: a group of fused steps as one generated Python function, which works on one tile."""

from collections.abc import Sequence

import numpy as np

from engine.core import FLOAT64, Array, Value, flat_view
from engine.plans.codegen import sincos
from engine.plans.codegen.code import INDENT, defined
from engine.plans.codegen.fuse import Group, operands_of_member
from engine.plans.codegen.tiles import run_tiles
from engine.plans.step import Step

#: Functions that are computed by `sincos`, each with the one that it can share a call with.
_PARTNERS = {"sin": "cos", "cos": "sin"}


class Region:
    """Compiled code of a group of fused steps.

    source: the code for one tile, as text.

    Args:
        steps: the steps of the structure.
        group: the steps to run.
        threads: the most threads, used if several are faster than one; None for one per processor. The results do not
            depend on it.
    """

    def __init__(self, steps: Sequence[Step], group: Group, threads: int | None = None) -> None:
        writer = _Writer(steps, group)
        self.source = writer.source()
        self._scratch = writer.scratch
        self._shape = group.shape
        self._size = int(np.prod(group.shape, dtype=np.int64))
        self._is_array = [steps[n].aval.shape == group.shape for n in group.operands]
        #: For each result the dtype of an array, or None for a sum.
        self._dtypes = [steps[n].aval.dtype if steps[n].aval.shape else None for n in group.results]
        # Threads that make short calls spend more time waiting for the interpreter lock than computing.
        calls = [steps[n].operation.name for n in group.members]
        is_long = 2 * sum(steps[n].lowering.is_long for n in group.members) >= len(
            calls
        ) and _PARTNERS.keys().isdisjoint(calls)
        self._threads = threads if is_long else 1
        self._tile = defined(self.source, writer.names)

    def run(self, values: Sequence[Value], out: Sequence[Array | None] | None = None) -> list[Value]:
        """Run the group on the values of its operands; return its results, both in the order of the group.

        Args:
            values: arrays of the shape of the group, in any layout, and scalars with the dtype that NumPy should use.
            out: for each result that is an array, a C-ordered array to write to, which shares no memory with other
                results or operands; None to allocate one.
        """
        operands = [_flat(x) if is_array else x for x, is_array in zip(values, self._is_array, strict=True)]
        given = out or [None] * len(self._dtypes)
        arrays = [
            None if dtype is None else (np.empty(self._shape, dtype) if array is None else array)
            for dtype, array in zip(self._dtypes, given, strict=True)
        ]
        results = [flat_view(array) for array in arrays if array is not None]
        tile = self._tile

        def run_tile(start: int, stop: int, scratch: list[Array]) -> tuple[float, ...]:
            return tile(start, stop, operands, results, scratch)  # type: ignore[no-any-return]

        parts = run_tiles(run_tile, self._size, self._scratch, self._threads)
        sums = iter(np.add.reduce(parts, axis=0).tolist() if parts else [0.0] * len(arrays))
        return [next(sums) if array is None else array for array in arrays]


def _flat(x: Array) -> Array:
    """Flatten an array in C order; copy only if it is neither C-contiguous nor a broadcast number."""
    if x.size and not any(x.strides):
        return np.broadcast_to(x[(0,) * x.ndim], x.size)
    return x.reshape(-1)


class _Writer:
    """Writer of the code of a region.

    Names in the code: x operands, a their slices, y results, o their slices, s scratch arrays, v new arrays, r sums.
    """

    def __init__(self, steps: Sequence[Step], group: Group) -> None:
        self._steps = steps
        self._group = group
        self.names: dict[str, object] = {"sum_of": np.add.reduce}
        self.scratch = 0
        self._free: list[int] = []
        self._rows: dict[int, int] = {}
        self._lines: list[str] = []
        self._args = {n: operands_of_member(steps, n) for n in group.members}
        self._last = {a: n for n in group.members for a in self._args[n]}
        self._waves = self._by_operand()
        self._texts: dict[int, str] = {}

    def _by_operand(self) -> dict[int, dict[str, int]]:
        """Return the sines and cosines of the group by operand: number of the operand -> name -> number."""
        found: dict[int, dict[str, int]] = {}
        for n in self._group.members:
            name = self._steps[n].operation.name
            if name in _PARTNERS:
                found.setdefault(self._args[n][0], {})[name] = n
        return found

    def source(self) -> str:
        """Return the code of the function `tile(start, stop, operands, results, scratch)`, which returns the sums."""
        group = self._group
        for k, n in enumerate(group.operands):
            is_array = self._steps[n].aval.shape == group.shape
            self._texts[n] = f"a{k}" if is_array else f"x{k}"
            if is_array:
                self._lines.append(f"a{k} = x{k}[start:stop]")
        arrays = [n for n in group.results if self._steps[n].aval.shape]
        self._results = {n: f"o{k}" for k, n in enumerate(arrays)}
        self._lines += [f"o{k} = y{k}[start:stop]" for k in range(len(arrays))]
        for n in group.members:
            if n not in self._texts:
                self._emit(n)
            self._release(n)
        sums = [self._texts[n] for n in group.results if not self._steps[n].aval.shape]
        head = ["def tile(start, stop, operands, results, scratch):"]
        head += self._unpacked("x", len(group.operands), "operands")
        head += self._unpacked("y", len(arrays), "results")
        head += self._unpacked("s", self.scratch, "scratch")
        body = [*self._lines, f"return ({''.join(text + ', ' for text in sums)})"]
        return "\n".join([*head, *(INDENT + line for line in body)]) + "\n"

    def _unpacked(self, prefix: str, count: int, name: str) -> list[str]:
        return [f"{INDENT}{''.join(f'{prefix}{k}, ' for k in range(count))}= {name}"] if count else []

    def _emit(self, n: int) -> None:
        step = self._steps[n]
        op = step.operation
        given = [self._texts[a] for a in self._args[n]]
        doubles = all(self._steps[a].aval.dtype == FLOAT64 for a in self._args[n])
        if op.name == "sum":
            self._texts[n] = f"r{n}"
            self._lines.append(f"r{n} = sum_of({given[0]})")
        elif op.name in _PARTNERS and doubles:
            self._emit_wave(n, given[0])
        elif op.lowering.ufunc is not None and doubles:
            self._emit_ufunc(n, given)
        else:
            self._emit_forward(n, given)

    def _emit_wave(self, n: int, given: str) -> None:
        name = self._steps[n].operation.name
        twins = self._waves[self._args[n][0]]
        if len(twins) == 2:
            outs = [self._target(twins["sin"]), self._target(twins["cos"])]
            function, count = "sin_and_cos", sincos.SCRATCH
            self.names[function] = sincos.sin_and_cos
        else:
            outs = [self._target(n)]
            function, count = name, sincos.SCRATCH + 1
            self.names[function] = getattr(sincos, name)
        rows = [self._take() for _ in range(count)]
        self._lines.append(f"{function}({given}, {', '.join(outs)}, [{', '.join(f's{k}' for k in rows)}])")
        self._free += rows

    def _emit_ufunc(self, n: int, given: list[str]) -> None:
        step = self._steps[n]
        self.names[step.operation.name] = step.lowering.ufunc
        if step.aval.dtype == FLOAT64 or n in self._results:
            # An elementwise result may overwrite an operand that is read for the last time.
            self._release(n)
            self._lines.append(f"{step.operation.name}({', '.join(given)}, out={self._target(n)})")
        else:
            self._texts[n] = f"v{n}"
            self._lines.append(f"v{n} = {step.operation.name}({', '.join(given)})")

    def _emit_forward(self, n: int, given: list[str]) -> None:
        step = self._steps[n]
        function = f"{step.operation.name}_array"
        self.names[function] = step.operation.forward
        if step.attrs:
            self.names[f"attrs{n}"] = step.attrs
            given = [*given, f"**attrs{n}"]
        text = f"{function}({', '.join(given)})"
        if n in self._results or (not step.lowering.is_fresh and step.aval.dtype == FLOAT64):
            self._lines.append(f"{self._target(n)}[:] = {text}")
        else:
            self._texts[n] = f"v{n}"
            self._lines.append(f"v{n} = {text}")

    def _target(self, n: int) -> str:
        """Return the name of the array for the result of a step: the slice of a result, or a scratch array."""
        if n not in self._results:
            self._rows[n] = self._take()
        self._texts[n] = self._results.get(n) or f"s{self._rows[n]}"
        return self._texts[n]

    def _take(self) -> int:
        if self._free:
            return self._free.pop()
        self.scratch += 1
        return self.scratch - 1

    def _release(self, n: int) -> None:
        """Free the scratch arrays that a step was the last to read, and that of its result if nothing reads it."""
        for a in {*self._args[n], n}:
            if a in self._rows and self._last.get(a, n) == n:
                self._free.append(self._rows.pop(a))
