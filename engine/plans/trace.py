"""Trace: the recorder of symbols. Record each operation as a step, merged with equal steps and simplified."""

import math
import struct
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np

from engine.core import (
    FLOAT64,
    MAX_AXES,
    PROMOTING,
    ROW_CALLS,
    Attributes,
    Aval,
    InvalidValueError,
    NotSupportedError,
    Operation,
    Symbol,
    Tracer,
    Value,
    Variable,
    apply,
    as_raw,
    frozen,
    operand,
)
from engine.core import aval as raw_aval
from engine.graph import Graph, Input, Limits, Literal, Node, Output, check_limit, named
from engine.plans.simplify import rewritten
from engine.plans.step import Step, Stream

#: Recording an operation takes time even if it adds no step: this many recorded operations count as one node.
_RECORDED_PER_NODE = 3
#: Constant folding: the largest result, in elements, that is computed while tracing.
_LARGEST_FOLDED = 16
#: Part of error messages: the values that a traced function cannot use.
FOREIGN = "a variable, or a value of a function around it, that is no argument of its own"


class Trace:
    """Linear record of steps; the index of a step is that in `steps`, and that of its symbol.

    alternatives: for each derivative recorded in two ways, its index -> the index of the way with supports; see
        `codegen.finiteness`.
    updated: for each sum of updates to slices of zeros, its index -> the number of elements updated; such a sum never
        holds -0.0.

    Args:
        limits: bounds on axes, elements and nodes.
        level: as of every recorder, see `Recorder`.
        transform: the name of the transform that traces.
        takes_foreign: take variables and values of other tracers as inputs; such a trace is inspected and never run.
    """

    is_over = False

    def __init__(
        self, limits: Limits | None = None, level: int = 0, transform: str = "trace", *, takes_foreign: bool = False
    ) -> None:
        self.level = level
        self.transform = transform
        self.limits = limits or Limits()
        self.steps: list[Step] = []
        self.operations = self._recorded = 0
        self.alternatives: dict[int, int] = {}
        self.updated: dict[int, int] = {}
        #: Places, not symbols: a symbol refers to the trace, and the cycle would keep its constants until the next
        #: garbage collection.
        self._seen: dict[Hashable, int] = {}
        #: Writeable arrays by id, each with its frozen copy.
        self._copies: dict[int, tuple[Value, Value]] = {}
        self._takes_foreign = takes_foreign
        self._held: list[Variable | Tracer] = []

    def input(self, name: str, aval: Aval) -> Symbol:
        """Add an input; its value is given when the trace is run.

        Raises:
            InvalidValueError: it has too many axes.
            LimitExceededError: it has too many elements.
        """
        return self._add(Step(None, (), {}, self._checked(aval, f'input "{name}"'), name=name))

    def shared_input(self, name: str, aval: Aval) -> Symbol:
        """Return the input of that name, adding it on the first call only, so that equal steps on it are merged."""
        return self._once(("input", name), lambda: self.input(name, aval))

    def constant(self, value: Value, is_weak: bool = False) -> Symbol:
        """Return the step of a constant; `is_weak` for a Python number, which takes the dtype of the other operands."""
        known = raw_aval(value)
        known = known if is_weak else known._replace(weak=None)
        return self._once(
            _bits(value, known), lambda: self._add(Step(None, (), {}, self._checked(known, "a literal"), value=value))
        )

    def lazy_constant(self, aval: Aval, make: Callable[[], Value]) -> Symbol:
        """Add a constant that `make` computes when the plan is compiled."""
        return self._add(Step(None, (), {}, self._checked(aval, "a constant"), value=make))

    def full(self, value: float, aval: Aval) -> Symbol:
        """Return `value` broadcast to the shape of `aval`, in its dtype."""
        number = self.constant(float(value) if aval.dtype == FLOAT64 else np.array(value, aval.dtype))
        return ROW_CALLS["broadcast_to"](number, aval.shape) if aval.shape else number

    def cut(self, symbol: Symbol) -> Symbol:
        """Add an identity step that is never merged, so that a value can be differentiated with respect to."""
        return self._add(Step(None, (symbol.index,), {}, symbol.aval._replace(weak=None)))

    def alternative(self, plain: Value, masked: Value) -> Symbol:
        """Record two ways to one derivative: `plain`, and `masked` with supports for when `plain` is not finite."""
        one, other = (x if isinstance(x, Symbol) else self.constant(as_raw(x)) for x in (plain, masked))
        if one.index == other.index:
            return one
        found = self._add(Step(None, (one.index,), {}, one.aval._replace(weak=None)))
        self.alternatives[found.index] = other.index
        return found

    @contextmanager
    def uncounted(self) -> Iterator[None]:
        """Record without counting nodes, for a second way to values that were counted once."""
        limits, operations, recorded = self.limits, self.operations, self._recorded
        self.limits = replace(limits, max_nodes=math.inf)
        try:
            yield
        finally:
            self.limits, self.operations, self._recorded = limits, operations, recorded

    def inputs(self) -> list[Symbol]:
        """Return all inputs, in the order in which they were added."""
        return [self.symbol(index) for index, step in enumerate(self.steps) if step.name]

    def symbol(self, index: int) -> Symbol:
        """Return the symbol of the step at `index`."""
        return Symbol(self.steps[index].aval, self, index)

    def live(self, outputs: Sequence[Symbol], *, is_masked: bool = False) -> list[int]:
        """Return the indices of the steps that `outputs` depend on, in order.

        is_masked: of two ways to a derivative, follow the one with supports.
        """
        needed = {x.index for x in outputs}
        others = self.alternatives if is_masked else {}
        for index in range(max(needed, default=-1), -1, -1):
            if index in needed:
                needed.update((others[index],) if index in others else self.steps[index].args)
        return sorted(needed)

    def operands(self, index: int, *, is_masked: bool) -> tuple[int, ...]:
        """Return the indices of a step's operands; for an alternative, the index of the plain or the masked way."""
        return (self.alternatives[index],) if is_masked and index in self.alternatives else self.steps[index].args

    def resolved(self, *, is_masked: bool) -> "tuple[Trace, list[int]]":
        """Return the trace with one way to each derivative, and for each index the index that replaces it."""
        if not self.alternatives:
            return self, list(range(len(self.steps)))
        found = copy(self)
        found.steps = []
        stands: list[int] = []
        for index, step in enumerate(self.steps):
            args = tuple(stands[a] for a in self.operands(index, is_masked=is_masked))
            stands.append(args[0] if index in self.alternatives else index)
            found.steps.append(step if args == step.args else replace(step, args=args))
        return found, stands

    def known(self, symbol: Symbol) -> Value:
        """Return the value of a constant; None for any other step, and for a constant not made yet."""
        step = self.steps[symbol.index]
        return None if step.op is not None or callable(step.value) else step.value

    def record(self, op: Operation, args: tuple[Value, ...], attrs: Attributes, **extra: Any) -> Symbol:
        """Return the step of an operation: an equal earlier step, a folded constant, a simpler step, or a new one.

        Raises:
            InvalidValueError: an operand is a variable or a tracer of another trace, or the result has too many axes.
            LimitExceededError: the trace has too many nodes, or the result too many elements.
            NotSupportedError: the operation is random, and `rng` is not a `Stream`.
        """
        symbols = [self._operand(op, x) for x in args]
        avals = [x.aval for x in symbols]
        given = [a._replace(weak=None) for a in avals] if op.kind == "other" else avals
        out: Aval = op.infer(*given, **attrs)
        self._recorded += 1
        check_limit("nodes", self._recorded // _RECORDED_PER_NODE, self.limits.max_nodes, "the program")
        values = [self.known(x) for x in symbols]
        # The result of Python numbers, or of a choice between them, is a Python number.
        are_numbers = (a.weak or (v is not None and not a.is_floating) for a, v in zip(avals, values, strict=True))
        if out.dtype == FLOAT64 and not out.shape and all(are_numbers):
            out = Aval((), FLOAT64, float)
        if out.shape:
            self._checked(out, f"the result of {op.name}")
        stream = _stream(extra["rng"]) if op.random else None
        if stream is None and out.size <= _LARGEST_FOLDED and all(v is not None for v in values):
            return self._folded(op, symbols, values, attrs, out)
        found = None if stream else rewritten(self, op, symbols, attrs, out)
        if found is not None:
            return found
        indices = [x.index for x in symbols]
        if op.lowering.is_commutative:
            indices.sort()
        # A stream always draws the same values, so equal draws from one stream can be merged.
        attribute_bits = tuple((k, _attribute_bits(v)) for k, v in attrs.items()) if attrs else ()
        key = (op.name, stream, tuple(indices), attribute_bits)
        return self._once(key, lambda: self._append(op, symbols, attrs, out, stream))

    def _once(self, key: Hashable, write: Callable[[], Symbol]) -> Symbol:
        index = self._seen.get(key)
        if index is not None:
            return self.symbol(index)
        symbol = write()
        self._seen[key] = symbol.index
        return symbol

    def _operand(self, op: Operation, x: Value) -> Symbol:
        if type(x) is Symbol and x.recorder is self and not (x.aval.weak is int and op.kind not in PROMOTING):
            return x
        x = operand(op, x)
        if type(x) is Symbol and x.recorder is self:
            return x
        if isinstance(x, Variable | Tracer):
            if self._takes_foreign:
                return self._foreign(x)
            if isinstance(x, Tracer):
                x.check_alive()
            raise InvalidValueError(f"{op.name}: a function that is traced uses {FOREIGN}")
        if type(x) is np.ndarray:
            return self.constant(self._as_it_is(x))
        if type(x) is int and op.kind not in PROMOTING:
            x = float(x)
        return self.constant(float(x) if type(x) is np.float64 else x, is_weak=type(x) in (float, int, bool))

    def _foreign(self, x: Value) -> Symbol:
        """Return the input that represents a variable or a value of another tracer; constants stay constants."""
        known = x.recorder.known(x) if type(x) is Symbol else None
        if known is not None:
            return self.constant(known, x.aval.weak is not None)
        self._held.append(x)
        return self._once(("foreign", id(x)), lambda: self.input("", Aval(x.shape, x.dtype)))

    def _as_it_is(self, x: Value) -> Value:
        """Return a frozen array equal to `x`: `x` itself if frozen, else a copy, reused until `x` is written to."""
        known, copy = self._copies.get(id(x), (None, None))
        if known is x and copy.shape == x.shape and copy.dtype == x.dtype and copy.tobytes() == x.tobytes():
            return copy
        copy = frozen(x)
        if copy is not x:
            self._copies[id(x)] = x, copy
        return copy

    def _folded(
        self, op: Operation, symbols: list[Symbol], values: list[Value], attrs: Attributes, out: Aval
    ) -> Symbol:
        given = [
            np.float64(v) if type(v) is float and x.aval.weak is None else v
            for x, v in zip(symbols, values, strict=True)
        ]
        with np.errstate(all="ignore"):
            return self.constant(apply(op, tuple(given), attrs), is_weak=out.weak is not None)

    def _append(
        self, op: Operation, symbols: list[Symbol], attrs: Attributes, out: Aval, stream: Stream | None = None
    ) -> Symbol:
        self.operations += 1
        check_limit("nodes", self.operations, self.limits.max_nodes, "the program")
        return self._add(Step(op, tuple(x.index for x in symbols), attrs, out, stream=stream))

    def _add(self, step: Step) -> Symbol:
        self.steps.append(step)
        return Symbol(step.aval, self, len(self.steps) - 1)

    def _checked(self, aval: Aval, who: str) -> Aval:
        if len(aval.shape) > MAX_AXES:
            raise InvalidValueError(f"{who} has {len(aval.shape)} axes; at most {MAX_AXES} are possible")
        # Skip lengths of 0: an empty array can still be long as nested lists.
        length = math.prod(n for n in aval.shape if n)
        if length > self.limits.max_elements:
            check_limit("elements", length, self.limits.max_elements, f"{who} of shape {list(aval.shape)}")
        return aval


def _stream(rng: object) -> Stream:
    if not isinstance(rng, Stream):
        raise NotSupportedError("a function that is traced draws no random numbers; draw them before, as an argument")
    return rng


def _bits(value: Value, aval: Aval) -> Hashable:
    """Return the key of a constant: its bits, because 0.0 == -0.0, 1 == True and NaN != NaN."""
    if isinstance(value, np.ndarray):
        small = value.size <= _LARGEST_FOLDED
        return (aval.shape, str(aval.dtype), value.tobytes() if small else id(value))
    return (aval.weak, type(value), struct.pack("<d", value) if type(value) is float else value)


def _attribute_bits(value: object) -> Hashable:
    if isinstance(value, tuple):
        return tuple(map(_attribute_bits, value))
    return (type(value), struct.pack("<d", value) if type(value) is float else value)


def as_graph(
    trace: Trace, outputs: Mapping[str, Symbol], bound: Mapping[str, Value] | None = None, *, is_masked: bool = True
) -> Graph:
    """Return the steps that `outputs` depend on as a program.

    Its inputs are those of the trace, with shapes and dtypes.

    Args:
        trace: the steps.
        outputs: name -> value.
        bound: name -> value of inputs that are bound; only those that are needed are kept.
        is_masked: whether derivatives have supports (see `masking`); without, there are fewer nodes.
    """
    trace, stands = trace.resolved(is_masked=is_masked)
    outputs = {name: trace.symbol(stands[symbol.index]) for name, symbol in outputs.items()}
    bound = bound or {}
    numbers = (f"_{n}" for n in count(1))
    first = {symbol.index: name for name, symbol in reversed(list(outputs.items()))}
    ids: dict[int, str | Literal] = {}
    nodes = []
    for index in trace.live(list(outputs.values())):
        step = trace.steps[index]
        if step.op is None and step.args:
            ids[index] = ids[step.args[0]]
        elif step.name:
            ids[index] = step.name
        elif step.op is None and index not in first:
            ids[index] = _literal(step)
        else:
            name = first.get(index) or next(numbers)
            args = tuple(ids[a] for a in step.args) if step.op else (_literal(step),)
            attrs = (
                {a.name: a.parse(step.attrs[a.name], step.operation.name) for a in step.op.attributes}
                if step.op
                else {}
            )
            ids[index] = name
            nodes.append(Node((name,), step.op, args, attrs, index in first, ()))
    found = {name: str(ids[symbol.index]) for name, symbol in outputs.items()}
    inputs = [Input(s.name, s.aval.shape, s.aval.dtype) for s in trace.steps if s.name and s.name not in bound]
    aliases = {name: i for name, i in found.items() if name != i}
    results = tuple(Output(name, i) for name, i in found.items())
    needed = {name: bound[name] for name in bound if name in ids.values()}
    return named(Graph(tuple(inputs), tuple(nodes), results, aliases, needed))


def _literal(step: Step) -> Literal:
    value = step.value() if callable(step.value) else step.value
    if isinstance(value, np.ndarray):
        value = frozen(value)
    return Literal(value, step.aval.weak is not None, step.aval.weak is int)
