"""A program as a function of its inputs and of shifts of its nodes, on tracers of any kind."""

from collections.abc import Callable, Mapping
from functools import partial

from engine.core import FLOAT64, ROW_CALLS, Aval, Symbol, Value, aval
from engine.plans.step import Stream
from engine.plans.trace import Trace
from engine.programs.call import ProgramCall
from engine.programs.interpreter import interpret
from engine.tracers import Tape, Taped
from engine.transforms.calls import next_level
from engine.transforms.derivatives import vmap

#: Adding it to a value changes no bit, not even the sign of a zero.
NO_SHIFT = -0.0
#: Name of an input of ones, one for each row of a batch: multiplied by it, the operands of a random node are batched.
#: Names of users have no space.
_EACH_ROW = "each row"


class ProgramFunction:
    """A program as a function that records on a trace.

    inputs: the symbols of its inputs, by name; those of a batch with the axis of rows.
    avals: shapes and dtypes of all inputs and nodes, for one row; filled by the first call.

    Args:
        call: the program with its inputs.
        trace: records the constants and the operations.
    """

    def __init__(self, call: ProgramCall, trace: Trace) -> None:
        self._call = call
        self._trace = trace
        self._has_grad = any(node.op is not None and node.op.name == "grad" for node in call.graph.nodes)
        self._bound = _symbols(trace, call.graph.bound)
        self.inputs = _symbols(trace, call.inputs)
        self.avals: dict[str, Aval] = {}

    def __call__(self, inputs: Mapping[str, Value], shifts: Mapping[str, Value] | None = None) -> dict[str, Value]:
        """Return the value of every input and node by name, for one row.

        shifts: values that are added to those of nodes, by id.

        Raises:
            AutogradError: of the kind that the wire contract names for the fault, with the locations of the nodes.
        """
        given = dict(inputs)
        each_row = given.pop(_EACH_ROW, None)
        setting = _Setting(self._trace, shifts or {}, each_row, self._has_grad)
        with self._call.mode():
            found = interpret(self._call.graph, setting.entered(self._bound | given), setting)
        if not self.avals:
            self.avals = {name: _aval(value) for name, value in found.items()}
        return setting.left(found)

    def over_rows(
        self,
        f: Callable[..., object],
        *further: tuple[Value, object],
        out_axes: object = 0,
        inputs: Mapping[str, Value] | None = None,
    ) -> Value:
        """Apply a function of the inputs of one row to all rows of the batch.

        further: other arguments of the function, each with its axis of rows, see `vmap`.
        out_axes: see `vmap`.
        inputs: values that replace the symbols of the inputs.
        """
        rows, inputs = self._call.rows, dict(self.inputs if inputs is None else inputs)
        if rows is None:
            return f(inputs, *(tree for tree, _ in further))
        axes: dict[str, int | None] = {name: 0 if name in self._call.batched else None for name in inputs}
        if self._call.train and any(node.op is not None and node.op.random for node in self._call.graph.nodes):
            inputs[_EACH_ROW] = self._trace.full(1.0, Aval((rows,), FLOAT64))
            axes[_EACH_ROW] = 0
        in_axes = (axes, *(axis for _, axis in further))
        return vmap(f, in_axes, out_axes)(inputs, *(tree for tree, _ in further))

    def shift(self, node: str, *, is_apart: bool = False) -> Symbol:
        """Return a shift of a node that changes nothing; the derivative with respect to it is that of the node.

        is_apart: make it a step of its own, with respect to which a derivative can be differentiated again.
        """
        found = self._trace.full(NO_SHIFT, self.avals[node]._replace(weak=None))
        return self._trace.cut(found) if is_apart else found


class _Setting:
    """Setting of one interpretation on a trace, see `interpreter.Setting`.

    Programs that take gradients themselves, by the operation `grad`, run on a tape of their own.
    """

    def __init__(self, trace: Trace, shifts: Mapping[str, Value], each_row: Value, has_grad: bool) -> None:
        self._trace = trace
        self._shifts = shifts
        self._each_row = each_row
        self._tape = Tape(next_level(), "grad") if has_grad else None

    def entered(self, values: dict[str, Value]) -> dict[str, Value]:
        return values if self._tape is None else {name: self._on_tape(value) for name, value in values.items()}

    def left(self, values: dict[str, Value]) -> dict[str, Value]:
        return values if self._tape is None else {name: self._tape.data(value) for name, value in values.items()}

    def _on_tape(self, value: Value) -> Value:
        if self._tape is None or value.dtype.kind != "f" or (isinstance(value, Symbol) and value.aval.weak):
            return value
        is_mine = isinstance(value, Taped) and value.recorder is self._tape
        return value if is_mine else self._tape.leaf(value)

    def constant(self, value: Value, is_weak: bool) -> Value:
        """Return a constant of the trace."""
        found = self._trace.constant(value, is_weak)
        return found if self._tape is None else self._on_tape(found)

    def result(self, name: str, value: Value) -> Value:
        """Return the value of a node, shifted."""
        if self._tape is not None:
            value = self._on_tape(value)
        return value + self._shifts[name] if name in self._shifts else value

    def random(self, index: int, args: tuple[Value, ...]) -> tuple[tuple[Value, ...], Stream]:
        """Return the operands, batched so that every row draws numbers of its own, and the stream of the node."""
        if self._each_row is not None:
            ones = partial(ROW_CALLS["astype"], self._each_row)
            args = tuple(x * ones(str(x.dtype)) if x.dtype.kind == "f" else x for x in args)
        return args, Stream(index)


def _symbols(trace: Trace, values: Mapping[str, Value]) -> dict[str, Symbol]:
    return {name: trace.shared_input(name, aval(value)._replace(weak=None)) for name, value in values.items()}


def _aval(value: Value) -> Aval:
    return value.aval if isinstance(value, Symbol) else Aval(value.shape, value.dtype)
