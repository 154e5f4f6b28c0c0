"""Calls of Python functions on symbols: traced once for each form of the arguments, run with their values."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pullback import trees
from pullback.config import is_recording, is_training
from pullback.current import current, tracing
from pullback.errors import (
    BadAttributeError,
    NotDifferentiableError,
    NotScalarError,
    ShapeMismatchError,
)
from pullback.recording.constants import content_of
from pullback.recording.environment import Environment, TooLargeError, draws
from pullback.recording.kept import Result, Traced, Traces, traces_of
from pullback.recording.trace import Argument, Symbol, Trace
from pullback.values import FLOAT32, Shape, Value, as_raw, canonical, dtype_of, shape_of

Function = Callable[..., Any]
Aval = tuple[Shape, np.dtype[Any]]


@dataclass
class Inside:
    """Function called on symbols inside of another one that is traced: its nodes are written down there."""

    trace: Trace
    chosen: Any
    xs: list[Symbol]
    y: Any
    aux: Any

    @property
    def ys(self) -> list[Symbol]:
        """The leaves of the result."""
        return trees.leaves(self.y)

    def gradients(self, y: Symbol) -> list[Symbol]:
        """Gradients of a scalar with respect to each differentiated leaf."""
        return [self.trace.node("grad", [y, x])[0] for x in self.xs]

    def in_form(self, leaves: Iterable[Any]) -> Any:
        """Values in the form of the differentiated arguments."""
        return trees.filled(self.chosen, iter(leaves))


@dataclass
class Call:
    """Function called with values, of which a trace is kept."""

    traced: Traced
    client: Any
    chosen: Any
    raws: list[Value]
    inputs: dict[str, Value]

    @property
    def xs(self) -> Sequence[str]:
        """Names of the differentiated inputs, in order."""
        return self.traced.xs

    @property
    def ys(self) -> list[str]:
        """Names of the outputs, in order."""
        return [y.name for y in trees.leaves(self.traced.y)]

    @property
    def wrt(self) -> list[str]:
        """The differentiated inputs that the program has."""
        return [x for x in self.xs if x in self.inputs]

    def ask(self, call: str, **options: Any) -> Any:
        """Make a call of the client about this program with these inputs."""
        return self.traced.program.ask(self.client, call, inputs=self.inputs, **options)

    def only_output(self) -> str:
        """The name of the only result.

        Raises:
            NotScalarError: there are several, or none.
        """
        only: Result = only_leaf(self.traced.y)
        return only.name

    def value(self, values: Mapping[str, Any]) -> Any:
        """The result."""
        return trees.filled(self.traced.y, iter([values[y] for y in self.ys]))

    def aux(self, values: Mapping[str, Any]) -> Any:
        """The second part of what the function returned."""
        return trees.mapped(lambda leaf: values[leaf.name] if type(leaf) is Result else leaf, self.traced.aux)

    def in_form(self, found: Mapping[str, Any], before: Shape = ()) -> Any:
        """Results by name in the form of the arguments; zeros for those that the function does not use."""
        zeros = (canonical(np.zeros((*before, *shape_of(raw)), dtype_of(raw))) for raw in self.raws)
        return trees.filled(self.chosen, iter([found.get(x, zero) for x, zero in zip(self.xs, zeros, strict=True)]))

    def directions(self, given: Any, primals: Any) -> dict[str, Any]:
        """Tangents or vectors of the inputs that the program has."""
        leaves = trees.leaves(list(given), list(primals))
        return {x: as_raw(t) for x, t in zip(self.xs, leaves, strict=True) if x in self.inputs}


def places_of(argnums: Any, count: int) -> list[int]:
    """Positions of the arguments that are chosen, of a call with `count` of them.

    Raises:
        BadAttributeError: there is no such argument, or it is named twice.
    """
    numbers = list(argnums) if isinstance(argnums, (list, tuple)) else [argnums]
    for number in numbers:
        if not -count <= number < count:
            raise BadAttributeError(f"argnums: there is no argument {number}; the call has {count}")
    if len({number % count for number in numbers}) < len(numbers):
        raise BadAttributeError(f"argnums: {argnums} names an argument twice")
    return numbers


def picked(args: Sequence[Any], argnums: Any) -> Any:
    """The arguments that are chosen: a tuple where `argnums` is one."""
    found = [args[number] for number in places_of(argnums, len(args))]
    return tuple(found) if isinstance(argnums, (list, tuple)) else found[0]


def is_inside() -> bool:
    """Return whether a function is being traced."""
    return tracing.get() is not None


def called_inside(
    f: Function, args: Sequence[Any], keywords: dict[str, Any], argnums: Any, has_aux: bool = False
) -> Inside:
    """Call a function on new symbols in the trace that is under way."""
    trace = tracing.get()
    assert trace is not None
    chosen = picked(args, argnums)
    leaves = trees.leaves(chosen)
    for x in leaves:
        dtype = trace.known.get(x.name, (None, FLOAT32))[1] if type(x) is Symbol else dtype_of(as_raw(x))
        check_floating(dtype)
    xs = [trace.symbol(x) for x in leaves]
    symbols = trees.filled(chosen, iter(xs))
    full = list(args)
    for number, x in zip(
        places_of(argnums, len(args)), symbols if isinstance(argnums, (list, tuple)) else [symbols], strict=True
    ):
        full[number] = x
    y, aux = split_aux(f, f(*full, **keywords), has_aux)
    return Inside(trace, chosen, xs, trees.mapped(functools.partial(as_node, trace), y), aux)


def called(f: Function, args: Sequence[Any], keywords: dict[str, Any], argnums: Any, has_aux: bool = False) -> Call:
    """Trace a function of floating arguments, unless that was done for this form of them, and bind their values.

    Raises:
        NotDifferentiableError: a chosen argument is not floating.
        TraceError: the function looks at a value.
    """
    tree = (tuple(args), keywords)
    count = len(trees.leaves(tree))
    indices = trees.filled(tree, iter(range(count)))
    symbols: dict[int, Aval] = {}
    arguments: dict[int, Value] = {}
    leaves = trees.leaves(tree)
    chosen = trees.leaves(picked(indices[0], argnums))
    for place in chosen:
        raw = as_raw(leaves[place])
        check_floating(dtype_of(raw))
        arguments[place] = raw
        symbols[place] = shape_of(raw), dtype_of(raw)
    tracer = Tracer(f, tree, chosen, symbols, has_aux)
    traced, inputs = tracer.traced(arguments)
    return Call(traced, tracer.client, picked(args, argnums), [arguments[place] for place in chosen], inputs)


class Tracer:
    """One call of a function, from its arguments to a trace of it that fits them.

    f: the function. tree: (args, keywords). chosen: places of the leaves that are symbols in any case; symbols: shape
    and dtype of each, to which others are added here. weak: those of them that are Python numbers, which adapt to
    float32 where they stand as they are. is_kept: whether a trace is kept for later calls, in which other arrays and
    floats are symbols too, as long as the function does not look at them.
    """

    def __init__(
        self,
        f: Function,
        tree: tuple[tuple[Any, ...], dict[str, Any]],
        chosen: Sequence[int],
        symbols: dict[int, Aval],
        has_aux: bool = False,
        weak: Iterable[int] = (),
        *,
        is_kept: bool = False,
    ) -> None:
        self.client = current().client
        self._f = f
        self._tree = tree
        self._leaves = trees.leaves(tree)
        self._chosen = list(chosen)
        self._symbols = dict(symbols)
        self._has_aux = has_aux
        self._weak = set(weak)
        #: Arguments beside the chosen ones that are inputs of the program, as long as the function allows it.
        self._open: dict[int, Value] = {}
        self._is_kept = is_kept
        for place, leaf in enumerate(self._leaves) if is_kept else ():
            if place not in symbols and (isinstance(leaf, np.ndarray) or type(leaf) is float or _is_variable(leaf)):
                raw = as_raw(leaf)
                self._open[place] = raw
                if type(leaf) is float:
                    self._weak.add(place)

    def traced(self, arguments: Mapping[int, Value]) -> tuple[Traced, dict[str, Value]]:
        """A trace that fits the arguments, and its inputs.

        arguments: values of the chosen leaves by place.
        """
        traces = traces_of(self.client)
        if not self._is_kept:
            key, symbols = self._key(None, is_open=False)
            return self._found(traces, key, symbols, None, arguments)
        environment = self._environment()
        base = None if environment is None else (environment.key, self._options())
        key, symbols = self._key(base, is_open=True)
        if not self._open or not traces.is_closed(key):
            try:
                return self._found(traces, key, symbols, environment, arguments)
            except Exception:
                if not self._open:
                    raise
        # The function looks at an argument that is not differentiated: it is traced with that as it is.
        closed, symbols = self._key(base, is_open=False)
        found = self._found(traces, closed, symbols, environment, arguments)
        traces.close(key)
        return found

    def _found(
        self,
        traces: Traces,
        key: Hashable,
        symbols: dict[int, Aval],
        environment: Environment | None,
        arguments: Mapping[int, Value],
    ) -> tuple[Traced, dict[str, Value]]:
        given = {place: arguments[place] if place in arguments else self._open[place] for place in symbols}
        traced = None if environment is None else traces.get(key)
        inputs = None if traced is None else traced.bound(given)
        if traced is None or inputs is None:
            before = draws()
            traced = self._trace(traces, symbols, () if environment is None else environment.held)
            inputs = traced.bound(given)
            assert inputs is not None
            # A function that changes what it reads, or draws random numbers, is called each time.
            now = self._environment()
            if environment is not None and now is not None and (now.key, draws()) == (environment.key, before):
                traces.put(key, traced)
        return traced, inputs

    def _environment(self) -> Environment | None:
        """All that the function, and the arguments that are no values, can read; None where it is too much."""
        others = [x for place, x in enumerate(self._leaves) if place not in self._symbols and place not in self._open]
        try:
            return Environment(self._f, others)
        except (TooLargeError, RecursionError):
            return None

    def _options(self) -> Hashable:
        return (
            _hashable(trees.form(self._tree)),
            tuple(self._chosen),
            self._has_aux,
            is_recording(),
            is_training(),
        )

    def _key(self, base: Hashable, is_open: bool) -> tuple[Hashable, dict[int, Aval]]:
        """The key of a trace, and the leaves that are symbols in it."""
        avals = dict(self._symbols)
        if is_open:
            avals |= {place: (shape_of(raw), dtype_of(raw)) for place, raw in self._open.items()}
        if any(dtype == FLOAT32 for _, dtype in avals.values()):
            # Beside float32 a Python number has no dtype of its own, which inputs have.
            avals = {place: aval for place, aval in avals.items() if place not in self._weak}
        fixed = [place for place in {*self._open, *self._symbols} if place not in avals]
        values = tuple((place, _content(self._leaves[place])) for place in sorted(fixed))
        shapes = tuple((place, shape, str(dtype)) for place, (shape, dtype) in sorted(avals.items()))
        return (base, shapes, values), avals

    def _trace(self, traces: Traces, symbols: dict[int, Aval], held: Iterable[Any]) -> Traced:
        trace = Trace(self.client)
        full = [_own(leaf) if place in self._open else leaf for place, leaf in enumerate(self._leaves)]
        made = {place: trace.input(Argument(place), *symbols[place]) for place in sorted(symbols)}
        for place, symbol in made.items():
            full[place] = symbol
        args, keywords = trees.filled(self._tree, iter(full))
        try:
            with trace.active():
                y, aux = split_aux(self._f, self._f(*args, **keywords), self._has_aux)
            y = trees.mapped(functools.partial(as_node, trace), y)
            for leaf in trees.leaves(aux):
                if type(leaf) is Symbol:
                    trace.check_own("return", leaf)
            outputs = [leaf.name for leaf in trees.leaves([y, aux]) if type(leaf) is Symbol]
            graph, needed = trace.program(list(dict.fromkeys(outputs)))
        finally:
            trace.finish()
        return Traced(
            traces.program(graph),
            {name: trace.inputs[name] for name in needed},
            {name: trace.known[name] for name in needed},
            tuple(made[place].name if place in made else "" for place in self._chosen),
            trees.mapped(_result, y),
            trees.mapped(_result, aux),
            list(held),
        )


def split_aux(f: Function, y: Any, has_aux: bool) -> tuple[Any, Any]:
    """What a function returned as (result, aux).

    Raises:
        BadAttributeError: `has_aux`, and it is no pair.
    """
    if not has_aux:
        return y, None
    if not (isinstance(y, tuple) and len(y) == 2):
        raise BadAttributeError(f"has_aux: {getattr(f, '__name__', f)} returned {type(y).__name__}; expected a pair")
    return y


def as_node(trace: Trace, leaf: Any) -> Symbol:
    """A leaf of a result as a node: an input, or a plain value, becomes one.

    Raises:
        InvalidValueError: it is no value.
        TraceError: it is a symbol of another trace.
    """
    if type(leaf) is Symbol:
        trace.check_own("return", leaf)
        if leaf.name not in trace.inputs:
            return leaf
    symbol = leaf if type(leaf) is Symbol else trace.constant(leaf)
    dtype = trace.known[symbol.name][1]
    if dtype.kind == "f":
        return trace.symbol(symbol)
    return trace.node("astype", [symbol], {"dtype": str(dtype)})[0]


def only_leaf(y: Any) -> Any:
    """The only leaf of a result that is no container.

    Raises:
        NotScalarError: there are several, or none.
    """
    if type(y) not in (Symbol, Result):
        raise NotScalarError(
            f"expected a function of one element; this one returns {len(trees.leaves(y))} values in a "
            f"{type(y).__name__}"
        )
    return y


def check_floating(dtype: np.dtype[Any]) -> None:
    """Make sure that an argument can be differentiated.

    Raises:
        NotDifferentiableError: it is not floating.
    """
    if dtype.kind != "f":
        raise NotDifferentiableError(f"an argument is {dtype}; only floating ones are differentiated")


def check_scalar(shape: Shape) -> None:
    """Make sure that a result has one element.

    Raises:
        NotScalarError: it has more, or none.
    """
    if math.prod(shape) != 1:
        raise NotScalarError(f"expected a function of one element, this one returns shape {shape}; reduce it first")


def check_form(what: str, given: Any, expected: Any) -> None:
    """Make sure that two trees have the same containers, and leaves of the same shapes.

    Raises:
        ShapeMismatchError: they do not.
    """
    if trees.form(given) != trees.form(expected):
        raise ShapeMismatchError(f"{what}: {given!r} is not in the form of {expected!r}")
    for g, x in zip(trees.leaves(given, expected), trees.leaves(expected), strict=True):
        shapes = [leaf.shape if type(leaf) is Symbol else shape_of(as_raw(leaf)) for leaf in (g, x)]
        if shapes[0] != shapes[1]:
            raise ShapeMismatchError(f"{what}: expected shape {shapes[1]}, got {shapes[0]}")


def _own(leaf: Any) -> Any:
    """A copy of an array, which nobody writes to; anything else as it is."""
    if isinstance(leaf, np.ndarray):
        leaf = leaf.copy()
        leaf.flags.writeable = False
    return leaf


def _content(leaf: Any) -> Hashable:
    """What an argument is known by that stands in a program as it is."""
    if isinstance(leaf, np.ndarray) and leaf.dtype != object:
        return content_of(leaf)
    return (type(leaf), id(leaf)) if _is_variable(leaf) else (type(leaf), repr(leaf))


def _is_variable(leaf: Any) -> bool:
    return hasattr(type(leaf), "_recorder")


def _result(leaf: Any) -> Any:
    return Result(leaf.name) if type(leaf) is Symbol else leaf


def _hashable(form: Any) -> Hashable:
    if isinstance(form, dict):
        # 1, True and 1.0 are equal keys.
        return (dict, *((type(key), key, _hashable(item)) for key, item in form.items()))
    return tuple(map(_hashable, form)) if isinstance(form, tuple) else form
