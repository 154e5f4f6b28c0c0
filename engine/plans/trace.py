"""Trace: the recorder behind symbols. Operations on them become steps, each of them once, simplified as they come."""

import math
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np

from engine.core.attributes import Attributes
from engine.core.dispatch import PROMOTING, apply, operand
from engine.core.errors import InvalidValueError, NotSupportedError
from engine.core.operation import Operation
from engine.core.table import CALLS
from engine.core.tracer import Symbol, Tracer
from engine.core.values import FLOAT64, MAX_AXES, Aval, Value, as_raw, frozen
from engine.core.values import aval as raw_aval
from engine.core.variable import Variable
from engine.graph.generated_names import named
from engine.graph.ir import Graph, Input, Literal, Node, Output
from engine.graph.limits import Limits, check_limit
from engine.plans.simplify import rewritten
from engine.plans.step import Step, Stream

#: Operations that come to nothing new cost time as well: so many of them count as one.
_RECORDED_PER_NODE = 3
#: Results of constants alone are computed at once up to so many elements.
_LARGEST_FOLDED = 16
#: What a function that is traced cannot use.
FOREIGN = "a variable, or a value of a function around it, that is no argument of its own"


class Trace:
    """Steps in the order in which they were recorded; places count from 0.

    alternatives: places of values that are computed one of two ways: of the other one, see `alternatives`.
    takes_foreign: values of other tracers and variables are inputs here: the trace is looked at, and never run.
    updated: places of sums of updates to slices of zeros, none of which holds -0.0: how many elements were updated.
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
        #: Places, not symbols: those hold the trace, and a cycle would keep its constants until the collector comes.
        self._seen: dict[Any, int] = {}
        #: By id, arrays that somebody may still write to, with the copies that stand for them.
        self._copies: dict[int, tuple[Value, Value]] = {}
        self._takes_foreign = takes_foreign
        self._held: list[Any] = []

    def input(self, name: str, aval: Aval) -> Symbol:
        """A value that is given when the trace is run."""
        return self._add(Step(None, (), {}, self._checked(aval, f'input "{name}"'), name=name))

    def shared_input(self, name: str, aval: Aval) -> Symbol:
        """An input that is one step, however often it is asked for, so that what is made of it is merged."""
        return self._once(("input", name), lambda: self.input(name, aval))

    def constant(self, value: Value, is_weak: bool = False) -> Symbol:
        """A value that is known; `is_weak` for a Python number that takes the dtype of what it meets."""
        known = raw_aval(value)
        known = known if is_weak else known._replace(weak=None)
        return self._once(
            _bits(value, known), lambda: self._add(Step(None, (), {}, self._checked(known, "a literal"), value=value))
        )

    def made(self, aval: Aval, make: Callable[[], Value]) -> Symbol:
        """A constant that is made when the trace is run."""
        return self._add(Step(None, (), {}, self._checked(aval, "a constant"), value=make))

    def filled(self, value: float, aval: Aval) -> Symbol:
        """One number in the shape and dtype of `aval`."""
        number = self.constant(float(value) if aval.dtype == FLOAT64 else np.array(value, aval.dtype))
        return CALLS["broadcast_to"](number, aval.shape) if aval.shape else number

    def cut(self, symbol: Symbol) -> Symbol:
        """The same value as a step that is equal to no other, to differentiate with respect to."""
        return self._add(Step(None, (symbol.place,), {}, symbol.aval._replace(weak=None)))

    def alternative(self, plain: Any, masked: Any) -> Symbol:
        """A derivative that is computed without supports, or with them where it is not finite."""
        one, other = (x if isinstance(x, Symbol) else self.constant(as_raw(x)) for x in (plain, masked))
        if one.place == other.place:
            return one
        found = self._add(Step(None, (one.place,), {}, one.aval._replace(weak=None)))
        self.alternatives[found.place] = other.place
        return found

    @contextmanager
    def uncounted(self) -> Iterator[None]:
        """Write down another way to values that are counted already: it is not held to the limit on nodes."""
        limits, operations, recorded = self.limits, self.operations, self._recorded
        self.limits = replace(limits, max_nodes=math.inf)
        try:
            yield
        finally:
            self.limits, self.operations, self._recorded = limits, operations, recorded

    def inputs(self) -> list[Symbol]:
        """All inputs, in the order in which they were made."""
        return [self.symbol(place) for place, step in enumerate(self.steps) if step.name]

    def symbol(self, place: int) -> Symbol:
        """What stands for the value of a step."""
        return Symbol(self.steps[place].aval, self, place)

    def live(self, outputs: Sequence[Symbol], *, is_masked: bool = False) -> list[int]:
        """The places of the steps that some values need, in order; of alternatives one way or the other."""
        needed = {x.place for x in outputs}
        others = self.alternatives if is_masked else {}
        for place in range(max(needed, default=-1), -1, -1):
            if place in needed:
                needed.update((others[place],) if place in others else self.steps[place].args)
        return sorted(needed)

    def operands(self, place: int, *, is_masked: bool) -> tuple[int, ...]:
        """The places of a step's operands; of an alternative the one way or the other."""
        return (self.alternatives[place],) if is_masked and place in self.alternatives else self.steps[place].args

    def resolved(self, *, is_masked: bool) -> "tuple[Trace, list[int]]":
        """The trace with one way to each value, and for each place the one that stands for it."""
        if not self.alternatives:
            return self, list(range(len(self.steps)))
        found = copy(self)
        found.steps = []
        stands: list[int] = []
        for place, step in enumerate(self.steps):
            args = tuple(stands[a] for a in self.operands(place, is_masked=is_masked))
            stands.append(args[0] if place in self.alternatives else place)
            found.steps.append(step if args == step.args else replace(step, args=args))
        return found, stands

    def known(self, symbol: Symbol) -> Any:
        """The value of a constant, None for what is not known."""
        step = self.steps[symbol.place]
        return None if step.op is not None or callable(step.value) else step.value

    def record(self, op: Operation, args: tuple[Any, ...], attrs: Attributes, **extra: Any) -> Symbol:
        """Writes an operation down, unless it is there already, is known, or is another's in other words."""
        symbols = [self._operand(op, x) for x in args]
        avals = [x.aval for x in symbols]
        given = [a._replace(weak=None) for a in avals] if op.kind == "other" else avals
        out: Aval = op.infer(*given, **attrs)
        self._recorded += 1
        check_limit("nodes", self._recorded // _RECORDED_PER_NODE, self.limits.max_nodes, "the program")
        values = [self.known(x) for x in symbols]
        # A number that is made of numbers, or chosen between them, is one itself.
        are_numbers = (a.weak or (v is not None and not a.is_floating) for a, v in zip(avals, values, strict=True))
        if out.dtype == FLOAT64 and not out.shape and all(are_numbers):
            out = Aval((), FLOAT64, float)
        self._checked(out, f"the result of {op.name}")
        stream = _stream(extra["rng"]) if op.random else None
        if stream is None and out.size <= _LARGEST_FOLDED and all(v is not None for v in values):
            return self._folded(op, symbols, values, attrs, out)
        found = None if stream else rewritten(self, op, symbols, attrs, out)
        if found is not None:
            return found
        places = [x.place for x in symbols]
        if op.lowering.is_commutative:
            places.sort()
        # From one stream comes always the same.
        key = (op.name, stream, tuple(places), tuple((k, _attribute_bits(v)) for k, v in attrs.items()))
        return self._once(key, lambda: self._append(op, symbols, attrs, out, stream))

    def _once(self, key: Any, write: Callable[[], Symbol]) -> Symbol:
        place = self._seen.get(key)
        if place is not None:
            return self.symbol(place)
        symbol = write()
        self._seen[key] = symbol.place
        return symbol

    def _operand(self, op: Operation, x: Any) -> Symbol:
        if type(x) is Symbol and x.recorder is self and not (x.aval.weak is int and op.kind not in PROMOTING):
            return x
        x = operand(op, x)
        if self._takes_foreign and isinstance(x, Variable | Tracer):
            return self._foreign(x)
        if isinstance(x, Variable | Tracer) and not (type(x) is Symbol and x.recorder is self):
            if isinstance(x, Tracer):
                x.check_alive()
            raise InvalidValueError(f"{op.name}: a function that is traced uses {FOREIGN}")
        if type(x) is Symbol:
            return x
        if type(x) is np.ndarray:
            return self.constant(self._as_it_is(x))
        if type(x) is int and op.kind not in PROMOTING:
            x = float(x)
        return self.constant(float(x) if type(x) is np.float64 else x, is_weak=type(x) in (float, int, bool))

    def _foreign(self, x: Any) -> Symbol:
        """A value of somebody else's, as one that is given when the trace is run."""
        if type(x) is Symbol and x.recorder is self:
            return x
        known = x.recorder.known(x) if type(x) is Symbol else None
        if known is not None:
            return self.constant(known, x.aval.weak is not None)
        self._held.append(x)
        return self._once(("foreign", id(x)), lambda: self.input("", Aval(x.shape, x.dtype)))

    def _as_it_is(self, x: Value) -> Value:
        """An array that nobody can write to: a copy where somebody could, the same one while nobody does."""
        known, copy = self._copies.get(id(x), (None, None))
        if known is x and copy.shape == x.shape and copy.dtype == x.dtype and copy.tobytes() == x.tobytes():
            return copy
        copy = frozen(x)
        if copy is not x:
            self._copies[id(x)] = x, copy
        return copy

    def _folded(self, op: Operation, symbols: list[Symbol], values: list[Any], attrs: Attributes, out: Aval) -> Symbol:
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
        return self._add(Step(op, tuple(x.place for x in symbols), attrs, out, stream=stream))

    def _add(self, step: Step) -> Symbol:
        self.steps.append(step)
        return Symbol(step.aval, self, len(self.steps) - 1)

    def _checked(self, aval: Aval, who: str) -> Aval:
        if len(aval.shape) > MAX_AXES:
            raise InvalidValueError(f"{who} has {len(aval.shape)} axes; at most {MAX_AXES} are possible")
        # Nested lists of an empty array may be long as well.
        length = math.prod(n for n in aval.shape if n)
        check_limit("elements", length, self.limits.max_elements, f"{who} of shape {list(aval.shape)}")
        return aval


def _stream(rng: Any) -> Stream:
    if not isinstance(rng, Stream):
        raise NotSupportedError("a function that is traced draws no random numbers; draw them before, as an argument")
    return rng


def _bits(value: Any, aval: Aval) -> Any:
    """What tells constants apart: their bits, for 0.0 == -0.0, 1 == True and NaN is equal to nothing."""
    if isinstance(value, np.ndarray):
        small = value.size <= _LARGEST_FOLDED
        return (aval.shape, str(aval.dtype), value.tobytes() if small else id(value))
    return (aval.weak, type(value), struct.pack("<d", value) if type(value) is float else value)


def _attribute_bits(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_attribute_bits, value))
    return (type(value), struct.pack("<d", value) if type(value) is float else value)


def as_graph(
    trace: Trace, outputs: Mapping[str, Symbol], bound: Mapping[str, Value] | None = None, *, is_masked: bool = True
) -> Graph:
    """The steps that some values need as a program of its own.

    Inputs are those of the trace, with shapes and dtypes; those that are `bound`, and needed, keep their values.
    is_masked: derivatives have supports (see `masking`); without, there are fewer steps.
    """
    trace, stands = trace.resolved(is_masked=is_masked)
    outputs = {name: trace.symbol(stands[symbol.place]) for name, symbol in outputs.items()}
    bound = bound or {}
    numbers = (f"_{n}" for n in count(1))
    first = {symbol.place: name for name, symbol in reversed(list(outputs.items()))}
    ids: dict[int, str | Literal] = {}
    nodes = []
    for place in trace.live(list(outputs.values())):
        step = trace.steps[place]
        if step.op is None and step.args:
            ids[place] = ids[step.args[0]]
        elif step.name:
            ids[place] = step.name
        elif step.op is None and place not in first:
            ids[place] = _literal(step)
        else:
            name = first.get(place) or next(numbers)
            args = tuple(ids[a] for a in step.args) if step.op else (_literal(step),)
            attrs = (
                {a.name: a.parse(step.attrs[a.name], step.operation.name) for a in step.op.attributes}
                if step.op
                else {}
            )
            ids[place] = name
            nodes.append(Node((name,), step.op, args, attrs, place in first, ()))
    found = {name: str(ids[symbol.place]) for name, symbol in outputs.items()}
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
